-- Which traces are recorded, spans, their bounded queue, and how OTLP writes them.
local cjson = require "cjson"
local ffi = require "ffi"
local units = require "spec.support.units"

units.include "trace/tracer.h"
units.include "trace/otlp.h"
local lib = units.lib

local function context(flags)
  local one = ffi.new "struct trace_context"
  lib.trace_context_begin(one)
  one.flags = flags or 0
  return one
end

local function sampler(name, ratio)
  local one = ffi.new "struct trace_sampler"
  return lib.trace_sampler_named(name, ratio or 1, one) and one or nil
end

describe("a sampler", function()
  -- Of so many traces that begin here, or came so.
  local function share(one, parent)
    local count = 0
    for _ = 1, 4000 do
      if lib.trace_sampler_takes(one, context(), parent) then count = count + 1 end
    end
    return count / 4000
  end

  it("has the names of OpenTelemetry, and no other", function()
    for _, name in ipairs { "", "on", "always", "parentbased", "parentbased_", "parentbased_jaeger", "jaeger" } do
      assert.is_nil(sampler(name), name)
    end
    for _, ratio in ipairs { -0.1, 1.1, 0 / 0 } do assert.is_nil(sampler("traceidratio", ratio)) end
  end)

  it("takes all, none, or a share of the traces that begin here", function()
    assert.equal(1, share(sampler "always_on"))
    assert.equal(0, share(sampler "always_off"))
    assert.equal(1, share(sampler "parentbased_always_on"))
    assert.equal(0, share(sampler "parentbased_always_off"))
    for _, name in ipairs { "traceidratio", "parentbased_traceidratio" } do
      assert.equal(0, share(sampler(name, 0)))
      assert.equal(1, share(sampler(name, 1)))
      assert.is_true(math.abs(share(sampler(name, 0.25)) - 0.25) < 0.05)
    end
  end)

  it("by parent does as the sender did", function()
    for _, name in ipairs { "always_on", "always_off", "traceidratio" } do
      local by_parent = sampler("parentbased_" .. name, 0.5)
      assert.equal(1, share(by_parent, context(1)))
      assert.equal(0, share(by_parent, context(2)))
      assert.equal(share(sampler(name, name == "always_on" and 1 or 0)), share(sampler(name, 0), context(1)))
    end
  end)

  it("by ratio says the same of a trace each time, and a larger one takes what a smaller one takes", function()
    local some, more = sampler("traceidratio", 0.1), sampler("traceidratio", 0.3)
    for _ = 1, 1000 do
      local one = context()
      local taken = lib.trace_sampler_takes(some, one, nil)
      assert.equal(taken, lib.trace_sampler_takes(some, one, nil))
      if taken then assert.is_true(lib.trace_sampler_takes(more, one, nil)) end
    end
  end)
end)

local function new_tracer(most, batch)
  local err = units.err()
  return ffi.gc(lib.tracer_new(sampler "always_on", most, batch, err), lib.tracer_free)
end

local function new_span(verb, what, parent)
  return lib.trace_span_new(context(1), parent, 3, verb or "ack", what)
end

local function counts_of(tracer)
  local counts = ffi.new "struct tracer_counts"
  lib.tracer_count(tracer, counts)
  local dropped = 0
  for i = 0, lib.TRACER_DROPS - 1 do dropped = dropped + tonumber(counts.dropped[i]) end
  return tonumber(counts.recorded), dropped, tonumber(counts.queued), tonumber(counts.exported)
end

