#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "base/value.h"
#include "engine/internal.h"

/* How long a stop waits for subscriptions to drain once no handler runs: a frozen server never
 * answers the PING. */
#define DRAIN_GRACE_NS (2 * NS_PER_S)
/* How long workers get to come back, before they are left behind. */
#define WORKERS_GRACE_NS (1 * NS_PER_S)

/* After that a message may be run again that was with a thread which is lost: not at once, for it
 * may be the one to blame. */
#define STUCK_DELAY_NS (5 * NS_PER_S)
/* While too much of a script waits to be written, the log says so this often. */
#define FULL_TOLD_AGAIN_NS (10 * (unsigned long long)NS_PER_S)

struct engine *engine_new(struct clock *clock, struct pool *pool,
                          const struct engine_options *options, const struct engine_hooks *hooks,
                          struct err *err)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        err_set(err, ERR_MEMORY, "no memory for the engine");
        return NULL;
    }
    engine->clock = clock;
    engine->pool = pool;
    engine->options = *options;
    engine->options.tuning = (struct engine_tuning){0};
    engine->hooks = hooks;
    atomic_init(&engine->draining, false);
    dispatch_init(&engine->dispatch);
    engine->offload = offload_new(engine);
    engine->shared = shared_new(clock);
    if (engine->offload && engine->shared && engine_tune(engine, &options->tuning, err) == 0)
        engine->watchdog = watchdog_new(engine);
    if (!engine->watchdog)
        err_set(err, ERR_MEMORY, "no memory for the engine");
    else
        engine->workers = workers_new(engine, options->workers, err);
    if (!engine->workers) {
        watchdog_free(engine->watchdog);
        offload_free(engine->offload);
        shared_free(engine->shared);
        dispatch_destroy(&engine->dispatch);
        if (engine->policy)
            policy_release(engine->policy);
        free(engine);
        return NULL;
    }
    return engine;
}

int engine_tune(struct engine *engine, const struct engine_tuning *tuning, struct err *err)
{
    struct policy *policy = policy_new(tuning);
    if (!policy)
        return err_set(err, ERR_MEMORY, "no memory for what the config says");
    dispatch_lock(&engine->dispatch);
    struct policy *old = engine->policy;
    engine->policy = policy;
    dispatch_unlock(&engine->dispatch);
    if (old)
        policy_release(old);
    atomic_store(&engine->request_timeout_ns, tuning->request_timeout_ns);
    atomic_store(&engine->retire_ns, tuning->retire_ns);
    atomic_store(&engine->max_stuck, tuning->max_stuck);
    offload_set_threads(engine->offload, tuning->offload_threads);
    return 0;
}

struct policy *engine_policy(struct engine *engine)
{
    dispatch_lock(&engine->dispatch);
    struct policy *policy = policy_retain(engine->policy);
    dispatch_unlock(&engine->dispatch);
    return policy;
}

void engine_lost(struct engine *engine, int lost)
{
    int most = atomic_load(&engine->max_stuck);
    workers_tell_lost(engine->workers);
    workers_hand_back(engine->workers, STUCK_DELAY_NS);
    if (lost >= most && engine->options.on_stuck)
        engine->options.on_stuck(engine->options.owner);
}

struct script *script_retain(struct script *script)
{
    atomic_fetch_add_explicit(&script->references, 1, memory_order_relaxed);
    return script;
}

