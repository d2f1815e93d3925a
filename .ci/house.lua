-- The shape of host/, as .ci/structure holds it; docs/ARCHITECTURE.md says why it is so.
return {
  -- A file includes its own floor and those that stand here beside it.
  floors = {
    base = {}, trace = { "base" }, bus = { "base" }, broker = { "base", "bus" }, vm = { "base" }, http = { "base" },
    judge = { "base" },
    engine = { "base", "trace", "bus", "vm" },
    api = { "base", "bus", "vm", "http", "engine" },
    app = { "base", "trace", "bus", "vm", "http", "judge", "engine", "api" },
    sim = { "base", "trace", "bus", "broker", "vm", "http", "engine", "api", "app" },
    cli = { "base", "bus", "vm", "judge", "engine", "api", "app", "sim" },
  },

  -- From the lowest to the highest. A room is a folder, or one unit at the floor's root; "*" is all
  -- that lies at the root and is not named. A floor that is not here is one room.
  rooms = {
    bus = { "*", "link", "request", "outbox", "consume", "bus" },
    engine = { "hooks", "sched", "version", "source", "run", "offload", "serve", "kinds", "*" },
  },

  -- Of a floor these see one header.
  doors = {
    engine = { api = "engine/bindings.h", app = "engine/engine.h", sim = "engine/engine.h", cli = "engine/engine.h" },
  },

  -- These know no Lua.
  without_lua = { "base", "trace", "bus", "broker", "http", "judge" },

  -- nats/nats.h is included here alone.
  with_nats = { "bus/link/", "cli/" },

  -- The mutexes and condition variables of pthreads are named here alone.
  with_mutexes = { "base/sync.h", "base/sync.c" },

  -- Lines of a file, columns of a line of C, and units of a ring, at most.
  longest_file = 500,
  widest_line = 100,
  largest_ring = 3,

  -- What breaks a rule as yet, by rule: a path; a tag; the floor of a ring. Nothing does. An entry
  -- that is not needed any more is an offence, too, so these lists can only become shorter.
  still = {},
}
