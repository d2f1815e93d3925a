-- Tests of llm.lua: how often the API is called, whatever happens.
--
-- Try it:  moonbus test examples/cookbook
local test = require "moonbus.test"

describe("llm", function()
  local script
  local ANSWER = 'data: {"choices":[{"delta":{"content":"Because "}}]}\n\n' ..
    'data: {"choices":[{"delta":{"content":"of air."}}]}\n\ndata: {"choices":[]}\n\ndata: [DONE]\n\n'

  before_each(function()
    script = test.load("llm.lua", { settings = { llm = { url = "https://llm.example/v1", key = "k" } } })
  end)

  local function state() return script:kv("llm_calls"):get("p1").data end

  it("publishes the text as it comes, and the whole answer once", function()
    script:stub_http("https://llm.example/*", { body = ANSWER }, { delay = "4m" })
    local r = script:deliver("prompts.p1", { text = "Why?" })
    assert.equal("ack", r.verdict)
    assert.same({ "POST", "https://llm.example/v1/chat/completions", "Bearer k", true },
      { r.http[1].method, r.http[1].url, r.http[1].headers.Authorization, r.http[1].data.stream })
    local progress
    for _, message in ipairs(r.published) do
      if message.subject == "progress.p1" then progress = message.raw end
    end
    assert.equal("Because of air.", progress)
    assert.same({ text = "Because of air." }, script:stored("ANSWERS")[1].data)
  end)

  it("calls again what was certainly not done", function()
    script:stub_http("https://llm.example/*", { error = "refused" })
    assert.equal("nak", script:deliver("prompts.p1", { text = "Why?" }).verdict)
    assert.equal("free", state().is)
    script:stub_http("https://llm.example/*", { status = 429, body = "slow down" })
    test.advance "10s"
    assert.equal("free", state().is)
    script:stub_http("https://llm.example/*", { body = ANSWER })
    script:run()
    assert.same({ "done", "Because of air." }, { state().is, state().text })
    assert.equal(1, #script:stored "ANSWERS")
  end)

  it("does not call again when nobody knows how a call ended", function()
    script:stub_http("https://llm.example/*", { error = "timeout" })
    local r = script:send("prompts.p1", { text = "Why?" }):run()
    assert.equal(1, #r.http)
    assert.matches("nobody knows what came of its call", r.dead_letter.headers["Moonbus-Error"])
    script:stub_http("https://llm.example/*", { body = 'data: {"choices":[{"delta":{"content":"Bec' })
    assert.matches("cut off", script:deliver("prompts.p2", { text = "Why?" }).error.message)
  end)

  it("neither calls nor answers twice when the answer is asked for again", function()
    script:stub_http("https://llm.example/*", { body = ANSWER })
    script:deliver("prompts.p1", { text = "Why?" })
    local r = script:deliver("prompts.p1", { text = "Why?" })
    assert.same({ "term", 0 }, { r.verdict, #r.http })
    assert.equal(1, #script:stored "ANSWERS")
  end)

  it("publishes the answer of a run that died before it could", function()
    script:stub_http("https://llm.example/*", { body = ANSWER })
    script:stub("answers.p1", { stream = "ANSWERS", seq = 0, error = { code = 503, err_code = 10047,
      description = "insufficient storage" } })
    local r = script:deliver("prompts.p1", { text = "Why?" })
    assert.same({ "nak", "done" }, { r.verdict, state().is })
    script:stub("answers.p1", { stream = "ANSWERS", seq = 1 })
    r = script:run()
    assert.same({ 0, "ack" }, { #r.http, r.runs[#r.runs].verdict })
  end)

  it("leaves it to a person when a run died in the middle of its call", function()
    script:stub_http("https://llm.example/*", { error = "timeout" })
    script:send("prompts.p1", { text = "Why?" })
    test.advance "1m"
    assert.equal("begun", state().is)
    script:kv("llm_calls"):delete "p1" -- what the page says to do, before `moonbus redrive`
    script:stub_http("https://llm.example/*", { body = ANSWER })
    assert.equal("ack", script:deliver("prompts.p1", { text = "Why?" }, { attempt = 2 }).verdict)
  end)
end)
