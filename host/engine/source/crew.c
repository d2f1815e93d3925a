/* crew - a generation's instances: one more, one less, none. */
#include "engine/source/crew.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/bug.h"
#include "base/clock.h"
#include "base/container.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/value.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"
#include "engine/version/script.h"

/* The next try to load an instance, for a generation that has none. */
#define GROW_AGAIN_NS (1 * NS_PER_S)

static struct mutex *lock_of(const struct generation *generation)
{
    return &generation->scripts->dispatch->lock;
}

/* One whose work was taken back meanwhile, by a stop, is passed over. */
void crew_serve_waiting(struct generation *generation)
{
    struct source *source;
    must_hold(lock_of(generation));
    while (generation->idle && (source = generation->waiting)) {
        DL_DELETE2(generation->waiting, source, wait_prev, wait_next);
        source->waiting = false;
        source_ready(source);
        if (source->ready.queued)
            return;
    }
}

void crew_idle(struct instance *instance)
{
    instance->state = INSTANCE_IDLE;
    if (!instance->vm || instance->worn)
        return;
    generation_add_idle(instance->generation, instance);
    crew_serve_waiting(instance->generation);
}

void crew_remove(struct instance *instance)
{
    struct generation *generation = instance->generation;
    struct instance *other;
    must_hold(lock_of(generation));
    LL_FOREACH(generation->instances, other) {
        if (other == instance)
            break;
    }
    if (!other)
        return;
    LL_DELETE(generation->instances, instance);
    if (instance->worn)
        generation->worn--;
    else
        generation->instance_count--;
    generation->broken = false;
    bool last = instance_unref(instance);
    BUG_ON(last);
    (void)last;
    if (crew_is_wanting(generation))
        crew_grow(generation);
}

/* The clock. */
static void on_regrowing(struct deadline *deadline)
{
    struct generation *generation = container_of(deadline, struct generation, regrowing);
    struct dispatch *dispatch = generation->scripts->dispatch;
    dispatch_lock(dispatch);
    if (crew_is_wanting(generation))
        crew_grow(generation);
    dispatch_unlock(dispatch);
    generation_release(generation);
}

/* It has none, and must have one: what it was made of did load once. */
static void grow_again(struct generation *generation)
{
    must_hold(lock_of(generation));
    generation->regrowing.on_due = on_regrowing;
    struct clock *clock = generation->scripts->clock;
    generation_retain(generation);
    if (!clock_arm(clock, &generation->regrowing, clock_now_ns() + GROW_AGAIN_NS))
        generation_release(generation);
}

/* Keeps why a further instance did not load (NULL: it did), for the status. True: the one before
 * did not load either. */
static bool keep_complaint(struct generation *generation, const char *why)
{
    must_hold(lock_of(generation));
    bool again = generation->complaint != NULL;
    free(generation->complaint);
    generation->complaint = why ? strdup(why) : NULL;
    return again;
}

/* Tried again each second while there is none, it is an error once. */
static void log_not_grown(struct generation *generation, const struct failure *failure,
                          int instances, bool again)
{
    struct log_context context = {
        .script = generation->script->name,
        .generation = generation->number,
        .code = err_name(failure->err.code),
        .tacit = true,
        .file = failure->file,
        .line = failure->line,
        .traceback = failure->traceback,
    };
    log_event(again ? LOG_DEBUG : LOG_ERROR, &context,
              "a further instance did not load; the script goes on with %d: %s", instances,
              failure->err.message);
}

static void take_on(struct generation *generation, struct instance *instance)
{
    generation_add(generation, instance);
    crew_serve_waiting(generation);
}

/* The pool: one more instance. */
static void on_grow(struct pool_job *job)
{
    struct generation *generation = container_of(job, struct generation, growing);
    struct dispatch *dispatch = generation->scripts->dispatch;
    struct failure failure = {0};
    struct instance *instance = generation_load_further(generation, &failure);
    bool ending = !instance && atomic_load(&generation->scripts->ending);

    dispatch_lock(dispatch);
    generation->building = false;
    bool again = keep_complaint(generation, instance ? NULL : failure.err.message);
    int instances = generation->instance_count;
    if (instance)
        take_on(generation, instance);
    else if (generation->instance_count > 0)
        generation->broken = true;
    else
        grow_again(generation);
    if (generation->retired)
        crew_reap(generation);
    dispatch_unlock(dispatch);
    if (!instance && !ending)
        log_not_grown(generation, &failure, instances, again);
    failure_clear(&failure);
    generation_release(generation);
}

bool crew_is_wanting(const struct generation *generation)
{
    return generation->waiting || generation->instance_count == 0;
}

void crew_grow(struct generation *generation)
{
    must_hold(lock_of(generation));
    if (generation->retired || generation->building || generation->broken ||
        generation->instance_count >= generation->instance_limit ||
        generation->scripts->dispatch->stopping)
        return;
    generation->building = true;
    generation->growing.run = on_grow;
    generation_retain(generation);
    pool_submit(generation->scripts->pool, &generation->growing);
}

/* The pool: its states go. */
static void on_close(struct pool_job *job)
{
    struct generation *generation = container_of(job, struct generation, closing);
    struct script *script = generation->script;
    struct dispatch *dispatch = generation->scripts->dispatch;
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
            instance_ready(instances);
        dispatch_unlock(dispatch);
        instance_release(instances);
        instances = next;
    }
    if (clock_cancel(generation->scripts->clock, &generation->regrowing))
        generation_release(generation);
    log_debug("%s: generation %u closed", script->name, generation->number);
    generation_release(generation);
    source_reap(script);
}

/* Does nothing come for it any more? */
static bool sources_are_quiet(const struct generation *generation)
{
    const struct source *source;
    LL_FOREACH(generation->script->sources, source) {
        if (source->generation == generation && !source_state_is_quiet(&source->state))
            return false;
    }
    return true;
}

static bool is_quiet(const struct generation *generation)
{
    if (generation->running > 0 || generation->building || generation->waiting)
        return false;
    for (const struct instance *instance = generation->instances; instance;
         instance = instance->next) {
        if (instance->state != INSTANCE_IDLE || instance->mailbox)
            return false;
    }
    return sources_are_quiet(generation);
}

void crew_reap(struct generation *generation)
{
    must_hold(lock_of(generation));
    if (!generation->retired || generation->reaping || !is_quiet(generation))
        return;
    if (!generation->stop_ran) {
        generation->stop_ran = true;
        if (source_hooks_due(generation->script, generation, SOURCE_BRINGS_STOP) > 0)
            return;
    }
    generation->reaping = true;
    for (struct instance *instance = generation->instances; instance; instance = instance->next) {
        generation_remove_idle(generation, instance);
        instance->state = INSTANCE_BUSY; /* the pool's: what comes late waits in its mailbox */
    }
    generation->closing.run = on_close;
    generation_retain(generation);
    pool_submit(generation->scripts->pool, &generation->closing);
}
