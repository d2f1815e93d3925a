/* discard - an instance whose Lua state broke, or whose thread is lost: what it held goes back.
 *
 * The handlers that waited in it have done nothing wrong. Their messages return to the front of
 * their queues and run again, from the start, on another instance; what they had published to
 * JetStream by then is not stored twice, for it gets the same ids. */
#include <utlist.h>

#include "base/log.h"
#include "bus/consume/delivery.h"
#include "engine/hooks.h"
#include "engine/run/task.h"
#include "engine/source/checkout.h"
#include "engine/source/crew.h"
#include "engine/source/kind.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/script.h"

/* One message of a handler that had the bad luck to share the state. */
static void return_delivery(struct task *root, struct delivery *delivery, bool again)
{
    static const struct err gone = {ERR_HANDLER, "the Lua state of this handler was given up"};
    if (again && !delivery_is_letters(delivery) && checkout_rebind(root->source, delivery))
        return;
    if (!delivery->consumer && delivery->reply_to && !root->responded)
        root->instance->scripts->hooks->reply_error(root, 500, &gone);
    delivery_settle(delivery, VERDICT_NAK, 0, NULL);
}

static void end_root(struct task *root, bool again)
{
    struct instance *instance = root->instance;
    struct dispatch *dispatch = instance->scripts->dispatch;
    root->state = TASK_ENDED;
    timeouts_remove(instance, &root->timeout);
    if (root->messages)
        instance->scripts->hooks->end_messages(root);
    for (int i = 0; i < root->batch_count; i++)
        return_delivery(root, root->batch[i], again);
    if (!root->batch && root->delivery)
        return_delivery(root, root->delivery, again);
    task_end_span(root);
    if (again && !root->delivery && !root->registration->kind->repeats) {
        dispatch_lock(dispatch);
        root->source->state.owed++;
        dispatch_unlock(dispatch);
    }
    task_return_place(root);
}

/* All of them lose their coroutines first: ending a root looks at its children. */
static struct task *strip_tasks(struct instance *instance)
{
    struct task *roots = NULL;
    while (instance->tasks) {
        struct task *task = instance->tasks;
        task_unhang(task, false);
        if (task->root == task) {
            DL_APPEND2(roots, task, run_prev, run_next);
            continue;
        }
        struct task *root = task->root;
        DL_DELETE2(root->spawned_tasks, task, peer_prev, peer_next);
        /* Its function has returned: of what it spawned this was the last, and it is on no list. */
        if (root->state == TASK_ENDING && !root->spawned_tasks)
            DL_APPEND2(roots, root, run_prev, run_next);
        task->state = TASK_ENDED;
        task_release(task);
    }
    return roots;
}

void instance_discard(struct instance *instance, struct task *culprit)
{
    struct dispatch *dispatch = instance->scripts->dispatch;
    struct vm *vm = instance->vm;
    instance->vm = NULL;
    instance->current = NULL;
    instance->runnable = NULL;
    instance_drop_standby(instance);
    dispatch_lock(dispatch);
    crew_remove(instance);
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
        end_root(root, !lost);
    }
    if (culprit)
        task_end(culprit);
    timeouts_end(instance);
    vm_discard(vm);
    scripts_note_discarded(instance->scripts);
    struct log_context context = {.script = instance->generation->script->name};
    log_event(LOG_WARN, &context, "its Lua state was given up%s; handlers that begin again: %d",
              lost ? " late" : "", lost ? 0 : others);
}

/* Another one takes its place at once; as many may be on their way out as there may be instances.
 */
static void wear_out(struct instance *instance)
{
    struct generation *generation = instance->generation;
    struct dispatch *dispatch = instance->scripts->dispatch;
    dispatch_lock(dispatch);
    bool can = generation->worn < generation->instance_limit && !instance->lost;
    if (can) {
        instance->worn = true;
        generation->worn++;
        generation->instance_count--;
        generation->broken = false;
        if (crew_is_wanting(generation))
            crew_grow(generation);
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
    struct dispatch *dispatch = instance->scripts->dispatch;
    if (!instance->vm)
        return;
    if (!instance->worn && vm_stays_full(instance->vm))
        wear_out(instance);
    if (!instance->worn || instance->task_count > 0)
        return;
    dispatch_lock(dispatch);
    crew_remove(instance);
    dispatch_unlock(dispatch);
    instance_close(instance);
}
