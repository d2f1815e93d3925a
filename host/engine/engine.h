/* engine - scripts at work: sources of messages, instances of Lua, tasks, and the workers that
 * bring them together. This header is what the app sees of it.
 *
 *   bus ── on_delivery ─▶ source (fifo) ─▶ ready queue ─▶ worker ─▶ instance ─▶ task ─▶ verdict
 *
 * Life: engine_new, engine_load each script (fails before anything is connected), engine_connect,
 * engine_roll_out; engine_drain, engine_wait_idle, engine_cancel, engine_free. */
#ifndef MOONBUS_ENGINE_ENGINE_H
#define MOONBUS_ENGINE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/number.h"
#include "base/pool.h"
#include "bus/bus.h"
#include "engine/hooks.h"
#include "engine/offload/offload_stand_in.h"
#include "engine/serve/rollout.h"
#include "engine/shared.h"
#include "engine/snapshot.h"
#include "engine/version/trial.h"
#include "vm/vm.h"

struct cJSON;
struct consumer_spec;
struct engine;
struct generation;
struct http;
struct script;
struct texts;
struct tracer;

/* What a reload of the config may change. */
struct engine_tuning {
    /* For generations that are built from then on (engine/version/policy.h). */
    size_t memory_bytes;    /* of one instance; 0: no limit */
    int64_t cpu_ns;         /* one resume; 0: no limit */
    const char *const *lib; /* folders where require looks after the script's own */
    int lib_count;
    bool trust;
    const char *settings_json; /* bus.settings, a JSON object; NULL: {} */
    /* At once. */
    enum number_big json_big; /* what msg:json does with integers beyond 2^53 */
    int64_t request_timeout_ns;
    int generations; /* of one script, with those on which handlers still run; the oldest beyond it
                        is cancelled */
    int offload_threads;
    int max_stuck; /* so many threads may be lost to handlers that nothing stops */
};

struct engine_options {
    int workers;
    struct engine_tuning tuning; /* copied */
    /* The process should end: why is static. Any thread. */
    void (*on_stuck)(void *owner, const char *why);
    /* A run of bus.on("start") has failed; it has been logged. Any thread. May be NULL. */
    void (*on_start_failed)(void *owner);
    void *owner;
    const char *version;
    struct http *http; /* not owned; what handlers call HTTP servers with; NULL: they cannot */
    const struct offload_stand_in
        *offload_stand_in; /* not owned; NULL: threads run what is offloaded */
    struct tracer *tracer; /* not owned; what traces are recorded by; NULL: they are not */
    bool updates; /* what scripts state wins over what the server has, where they do not say
                     `update` */
    /* Queued for one core subscription, at most; then the newest is dropped. */
    int subscription_messages;
    size_t subscription_bytes;
    const struct trial_options *trial; /* NULL: this is no load test */
    const char *only; /* of what scripts register this handler alone serves, after their "start"
                         hooks, and tracebacks show locals; NULL: all of it. Outlives the engine */
};

struct engine *engine_new(struct clock *clock, struct pool *pool,
                          const struct engine_options *options, const struct engine_hooks *hooks,
                          struct err *err);

/* From now on. Copies. What is loaded keeps what it was built by until it is reloaded. 0 or
 * ERR_MEMORY: nothing has changed. */
int engine_tune(struct engine *engine, const struct engine_tuning *tuning, struct err *err);

/* Loads a script, and waits for that (not on a worker; any number of threads at a time). path: a
 * file; name: its name in messages. read: gets the files that it is made of, as they are read.
 * hurry: NULL, or cancels the load when it becomes true. NULL with failure. Nothing is subscribed,
 * and the engine does not know the script yet. */
struct script *engine_load(struct engine *engine, const char *path, const char *name,
                           struct texts *read, const atomic_bool *hurry, struct failure *failure);
/* Takes a script over. The main thread. */
void engine_add(struct engine *engine, struct script *script);

/* The same for the next version of a script. The caller has a reference, until engine_roll_out or
 * engine_drop_version takes it. */
struct generation *engine_build(struct engine *engine, struct script *script, struct texts *read,
                                const atomic_bool *hurry, struct failure *failure);
/* It will not serve. */
void engine_drop_version(struct generation *generation);

/* Of a script that was refused and never served: its file is gone, and it ends. One that has
 * served, or has ended: no effect. */
void engine_drop_unserved(struct script *script);

/* Before anything is served: 0, or ERR_TAKEN with failure when another loaded script has a handler
 * for one of this one's durables. */
