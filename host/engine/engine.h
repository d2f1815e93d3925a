/* engine - scripts at work: sources of messages, instances of Lua, tasks, and the workers that
 * bring them together. This header is what the app sees of it.
 *
 *   bus ── on_delivery ─▶ source (fifo) ─▶ ready queue ─▶ worker ─▶ instance ─▶ task ─▶ verdict
 *
 * Life: engine_new, engine_load each script (fails before anything is connected), engine_connect,
 * engine_serve; engine_drain, engine_wait_idle, engine_cancel, engine_free. */
#ifndef MOONBUS_ENGINE_ENGINE_H
#define MOONBUS_ENGINE_ENGINE_H

#include <cjson/cJSON.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/pool.h"
#include "bus/bus.h"
#include "vm/loader.h"

struct delivery;
struct engine;
struct script;
struct task;

/* What the api floor does for the engine; handed over by the app. All run on the thread that has
 * the instance. */
struct engine_hooks {
    /* Fills the table on top of L's stack with the C side of the bindings; may raise. */
    void (*open)(lua_State *L);
    /* Pushes the message object of a delivery onto the task's coroutine. */
    void (*push_message)(lua_State *L, struct task *task, struct delivery *delivery);
    /* The run of the objects of task->message is over: who still has one may read it, and no more.
     */
    void (*end_messages)(struct task *task);
    /* A core handler returned: sends the reply (the nresults values on top of L), if one is wanted
     * and msg:respond has not been called. 0, or an error: it returned what cannot be sent. */
    int (*reply)(struct task *task, lua_State *L, int nresults, struct err *err);
    /* A core handler failed: answers the requester with the error's code (400, 500...). */
    void (*reply_error)(struct task *task, int status, const struct err *err);
};

/* What a reload of the config may change. */
struct engine_tuning {
    /* For generations that are built from then on (engine/policy.h). */
    size_t memory_bytes;    /* of one instance; 0: no limit */
    int64_t cpu_ns;         /* one resume; 0: no limit */
    const char *const *lib; /* folders where require looks after the script's own */
    int lib_count;
    bool trust;
    const char *settings_json; /* bus.settings, a JSON object; NULL: {} */
    /* At once. */
    int64_t request_timeout_ns;
    int64_t retire_ns; /* what runs on a replaced generation is cancelled after so long; 0: never */
    int offload_threads;
    int max_stuck; /* so many threads may be lost to handlers that nothing stops */
};

struct engine_options {
    int workers;
    struct engine_tuning tuning;   /* copied */
    void (*on_stuck)(void *owner); /* one thread too many was lost: the process should end. On the
                                      clock */
    void *owner;
    const char *version;
    /* Queued for one core subscription, at most; then the newest is dropped. */
    int subscription_messages;
    size_t subscription_bytes;
};

struct engine *engine_new(struct clock *clock, struct pool *pool,
                          const struct engine_options *options, const struct engine_hooks *hooks,
                          struct err *err);

/* From now on. Copies. What is loaded keeps what it was built by until it is reloaded. 0 or
 * ERR_MEMORY: nothing has changed. */
int engine_tune(struct engine *engine, const struct engine_tuning *tuning, struct err *err);

/* Loads a script, and waits for that (not on a worker). path: a file; name: how it is called. NULL
 * with failure. *read: the files that it was made of, also on failure; a reference, or NULL. The
 * engine owns the script. Nothing is subscribed yet. */
struct script *engine_load(struct engine *engine, const char *path, const char *name,
                           struct sources **read, struct failure *failure);

/* Before anything is served: 0, or ERR_TAKEN with failure when another loaded script has a handler
 * for one of this one's durables. */
int engine_check_loaded(struct script *script, struct failure *failure);

/* What a script has registered, for the greeting and `check`; i from 0; false past the end. The
 * strings are the generation's. */
struct registration_view {
    const char *script;
    const char *handler; /* "greet.*", "ORDERS/billing", "every 10s" */
    const char *what;    /* "request/reply", the filters, "timer", "stream" */
    const char *file;
    int line;
};
bool engine_registration(struct engine *engine, struct script *script, int i,
                         struct registration_view *out);
int engine_script_count(struct engine *engine);
struct script *engine_script(struct engine *engine, int i);
const char *script_name(const struct script *script);
unsigned script_generation(struct script *script);
/* What its live generation was made of up to now; a reference. */
struct sources *script_sources(struct script *script);

/* The sink to hand to bus_new; then the bus. */
struct bus_sink engine_sink(struct engine *engine);
void engine_connect(struct engine *engine, struct bus *bus);

/* Has it been served, and not been unloaded since? */
bool script_serves(const struct script *script);

/* Blocks (pool or setup thread): makes sure of the script's streams, consumers and dead-letter
 * subjects, then begins to serve it: subscribes, pulls, starts timers, runs "start". An error means
 * nothing of it serves. Waits for the server while it is not there: patient, until engine_drain;
 * else as a reload does, then ERR_DISCONNECTED. */
int engine_serve(struct engine *engine, struct script *script, bool patient, struct err *err);

/* Blocks (pool thread): loads the script anew, aside; compares; switches. On any error the old
 * generation keeps running untouched. *generation: the new number; *read as of engine_load. */
int engine_reload(struct engine *engine, struct script *script, unsigned *generation,
                  struct sources **read, struct failure *failure);

/* Blocks (pool thread): nothing of the script is served any more. What runs finishes, "stop" runs,
 * its states are closed. engine_reload brings it back. */
void engine_unload(struct engine *engine, struct script *script);

/* How many handlers run. */
int engine_running(struct engine *engine);

/* How many threads were given up to handlers or loads that nothing could stop, and have not come
 * back. They may use all that they know: the engine must not be freed. */
int engine_stuck(struct engine *engine);

/* Any thread, at once: what is being loaded has no time left. */
void engine_end_loads(struct engine *engine);

/* For the status; the caller owns the JSON. What each script serves, and how it went. */
cJSON *engine_report(struct engine *engine);
/* The threads that were given up to calls which do not return, and how many there may be. */
cJSON *engine_report_stuck(struct engine *engine);
/* The offload threads: how many there are, what runs and waits. */
cJSON *engine_report_offload(struct engine *engine);
/* The stores of bus.shared: name, entries, bytes, size. */
cJSON *engine_report_shared(struct engine *engine);
/* Adds a text for each pull loop that is not what it should be, and one when no offload thread is
 * left. */
void engine_unready(struct engine *engine, cJSON *reasons);
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
int engine_end_offload(struct engine *engine, uint64_t deadline_ns);

/* Ends the workers (a worker that is stuck in Lua is left behind), frees the rest. The clock's and
 * the pool's threads must have ended: what they call would be gone. */
void engine_free(struct engine *engine);

#endif
