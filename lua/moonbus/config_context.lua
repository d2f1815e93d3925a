-- Settings from a context of the nats command line: `--context`, NATS_CONTEXT, or the selected one.
--
-- A context is a whole: a server, and as whom to go there. So it replaces what weaker sources say of
-- both, and what it says of credentials is for its own server alone. Stronger sources add to it.
local context = {}

-- Between which sources each kind of context stands: config.lua has the strength of those.
context.strength = { context_selected = 0.5, context_nats = 1.5, context_flag = 3.5 }

-- What may come from one, and what it replaces.
local keys = {
  "servers", "auth.creds", "auth.user", "auth.password", "auth.token", "auth.nkey", "auth.jwt",
  "auth.seed", "tls.ca", "tls.cert", "tls.key", "tls.verify", "tls.first", "jetstream.domain",
  "jetstream.api_prefix", "inbox_prefix",
}

local function stated_in(self, layer)
  for _, key in ipairs(keys) do
    if self.stated[key] and self.stated[key].layer == layer then return self.stated[key].source end
  end
end

-- The layer of the context that counts, and its name; nil: none. The selected one has no name here.
local function choose(self, input, fail)
  local servers = self.stated.servers
  local of_environment = input.environment.NATS_CONTEXT
  if input.context then
    if servers and servers.layer == "flag" then
      fail("%s and --context: a context has a server of its own; state one of them", servers.source)
    end
    return "context_flag", input.context
  end
  if of_environment and of_environment ~= "" then
    if not servers or servers.layer == "file" then return "context_nats", of_environment end
    if servers.layer ~= "flag" then
      self.warnings[#self.warnings + 1] = ("NATS_CONTEXT: not used, as %s states a server"):format(servers.source)
    end
    return nil
  end
  -- What a file says of credentials was written for the server that is meant without one.
  if servers or input.no_selected_context or stated_in(self, "file") then return nil end
  return "context_selected", nil
end

-- self.stated gets what the context says. strength: of the other sources; state: takes a setting.
---@return string|nil note which context it is, where nobody named one in this command
function context.read(self, input, tools)
  local layer, name = choose(self, input, tools.fail)
  if not layer then return nil end
  local found, complaint = input.host.context(name)
  if complaint then
    tools.fail("%s%s%s", layer == "context_nats" and "NATS_CONTEXT: " or "", complaint, layer == "context_selected" and
      " (it is the selected one; state a server with -s, or another with --context)" or "")
  end
  if not found then return nil end
  for _, key in ipairs(keys) do
    local stated = self.stated[key]
    if stated and tools.strength[stated.layer] < context.strength[layer] then self.stated[key] = nil end
  end
  for _, value in ipairs(found.values) do
    if not self.stated[value.key] then
      tools.state(value.key, value.text, ('context "%s": %s'):format(found.name, value.field), layer)
    end
  end
  if found.unknown then
    self.warnings[#self.warnings + 1] = ('context "%s": not used: %s'):format(found.name, found.unknown)
  end
  if layer == "context_flag" then return nil end
  return ('using %s context "%s"'):format(layer == "context_nats" and "NATS_CONTEXT's" or
    "the nats command line's selected", found.name)
end

return context
