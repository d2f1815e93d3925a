-- Where messages come from: streams of a real server, and dead letters. What is not there is said with
-- what is.
local M = {}

local NAMES_MOST = 10

local function list_streams(server)
  local names = server.streams()
  if not names then return "" end
  if #names == 0 then return "; there is no stream on it at all" end
  table.sort(names)
  local shown = table.concat(names, ", ", 1, math.min(#names, NAMES_MOST))
  return ("; there are %s%s"):format(shown, #names > NAMES_MOST and "..." or "")
end

-- Why the server did not say: a sentence.
local function explain(server, stream, code, why)
  local _, name = server.open()
  if code == "no_responders" then
    return ("no_responders: nobody answers for JetStream on %s: is it enabled there, and for this account?")
      :format(name)
  end
  if code == "not_found" then return ('there is no stream "%s" on %s%s'):format(stream, name, list_streams(server)) end
  return ("%s: %s"):format(code, why)
end

-- What a stream holds; nil and a sentence.
function M.info(server, stream)
  local info, code, why = server.info(stream)
  if info then return info end
  return nil, explain(server, stream, code, why)
end

local function explain_missing(info, stream, sequence)
  if info.messages == 0 then return ("stream %s is empty: it has no sequence %.0f"):format(stream, sequence) end
  if sequence >= info.first and sequence <= info.last then
    return ("sequence %.0f of stream %s was deleted; it holds some of %.0f to %.0f"):format(sequence, stream,
      info.first, info.last)
  end
  return ("stream %s has no sequence %.0f: it holds %.0f to %.0f"):format(stream, sequence, info.first, info.last)
end

local function missing(server, stream, sequence, code, why)
  if code ~= "not_found" then return ("%s: %s"):format(code, why) end
  local info, reason = M.info(server, stream)
  if not info then return reason end
  return explain_missing(info, stream, sequence or info.last)
end

function M.message(server, stream, sequence)
  local message, code, why = server.read(stream, sequence)
  if message then return message end
  return nil, missing(server, stream, sequence, code, why)
end

-- What a dead letter is of, and what it says; nil and a sentence. sequence: nil for the last one.
function M.letter(server, stream, sequence)
  local message, letter, why = server.letter(stream, sequence)
  if message then return message, letter end
  local info, reason = M.info(server, stream)
  if not info then return nil, reason end
  if letter == "not_found" and info.messages == 0 then return nil, ("stream %s is empty"):format(stream) end
  if letter == "not_found" and not why:find "^the letter" then
    return nil, explain_missing(info, stream, sequence or info.last)
  end
  if letter == "invalid" then
    return nil, ("%s: %s: without --dead it is replayed as it is"):format(stream, why)
  end
  return nil, why
end

return M
