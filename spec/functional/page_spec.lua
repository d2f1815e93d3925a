-- The page of the admin endpoint, in a real browser. PAGE_PICTURES=FOLDER keeps what it looked like.
local browser = require "spec.support.browser"
local posix = require "spec.support.posix"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local MARKUP = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"

local HANDLERS = [[
local bus = require "moonbus"
local js = require "moonbus.jetstream"
js.stream { name = "ORDERS", subjects = { "orders.>" } }
js.stream { name = "DEAD", subjects = { "dead.>" } }
js.consume("ORDERS", { durable = "billing", dead_letter = "dead.billing", attempts = 1 }, function(msg)
  if msg.data == "slow" then bus.sleep("1m") end
  if msg.data ~= "fine" then error(msg.data) end
end)
bus.subscribe("greet.*", function() return "hello" end)
bus.service({ name = "rates", version = "1.2.3" })
  :endpoint("get", { subject = "rates.get" }, function() return "" end)]]

describe("the page", function()
  if not browser.found() then
    pending("is seen in Chromium, which is not here: .ci/deps browser installs it")
    return
  end

  local w = world.new()
  local chromium, host, url
  setup(function()
    w:open()
    chromium = browser.start()
    host = w:run {
      handlers = { ["orders.lua"] = HANDLERS, ["<b>odd.lua"] = [[require "moonbus".subscribe("<img/src=x.*", print)]] },
      admin = true,
    }
    url = "http://" .. host.admin .. "/"
  end)
  teardown(function()
    w:clear()
    chromium:stop()
    w:close()
  end)

  local tab
  local function open(width)
    tab = chromium:open(url, width or 1280, 900)
    wait.eventually(function() return tab:text "handlers":find("ORDERS/billing", 1, true) end, 10)
    return tab
  end
  after_each(function()
    if tab then
      local complaints = tab.complaints
      tab:close()
      tab = nil
      assert.same({}, complaints)
    end
  end)

  local function shows(id, text, seconds)
    wait.eventually(function() return tab:text(id):find(text, 1, true) end, seconds, function() return tab:text(id) end)
  end
  local function publish(data) w.client:store("orders.created", data) end
  local function picture(name)
    local folder = os.getenv "PAGE_PICTURES"
    if folder then tab:picture(folder .. "/" .. name .. ".png") end
  end

  it("shows what is registered, how fast it goes, and that all is well", function()
    open()
    assert.equal("serving", tab:text "state")
    for _ = 1, 20 do publish "fine" end
    wait.eventually(function() return tab:eval "lastKnown(history.all.get('messages'))" > 0 end)
    shows("handlers", "greet.*")
    shows("connections", "connected")
    shows("services", "rates")
    assert.matches("^rates%s+1%.2%.3%s+1%s", tab:text("services"):match "rates.*")
    assert.is_false(tab:eval "document.getElementById('trouble').hidden === false")
  end)

  it("shows an error within 2 s, whose text is no markup", function()
    open()
    publish(MARKUP)
    shows("errors", MARKUP, 2)
    shows("letters", "dead.billing")
    shows("handlers", "<b>odd.lua")
    shows("handlers", "<img/src=x.*")
    assert.equal(0, tab:eval "document.querySelectorAll('img, #errors script, tbody b').length")
    assert.matches("^moonbus ", tab:eval "document.title")
    assert.is_true(tab:eval "document.querySelector('#errors details pre').textContent.includes('orders.lua:7')")
  end)

  it("leaves what is unfolded, and where the focus is, while it goes on", function()
    open()
    publish "another"
    shows("errors", "another", 2)
    tab:eval "document.querySelector('#errors details').open = true"
    tab:eval "document.querySelectorAll('[data-handler]')[1].focus()"
    local handler = tab:eval "document.activeElement.dataset.handler"
    publish "one more"
    shows("errors", "one more", 2)
    assert.equal(1, tab:eval "document.querySelectorAll('#errors details[open]').length")
    assert.matches("another", tab:eval "document.querySelector('#errors details[open]').innerText")
    assert.equal(handler, tab:eval "document.activeElement.dataset.handler")
  end)

  it("runs nothing that is not its own, even if it were put into it", function()
    open()
    tab:eval [[document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='window.owned = true'>")]]
    tab:eval [[
      const script = document.createElement("script");
      script.textContent = "window.owned = true";
      document.body.append(script);]]
    wait.eventually(function() return #tab.complaints >= 2 end, 5, function() return #tab.complaints end)
    for _, complaint in ipairs(tab.complaints) do assert.matches("Content Security Policy", complaint) end
    assert.equal("undefined", tab:eval "typeof window.owned")
    tab.complaints = {}
  end)

  it("shows where the oldest handlers wait", function()
    open()
    publish "slow"
    shows("running", "orders.lua:6")
    shows("running", "orders.created")
    picture "wide"
  end)

  it("shows which reload was refused, and why", function()
    open()
    temp.write(host.folder, "handlers/orders.lua", "this is no Lua")
    posix.http(tonumber(host.admin:match ":(%d+)$"), "POST", "/reload")
    shows("reloads", "generation 1 keeps running")
    temp.write(host.folder, "handlers/orders.lua", HANDLERS)
  end)

  it("fits a telephone, and the dark", function()
    open(400)
    tab:scheme "dark"
    assert.is_true(tab:eval "document.documentElement.scrollWidth <= 400")
    assert.equal("rgb(20, 20, 28)", tab:eval "getComputedStyle(document.body).backgroundColor")
    picture "narrow"
  end)

  it("is used with the keyboard alone", function()
    open()
    tab:eval "document.querySelector('[data-handler]').focus()"
    tab:press("Enter", 13)
    shows("detail-title", "odd.lua")
    picture "detail"
    tab:press("Escape", 27)
    wait.eventually(function() return tab:eval "document.getElementById('detail').hidden" end)
    assert.is_true(tab:eval "document.activeElement.matches('[data-handler]')")
  end)

  it("asks nothing while its tab is hidden", function()
    open()
    tab:eval [[Object.defineProperty(document, "hidden", { value: true, configurable: true })]]
    wait.eventually(function() return tab:eval "!asking" end)
    -- What has been asked is listed when it has been, at the latest with one thing more.
    tab:eval "fetch('/healthz?last').then(answer => answer.text())"
    wait.eventually(function()
      return tab:eval "performance.getEntriesByType('resource').some(one => one.name.endsWith('last'))"
    end)
    tab:eval "performance.clearResourceTimings()"
    wait.holds(function() return tab:eval "performance.getEntriesByType('resource').length" == 0 end, 2.5)
    tab:eval "delete document.hidden"
    wait.eventually(function() return tab:eval "performance.getEntriesByType('resource').length" > 0 end)
  end)

  it("says since when there is no answer", function()
    local other = w:run { handlers = { ["a.lua"] = [[require "moonbus".subscribe("a", print)]] }, admin = true }
    tab = chromium:open("http://" .. other.admin .. "/", 1280, 900)
    shows("fresh", "as of")
    other:signal "TERM"
    shows("fresh", "no answer from the host since", 10)
    tab.complaints = {}
  end)
end)
