-- Contexts of the nats command line, and the rest of its spellings.
local cjson = require "cjson"
local credentials = require "spec.support.credentials"
local server = require "spec.support.server"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local NOWHERE = "nats://127.0.0.1:1"

describe("a context of the nats command line", function()
  local w = world.new { config = [[
    authorization { users = [ { user: ada, password: secret }, { user: bob, password: hush } ] }
  ]], login = { user = "ada", password = "secret" } }
  local home
  setup(function() w:open() end)
  before_each(function() home = w:folder() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function context(name, fields)
    return temp.write(home, "nats/context/" .. name .. ".json", cjson.encode(fields))
  end

  local function good(name, more)
    local fields = { url = w.server.url, user = "ada", password = "secret" }
    for key, value in pairs(more or {}) do fields[key] = value end
    return context(name, fields)
  end

  local function select(name) temp.write(home, "nats/context.txt", name .. "\n") end

  local function run(arguments, options)
    options = options or {}
    options.env = options.env or {}
    options.env.XDG_CONFIG_HOME = home
    return w:moonbus(arguments, options)
  end

  local function pub(...) return run { "pub", "a", "x", ... } end

  it("is used by --context, by its name or its path", function()
    local path = good "prod"
    assert.same({ 0, "" }, { pub("--context", "prod").status, pub("--context", "prod").stderr })
    assert.equal(0, run({ "--context", path, "pub", "a", "x" }).status)
  end)

  it("is used when NATS_CONTEXT names it, and that is said", function()
    good "prod"
    local done = run({ "pub", "a", "x" }, { env = { NATS_CONTEXT = "prod" } })
    assert.same({ 0, 'moonbus pub: using NATS_CONTEXT\'s context "prod"\n' }, { done.status, done.stderr })
  end)

  it("is the selected one when no server is stated, and that is said", function()
    good "prod"
    select "prod"
    local done = pub()
    assert.same({ 0, 'moonbus pub: using the nats command line\'s selected context "prod"\n' },
      { done.status, done.stderr })
  end)

  it("is found in ~/.config, too", function()
    temp.write(home, ".config/nats/context/prod.json", cjson.encode { url = w.server.url, user = "ada",
      password = "secret" })
    assert.equal(0, w:moonbus({ "pub", "a", "x", "--context", "prod" },
      { env = { HOME = home, XDG_CONFIG_HOME = false } }).status)
  end)

  it("keeps its credentials for its own server", function()
    good "prod"
    select "prod"
    local refused = "Authorization"
    for _, case in ipairs {
      { {}, { "-s", w.server.url } },
      { { NATS_URL = w.server.url } },
      { { NATS_URL = w.server.url, NATS_CONTEXT = "prod" } },
      { {}, {}, ('return { servers = { %q } }'):format(w.server.url) },
    } do
      local folder = w:folder()
      if case[3] then temp.write(folder, "moonbus.lua", case[3]) end
      local failed = run({ "pub", "a", "x", unpack(case[2] or {}) }, { env = case[1], folder = folder })
      assert.equal(1, failed.status)
      assert.is_truthy(failed.stderr:find(refused, 1, true), failed.stderr)
    end
    assert.matches("NATS_CONTEXT: not used, as NATS_URL states a server",
      run({ "pub", "a", "x" }, { env = { NATS_URL = w.server.url, NATS_CONTEXT = "prod" } }).stderr)
  end)

  it("replaces what a config file says of the server and its credentials", function()
    good "prod"
    local folder = w:folder()
    temp.write(folder, "moonbus.lua", ('return { servers = { %q }, auth = { token = "other" } }'):format(NOWHERE))
    assert.equal(0, run({ "pub", "a", "x", "--context", "prod" }, { folder = folder }).status)
    assert.equal(0, run({ "pub", "a", "x" }, { folder = folder, env = { NATS_CONTEXT = "prod" } }).status)
  end)

  it("gives way to credentials that a flag states", function()
    good "prod"
    assert.equal(0, pub("--context", "prod", "--user", "bob", "--password", "hush").status)
    assert.equal(1, pub("--context", "prod", "--user", "bob", "--password", "wrong").status)
  end)

  it("is not the selected one where a file has credentials for a server that it does not name", function()
    good "prod"
    select "prod"
    local folder = w:folder()
    temp.write(folder, "moonbus.lua", 'return { auth = { token = "t" } }')
    assert.is_nil(run({ "pub", "a", "x" }, { folder = folder }).stderr:find "context")
  end)

  it("comes after a moonbus dev that runs in the folder", function()
    context("prod", { url = NOWHERE })
    select "prod"
    local folder = w:folder()
    temp.write(folder, ".moonbus/url", ("nats://ada:secret@127.0.0.1:%d\n"):format(w.server.port))
    local done = run({ "pub", "a", "x" }, { folder = folder })
    assert.equal(0, done.status, done.stderr)
    assert.is_nil(done.stderr:find("context", 1, true))
  end)

  it("serves a host, which says so in its log", function()
    good "prod"
    select "prod"
    local host = w:start { server = false, env = { XDG_CONFIG_HOME = home },
      handlers = { ["h.lua"] = 'require "moonbus".subscribe("echo", function(msg) return msg.data end)' } }
    host:wait_ready()
    assert.is_truthy(host:logged { msg = 'using the nats command line\'s selected context "prod"' })
    assert.equal("x", w.client:request("echo", "x").data)
  end)

  it("says what is wrong with it", function()
    context("broken", { url = 5 })
    context("nsc", { nsc = "nsc://a/b/c" })
    context("web", { url = "ws://a" })
    context("new", { url = w.server.url, user = "ada", password = "secret", windows_cert_store = "x" })
    for name, complaint in pairs {
      missing = 'context "missing": cannot read ' .. home .. "/nats/context/missing.json: No such file",
      broken = "broken.json: url: must be a text", nsc = "nsc: moonbus does not ask nsc",
      web = 'context "web": url: must be a URL', ["a..b"] = "is no name of a context",
    } do
      local failed = pub("--context", name)
      assert.equal(2, failed.status)
      assert.is_truthy(failed.stderr:find(complaint, 1, true), failed.stderr)
    end
    assert.matches('context "new": not used: windows_cert_store', pub("--context", "new").stderr)
    select "missing"
    assert.matches("it is the selected one; state a server with %-s", pub().stderr)
    assert.matches("%-%-server and %-%-context: a context has a server of its own",
      pub("--context", "new", "-s", NOWHERE).stderr)
  end)

  it("may name a domain, a prefix of the API, and a prefix of inboxes", function()
    good("prod", { jetstream_api_prefix = "nothing.here", inbox_prefix = "_OURS" })
    local sub = w.client:subscribe "nothing.here.>"
    local failed = run { "sub", "--stream", "ORDERS", "--context", "prod", "--timeout", "200ms" }
    assert.equal(1, failed.status)
    local asked = sub:next()
    assert.same({ "nothing.here.STREAM.INFO.ORDERS", "_OURS." }, { asked.subject, asked.reply:sub(1, 6) })
  end)
end)

describe("what the nats command line spells its own way", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  it("counts: --js-domain, --js-api-prefix, --inbox-prefix, --connection-name", function()
    local sub = w.client:subscribe "$JS.>"
    w:cli { "sub", "--stream", "S", "--js-domain", "hub", "--inbox-prefix", "_OURS", "--timeout", "200ms" }
    local asked = sub:next()
    assert.same({ "$JS.hub.API.STREAM.INFO.S", "_OURS." }, { asked.subject, asked.reply:sub(1, 6) })
    local mine = w.client:subscribe "mine.>"
    w:cli { "sub", "--stream", "S", "--js-api-prefix", "mine", "--timeout", "200ms" }
    assert.equal("mine.STREAM.INFO.S", mine:next().subject)
    assert.matches("%-%-inbox%-prefix: ", w:cli({ "req", "a", "b", "--inbox-prefix", "a..b" }).stderr)
  end)

  it("counts: NATS_TIMEOUT", function()
    w.client:subscribe "silent"
    local failed = w:cli({ "req", "silent", "x" }, { env = { NATS_TIMEOUT = "100ms" } })
    assert.matches("timeout", failed.stderr)
    assert.is_true(failed.seconds < wait.within(2))
  end)

  it("counts: --jwt and --seed, NATS_JWT and NATS_SEED", function()
    local operator = credentials.operator()
    local jwt, seed = operator.creds:match "\n(eyJ[^\n]+)", operator.creds:match "\n(SU%w+)"
    local guarded = server.start { config = operator.config, jetstream = false }
    local function pub(arguments, env)
      return w:moonbus({ "pub", "a", "x", "-s", guarded.url, unpack(arguments) }, { env = env })
    end
    local flags, variables = pub { "--jwt", jwt, "--seed", seed }, pub({}, { NATS_JWT = jwt, NATS_SEED = seed })
    local alone = pub { "--jwt", jwt }
    guarded:close()
    assert.same({ 0, 0, 1 }, { flags.status, variables.status, alone.status }, flags.stderr)
    assert.matches("Authorization", alone.stderr)
    local wrong = pub { "--seed", "user.nk" }
    assert.equal(2, wrong.status)
    assert.matches("%-%-seed: must be a user's seed %(SU%.%.%.%), not a file: for that there is nkey, "
      .. "not %(not shown%)", wrong.stderr)
  end)

  it("counts: --seed alone, as an nkey", function()
    local key = credentials.nkey "user"
    local guarded = server.start { jetstream = false,
      config = ("authorization { users = [ { nkey: %s } ] }"):format(key.public) }
    local done = w:moonbus { "pub", "a", "x", "-s", guarded.url, "--seed", key.seed }
    guarded:close()
    assert.equal(0, done.status, done.stderr)
  end)

  -- Of servers since 2.10, and of nats.c since 3.10.
  it("counts, or is refused in words: --tlsfirst", function()
    local failed = w:cli { "pub", "a", "x", "--tlsfirst" }
    if failed.status == 2 then
      assert.matches("tls%.first: this moonbus was built with nats%.c %d+%.%d+%.%d+, which cannot begin with TLS",
        failed.stderr)
    else
      assert.equal(1, failed.status) -- this server begins without
    end
  end)
end)
