/* engine - its parts put together, and taken apart. */
#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/sync.h"
#include "base/value.h"
#include "engine/engine_private.h"
#include "engine/kinds/discovery.h"
#include "engine/limiters.h"
#include "engine/offload/offload.h"
#include "engine/permits.h"
#include "engine/run/op.h"
#include "engine/run/worker.h"
#include "engine/sched/watchdog.h"
#include "engine/serve/serve.h"
#include "engine/shared.h"
#include "engine/source/crew.h"
#include "engine/source/handling.h"
#include "engine/source/mirror.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"
#include "engine/version/policy.h"
#include "vm/texts.h"

/* How long workers get to come back, before they are left behind. */
#define WORKERS_GRACE_NS (1 * NS_PER_S)

/* After that a message may be run again that was with a thread which is lost: not at once, for it
 * may be the one to blame. */
#define STUCK_DELAY_NS (5 * NS_PER_S)

/* The clock: so many threads could not be stopped. */
static void on_threads_lost(void *owner, int lost)
{
    struct engine *engine = owner;
    struct scripts *scripts = &engine->scripts;
    int most = atomic_load(&scripts->max_stuck);
    workers_log_lost(engine->workers, most);
    workers_hand_back(engine->workers, STUCK_DELAY_NS);
    if (lost >= most && scripts->on_stuck)
        scripts->on_stuck(scripts->owner, "too many handlers are stuck");
}

/* The clock, while a worker is awake: it may compute before it writes what it has sent. */
static void on_watchdog_tick(void *owner)
{
    struct engine *engine = owner;
    struct bus *bus = atomic_load_explicit(&engine->writes, memory_order_acquire);
    if (bus)
        bus_wake_writers(bus);
}

static void apply_options(struct engine *engine, const struct engine_options *options)
{
    struct scripts *scripts = &engine->scripts;
    scripts->workers = options->workers;
    scripts->messages = options->subscription_messages;
    scripts->bytes = options->subscription_bytes;
    scripts->updates = options->updates;
    scripts->on_stuck = options->on_stuck;
    scripts->on_start_failed = options->on_start_failed;
    scripts->owner = options->owner;
    scripts->tracer = options->tracer;
    scripts->only = options->only;
    engine->version = options->version;
    engine->http = options->http;
}

/* What of it has been made. */
static void free_parts(struct engine *engine)
{
    offload_free(engine->offload);
    watchdog_free(engine->watchdog);
    shared_free(engine->shared);
    permits_free(engine->permits);
    limiters_free(engine->limiters);
    mirrors_free(engine->scripts.mirrors);
    discovery_free(engine->scripts.discovery);
    dispatch_clear(&engine->dispatch);
    policy_release(engine->scripts.policy);
    trial_free(engine->scripts.trial);
    free(engine);
}

static int make_parts(struct engine *engine, const struct engine_options *options, struct err *err)
{
    struct clock *clock = engine->scripts.clock;
    if (options->trial && !(engine->scripts.trial = trial_new(options->trial)))
        return err_set(err, ERR_MEMORY, "no memory for the engine");
    const struct watchdog_events events = {engine, on_threads_lost, on_watchdog_tick};
    engine->watchdog = watchdog_new(clock, &engine->dispatch, &events);
    engine->offload = engine->watchdog ? offload_new(clock, engine->watchdog) : NULL;
    if (engine->offload)
        offload_set_stand_in(engine->offload, options->offload_stand_in);
    engine->shared = shared_new(clock);
    engine->permits = permits_new(clock);
    engine->limiters = limiters_new(clock);
    engine->scripts.mirrors = mirrors_new();
    if (!engine->offload || !engine->shared || !engine->permits || !engine->limiters ||
        !engine->scripts.mirrors)
        return err_set(err, ERR_MEMORY, "no memory for the engine");
    int code = engine_tune(engine, &options->tuning, err);
    if (code)
        return code;
    engine->workers = workers_new(clock, &engine->dispatch, options->workers, err);
    return engine->workers ? 0 : ERR_SYSTEM;
}