int engine_check_loaded(struct script *script, struct failure *failure);

/* What a script has registered, for the greeting and `check`; i from 0; false past the end. All of
 * it is the generation's. */
struct registration_view {
    const char *script;
    const char *handler; /* "greet.*", "ORDERS/billing", "every 10s", "offload img" */
    const char *what; /* "request/reply", "looks on", the filters, "timer", "stream", "offload" */
    const char *file;
    int line;
    const char *binding;         /* "js.consume" */
    bool declared;               /* it has no handler: a stream, an offloaded module */
    int64_t timeout_ns;          /* 0: none */
    bool timeout_stated;         /* it is not the default */
    int concurrency;             /* 0: no limit */
    const char *subject, *queue; /* bus.subscribe, an endpoint; queue: or NULL */
    const char *service;         /* a service or an endpoint: the service's name; else NULL */
    bool looks_on;               /* bus.subscribe: it never replies */
    int64_t next_s;              /* of a cron line: its next time, in seconds since 1970; else 0 */
    const char *zone;            /* of a cron line; else NULL */
    const char *needs;           /* what of it needs that API level of JetStream; NULL: nothing */
    int needs_level;
    const char *schema;         /* of payloads, as JSON Schema; NULL: none is stated */
    const struct cJSON *stream; /* js.stream: its settings, NATS' own fields */
    bool update_stated, update; /* js.stream, js.consume: the option `update` */
    /* js.consume; NULL for all else. */
    const struct consumer_spec *consumer;
    int attempts, batch_size; /* batch_size 0: no batches */
    bool backoff_stated;
    int order_token;    /* order_by = N; else 0 */
    int64_t retries_ns; /* all backoffs together, at their longest */
    int64_t backoff_max_ns;
    int64_t longest_retry_ns; /* of all of them, with its jitter */
    int64_t park_after_ns;    /* 0: not stated */
    const char *dead_letter;  /* or NULL */
    bool drops;               /* dead_letter = false */
};
bool engine_registration(struct engine *engine, struct script *script, int i,
                         struct registration_view *out);
int engine_script_count(struct engine *engine);
struct script *engine_script(struct engine *engine, int i);
const char *script_name(const struct script *script);
unsigned script_generation(struct script *script);
/* What its live generation was made of up to now; a reference. */
struct texts *script_texts(struct script *script);

/* The sink to hand to bus_new; then the bus. */
struct sink engine_sink(struct engine *engine);
void engine_connect(struct engine *engine, struct bus *bus);

/* Has it been served, and not been unloaded since? */
bool script_serves(const struct script *script);

/* Blocks (pool thread): has all items serve, or none (engine/serve/rollout.h). */
int engine_roll_out(struct engine *engine, struct rollout *items, int count,
                    enum rollout_patience patience, int *culprit, struct err *err);

/* NULL: this is no load test. */
struct trial *engine_trial(struct engine *engine);

/* How many handlers run. */
int engine_running(struct engine *engine);

/* How many threads are lost to handlers or loads that nothing could stop, and have not come back.
 * They may still use whatever they know: the engine must not be freed. */
int engine_stuck(struct engine *engine);

/* Any thread, at once: what is being loaded has no time left. */
void engine_cancel_loads(struct engine *engine);

/* For how long work has been ready that no worker took, as far as the calls of this show. One
 * thread's. */
int64_t engine_stalled_ns(struct engine *engine);

/* Begins to stop, returns at once: no new messages; what is queued but has not started is handed
 * back (nak without delay); core messages that have arrived are still handled. */
void engine_drain(struct engine *engine);

/* Blocks until nothing runs and nothing is queued, or until deadline_ns. Returns how many handlers
 * are unfinished. Runs the "stop" hooks when all is done. */
int engine_wait_idle(struct engine *engine, uint64_t deadline_ns);

/* Cancels every task; messages whose handlers do not end are handed back at once. */
void engine_cancel(struct engine *engine);

/* Blocks, until deadline_ns at most: offloaded functions are stopped, their threads end. How many
 * do not: they are in calls that nothing interrupts, and are left behind. The clock must still run.
 */
int engine_stop_offload(struct engine *engine, uint64_t deadline_ns);

/* Ends the workers (a worker that is stuck in Lua is left behind), frees the rest. The clock's and
 * the pool's threads must have ended: what they call would be gone. False: some thread did not end
 * in time and still uses the engine and the bus, or a task is left that refers to both; neither is
 * freed then. */
bool engine_free(struct engine *engine);

#endif
