local world = require "spec.support.world"

-- Where a letter goes back to, and whether it still may: where only the last message of a subject
-- counts, an old one would be a step back; where a stream transforms subjects, what is stored is not
-- what was published.
describe("moonbus redrive", function()
  local w = world.new()
  local server_version
  setup(function()
    w:open()
    local major, minor = w.server:monitor "varz".version:match "^(%d+)%.(%d+)"
    server_version = major * 100 + minor
  end)
  before_each(function() w.client:stream("DEAD", { "dead.>" }) end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  -- A dead letter as the host writes it.
  local function bury(stream, subject, data, options)
    options = options or {}
    local headers = {
      ["Moonbus-Stream"] = stream, ["Moonbus-Consumer"] = "c", ["Moonbus-Subject"] = subject,
      ["Moonbus-Sequence"] = tostring(options.sequence or 1), ["Moonbus-Attempt"] = "5",
      ["Moonbus-Timestamp"] = options.timestamp or "1700000000000000000",
      ["Moonbus-Code"] = "handler_error", ["Moonbus-Error"] = "no",
    }
    for name, value in pairs(options.headers or {}) do headers[name] = value end
    return w.client:store("dead.c", data, headers).seq
  end

  local function redrive(...)
    return w:cli { "redrive", "DEAD", ... }
  end

  local function kept(run, ...)
    assert.equal(1, run.status, run.stdout .. run.stderr)
    for _, part in ipairs { ... } do assert.matches(part, run.stdout, 1, true) end
    assert.equal(1, w.client:stream_info "DEAD".state.messages)
  end

  local function put_back(run)
    assert.equal(0, run.status, run.stdout .. run.stderr)
    assert.equal(0, w.client:stream_info "DEAD".state.messages)
  end

  local function last(stream, subject)
    local found = w.client:api("STREAM.MSG.GET." .. stream, { last_by_subj = subject })
    return found.message and w.client:message(stream, found.message.seq)
  end

  describe("where only the last of a subject counts", function()
    local STATES = {
      ["a key's value"] = { "KV_b", "$KV.b.>", "$KV.b.k", {} },
      ["a key's value in a bucket with a history"] = { "KV_b", "$KV.b.>", "$KV.b.k", { max_msgs_per_subject = 5 } },
      ["an object's entry"] = { "OBJ_b", "$O.b.>", "$O.b.M.x", {} },
      ["a message of a stream that keeps one for each subject"] =
        { "LAST", "last.>", "last.k", { max_msgs_per_subject = 1 } },
    }

    for what, case in pairs(STATES) do
      local stream, subjects, subject, settings = case[1], case[2], case[3], case[4]

      it(what .. " that a newer one has superseded is kept, and put back with --force", function()
        w.client:stream(stream, { subjects }, settings)
        w.client:store(subject, "old")
        w.client:store(subject, "new")
        bury(stream, subject, "old")
        kept(redrive "--dry-run", "would be kept: wrong_sequence: superseded by sequence 2 of " .. stream)
        kept(redrive(), subject .. " -> kept: wrong_sequence: superseded by sequence 2 of " .. stream, "--force")
        assert.equal("new", last(stream, subject).data)
        put_back(redrive "--force")
        assert.equal("old", last(stream, subject).data)
      end)

      it(what .. " that is still the last one, or gone, is put back", function()
        w.client:stream(stream, { subjects }, settings)
        w.client:store(subject, "old")
        w.client:store(subject .. "2", "another")
        bury(stream, subject, "old")
        put_back(redrive())
        local back = last(stream, subject)
        assert.same({ 3, "old" }, { back.sequence, back.data })
        w.client:purge(stream)
        bury(stream, subject, "old", { sequence = 3 })
        put_back(redrive())
        assert.equal("old", last(stream, subject).data)
      end)
    end

    it("is not put back over what comes in between: the server sees to it", function()
      w.client:stream("KV_b", { "$KV.b.>" }, { max_msgs_per_subject = 1 })
      w.client:store("$KV.b.k", "old")
      bury("KV_b", "$KV.b.k", "old")
      put_back(redrive())
      assert.equal("1", last("KV_b", "$KV.b.k"):header "Nats-Expected-Last-Subject-Sequence")
    end)

    it("is put back once, by whoever is interrupted and does it again", function()
      w.client:stream("KV_b", { "$KV.b.>" }, { max_msgs_per_subject = 5 })
      w.client:store("$KV.b.k", "old")
      local created = w.client:stream_info "DEAD".created
      bury("KV_b", "$KV.b.k", "old")
      w.client:store("$KV.b.k", "old", { ["Nats-Msg-Id"] = ("DEAD:%s:1"):format(created) })
      put_back(redrive())
      assert.equal(2, w.client:stream_info "KV_b".state.last_seq)
    end)

    it("a rollup that a newer one has superseded is kept in any stream", function()
      w.client:stream("S", { "s.>" }, { allow_rollup_hdrs = true })
      w.client:store("s.k", "old")
      w.client:store("s.k", "new")
      bury("S", "s.k", "old", { headers = { ["Moonbus-Orig-Nats-Rollup"] = "sub" } })
      kept(redrive(), "superseded by sequence 2 of S")
    end)

    it("a message of a stream where each one counts is put back behind newer ones", function()
      w.client:stream("S", { "s.>" })
      w.client:store("s.k", "old")
      w.client:store("s.k", "new")
      bury("S", "s.k", "old")
      put_back(redrive())
      assert.equal(3, w.client:stream_info "S".state.last_seq)
    end)

    it("a marker of what has gone is kept when a newer value is there, or nothing is left", function()
      w.client:stream("S", { "s.>" })
      w.client:store("s.k", "new")
      local marker = { sequence = 0, headers = { ["Moonbus-Orig-Nats-Marker-Reason"] = "MaxAge",
        ["Moonbus-Orig-Nats-TTL"] = "1h" } }
      bury("S", "s.k", "", marker)
      kept(redrive(), "superseded by sequence 1 of S")
      w.client:purge "S"
      kept(redrive(), 'it marks "s.k" as gone, and nothing of that is left')
      assert.equal(0, w.client:stream_info "S".state.messages)
    end)

    it("of a stream that gathers, is compared where it came from", function()
      w.client:stream("LAST", { "last.>" }, { max_msgs_per_subject = 1 })
      w.client:store("last.x", "first")
      w.client:store("last.k", "old")
      bury("ALL", "last.k", "old", { sequence = 77,
        headers = { ["Moonbus-Orig-Nats-Stream-Source"] = "LAST 2 > >" } })
      w.client:stream("ALL", nil, { sources = { { name = "LAST" } } })
      put_back(redrive())
      assert.equal(3, last("LAST", "last.k").sequence)
      bury("ALL", "last.k", "old", { sequence = 77,
        headers = { ["Moonbus-Orig-Nats-Stream-Source"] = "LAST 2 > >" } })
      kept(redrive(), "superseded by sequence 3 of LAST")
    end)
  end)

  describe("of a stream that transforms subjects", function()
    local function since_210(promise, test)
      it(promise, function()
        if server_version >= 210 then test() end
      end)
    end

    since_210("publishes what is stored as before", function()
      w.client:stream("SALES", { "orders.>" },
        { subject_transform = { src = "orders.*.>", dest = "sales.{{wildcard(1)}}.>" } })
      w.client:store("orders.eu.7", "x")
      assert.equal("sales.eu.7", w.client:message("SALES", 1).subject)
      bury("SALES", "sales.eu.7", "x")
      put_back(redrive())
      local back = w.client:message("SALES", 2)
      assert.same({ "sales.eu.7", "x" }, { back.subject, back.data })
    end)

    since_210("does not have it transformed twice", function()
      w.client:stream("ORDERS", { "orders.>" },
        { subject_transform = { src = "orders.>", dest = "orders.v2.>" } })
      bury("ORDERS", "orders.v2.7", "x")
      put_back(redrive())
      assert.equal("orders.v2.7", w.client:message("ORDERS", 1).subject)
    end)

    since_210("publishes what the transform leaves alone as it is", function()
      w.client:stream("S", { "a.*", "b.*" }, { subject_transform = { src = "a.*", dest = "b.$1" } })
      bury("S", "b.7", "x")
      put_back(redrive())
      assert.equal("b.7", w.client:message("S", 1).subject)
    end)

    since_210("keeps what cannot be told from its subject, and says so", function()
      w.client:stream("S", { "orders.>" },
        { subject_transform = { src = "orders.*", dest = "short.{{left(1,2)}}" } })
      bury("S", "short.ab", "x")
      kept(redrive(), 'the transform of "orders.*" to "short.{{left(1,2)}}" does not let one tell',
        '"short.ab"')
    end)

    since_210("goes back to the stream that another one gathers from, by its transform", function()
      w.client:stream("ORDERS", { "orders.>" })
      w.client:stream("ARCHIVE", nil, { sources = { { name = "ORDERS",
        subject_transforms = { { src = "orders.>", dest = "archive.>" } } } } })
      bury("ARCHIVE", "archive.7", "x")
      put_back(redrive())
      assert.equal("orders.7", w.client:message("ORDERS", 1).subject)
      local archived = w.client:await_stored("ARCHIVE", 1)[1]
      assert.same({ "archive.7", "x" }, { archived.subject, archived.data })
    end)

    since_210("goes back through what the gathered stream transforms itself", function()
      w.client:stream("ORDERS", { "raw.>" }, { subject_transform = { src = "raw.>", dest = "orders.>" } })
      w.client:stream("ALL", nil, { sources = { { name = "ORDERS" } } })
      bury("ALL", "orders.7", "x")
      put_back(redrive())
      assert.equal("orders.7", w.client:message("ORDERS", 1).subject)
    end)

    since_210("compares where only the last counts", function()
      w.client:stream("LAST", { "raw.>" }, { max_msgs_per_subject = 1,
        subject_transform = { src = "raw.>", dest = "last.>" } })
      w.client:store("raw.k", "old")
      bury("LAST", "last.k", "old")
      put_back(redrive())
      bury("LAST", "last.k", "old")
      kept(redrive(), "superseded by sequence 2 of LAST")
    end)
  end)
end)
