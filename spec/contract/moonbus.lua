return {
  servers  = { "nats://127.0.0.1:4222" },
  name     = "moonbus",                      -- shown by the server's connz
  auth     = { creds = "billing.creds" },    -- or user+password, token, nkey (seed file); default: none
  tls      = { ca = "ca.pem", cert = "c.pem", key = "k.pem", verify = true },      -- default: none
  jetstream = { domain = nil, api_prefix = nil },  inbox_prefix = nil,
  handlers = { "handlers/" },
  lib      = { "lib/" },                     -- where handlers' require() looks, after their own folder
  workers  = 2,                              -- Lua threads; default: CPUs or the container's quota, at most 4
  connect_timeout  = "5s",
  ping_interval    = "5s",  max_pings_out = 2, wire = "auto",
  reconnect        = { wait = "250ms", max_wait = "5s", jitter = "100ms" },   -- for ever
  request_timeout  = "5s",
  publish          = { timeout = "5s", attempts = 10, backoff = { min = "100ms", max = "5s" } },
  graceful_timeout = "25s",                  -- below Kubernetes' 30 s
  limits   = { memory = "64MB", cpu = "5s", offload_threads = 4, max_stuck = 3, generations = 8 },  -- memory: per script and worker; cpu: one resume without yielding
  watch    = false,
  admin    = "127.0.0.1:8223",               -- "off" for none; off loopback, POST needs admin_token
  log      = { level = "info", format = "auto" },   -- auto: text on a terminal, else json
  settings = { anything = "handlers read it as bus.settings" },
}
