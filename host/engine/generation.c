#include "engine/generation.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "base/value.h"
#include "engine/internal.h"

/* A top level that takes longer is refused. Generous: it is there for what would never end. */
#define LOAD_DEADLINE_NS (5 * NS_PER_S)

#define GROW_AGAIN_NS (1 * NS_PER_S)

#define GENERATION_OF_GROWING(j)                                                                   \
    ((struct generation *)((char *)(j)-offsetof(struct generation, growing)))
#define GENERATION_OF_RETIRING(d)                                                                  \
    ((struct generation *)((char *)(d)-offsetof(struct generation, retiring)))
#define GENERATION_OF_REGROWING(d)                                                                 \
    ((struct generation *)((char *)(d)-offsetof(struct generation, regrowing)))
#define GENERATION_OF_CLOSING(j)                                                                   \
    ((struct generation *)((char *)(j)-offsetof(struct generation, closing)))

static void free_all(struct registration **items, int count)
{
    for (int i = 0; i < count; i++)
        registration_free(items[i]);
    free(items);
}

void loading_clear(struct loading *loading)
{
    free_all(loading->items, loading->count);
    *loading = (struct loading){0};
}

int loading_add(struct instance *instance, lua_State *L, struct registration *registration)
{
    struct loading *loading = instance->loading;
    if (loading->count == loading->capacity) {
        size_t capacity = loading->capacity ? 2 * (size_t)loading->capacity : 8;
        void *items = realloc(loading->items, capacity * sizeof *loading->items);
        if (items)
            loading->items = items;
        void *handlers = realloc(instance->handlers, capacity * sizeof *instance->handlers);
        if (handlers)
            instance->handlers = handlers;
        if (!items || !handlers)
            return ERR_MEMORY;
        loading->capacity = (int)capacity;
    }
    registration->index = loading->count + 1;
    loading->items[loading->count++] = registration;
    instance->handlers[registration->index - 1] = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

struct generation *generation_retain(struct generation *generation)
{
    atomic_fetch_add_explicit(&generation->references, 1, memory_order_relaxed);
    return generation;
}

void generation_release(struct generation *generation)
{
    if (atomic_fetch_sub_explicit(&generation->references, 1, memory_order_acq_rel) != 1)
        return;
    free_all(generation->registrations, generation->registration_count);
    if (generation->warned)
        loader_names_free(generation->warned);
    sources_release(generation->sources);
    policy_release(generation->policy);
    script_release(generation->script);
    free(generation);
}

static void add_instance(struct generation *generation, struct instance *instance)
{
    instance->next = generation->instances;
    generation->instances = instance;
    generation->instance_count++;
    dispatch_instance_idle(&generation->engine->dispatch, instance);
}

static void on_grow(struct pool_job *job);
static void on_close(struct pool_job *job);
static void on_retiring(struct deadline *deadline);
static void on_regrowing(struct deadline *deadline);

static struct generation *generation_new(struct engine *engine, struct script *script,
                                         unsigned number)
{
    struct generation *generation = calloc(1, sizeof *generation);
    if (!generation)
        return NULL;
    atomic_init(&generation->references, 1);
    generation->engine = engine;
    generation->script = script_retain(script);
    generation->number = number;
    generation->policy = engine_policy(engine);
    generation->memory_bytes = generation->policy->memory_bytes;
    generation->warned = loader_names_new();
    generation->sources = sources_new();
    generation->loader =
        (struct loader_options){.lib = (const char *const *)generation->policy->lib,
                                .lib_count = generation->policy->lib_count,
                                .trust = generation->policy->trust,
                                .warned = generation->warned,
                                .sources = generation->sources,
                                .deadline_ns = LOAD_DEADLINE_NS};
    generation->growing.run = on_grow;
    generation->closing.run = on_close;
    generation->retiring.on_due = on_retiring;
    generation->regrowing.on_due = on_regrowing;
    if (generation->sources)
        return generation;
    generation_release(generation);
    return NULL;
}

static bool same_registrations(const struct generation *generation, const struct loading *loading)
{
    if (loading->count != generation->registration_count)
        return false;
    for (int i = 0; i < loading->count; i++) {
        const struct registration *a = generation->registrations[i], *b = loading->items[i];
        if (!registration_same(a, b))
            return false;
    }
    return true;
}

static struct instance *load_first(struct generation *generation, struct failure *failure)
{
    struct loading loading = {0};
    struct instance *instance = load_aside(generation, &loading, failure);
    if (!instance)
        return NULL;
    generation->registrations = loading.items;
    generation->registration_count = loading.count;
    if (loading.memory_bytes)
        generation->memory_bytes = loading.memory_bytes;
    int workers = generation->engine->options.workers;
    generation->instance_limit =
        loading.workers && loading.workers < workers ? loading.workers : workers;
    return instance;
}

static struct instance *load_further(struct generation *generation, struct failure *failure)
{
    struct loading loading = {0};
    struct instance *instance = load_aside(generation, &loading, failure);
    if (instance && !same_registrations(generation, &loading)) {
        err_set(&failure->err, ERR_INVALID,
                "a further instance registered other handlers than the first: a script must "
                "register the same each time it loads");
        instance_release(instance);
        instance = NULL;
    }
    loading_clear(&loading);
    return instance;
}

struct generation *generation_build(struct engine *engine, struct script *script, unsigned number,
                                    int instances, struct sources **read, struct failure *failure)
{
    *read = NULL;
    struct generation *generation = generation_new(engine, script, number);
    if (!generation) {
        err_set(&failure->err, ERR_MEMORY, "no memory for a generation");
        return NULL;
    }
    struct instance *loaded = load_first(generation, failure), *all = NULL;
    int count = 0;
    while (loaded) {
        LL_PREPEND(all, loaded);
        if (++count >= instances || count >= generation->instance_limit)
            break;
        loaded = load_further(generation, failure);
    }
    *read = sources_retain(generation->sources);

    dispatch_lock(&engine->dispatch);
    if (loaded)
        DL_APPEND(script->generations, generation);
    for (struct instance *next; loaded && all; all = next) {
        next = all->next;
        add_instance(generation, all);
    }
    dispatch_unlock(&engine->dispatch);
    if (loaded)
        return generation;
    for (struct instance *next; all; all = next) {
        next = all->next;
        instance_release(all);
    }
    generation_release(generation);
    return NULL;
}

/* Lock held. It has none, and must have one: what it was made of did load once. */
static void grow_again(struct generation *generation)
{
    struct clock *clock = generation->engine->clock;
    generation_retain(generation);
    if (!clock_arm(clock, &generation->regrowing, clock_now_ns() + GROW_AGAIN_NS))
        generation_release(generation);
}

/* The clock. */
static void on_regrowing(struct deadline *deadline)
{
    struct generation *generation = GENERATION_OF_REGROWING(deadline);
    struct dispatch *dispatch = &generation->engine->dispatch;
    dispatch_lock(dispatch);
    if (generation->waiting)
        generation_grow(generation);
    dispatch_unlock(dispatch);
    generation_release(generation);
}

/* The pool: one more instance. */
static void on_grow(struct pool_job *job)
{
    struct generation *generation = GENERATION_OF_GROWING(job);
    struct dispatch *dispatch = &generation->engine->dispatch;
    struct failure failure = {0};
    struct instance *instance = load_further(generation, &failure);
    if (!instance && !atomic_load(&generation->engine->ending)) {
        struct log_context context = {
            .script = generation->script->name, .file = failure.file, .line = failure.line};
        log_event(LOG_ERROR, &context,
                  "a further instance did not load; the script goes on with %d: %s",
                  generation->instance_count, failure.err.message);
    }
    failure_clear(&failure);

    dispatch_lock(dispatch);
    generation->building = false;
    if (instance)
        add_instance(generation, instance);
    else if (generation->instance_count > 0)
        generation->broken = true;
    else
        grow_again(generation);
    if (generation->retired)
        generation_reap(generation);
    dispatch_unlock(dispatch);
    generation_release(generation);
}

void generation_grow(struct generation *generation)
{
    if (generation->retired || generation->building || generation->broken ||
        generation->instance_count >= generation->instance_limit ||
        generation->engine->dispatch.stopping)
        return;
    generation->building = true;
    generation_retain(generation);
    pool_submit(generation->engine->pool, &generation->growing);
}

/* The pool: its states go. */
static void on_close(struct pool_job *job)
{
    struct generation *generation = GENERATION_OF_CLOSING(job);
    struct script *script = generation->script;
    struct dispatch *dispatch = &generation->engine->dispatch;
    dispatch_lock(dispatch);
    struct instance *instances = generation->instances;
    generation->instances = NULL;
    generation->instance_count = 0;
    generation->closed = true;
    DL_DELETE(script->generations, generation);
    dispatch_unlock(dispatch);
    while (instances) {
        struct instance *next = instances->next;
        instance_close(instances);
        dispatch_lock(dispatch);
        instances->state = INSTANCE_IDLE;
        if (instances->mailbox)
            dispatch_ready_instance(dispatch, instances);
        dispatch_unlock(dispatch);
        instance_release(instances);
        instances = next;
    }
    if (clock_cancel(generation->engine->clock, &generation->retiring))
        generation_release(generation);
    if (clock_cancel(generation->engine->clock, &generation->regrowing))
        generation_release(generation);
    log_debug("%s: generation %u closed", script->name, generation->number);
    generation_release(generation);
    source_sweep(script);
}

/* Is there still something to come for it? With the dispatch lock held. */
static bool sources_quiet(const struct generation *generation)
{
    const struct source *source;
    LL_FOREACH(generation->script->sources, source) {
        if (source->generation != generation || source->state == SOURCE_IDLE)
            continue;
        bool stopped =
            source->state == SOURCE_STOPPED || source->registration->kind == REGISTER_STOP;
        if (!stopped || source->queued > 0 || source->due > 0)
            return false;
    }
    return true;
}

static bool quiet(const struct generation *generation)
{
    if (generation->running > 0 || generation->building || generation->waiting)
        return false;
    for (const struct instance *instance = generation->instances; instance;
         instance = instance->next) {
        if (instance->state != INSTANCE_IDLE || instance->mailbox)
            return false;
    }
    return sources_quiet(generation);
}

static uint64_t retire_ns(struct engine *engine)
{
    return (uint64_t)atomic_load(&engine->retire_ns);
}

/* The clock. Again and again until it is closed: its "stop" hooks may hang as well. */
static void on_retiring(struct deadline *deadline)
{
    struct generation *generation = GENERATION_OF_RETIRING(deadline);
    struct engine *engine = generation->engine;
    struct dispatch *dispatch = &engine->dispatch;
    dispatch_lock(dispatch);
    bool closed = generation->closed;
    for (struct instance *i = generation->instances; i && generation->running > 0; i = i->next) {
        if (i->retire_posted)
            continue;
        i->retire_posted = true;
        DL_APPEND(i->mailbox, &i->retire);
        dispatch_ready_instance(dispatch, i);
    }
    if (!closed)
        clock_arm(engine->clock, deadline, clock_now_ns() + retire_ns(engine));
    dispatch_unlock(dispatch);
    if (closed)
        generation_release(generation);
}

void generation_retire(struct generation *generation)
{
    struct engine *engine = generation->engine;
    if (!generation->retired && retire_ns(engine) > 0) {
        generation_retain(generation);
        clock_arm(engine->clock, &generation->retiring, clock_now_ns() + retire_ns(engine));
    }
    generation->retired = true;
    generation_reap(generation);
}

void generation_reap(struct generation *generation)
{
    if (!generation->retired || generation->reaping || !quiet(generation))
        return;
    if (!generation->stop_ran) {
        generation->stop_ran = true;
        if (source_hooks_due(generation->script, generation, REGISTER_STOP) > 0)
            return;
    }
    generation->reaping = true;
    for (struct instance *instance = generation->instances; instance; instance = instance->next) {
        if (instance->idle_prev)
            DL_DELETE2(generation->idle, instance, idle_prev, idle_next);
        instance->idle_prev = instance->idle_next = NULL;
        instance->state = INSTANCE_BUSY; /* the pool's: what comes late waits in its mailbox */
    }
    generation_retain(generation);
    pool_submit(generation->engine->pool, &generation->closing);
}
