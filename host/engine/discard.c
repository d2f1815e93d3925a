/* discard - an instance whose Lua state broke, or whose thread is lost: what it held goes back.
 *
 * The handlers that waited in it have done nothing wrong. Their messages return to the front of
 * their queues and run again, from the start, on another instance; what they had published to
 * JetStream by then is not stored twice, for it gets the same ids. */
#include <stdlib.h>
#include <utlist.h>

#include "base/log.h"
#include "engine/internal.h"
#include "engine/task.h"

/* With the dispatch lock held: its generation goes on without it, and may have another one made.
 * Somebody else holds a reference. */
static void forget(struct instance *instance)
{
    struct generation *generation = instance->generation;
    struct instance *other;
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
    atomic_fetch_sub_explicit(&instance->references, 1, memory_order_acq_rel);
    if (generation->waiting)
        generation_grow(generation);
}

/* One message of a handler that had the bad luck to share the state. */
static void give_up_delivery(struct task *root, struct delivery *delivery, bool again)
{
    static const struct err gone = {ERR_HANDLER, "the Lua state of this handler was given up"};
    if (again && !delivery->dead && dispatch_rebind(root->source, delivery))
        return;
    if (!delivery->consumer && delivery->reply_to && !root->responded)
        root->instance->engine->hooks->reply_error(root, 500, &gone);
    delivery_settle(delivery, VERDICT_NAK, 0, NULL);
}

static void give_up(struct task *root, bool again)
{
    struct instance *instance = root->instance;
    struct dispatch *dispatch = &instance->engine->dispatch;
    root->state = TASK_ENDED;
    if (clock_cancel(instance->engine->clock, &root->timeout))
        task_release(root);
    for (int i = 0; i < root->batch_count; i++)
        give_up_delivery(root, root->batch[i], again);
    if (!root->batch && root->delivery)
        give_up_delivery(root, root->delivery, again);
    if (again && !root->delivery && root->registration->kind != REGISTER_EVERY) {
        dispatch_lock(dispatch);
        root->source->due++;
        dispatch_unlock(dispatch);
    }
    if (root->batch)
        dispatch_finished_batch(instance, root->source, root->batch, root->batch_count);
    else
        dispatch_finished(instance, root->source, root->delivery);
    root->delivery = NULL;
    root->batch_count = 0;
    task_release(root);
}

/* All of them lose their coroutines first: ending a root looks at its children. */
static struct task *strip_tasks(struct instance *instance)
{
    struct task *roots = NULL;
    while (instance->tasks) {
        struct task *task = instance->tasks;
        task_leave(task, false);
        if (task->root == task) {
            DL_APPEND2(roots, task, run_prev, run_next);
            continue;
        }
        DL_DELETE2(task->root->spawned_tasks, task, peer_prev, peer_next);
        task->state = TASK_ENDED;
        task_release(task);
    }
    return roots;
}

void instance_discard(struct instance *instance, struct task *culprit)
{
    struct dispatch *dispatch = &instance->engine->dispatch;
    struct vm *vm = instance->vm;
    instance->vm = NULL;
    instance->current = NULL;
    instance->runnable = NULL;
    dispatch_lock(dispatch);
    forget(instance);
    bool lost = instance->lost;
    dispatch_unlock(dispatch);

    int others = 0;
    struct task *roots = strip_tasks(instance);
    /* Backwards, as each goes to the front of its queue. */
    while (roots) {
        struct task *root = roots->run_prev;
        DL_DELETE2(roots, root, run_prev, run_next);
        if (root == culprit)
            continue;
        others++;
        give_up(root, !lost);
    }
    if (culprit)
        task_end(culprit);
    vm_discard(vm);
    struct log_context context = {.script = instance->generation->script->name};
    log_event(LOG_WARN, &context, "its Lua state was given up%s; handlers that begin again: %d",
              lost ? " late" : "", lost ? 0 : others);
}

/* With the dispatch lock held. */
static void lose_active(struct source *source, struct instance *instance,
                        struct delivery **given_back)
{
    struct delivery *delivery, *next, *after;
    DL_FOREACH_SAFE(source->active, delivery, next) {
        if (delivery->runs_on != instance)
            continue;
        DL_DELETE(source->active, delivery);
        delivery->runs_on = NULL;
        if (source->lanes) {
            lane_hold(delivery, -1);
            if (!lane_over(source->lanes, delivery, &after) && after)
                DL_APPEND(source->fifo, after);
        }
        delivery_retain(delivery);
        DL_APPEND(*given_back, delivery);
        if (delivery->follows)
            continue;
        source->running--;
        instance->generation->running--;
        source->engine->dispatch.running--;
        dispatch_ready_source(&source->engine->dispatch, source);
    }
}

struct delivery *instance_lose(struct instance *instance)
{
    struct delivery *given_back = NULL;
    struct source *source;
    instance->lost = true;
    LL_FOREACH(instance->generation->script->sources, source) {
        source->pinned = true;
        lose_active(source, instance, &given_back);
    }
    forget(instance);
    return given_back;
}

/* Another one takes its place at once; as many may be on their way out as there may be instances.
 */
static void wear_out(struct instance *instance)
{
    struct generation *generation = instance->generation;
    struct dispatch *dispatch = &instance->engine->dispatch;
    dispatch_lock(dispatch);
    bool can = generation->worn < generation->instance_limit && !instance->lost;
    if (can) {
        instance->worn = true;
        generation->worn++;
        generation->instance_count--;
        generation->broken = false;
        if (generation->waiting)
            generation_grow(generation);
    }
    dispatch_unlock(dispatch);
    if (!can)
        return;
    struct log_context context = {.script = generation->script->name, .code = err_name(ERR_MEMORY)};
    log_event(LOG_WARN, &context,
              "its Lua state stays full after a collection (%zu of %zu KB): a new one takes its "
              "place; handlers that still wait in it: %u",
              (instance->vm->used_bytes + instance->vm->external_bytes) / 1024,
              instance->vm->limit_bytes / 1024, instance->task_count);
}

void instance_inspect(struct instance *instance)
{
    struct dispatch *dispatch = &instance->engine->dispatch;
    if (!instance->vm)
        return;
    if (!instance->worn && vm_stays_full(instance->vm))
        wear_out(instance);
    if (!instance->worn || instance->task_count > 0)
        return;
    dispatch_lock(dispatch);
    forget(instance);
    dispatch_unlock(dispatch);
    instance_close(instance);
}
