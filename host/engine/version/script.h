/* script - one handler file, from its first load to the end of the process; and `struct scripts`:
 * all of them, with what they are loaded and run with.
 *
 * A script outlives its versions (generations). References: the engine's, each generation; a load
 * that was left to itself may have the last. Any thread, under the locks that are named. */
#ifndef MOONBUS_ENGINE_VERSION_SCRIPT_H
#define MOONBUS_ENGINE_VERSION_SCRIPT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/sync.h"
#include "bus/link/link.h"
#include "engine/version/tally.h"

struct bus;
struct clock;
struct discovery;
struct dispatch;
struct engine_hooks;
struct event;
struct generation;
struct link_flow;
struct mirrors;
struct outbox_account;
struct policy;
struct pool;
struct script;
struct source;
struct tracer;
struct trial;

/* Filled in by the engine before the first script is loaded; what is not said to change stays. */
struct scripts {
    struct clock *clock;       /* these are not owned */
    struct pool *pool;         /* for what blocks */
    struct dispatch *dispatch; /* its lock guards the list */
    const struct engine_hooks *hooks;
    struct tracer *tracer;       /* NULL: nothing is recorded */
    struct mirrors *mirrors;     /* owned; of the buckets that scripts have cached */
    struct bus *bus;             /* set before anything is served */
    struct discovery *discovery; /* likewise; owned by the engine; NULL: no memory */
    const char *only;            /* the one handler that serves; NULL: all of them */

    struct script *first; /* owned, in order of loading */
    int count;
    struct policy *policy; /* of generations to come; a reference; dispatch lock */
    struct trial *trial;   /* owned; NULL: this is no load test */

    int workers;  /* so many instances a generation may have */
    int messages; /* so many wait for one core subscription, at most, */
    size_t bytes; /* with so many bytes */
    bool updates; /* what scripts state wins over what the server has, unless they say `update` */
    atomic_int max_stuck;   /* threads that may be lost */
    atomic_int generations; /* of one script that may live */
    atomic_bool draining;   /* nothing new is begun */
    atomic_bool ending;     /* what is being loaded is for nobody */
    atomic_int loads_left;  /* loads that are left to themselves (load.c) */

    /* The delivery thread's: ops that were completed in this read of the publish connection. */
    struct event *replied;
    struct link_gatherer at_read_end;

    /* The process should end: why is static. Any thread. May be NULL. */
    void (*on_stuck)(void *owner, const char *why);
    void (*on_start_failed)(void *owner); /* likewise */
    void *owner;
};

struct script {
    struct scripts *scripts; /* not owned */
    struct script *next;
    atomic_int references;
    char *path, *name;       /* owned */
    struct mutex changing;   /* held while it is served or reloaded: one change at a time; may be
                                held for as long as a server does not answer */
    struct mutex starting;   /* held while sources start or stop; never while anything waits */
    struct generation *live; /* reference held; changes under the dispatch lock */
    struct generation *generations; /* live, and retired ones that still run; dispatch lock */
    struct source *sources; /* owned; list changes under both `starting` and the dispatch lock */
    struct outbox_account *account; /* the outbox's: what is counted of its publishes; made with
                                       flow, changes under the dispatch lock */
    struct link_flow *flow; /* what it sends over the publish connection, whose it is; made before
                               it is served for the first time */
    struct tally_book tallies;    /* what is counted of its handlers, and of its calls */
    atomic_ullong full_logged_ns; /* when the log last said that too much of it waits; 0: never */
    bool served;                  /* it has been, at least once; dispatch lock */
    struct generation *next_live; /* a rollout is being made: what is to be live then; dispatch
                                     lock; NULL: no other */
    bool leaving;                 /* likewise: it is to be unloaded */
    bool unloaded;                /* its file is gone: `live` is retired; dispatch lock */
};

/* Without a generation yet; one reference. NULL: no memory. */
struct script *script_new(struct scripts *scripts, const char *path, const char *name);
struct script *script_retain(struct script *script);
void script_release(struct script *script);

/* Has it been served, and not been unloaded since? Takes the dispatch lock. */
bool script_is_served(const struct script *script);

/* Of its frames too many wait: is that to be logged (now and then it is)? Any thread. */
bool script_may_log_full(struct script *script);

/* The policy that generations are built by now, with a reference. Takes the dispatch lock. */
struct policy *scripts_policy(struct scripts *scripts);

/* A Lua state was discarded; may be one too many. Any thread. */
void scripts_note_discarded(struct scripts *scripts);

#endif