struct engine *engine_new(struct clock *clock, struct pool *pool,
                          const struct engine_options *options, const struct engine_hooks *hooks,
                          struct err *err)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        err_set(err, ERR_MEMORY, "no memory for the engine");
        return NULL;
    }
    dispatch_init(&engine->dispatch);
    engine->scripts.clock = clock;
    engine->scripts.pool = pool;
    engine->scripts.dispatch = &engine->dispatch;
    engine->scripts.hooks = hooks;
    engine->scripts.at_read_end.on_read_end = op_post_replied;
    apply_options(engine, options);
    if (make_parts(engine, options, err) == 0)
        return engine;
    free_parts(engine);
    return NULL;
}

struct trial *engine_trial(struct engine *engine)
{
    return engine->scripts.trial;
}

int engine_tune(struct engine *engine, const struct engine_tuning *tuning, struct err *err)
{
    struct scripts *scripts = &engine->scripts;
    struct policy *policy = policy_new(&(struct policy){
        .memory_bytes = tuning->memory_bytes,
        .cpu_ns = tuning->cpu_ns,
        .lib = (char **)tuning->lib,
        .lib_count = tuning->lib_count,
        .trust = tuning->trust,
        .settings_json = (char *)tuning->settings_json,
    });
    if (!policy)
        return err_set(err, ERR_MEMORY, "no memory for what the config says");
    dispatch_lock(&engine->dispatch);
    struct policy *old = scripts->policy;
    scripts->policy = policy;
    dispatch_unlock(&engine->dispatch);
    policy_release(old);
    atomic_store(&engine->json_big, (int)tuning->json_big);
    atomic_store(&engine->request_timeout_ns, tuning->request_timeout_ns);
    atomic_store(&scripts->generations, tuning->generations);
    atomic_store(&scripts->max_stuck, tuning->max_stuck);
    offload_set_threads(engine->offload, tuning->offload_threads);
    return 0;
}

struct script *engine_load(struct engine *engine, const char *path, const char *name,
                           struct texts *read, const atomic_bool *hurry, struct failure *failure)
{
    struct script *script = script_new(&engine->scripts, path, name);
    if (!script) {
        err_set(&failure->err, ERR_MEMORY, "no memory for a script");
        return NULL;
    }
    script->live = generation_build(script, 1, 1, read, hurry, failure);
    if (!script->live) {
        script_release(script);
        return NULL;
    }
    return script;
}

void engine_add(struct engine *engine, struct script *script)
{
    dispatch_lock(&engine->dispatch);
    LL_APPEND(engine->scripts.first, script);
    engine->scripts.count++;
    dispatch_unlock(&engine->dispatch);
}

struct generation *engine_build(struct engine *engine, struct script *script, struct texts *read,
                                const atomic_bool *hurry, struct failure *failure)
{
    dispatch_lock(&engine->dispatch);
    unsigned number = script->live->number + 1;
    int instances = script->live->instance_count;
    dispatch_unlock(&engine->dispatch);
    return generation_build(script, number, instances, read, hurry, failure);
}

void engine_drop_version(struct generation *generation)
{
    struct dispatch *dispatch = generation->scripts->dispatch;
    dispatch_lock(dispatch);
    generation->stop_ran = true;
    retire_generation(generation);
    dispatch_unlock(dispatch);
    generation_release(generation);
}

void engine_drop_unserved(struct script *script)
{
    struct dispatch *dispatch = script->scripts->dispatch;
    dispatch_lock(dispatch);
    if (!script->served && !script->unloaded && !script->next_live) {
        script->unloaded = true;
        script->live->stop_ran = true;
        retire_generation(script->live);
    }
    dispatch_unlock(dispatch);
}

int engine_script_count(struct engine *engine)
{
    return engine->scripts.count;
}

struct script *engine_script(struct engine *engine, int i)
{
    struct script *script = engine->scripts.first;
    while (script && i-- > 0)
        script = script->next;
    return script;
}

const char *script_name(const struct script *script)
{
    return script->name;
}

unsigned script_generation(struct script *script)
{
    dispatch_lock(script->scripts->dispatch);
    unsigned number = script->live->number;
    dispatch_unlock(script->scripts->dispatch);
    return number;
}

