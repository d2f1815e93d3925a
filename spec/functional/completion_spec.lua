-- What shells complete, and the manual page: made from the tables of commands and options, so that they
-- know what the binary knows.
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local world = require "spec.support.world"

describe("moonbus completion", function()
  local w = world.new()
  after_each(function() w:clear() end)

  local function script(shell)
    local run = w:moonbus { "completion", shell }
    assert.same({ 0, "" }, { run.status, run.stderr })
    return run.stdout
  end

  local function has(program)
    return os.execute("command -v " .. program .. " > /dev/null 2>&1") == 0
  end

  -- Runs a program on the script, in a file.
  local function check(shell, ...)
    local folder = w:folder()
    temp.write(folder, "script", script(shell))
    local run = process.run { command = { ... }, folder = folder }
    assert.same({ 0, "" }, { run.status, run.stderr })
    return run.stdout
  end

  -- What bash offers for the last of the words.
  local function offers(...)
    local words = { ... }
    for index, word in ipairs(words) do words[index] = ("%q"):format(word) end
    local run = process.run { folder = w:folder(), command = { "bash", "-c", script "bash" .. ([[
      COMP_WORDS=(%s); COMP_CWORD=%d; _moonbus; printf '%%s\n' "${COMPREPLY[@]}"
    ]]):format(table.concat(words, " "), #words - 1) } }
    assert.same({ 0, "" }, { run.status, run.stderr })
    return (run.stdout:gsub("\n", " "):gsub(" $", ""))
  end

  it("completes commands, options and what options take, in bash", function()
    check("bash", "bash", "-n", "script")
    assert.equal("pub", offers("moonbus", "pu"))
    for _, option in ipairs { "--count", "--config", "--context", "--creds" } do
      assert.is_truthy((" " .. offers("moonbus", "pub", "--c") .. " "):find(" " .. option .. " ", 1, true), option)
    end
    assert.is_nil(offers("moonbus", "pub", "--c"):find "replies")
    assert.equal("--since", offers("moonbus", "sub", "--sin"))
    assert.equal("--since", offers("moonbus", "-s", "nats://a", "sub", "--sin"))
    assert.equal("debug", offers("moonbus", "run", "--log-level", "d"))
    assert.equal("bash zsh fish man", offers("moonbus", "completion", ""))
    assert.equal("redrive", offers("moonbus", "help", "redr"))
    assert.equal("", offers("moonbus", "run", "--config", ""))
  end)

  it("is written as zsh and fish read it", function()
    assert.matches("\n    'pub:publish a message'\n", script "zsh")
    assert.is_truthy(script "zsh":find("'*--since[from what was stored so long ago on]:1h:_files'", 1, true))
    assert.is_truthy(script "fish":find("-n '__fish_seen_subcommand_from sub' -l follow -s f -d", 1, true))
    if has "zsh" then check("zsh", "zsh", "-n", "script") end
    if has "fish" then check("fish", "fish", "-n", "script") end
  end)

  it("prints a manual page without faults, which names each command and option", function()
    local page = script "man"
    for _, text in ipairs { "moonbus redrive STREAM", "\\fB\\-\\-start\\-sequence\\fR \\fIN\\fR",
      ".SH \"COMMON OPTIONS\"" } do
      assert.is_truthy(page:find(text, 1, true), text)
    end
    if has "groff" then
      local text = check("man", "groff", "-man", "-Tutf8", "-ww", "-z", "script")
      assert.equal("", text)
    end
    if has "mandoc" then check("man", "mandoc", "-Tlint", "-Werror", "script") end
  end)

  it("knows three shells", function()
    local run = w:moonbus { "completion", "tcsh" }
    assert.equal(2, run.status)
    assert.matches('"tcsh": one of bash, zsh, fish, man', run.stderr)
  end)
end)
