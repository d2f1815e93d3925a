-- Calls of host/http through the FFI, for unit specs.
local ffi = require "ffi"
local units = require "spec.support.units"
local wait = require "spec.support.wait"

units.include "http/http.h"
units.include "http/http_line.h"
units.include "http/http_url.h"
units.include "spec/support/http_probe.h"
local lib = units.lib

local M = { lib = lib }

local Client = {}
Client.__index = Client

-- options: per_host (64). The client ends with :close().
function M.client(options)
  local opts = ffi.new("struct http_options", { (options or {}).per_host or 64, "spec/1" })
  local self = setmetatable({ calls = {} }, Client)
  self.http = lib.http_new(opts, nil)
  assert(self.http ~= nil, "http_new")
  return self
end

local Call = {}
Call.__index = Call

-- request: method ("GET"), url, headers ({ { name, value } }), body, timeout (seconds, 30), follow
-- (10), max, pieces, unix, ca, cert, key, unverified, flow (a number). A call, or nil and an err.
function Client:new(request)
  local headers = ffi.new("struct http_header[?]", math.max(1, #(request.headers or {})))
  for i, header in ipairs(request.headers or {}) do
    headers[i - 1] = { header[1], header[2], #header[1], #header[2] }
  end
  local method = request.method or "GET"
  local c = ffi.new("struct http_request", {
    method = method, method_len = #method, url = request.url, url_len = #request.url,
    headers = headers, header_count = #(request.headers or {}),
    body = request.body and ffi.cast("const char *", request.body), body_len = #(request.body or ""),
    timeout_ns = (request.timeout or 30) * wait.slow * 1e9, follow = request.follow or 10,
    max_bytes = request.max or 1048576, pieces = request.pieces or false,
    unix_path = request.unix, ca = request.ca, cert = request.cert, key = request.key,
    unverified = request.unverified or false, downgrade = request.downgrade or false,
    flow = ffi.cast("void *", request.flow or 0),
  })
  local err = units.err()
  local raw = lib.http_call_new(self.http, c, err)
  if raw == nil then
    local code, message = units.read_err(err)
    return nil, { code = code, message = message }
  end
  local call = setmetatable({ raw = raw, probe = lib.http_probe_new() }, Call)
  table.insert(self.calls, call)
  return call
end

function Call:ask()
  lib.http_ask(self.raw, lib.http_probe_on_event, self.probe)
  return self
end

function Call:ended() return lib.http_probe_ends(self.probe) == 1 end

-- The next piece of a body: asks, waits; nil at the end.
function Call:piece()
  local before = lib.http_probe_pieces(self.probe)
  self:ask()
  wait.eventually(function()
    return self:ended() or lib.http_probe_pieces(self.probe) > before
  end, 40)
  if lib.http_probe_pieces(self.probe) == before then return nil end
  local len = ffi.new "size_t[1]"
  local bytes = lib.http_call_piece(self.raw, len)
  local piece = ffi.string(bytes, len[0])
  ffi.C.free(bytes)
  return piece
end

-- { status, body, headers (lower case), redirects, url, version, code, message } when it has ended.
function Call:result()
  wait.eventually(function() return self:ended() end, 40)
  local raw = lib.http_call_result(self.raw)
  local result = {
    status = raw.status, redirects = raw.redirects, url = ffi.string(raw.url), headers = {},
    version = raw.version, body = raw.body ~= nil and ffi.string(raw.body, raw.body_len) or "",
  }
  result.code, result.message = units.read_err(raw.err)
  local at = raw.headers
  for _ = 1, tonumber(raw.header_count) do
    local name = ffi.string(at)
    at = at + #name + 1
    local value = ffi.string(at)
    at = at + #value + 1
    name = name:lower()
    result.headers[name] = result.headers[name] and result.headers[name] .. ", " .. value or value
  end
  return result
end

function Call:cancel() return lib.http_cancel(self.raw) end

-- Calls and waits for its end.
function Client:call(request)
  local call, err = self:new(request)
  if not call then error(err.code .. ": " .. err.message, 2) end
  return call:ask():result()
end

function Client:counts()
  local counts = ffi.new "struct http_counts"
  lib.http_count(self.http, counts)
  return counts
end

function Client:stop() lib.http_stop(self.http) end

function Client:close()
  lib.http_stop(self.http)
  for _, call in ipairs(self.calls) do
    lib.http_call_release(call.raw)
    lib.http_probe_free(call.probe)
  end
  lib.http_free(self.http)
end

return M