bool script_serves(const struct script *script)
{
    return script_is_served(script);
}

struct texts *script_texts(struct script *script)
{
    dispatch_lock(script->scripts->dispatch);
    struct texts *texts = texts_retain(script->live->texts);
    dispatch_unlock(script->scripts->dispatch);
    return texts;
}

int engine_check_loaded(struct script *script, struct failure *failure)
{
    const struct registration *mine;
    int code = accept_loaded(script, &mine, &failure->err);
    if (code) {
        failure->file = strdup(mine->file);
        failure->line = mine->line;
    }
    return code;
}

int engine_roll_out(struct engine *engine, struct rollout *items, int count,
                    enum rollout_patience patience, int *culprit, struct err *err)
{
    return rollout_run(&engine->scripts, items, count, patience, culprit, err);
}

int engine_running(struct engine *engine)
{
    dispatch_lock(&engine->dispatch);
    int running = engine->dispatch.running;
    dispatch_unlock(&engine->dispatch);
    return running;
}

int engine_stuck(struct engine *engine)
{
    return workers_lost(engine->workers) + atomic_load(&engine->scripts.loads_left);
}

void engine_cancel_loads(struct engine *engine)
{
    atomic_store(&engine->scripts.ending, true);
}

int engine_stop_offload(struct engine *engine, uint64_t deadline_ns)
{
    return offload_stop(engine->offload, deadline_ns);
}

static void on_delivery(void *owner, void *source, struct delivery *list)
{
    (void)owner;
    source_push(source, list);
}

static void on_unread(void *owner, void *source)
{
    (void)owner;
    source_drop_unread(source);
}

static void on_whole(void *owner, void *source)
{
    (void)owner;
    source_whole(source);
}

struct sink engine_sink(struct engine *engine)
{
    return (struct sink){
        .owner = engine, .on_delivery = on_delivery, .on_unread = on_unread, .on_whole = on_whole};
}

void engine_connect(struct engine *engine, struct bus *bus)
{
    engine->scripts.bus = bus;
    atomic_store_explicit(&engine->writes, bus, memory_order_release);
    engine->scripts.discovery = discovery_new(bus);
}

/* Nothing runs, and of the threads that know the engine only the caller is left. Events that came
 * after the end of the tasks they were for give back their references. */
static void free_script(struct clock *clock, struct script *script)
{
    struct source *source, *next_source;
    LL_FOREACH_SAFE(script->sources, source, next_source) {
        clock_cancel(clock, &source->timer);
        source_free(source);
    }
    struct generation *generation, *next_generation;
    DL_FOREACH_SAFE(script->generations, generation, next_generation) {
        if (clock_cancel(clock, &generation->regrowing))
            generation_release(generation); /* the script, an instance or a source has another */
        struct instance *instance = generation->instances;
        generation->instances = NULL;
        while (instance) {
            struct instance *next = instance->next;
            while (instance->mailbox) {
                struct event *event = instance->mailbox;
                DL_DELETE(instance->mailbox, event);
                event->run(event, instance);
            }
            instance_close(instance);
            instance_release(instance);
            instance = next;
        }
    }
    generation_release(script->live);
    script_release(script);
}

static bool tasks_left(const struct engine *engine)
{
    for (const struct script *script = engine->scripts.first; script; script = script->next) {
        const struct generation *generation;
        DL_FOREACH(script->generations, generation) {
            for (const struct instance *i = generation->instances; i; i = i->next) {
                if (i->task_count > 0)
                    return true;
            }
        }
    }
    return false;
}

bool engine_free(struct engine *engine)
{
    if (workers_stop(engine->workers, clock_now_ns() + WORKERS_GRACE_NS) > 0 ||
        atomic_load(&engine->scripts.loads_left) > 0)
        return false;
    workers_free(engine->workers);
    if (offload_stop(engine->offload, clock_now_ns()) > 0)
        return false;
    if (tasks_left(engine))
        return false;
    while (engine->scripts.first) {
        struct script *script = engine->scripts.first;
        engine->scripts.first = script->next;
        free_script(engine->scripts.clock, script);
    }
    free_parts(engine);
    return true;
}
