-- The broker inside the process, with the face of spec.support.raw_client: time passes at once.
local ffi = require "ffi"
local units = require "spec.support.units"

units.include "broker/broker.h"
ffi.cdef "void free(void *pointer);"

local lib = units.lib
local broker, peer = {}, {}
broker.__index, peer.__index = broker, peer

local WALL_NS = 1790000000e9 -- some day of 2026
local NEVER = 0xffffffffffffffffULL

function broker.start(options)
  local given = ffi.new("struct broker_options", options or {})
  given.wall_ns = WALL_NS
  local self = setmetatable({ raw = lib.broker_new(given), now_ns = 0, peers = {} }, broker)
  self.next_ns = NEVER
  return self
end

function broker:stop()
  lib.broker_free(self.raw)
end

function broker:advance(ns)
  self.now_ns = ns
  self.next_ns = lib.broker_advance(self.raw, ns)
end

function broker:connect()
  local client = setmetatable({ broker = self, sid = 0, came = {} }, peer)
  client.raw = lib.broker_connect(self.raw)
  return client
end

function peer:close() lib.broker_disconnect(self.raw) end

local function check(code, err)
  if code ~= 0 then error(ffi.string(err.message), 3) end
end

function peer:subscribe(subject, queue)
  local err = units.err()
  self.sid = self.sid + 1
  self.came[self.sid] = {}
  check(lib.broker_subscribe(self.raw, self.sid, subject, queue, err), err)
  return self.sid
end

function peer:unsubscribe(sid) lib.broker_unsubscribe(self.raw, sid) end

function peer:publish(subject, data, options)
  local err = units.err()
  local block = options and options.headers
    and "NATS/1.0\r\n" .. table.concat(options.headers, "\r\n") .. "\r\n\r\n"
  local message = ffi.new("struct broker_message", {
    subject = subject, reply = options and options.reply, headers = block,
    headers_len = block and #block or 0, data = data, len = #data,
  })
  check(lib.broker_publish(self.raw, message, err), err)
  self.broker:advance(self.broker.now_ns)
end

local function collect(self)
  while true do
    local packet = lib.broker_take(self.raw)
    if packet == nil then return end
    local message = packet.message
    table.insert(self.came[tonumber(packet.sid)], {
      subject = ffi.string(message.subject),
      reply = message.reply ~= nil and ffi.string(message.reply) or nil,
      headers = message.headers ~= nil and ffi.string(message.headers, message.headers_len) or nil,
      data = ffi.string(message.data, message.len),
    })
    ffi.C.free(packet)
  end
end

function peer:next(sid, seconds)
  local limit = self.broker.now_ns + (seconds or 2) * 1e9
  while true do
    collect(self)
    local got = table.remove(self.came[sid], 1)
    if got then return got end
    local next_ns = self.broker.next_ns
    if next_ns == NEVER or tonumber(next_ns) > limit then
      self.broker:advance(limit)
      collect(self)
      return table.remove(self.came[sid], 1)
    end
    self.broker:advance(tonumber(next_ns))
  end
end

function peer:pass(seconds)
  local limit = self.broker.now_ns + seconds * 1e9
  while self.broker.next_ns ~= NEVER and tonumber(self.broker.next_ns) <= limit do
    self.broker:advance(tonumber(self.broker.next_ns))
  end
  self.broker:advance(limit)
end

return broker
