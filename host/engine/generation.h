/* generation - one loaded version of a script: what it registers, and its instances.
 *
 * The first instance to load says what the generation registers; every further one must register
 * the same, in the same order: a handler is found by its place in that order. Registrations are
 * immutable once the generation is built. References: its script while it is live, each instance,
 * each source that serves for it. */
#ifndef MOONBUS_ENGINE_GENERATION_H
#define MOONBUS_ENGINE_GENERATION_H

#include <cjson/cJSON.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/pool.h"
#include "bus/consumer.h"
#include "bus/retry.h"
#include "engine/engine.h"
#include "engine/instance.h"

enum registration_kind {
    REGISTER_STREAM,    /* js.stream: no handler */
    REGISTER_SUBSCRIBE, /* bus.subscribe */
    REGISTER_CONSUME,   /* js.consume */
    REGISTER_EVERY,     /* bus.every at load */
    REGISTER_AFTER,     /* bus.after at load */
    REGISTER_START,     /* bus.on("start") */
    REGISTER_STOP,      /* bus.on("stop") */
};

enum order { ORDER_NONE, ORDER_SUBJECT, ORDER_TOKEN, ORDER_HEADER };

/* All strings owned; freed by registration_free. Filled by api_load from checked options. */
struct registration {
    enum registration_kind kind;
    int index;     /* its place, from 1 */
    char *handler; /* for people: "greet.*", "ORDERS/billing", "every 10s" */
    char *what;    /* for the greeting: "request/reply", "orders.created" */
    char *file;    /* where it was registered */
    int line;

    char *subject, *queue;         /* SUBSCRIBE */
    bool drop_old;                 /* SUBSCRIBE: the oldest goes when the queue is full */
    struct consumer_spec consumer; /* CONSUME; its strings and lists are owned here */
    cJSON *extra;                  /* owned; consumer.extra borrows it */
    cJSON *stream;                 /* STREAM: NATS' own fields, durations in ns */
    int64_t period_ns;             /* EVERY, AFTER */
    bool timer_cancelled;          /* EVERY, AFTER: cancelled while the script was loading */
    int64_t timeout_ns;            /* 0: none */
    int concurrency;               /* 0: no limit */
    int attempts;                  /* CONSUME */
    struct backoff backoff;        /* CONSUME */
    char *dead_letter;             /* CONSUME; or NULL */
    enum order order;              /* CONSUME: order_by */
    int order_token;               /* counted from 1 */
    char *order_header;
    int batch_size; /* CONSUME: 0: no batches */
    int64_t batch_wait_ns;
};

void registration_free(struct registration *registration);

/* The same handler, as far as two instances of one generation can tell. */
bool registration_same(const struct registration *a, const struct registration *b);

/* Would the registration go on with the other's NATS subscription or pull loop? */
bool registration_continues(const struct registration *now, const struct registration *then);

/* Has the server nothing to be told of a consumer that goes on so? */
bool registration_same_consumer(const struct registration *now, const struct registration *then);

/* What a loading script has registered so far. */
struct loading {
    struct registration **items; /* owned until the generation takes them */
    int count, capacity;
    int workers;         /* bus.script { workers }: 0 not set */
    size_t memory_bytes; /* bus.script { memory }: 0 not set */
    int64_t cpu_ns;      /* bus.script { cpu }: 0 not set */
    bool jit_off;        /* bus.script { jit = false } */
};

/* Called by api_load while the script's top level runs: takes the registration, gives it its index
 * and keeps the function on top of L (or none: nil) as its handler; pops it. */
int loading_add(struct instance *instance, lua_State *L, struct registration *registration);

/* Frees what it has registered. */
void loading_clear(struct loading *loading);

/* As instance_load, on a thread of its own: nothing that the script does keeps the caller for
 * longer than the deadline and a little. In load.c. */
struct instance *load_aside(struct generation *generation, struct loading *loading,
                            struct failure *failure);

struct generation {
    struct generation *prev, *next; /* script's list of all that live; dispatch lock */
    atomic_int references;
    struct engine *engine;
    struct script *script;               /* a reference */
    unsigned number;                     /* from 1 */
    struct registration **registrations; /* owned */
    int registration_count;
    int instance_limit;
    size_t memory_bytes;
    struct policy *policy;        /* a reference */
    struct loader_options loader; /* borrows of policy and warned */
    struct loader_names *warned;  /* owned */
    struct sources *sources;      /* owned; further instances are of the same text as the first */

    /* Under the dispatch lock. */
    struct instance *instances; /* all; a reference each */
    int instance_count;         /* without those that are worn */
    int worn;
    bool building; /* one more is being loaded on the pool */
    bool broken;   /* a further instance did not load as the first: no more of them */
    struct instance *idle;
    struct source *waiting; /* sources with work, in want of an idle instance */
    bool retired;           /* no source gets new work for it */
    bool stop_ran;          /* its "stop" hooks have been made due */
    bool reaping;           /* its states are being closed on the pool */
    bool closed;            /* they are */
    int running;            /* root tasks on it */
    struct pool_job growing, closing;
    struct deadline retiring; /* armed until it is closed, with a reference */
    struct deadline
        regrowing; /* when it has no instance left and the next did not load; likewise */
};

/* Loads the first instance and with it the registrations, and then further ones, up to `instances`:
 * all of them, or none. A generation that begins with as many as the last one had makes no message
 * wait for the second. Blocks, not on a worker. *read: what it was made of, also on failure; a
 * reference, or NULL. */
struct generation *generation_build(struct engine *engine, struct script *script, unsigned number,
                                    int instances, struct sources **read, struct failure *failure);
struct generation *generation_retain(struct generation *generation);
void generation_release(struct generation *generation);

/* Under the dispatch lock: there is work and no idle instance; has another one loaded on the pool
 * if there may be one more. */
void generation_grow(struct generation *generation);

/* Under the dispatch lock: it has been replaced. What runs on it has the engine's retire_ns; then
 * it is cancelled, and its messages go to the generation that serves now. */
void generation_retire(struct generation *generation);

/* Under the dispatch lock: if it is retired and nothing of it runs or comes: runs its "stop" hooks,
 * then closes its states on the pool. Any number of calls. */
void generation_reap(struct generation *generation);

#endif
