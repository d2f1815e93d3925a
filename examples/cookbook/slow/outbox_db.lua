-- What outbox.lua asks PostgreSQL, on an offload thread: the driver is written in C, and it blocks.
-- luarocks install --tree lua_modules --lua-version 5.1 luasql-postgres, or Debian's lua-sql-postgres
local M = {}

local connection -- each thread has its own

-- dsn: "host=db dbname=shop user=... password=... connect_timeout=3 options='-c statement_timeout=5s'": what may
-- hang has limits of its own, as a call that hangs in C cannot be stopped from outside.
local function ask(dsn, sql)
  if not connection then
    local postgres = require("luasql.postgres").postgres()
    connection = assert(postgres:connect(dsn))
  end
  local result, why = connection:execute(sql)
  if result then return result end
  pcall(connection.close, connection)
  connection = nil -- it may be broken: the next call makes a new one
  error(why, 0)
end

-- The oldest first. Ids are texts here: no number of Lua holds all of a bigint.
function M.unsent(dsn, most)
  local cursor = ask(dsn, ("SELECT id, subject, payload FROM outbox WHERE sent_at IS NULL ORDER BY id LIMIT %d")
    :format(most))
  local rows = {}
  for row in function() return cursor:fetch({}, "a") end do rows[#rows + 1] = row end
  cursor:close()
  return rows
end

function M.sent(dsn, ids)
  for _, id in ipairs(ids) do assert(id:find "^%d+$", "an id is a number") end
  ask(dsn, ("UPDATE outbox SET sent_at = now() WHERE id IN (%s)"):format(table.concat(ids, ",")))
  return #ids
end

return M
