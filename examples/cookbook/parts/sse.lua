-- Reads server-sent events out of the pieces in which an HTTP answer comes. What chat APIs send:
--   data: {"choices":[{"delta":{"content":"Hel"}}]}
--   data: [DONE]
local bus = require "moonbus"

local M = {}

-- on_text(text): called with each bit of text as it comes; it may wait. Returns the sink, and the state: text, and
-- done, once the server has said that this was all.
function M.chat(on_text)
  local state, rest = { text = "", done = false }, ""
  return function(piece)
    rest = rest .. piece
    local from, bits = 1, {}
    while true do
      local line, last = rest:match("^([^\n]*)\n()", from)
      if not line then break end
      from = last
      local data = line:match "^data:%s*(.-)%s*$"
      if data == "[DONE]" then state.done = true end
      local event = data and bus.json.decode(data)
      local choice = type(event) == "table" and event.choices and event.choices[1]
      bits[#bits + 1] = choice and choice.delta and choice.delta.content or nil
    end
    rest = rest:sub(from)
    local text = table.concat(bits)
    state.text = state.text .. text
    if text ~= "" then on_text(text) end
  end, state
end

return M
