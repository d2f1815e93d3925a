-- What the binary is made of, and that it is harder to abuse than the compiler's defaults make it.
local host_binary = require("spec.support.host").binary

local sanitized = os.getenv "ASAN_OPTIONS" or os.getenv "TSAN_OPTIONS"

local function run(command)
  local pipe = assert(io.popen(command .. " 2>&1"))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

describe("the binary", function()
  if sanitized then return pending "is built in another way for a sanitizer" end

  it("is at no fixed address, and binds all before it runs, into what is then read-only", function()
    assert.matches("Type:%s+DYN", run("readelf -hW " .. host_binary()))
    assert.matches("GNU_RELRO", run("readelf -lW " .. host_binary()))
    local dynamic = run("readelf -dW " .. host_binary())
    assert.matches("BIND_NOW", dynamic)
    assert.matches("Flags:.*NOW.*PIE", dynamic)
    assert.is_nil(dynamic:find "TEXTREL")
  end)

  it("has no stack to execute", function()
    local flags = run("readelf -lW " .. host_binary()):match "GNU_STACK%s[^\n]*"
    assert.matches(" RW ", flags)
  end)

  it("guards its stack, and checks what it writes into buffers", function()
    local symbols = run("readelf -W --dyn-syms " .. host_binary())
    assert.matches("__stack_chk_fail", symbols)
    assert.matches("__%a+printf_chk", symbols)
  end)

  it("marks where it may be called, on processors that look", function()
    if not jit or jit.arch ~= "x64" then return pending "x86-64 only" end
    assert.matches("endbr64", run("objdump -d --no-show-raw-insn --disassemble=main " .. host_binary()))
  end)
end)
