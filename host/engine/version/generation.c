/* generation - how a version of a script is built, and how it ends. */
#include "engine/version/generation.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/value.h"
#include "engine/sched/dispatch.h"
#include "engine/version/instance.h"
#include "engine/version/policy.h"
#include "engine/version/script.h"
#include "vm/texts.h"

/* A top level that takes longer is refused. Generous: it is there for what would never end. */
#define LOAD_DEADLINE_NS (5 * NS_PER_S)

static void free_registrations(struct registration **items, int count)
{
    for (int i = 0; i < count; i++)
        registration_free(items[i]);
    free(items);
}

void loading_clear(struct loading *loading)
{
    free_registrations(loading->items, loading->count);
    *loading = (struct loading){0};
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
    for (int i = 0; i < generation->registration_count; i++)
        tally_release(&generation->script->tallies, generation->registrations[i]->tally);
    free_registrations(generation->registrations, generation->registration_count);
    if (generation->warned)
        loader_names_free(generation->warned);
    free(generation->complaint);
    free(generation->start_failure);
    texts_release(generation->texts);
    policy_release(generation->policy);
    script_release(generation->script);
    free(generation);
}

void generation_add_idle(struct generation *generation, struct instance *instance)
{
    must_hold(&generation->scripts->dispatch->lock);
    DL_PREPEND2(generation->idle, instance, idle_prev, idle_next);
}

/* One that is closed, or not in service yet, is idle without being on the list. */
void generation_remove_idle(struct generation *generation, struct instance *instance)
{
    must_hold(&generation->scripts->dispatch->lock);
    if (instance->idle_prev)
        DL_DELETE2(generation->idle, instance, idle_prev, idle_next);
    instance->idle_prev = instance->idle_next = NULL;
}

void generation_add(struct generation *generation, struct instance *instance)
{
    must_hold(&generation->scripts->dispatch->lock);
    LL_PREPEND(generation->instances, instance);
    generation->instance_count++;
    instance->state = INSTANCE_IDLE;
    generation_add_idle(generation, instance);
}

static struct generation *generation_new(struct script *script, unsigned number, struct texts *read)
{
    struct generation *generation = calloc(1, sizeof *generation);
    if (!generation)
        return NULL;
    atomic_init(&generation->references, 1);
    generation->scripts = script->scripts;
    generation->script = script_retain(script);
    generation->number = number;
    generation->policy = scripts_policy(script->scripts);
    generation->memory_bytes = generation->policy->memory_bytes;
    generation->warned = loader_names_new();
    generation->texts = texts_retain(read);
    generation->loader =
        (struct loader_options){.lib = (const char *const *)generation->policy->lib,
                                .lib_count = generation->policy->lib_count,
                                .trust = generation->policy->trust,
                                .warned = generation->warned,
                                .texts = generation->texts,
                                .deadline_ns = LOAD_DEADLINE_NS};
    return generation;
}

/* Puts the functions of a further instance into the order of the first one. Nobody else knows the
 * instance yet. */
static int put_in_order(const struct generation *generation, const struct loading *loading,
                        struct instance *instance, struct err *err)
{
    size_t count = (size_t)generation->registration_count + 1; /* also of none it is an array */
    int *order = calloc(loading->count > 0 ? (size_t)loading->count : 1, sizeof *order);
    int *handlers = calloc(count, sizeof *handlers);
    int code =
        order && handlers
            ? registrations_match((const struct registration *const *)generation->registrations,
                                  generation->registration_count, loading, order, err)
            : err_set(err, ERR_MEMORY, "no memory for a further instance");
    for (int i = 0; i < loading->count && !code; i++)
        handlers[order[i]] = instance->handlers[i];
    if (code) {
        free(order);
        free(handlers);
        return code;
    }
    free(instance->handlers);
    instance->handlers = handlers;
    instance->order = order;
    return 0;
}

/* How many before it have its name, of whatever kind: labels of metrics do not say the kind. */
static unsigned twin_of(const struct generation *generation, int i)
{
    const struct registration *registration = generation->registrations[i];
    unsigned twin = 0;
    for (int j = 0; j < i; j++) {
        const struct registration *other = generation->registrations[j];
        twin += strcmp(other->handler, registration->handler) == 0;
    }
    return twin;
}

/* Everything is to be counted that it will ever run. */
static int open_tallies(struct generation *generation, struct err *err)
{
    for (int i = 0; i < generation->registration_count; i++) {
        struct registration *registration = generation->registrations[i];
        registration->tally =
            tally_open(&generation->script->tallies,
                       &(struct tally_name){.handler = registration->handler,
                                            .twin = twin_of(generation, i),
                                            .kind = registration->kind,
                                            .stream = registration->consumer.stream,
                                            .durable = registration->consumer.durable});
        if (!registration->tally)
            return err_set(err, ERR_MEMORY, "no memory for what is counted of its handlers");
    }
    return 0;
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
    int workers = generation->scripts->workers;
    generation->instance_limit =
        loading.workers && loading.workers < workers ? loading.workers : workers;
    if (open_tallies(generation, &failure->err) == 0)
        return instance;
    instance_release(instance);
    return NULL;
}

struct instance *generation_load_further(struct generation *generation, struct failure *failure)
{
    struct loading loading = {0};
    struct instance *instance = load_aside(generation, &loading, failure);
    if (instance && put_in_order(generation, &loading, instance, &failure->err) != 0) {
        instance_release(instance);
        instance = NULL;
    }
    loading_clear(&loading);
    return instance;
}

struct generation *generation_build(struct script *script, unsigned number, int instances,
                                    struct texts *read, const atomic_bool *hurry,
                                    struct failure *failure)
{
    struct dispatch *dispatch = script->scripts->dispatch;
    struct generation *generation = generation_new(script, number, read);
    if (!generation) {
        err_set(&failure->err, ERR_MEMORY, "no memory for a generation");
        return NULL;
    }
    generation->hurry = hurry;
    struct instance *loaded = load_first(generation, failure), *all = NULL;
    int count = 0;
    while (loaded) {
        LL_PREPEND(all, loaded);
        if (++count >= instances || count >= generation->instance_limit)
            break;
        loaded = generation_load_further(generation, failure);
    }
    generation->hurry = NULL;

    dispatch_lock(dispatch);
    if (loaded)
        DL_APPEND(script->generations, generation);
    for (struct instance *next; loaded && all; all = next) {
        next = all->next;
        generation_add(generation, all);
    }
    dispatch_unlock(dispatch);
    if (loaded)
        return generation;
    for (struct instance *next; all; all = next) {
        next = all->next;
        instance_release(all);
    }
    generation_release(generation);
    return NULL;
}
