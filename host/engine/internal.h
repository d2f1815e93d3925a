/* internal - what the files of engine/ (and the bindings of api/) see of the engine. */
#ifndef MOONBUS_ENGINE_INTERNAL_H
#define MOONBUS_ENGINE_INTERNAL_H

#include <stdatomic.h>

#include "engine/dispatch.h"
#include "engine/engine.h"
#include "engine/offload.h"
#include "engine/policy.h"
#include "engine/shared.h"
#include "engine/watchdog.h"
#include "engine/worker.h"

struct engine {
    struct clock *clock;           /* not owned */
    struct pool *pool;             /* not owned */
    struct bus *bus;               /* not owned; set by engine_connect, before anything is served */
    struct engine_options options; /* without its tuning */
    struct policy *policy;         /* of generations to come; a reference; dispatch lock */
    _Atomic int64_t request_timeout_ns, retire_ns;
    atomic_int max_stuck;
    const struct engine_hooks *hooks;
    struct dispatch dispatch;
    struct workers *workers;   /* owned */
    struct watchdog *watchdog; /* owned */
    struct offload *offload;   /* owned */
    struct shared *shared;     /* owned */
    struct script *scripts;    /* owned, in order of loading */
    int script_count;
    atomic_bool draining;
    atomic_bool ending;      /* what is being loaded is for nobody */
    atomic_int loads_left;   /* loads that are left to themselves (load.c) */
    uint64_t drain_began_ns; /* main's */
    struct {
        uint64_t takes, since_ns;
    } stall; /* engine_stalled_ns' */
};

/* References: the engine's, each generation; a load that was left to itself may have the last. */
struct script {
    struct engine *engine;
    struct script *next;
    atomic_int references;
    char *path, *name;        /* owned */
    pthread_mutex_t changing; /* held while it is served or reloaded: one change at a time; may be
                                 held for as long as a server does not answer */
    pthread_mutex_t starting; /* held while sources start or stop; never while anything waits */
    struct generation *live;  /* reference held; changes under the dispatch lock */
    struct generation *generations; /* live, and retired ones that still run; dispatch lock */
    struct source *sources;         /* owned; list changes under both `starting` and the dispatch
                                       lock */
    struct link_flow *flow; /* what it sends over the publish connection, whose it is; made by the
                               first engine_serve, before anything of it runs */
    atomic_ullong full_told_ns; /* when the log last said that too much of it waits; 0: never */
    bool served;                /* it has been, at least once; dispatch lock */
    bool unloaded;              /* its file is gone: `live` is retired; dispatch lock */
};

struct script *script_retain(struct script *script);
void script_release(struct script *script);
/* Of its frames too many wait: is that to be logged (now and then it is)? Any thread. */
bool script_tell_full(struct script *script);

/* engine.c: the policy that generations are built by now, with a reference. */
struct policy *engine_policy(struct engine *engine);

/* engine.c: so many threads could not be stopped, this one among them. On the clock. */
void engine_lost(struct engine *engine, int lost);

/* accept.c: may this version of the script serve? 0, or why not, with its place: it handles nothing
 * any more, or (ERR_TAKEN) what another script handles that serves. With `changing` held. */
int accept_generation(const struct script *script, const struct generation *generation,
                      struct err *err);

/* source.c: a source for a registration, on the script's list, not serving yet. NULL when out of
 * memory. */
struct source *source_new(struct script *script, struct generation *generation,
                          struct registration *registration);
/* Begins to bring messages; 0 or an error. With `starting` held. */
int source_start(struct source *source, struct err *err);
/* No new messages; what is queued is handed back (JetStream) or still handled (core). With
 * `starting` held. */
void source_stop(struct source *source);
/* Hands back what never started; by itself when it has drained. */
void source_hand_back(struct source *source);
/* When nothing of it runs any more, and the bus has stopped. Not on the list any more. */
void source_free(struct source *source);
/* With the dispatch lock held: a timer ticks no more, not even a tick that is owed. */
void source_mute(struct source *source);
/* Frees those of the script's sources that have ended with their generation. The pool. */
void source_sweep(struct script *script);
/* A source that has never started leaves the list and goes. */
void source_drop(struct source *source);
enum source_state source_state(struct source *source);
/* `:cancel()` of a timer that was made while the script loaded: index of its registration. For the
 * whole process, whichever instance asks. */
void source_cancel_timer(struct instance *instance, int index);
/* One run of each hook of that kind is owed. Returns how many. With the dispatch lock held. */
int source_hooks_due(struct script *script, struct generation *generation,
                     enum registration_kind kind);

#endif
