-- The config of the service: docs/OPERATING.md has every key. What is stated here is the default,
-- unless it is commented out. After a change: systemctl reload moonbus
return {
  servers = { "nats://127.0.0.1:4222" },
  -- auth = { creds = env("CREDENTIALS_DIRECTORY", ".") .. "/nats.creds" },  -- see docs/DEPLOYING.md
  -- tls = { ca = "ca.pem" },

  handlers = { "handlers/" }, -- /etc/moonbus/handlers/*.lua
  lib = { "lib/" },

  graceful_timeout = "25s",
  admin = "127.0.0.1:8223",
}
