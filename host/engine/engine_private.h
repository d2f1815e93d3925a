/* engine_private - the engine itself: what engine.c, drain.c, snapshot.c and bindings.c share;
 * nobody else includes it. The rooms below take what they need of it, never the whole. */
#ifndef MOONBUS_ENGINE_ENGINE_PRIVATE_H
#define MOONBUS_ENGINE_ENGINE_PRIVATE_H

#include "engine/engine.h"
#include "engine/sched/dispatch.h"
#include "engine/version/script.h"

struct limiters;
struct offload;
struct permits;
struct shared;
struct watchdog;
struct workers;

struct engine {
    struct scripts scripts;
    struct dispatch dispatch;
    struct workers *workers;      /* owned */
    struct watchdog *watchdog;    /* owned */
    struct offload *offload;      /* owned */
    struct shared *shared;        /* owned */
    struct permits *permits;      /* owned */
    struct limiters *limiters;    /* owned */
    const char *version;          /* not owned */
    struct http *http;            /* not owned; or NULL */
    _Atomic(struct bus *) writes; /* not owned: scripts.bus for the clock, once it is known */
    _Atomic int64_t request_timeout_ns;
    atomic_int json_big;     /* enum number_big */
    uint64_t drain_began_ns; /* main's */
    struct {
        uint64_t takes, since_ns;
    } stall; /* engine_stalled_ns' */
};

#endif