void script_release(struct script *script)
{
    if (atomic_fetch_sub_explicit(&script->references, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&script->changing);
    pthread_mutex_destroy(&script->starting);
    free(script->path);
    free(script->name);
    free(script);
}

bool script_tell_full(struct script *script)
{
    unsigned long long now = clock_now_ns(), told = atomic_load(&script->full_told_ns);
    return (told == 0 || now > told + FULL_TOLD_AGAIN_NS) &&
           atomic_compare_exchange_strong(&script->full_told_ns, &told, now);
}

struct script *engine_load(struct engine *engine, const char *path, const char *name,
                           struct sources **read, struct failure *failure)
{
    *read = NULL;
    struct script *script = calloc(1, sizeof *script);
    if (!script) {
        err_set(&failure->err, ERR_MEMORY, "no memory for a script");
        return NULL;
    }
    atomic_init(&script->references, 1);
    script->engine = engine;
    script->path = strdup(path);
    script->name = strdup(name);
    pthread_mutex_init(&script->changing, NULL);
    pthread_mutex_init(&script->starting, NULL);
    script->live = generation_build(engine, script, 1, 1, read, failure);
    if (!script->live) {
        script_release(script);
        return NULL;
    }
    dispatch_lock(&engine->dispatch); /* a report may look */
    LL_APPEND(engine->scripts, script);
    engine->script_count++;
    dispatch_unlock(&engine->dispatch);
    return script;
}

bool engine_registration(struct engine *engine, struct script *script, int i,
                         struct registration_view *out)
{
    (void)engine;
    struct generation *generation = script->live;
    if (i < 0 || i >= generation->registration_count)
        return false;
    const struct registration *registration = generation->registrations[i];
    *out = (struct registration_view){.script = script->name,
                                      .handler = registration->handler,
                                      .what = registration->what,
                                      .file = registration->file,
                                      .line = registration->line};
    return true;
}

int engine_script_count(struct engine *engine)
{
    return engine->script_count;
}

struct script *engine_script(struct engine *engine, int i)
{
    struct script *script = engine->scripts;
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
    dispatch_lock(&script->engine->dispatch);
    unsigned number = script->live->number;
    dispatch_unlock(&script->engine->dispatch);
    return number;
}

bool script_serves(const struct script *script)
{
    dispatch_lock(&script->engine->dispatch);
    bool serves = script->served && !script->unloaded;
    dispatch_unlock(&script->engine->dispatch);
    return serves;
}

struct sources *script_sources(struct script *script)
{
    dispatch_lock(&script->engine->dispatch);
    struct sources *sources = sources_retain(script->live->sources);
    dispatch_unlock(&script->engine->dispatch);
    return sources;
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
    return workers_lost(engine->workers) + atomic_load(&engine->loads_left);
}

void engine_end_loads(struct engine *engine)
{
    atomic_store(&engine->ending, true);
}

int engine_end_offload(struct engine *engine, uint64_t deadline_ns)
{
    return offload_stop(engine->offload, deadline_ns);
}

static void on_delivery(void *owner, void *source, struct delivery *delivery)
{
    (void)owner;
    dispatch_push(source, delivery);
}

struct bus_sink engine_sink(struct engine *engine)
{
    return (struct bus_sink){.owner = engine, .on_delivery = on_delivery};
}

void engine_connect(struct engine *engine, struct bus *bus)
{
    engine->bus = bus;
}

void engine_drain(struct engine *engine)
{
    if (atomic_exchange(&engine->draining, true))
        return;
    dispatch_lock(&engine->dispatch);
    engine->dispatch.draining = true;
    engine->drain_began_ns = clock_now_ns();
    dispatch_unlock(&engine->dispatch);
    for (struct script *script = engine->scripts; script; script = script->next) {
        struct source *source;
        pthread_mutex_lock(&script->starting);
        LL_FOREACH(script->sources, source)
            source_stop(source);
        pthread_mutex_unlock(&script->starting);
    }
}

/* With the dispatch lock held. */
static bool all_stopped(struct engine *engine)
{
    for (struct script *script = engine->scripts; script; script = script->next) {
        struct source *source;
        LL_FOREACH(script->sources, source) {
            if (source->state == SOURCE_STOPPING)
                return false;
        }
    }
    return true;
}

/* With the dispatch lock held: is a "stop" hook due, or does one run? */
static bool hooks_owed(struct engine *engine)
{
    for (struct script *script = engine->scripts; script; script = script->next) {
        struct source *source;
        LL_FOREACH(script->sources, source) {
            if (source->registration->kind == REGISTER_STOP &&
                (source->due > 0 || source->running > 0))
                return true;
        }
    }
    return false;
}

/* With the dispatch lock held. */
static void wait_idle(struct engine *engine, uint64_t until_ns)
{
    dispatch_wait(&engine->dispatch, &engine->dispatch.idle, until_ns);
}

/* With the dispatch lock held: waits until nothing runs, is queued, or (for its grace) drains. */
static void wait_quiet(struct engine *engine, uint64_t deadline_ns)
{
    struct dispatch *dispatch = &engine->dispatch;
    uint64_t drained_by = engine->drain_began_ns + DRAIN_GRACE_NS;
    for (;;) {
        uint64_t now = clock_now_ns();
        bool busy = dispatch->running > 0 || dispatch->queued > 0;
        bool draining = !all_stopped(engine) && now < drained_by;
        if ((!busy && !draining) || now >= deadline_ns)
            return;
        wait_idle(engine, !busy && drained_by < deadline_ns ? drained_by : deadline_ns);
    }
}

/* What could not wait for its subscription to drain: the server does not answer. */
static void hand_back_late(struct engine *engine)
{
    for (struct script *script = engine->scripts; script; script = script->next) {
        struct source *source;
        pthread_mutex_lock(&script->starting);
        LL_FOREACH(script->sources, source)
            source_hand_back(source);
        pthread_mutex_unlock(&script->starting);
    }
}

/* With the dispatch lock held: runs the live generations' "stop" hooks, and waits for those that
 * retired ones still owe. Each hook that ends with nothing else running is told of (idle). */
static void run_stop_hooks(struct engine *engine, uint64_t deadline_ns)
{
    for (struct script *script = engine->scripts; script; script = script->next) {
        if (script->live->stop_ran)
            continue;
        script->live->stop_ran = true;
        source_hooks_due(script, script->live, REGISTER_STOP);
    }
    while (hooks_owed(engine) && clock_now_ns() < deadline_ns)
        wait_idle(engine, deadline_ns);
}

int engine_wait_idle(struct engine *engine, uint64_t deadline_ns)
{
    struct dispatch *dispatch = &engine->dispatch;
    dispatch_lock(dispatch);
    wait_quiet(engine, deadline_ns);
    dispatch_unlock(dispatch);
    hand_back_late(engine);
    dispatch_lock(dispatch);
    if (dispatch->running == 0)
        run_stop_hooks(engine, deadline_ns);
    wait_quiet(engine, deadline_ns);
    int unfinished = dispatch->running + dispatch->queued;
    dispatch_unlock(dispatch);
    return unfinished;
}

/* With the dispatch lock held: every instance gets its stop event. */
static void post_stops(struct engine *engine, struct script *script)
{
    struct generation *generation;
    DL_FOREACH(script->generations, generation) {
        for (struct instance *instance = generation->instances; instance;
             instance = instance->next) {
            if (instance->stop_posted)
                continue;
            instance->stop_posted = true;
            DL_APPEND(instance->mailbox, &instance->stop);
            dispatch_ready_instance(&engine->dispatch, instance);
        }
    }
}

/* One unsettled message of a running handler, with a reference; NULL when there is none. */
static struct delivery *next_unsettled(struct engine *engine)
{
    struct delivery *found = NULL, *delivery;
    dispatch_lock(&engine->dispatch);
    for (struct script *script = engine->scripts; script && !found; script = script->next) {
        struct source *source;
        LL_FOREACH(script->sources, source) {
            DL_FOREACH(source->active, delivery) {
                if (!found && delivery->consumer && !delivery_settled(delivery))
                    found = delivery_retain(delivery);
            }
        }
    }
    dispatch_unlock(&engine->dispatch);
    return found;
}

void engine_cancel(struct engine *engine)
{
    dispatch_lock(&engine->dispatch);
    for (struct script *script = engine->scripts; script; script = script->next)
        post_stops(engine, script);
    dispatch_unlock(&engine->dispatch);
    struct delivery *delivery;
    while ((delivery = next_unsettled(engine))) {
        delivery_settle(delivery, VERDICT_NAK, 0, NULL);
        delivery_release(delivery);
    }
}

/* Nothing runs, and of the threads that know the engine only the caller is left. Events that came
 * after the end of the tasks they were for give back their references. */
static void free_script(struct engine *engine, struct script *script)
{
    struct source *source, *next_source;
    LL_FOREACH_SAFE(script->sources, source, next_source) {
        clock_cancel(engine->clock, &source->timer);
        source_free(source);
    }
    struct generation *generation, *next_generation;
    DL_FOREACH_SAFE(script->generations, generation, next_generation) {
        if (clock_cancel(engine->clock, &generation->retiring))
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
    for (const struct script *script = engine->scripts; script; script = script->next) {
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

void engine_free(struct engine *engine)
{
    if (workers_stop(engine->workers, clock_now_ns() + WORKERS_GRACE_NS) > 0 ||
        atomic_load(&engine->loads_left) > 0)
        return;
    workers_free(engine->workers);
    if (tasks_left(engine) || offload_stop(engine->offload, clock_now_ns()) > 0)
        return;
    while (engine->scripts) {
        struct script *script = engine->scripts;
        engine->scripts = script->next;
        free_script(engine, script);
    }
    offload_free(engine->offload);
    watchdog_free(engine->watchdog);
    shared_free(engine->shared);
    dispatch_destroy(&engine->dispatch);
    policy_release(engine->policy);
    free(engine);
}