describe("the queue of spans", function()
  it("gives them in their order, a batch at a time", function()
    local tracer, count = new_tracer(10, 2), ffi.new "unsigned[1]"
    for i = 1, 3 do lib.tracer_end(tracer, new_span(tostring(i))) end
    local names = {}
    for _ = 1, 3 do
      local first = lib.tracer_take(tracer, 0, count)
      local spans, text = first, ""
      while spans ~= nil do
        text = text .. ffi.string(spans.name)
        spans = spans.next
      end
      names[#names + 1] = text .. " " .. count[0]
      lib.tracer_free_spans(first)
    end
    assert.same({ "12 2", "3 1", " 0" }, names)
    assert.same({ 3, 0, 0, 0 }, { counts_of(tracer) })
  end)

  it("drops what finds no room, counts it, and what found no memory", function()
    local tracer = new_tracer(3, 2)
    for _ = 1, 5 do lib.tracer_end(tracer, new_span()) end
    lib.tracer_end(tracer, nil)
    assert.same({ 3, 3, 3, 0 }, { counts_of(tracer) })
    lib.tracer_note_exported(tracer, 2)
    lib.tracer_note_dropped(tracer, lib.TRACER_REFUSED, 1)
    assert.same({ 3, 4, 3, 2 }, { counts_of(tracer) })
    local counts, reasons = ffi.new "struct tracer_counts", {}
    lib.tracer_count(tracer, counts)
    for i = 0, lib.TRACER_DROPS - 1 do reasons[i + 1] = tonumber(counts.dropped[i]) end
    assert.same({ 2, 1, 1, 0, 0 }, reasons)
  end)
end)

describe("a span", function()
  local function resource()
    local list = ffi.new("const char *[2]", { "team=a", "host.name=h" })
    return ffi.new("struct otlp_resource", { attributes = list, attribute_count = 2, service = "s", host = "other",
      version = "1", pid = 7, server = "127.0.0.1", port = 4222 }), list
  end

  -- What OTLP writes of it.
  local function written(span)
    local out = ffi.new "struct text"
    local whose, anchor = resource()
    lib.text_init(out)
    lib.otlp_write(out, whose, span)
    local request = cjson.decode(ffi.string(out.bytes, out.len))
    lib.text_clear(out)
    assert.is_truthy(anchor)
    return request.resourceSpans[1].scopeSpans[1].spans[1], request.resourceSpans[1].resource
  end

  local function map(attributes)
    local all = {}
    for _, attribute in ipairs(attributes) do
      all[attribute.key] = attribute.value.stringValue or attribute.value.intValue
    end
    return all
  end

  it("is written as OTLP wants it", function()
    local parent = context(1)
    local span = new_span("ack", "orders.*", parent)
    lib.trace_span_text(span, "messaging.system", "nats")
    lib.trace_span_text(span, "none", nil)
    lib.trace_span_number(span, "big", 9007199254740993LL)
    lib.trace_span_state(span, "a=1")
    lib.trace_span_link(span, parent, 1)
    lib.trace_span_fail(span, "timeout", 'it took "long"\n')
    lib.trace_span_stop(span)
    local got, whose = written(span)
    local function hex(bytes, len)
      return (ffi.string(bytes, len):gsub(".", function(c) return ("%02x"):format(c:byte()) end))
    end
    assert.same({
      traceId = hex(span.context.trace_id, 16), spanId = hex(span.context.span_id, 8), traceState = "a=1",
      parentSpanId = hex(parent.span_id, 8), flags = 0x101, name = "ack orders.*", kind = 3,
      startTimeUnixNano = got.startTimeUnixNano, endTimeUnixNano = got.endTimeUnixNano,
      attributes = got.attributes, status = { code = 2, message = 'it took "long"\n' },
      links = { { traceId = hex(parent.trace_id, 16), spanId = hex(parent.span_id, 8), flags = 0x301 } },
    }, got)
    assert.matches("^%d+$", got.startTimeUnixNano)
    assert.same({ ["messaging.system"] = "nats", big = "9007199254740993", ["error.type"] = "timeout",
      ["server.address"] = "127.0.0.1", ["server.port"] = "4222" }, map(got.attributes))
    assert.same({ team = "a", ["host.name"] = "h", ["service.name"] = "s", ["process.pid"] = "7" },
      map(whose.attributes))
    lib.trace_span_free(span)
  end)

  it("is bounded, whatever its text, and stays JSON", function()
    local long = ("\255ü\"\0"):rep(2000)
    local span = new_span(long, long)
    for _ = 1, 40 do lib.trace_span_text(span, "key", long) end
    for _ = 1, 300 do lib.trace_span_link(span, context(), 200) end
    lib.trace_span_state(span, ("s"):rep(2000))
    lib.trace_span_fail(span, long, long)
    local got = written(span)
    assert.is_nil(got.traceState)
    assert.equal(128, #got.links)
    assert.equal(172, got.droppedLinksCount)
    assert.is_true(#got.attributes <= 18)
    assert.is_truthy(got.status)
    lib.trace_span_free(span)
  end)
end)

describe("the answer of a collector", function()
  local function refused(body)
    local why = ffi.new "char[64]"
    return tonumber(lib.otlp_refused(body, body and #body or 0, why, 64)), ffi.string(why)
  end

  it("says how many it refused, as text or as a number, and why", function()
    assert.same({ 3, "old" }, { refused '{"partialSuccess":{"rejectedSpans":"3","errorMessage":"old"}}' })
    assert.same({ 3, "" }, { refused '{"partialSuccess":{"rejectedSpans":3}}' })
    assert.same({ 0, "a warning" }, { refused '{"partialSuccess":{"errorMessage":"a warning"}}' })
  end)

  it("is none when it is something else", function()
    for _, body in ipairs { "", "{}", "[]", "null", '{"partialSuccess":null}',
      '{"partialSuccess":{"rejectedSpans":"-1"}}',
      '{"partialSuccess":{"rejectedSpans":{}}}', "<html>", '{"partialSuccess":' } do
      assert.equal(0, (refused(body)), body)
    end
    assert.equal(0, (refused(nil)))
  end)
end)
