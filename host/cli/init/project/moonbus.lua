-- The settings of this project. What is not stated has its default; each can also be set by a variable of the
-- environment (MOONBUS_WORKERS) or a flag. `moonbus check` says what of it is unwise.
return {
  -- servers = { env("NATS_URL", "nats://127.0.0.1:4222") },   -- for `moonbus run`; `moonbus dev` has its own
  -- auth = { creds = env "NATS_CREDS" },
  handlers = { "handlers/" },
  lib = { "lib/" }, -- where `require` looks, after the handler's own folder
  settings = { currency = "EUR" }, -- handlers read it as bus.settings
}
