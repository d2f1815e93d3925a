/* The start of a run: what is not run at all, and what its handler is given. */
#include <stdlib.h>
#include <string.h>

#include "bus/consume/deadletter.h"
#include "engine/hooks.h"
#include "engine/run/task_private.h"
#include "engine/source/checkout.h"
#include "engine/source/handling.h"
#include "engine/source/kind.h"
#include "engine/source/source.h"
#include "engine/version/script.h"

/* Fails a run before its function was called. */
static void fail_unstarted(struct task *task, const struct err *err)
{
    struct failure failure = {.err = *err};
    task_enlist(task);
    task_fail(task, &failure);
    task_unhang(task, false);
    task_end(task);
}

/* More deliveries than attempts, and then some: the process crashes on this message again and
 * again. It goes to the dead letter without another run. */
#define CRASHES_BELIEVED 3

static bool is_worn_out(const struct registration *registration, const struct delivery *delivery,
                        struct err *err)
{
    uint64_t most = (uint64_t)registration->attempts + CRASHES_BELIEVED;
    if (!registration->attempts || !delivery || !delivery->consumer || delivery->attempt <= most ||
        !registration_gives_up(registration))
        return false;
    err_set(err, ERR_HANDLER, "delivered %llu times, of which attempts allows %d: not run again",
            (unsigned long long)delivery->attempt, registration->attempts);
    return true;
}

/* Those of a batch that are worn out go to the dead letter. Returns how many are left. */
static int sort_out(struct task *task)
{
    int left = 0;
    struct err err;
    for (int i = 0; i < task->batch_count; i++) {
        if (is_worn_out(task->registration, task->batch[i], &err))
            task_dead_letter(task, task->batch[i], &err, NULL, 0);
        else
            left++;
    }
    return left;
}

/* A run of a hook or of bus.after is owed still. */
static void owe_again(struct source *source)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    dispatch_lock(dispatch);
    source->state.owed++;
    dispatch_unlock(dispatch);
}

/* No memory even for a task: the messages come again, but those of core NATS. */
static void turn_away(const struct job *job)
{
    int64_t delay_ns = job->registration->backoff.min_ns;
    struct delivery *delivery = job->delivery;
    for (int i = 0; i < job->batch_count; i++)
        delivery_settle(job->batch[i], VERDICT_NAK, delay_ns, NULL);
    if (job->batch) {
        checkout_ended_batch(job->instance, job->source, job->batch, job->batch_count);
        free(job->batch);
        return;
    }
    if (delivery && !delivery->consumer)
        source_drop_unread(job->source);
    if (delivery && delivery->consumer && !checkout_hold(job->source, delivery, delay_ns))
        delivery_settle(delivery, VERDICT_NAK, delay_ns, NULL);
    if (!delivery && !job->registration->kind->repeats)
        owe_again(job->source);
    checkout_ended(job->instance, job->source, delivery);
}

static void push_batch(lua_State *L, struct task *task)
{
    const struct engine_hooks *hooks = task->instance->scripts->hooks;
    lua_createtable(L, task->batch_count, 0);
    for (int i = 0, place = 0; i < task->batch_count; i++) {
        if (delivery_is_letters(task->batch[i]))
            continue;
        hooks->push_message(L, task, task->batch[i]);
        lua_rawseti(L, -2, ++place);
    }
}

/* The handler's function with its argument: a message, or a list of them, or a time. A message lies
 * below the function as well, which holds it as long as the coroutine is the run's. Returns how
 * many arguments there are. */
static int push_function(lua_State *L, struct task *task)
{
    struct instance *instance = task->instance;
    bool single = task->delivery && !task->batch;
    if (single)
        instance->scripts->hooks->push_message(L, task, task->delivery);
    task->below = single;
    lua_rawgeti(L, LUA_REGISTRYINDEX, instance->handlers[task->registration->index - 1]);
    if (single)
        lua_pushvalue(L, 1);
    else if (task->batch)
        push_batch(L, task);
    else if (task->planned)
        lua_pushnumber(L, (double)task->planned);
    return task->delivery || task->planned ? 1 : 0;
}

static void note_message(struct task *task, struct delivery *delivery)
{
    struct tally_cell *cell = task->cell;
    if (handling_of(delivery)->runs++ == 0 && cell)
        stat_observe(&cell->queue_wait, task->started_ns - delivery->arrived_ns);
    if (cell)
        stat_add(&cell->attempts, 1);
}

static void note_run(struct task *task)
{
    if (task->delivery && !task->batch)
        note_message(task, task->delivery);
    for (int i = 0; i < task->batch_count; i++)
        note_message(task, task->batch[i]);
}

/* What no run changes of its root. NULL: no memory. */
static struct task *make_root(struct instance *instance)
{
    struct task *task = task_new(instance);
    if (!task)
        return NULL;
    task->root = task;
    strcpy(task->path, "0");
    return task;
}

/* The root of a run: the one that rests, with its coroutine, or a new one without. NULL: no memory.
 */
static struct task *root_for(const struct job *job)
{
    struct instance *instance = job->instance;
    struct task *task = instance->standby;
    instance->standby = NULL;
    if (!task && !(task = make_root(instance)))
        return NULL;
    task->source = job->source;
    task->registration = job->registration;
    task->delivery = job->delivery;
    task->number = ++job->instance->run_count;
    task->batch = job->batch;
    task->batch_count = job->batch_count;
    task->planned = job->planned;
    task->started_ns = job->now_ns;
    task->cell = instance_cell(job->instance, job->registration);
    return task;
}

/* The function and its arguments, on a coroutine. How many arguments; -1: they have no room. */
static int push_call(struct task *task, struct err *err)
{
    struct instance *instance = task->instance;
    if (!task->coroutine.L && vm_checkout(instance->vm, &task->coroutine, err) != 0)
        return -1;
    int nargs = push_function(task->coroutine.L, task);
    if (vm_has_room(instance->vm))
        return nargs;
    err_set(err, ERR_MEMORY, "not enough memory: the limit of %zu KB is reached%s",
            instance->vm->limit_bytes / 1024, nargs ? " with this message" : "");
    return -1;
}

void task_start(const struct job *job)
{
    int nargs = -1;
    struct err err;
    struct task *task = root_for(job);
    if (!task) {
        turn_away(job);
        return;
    }
    note_run(task);
    if (job->instance->scripts->tracer)
        task_begin_span(task);
    if (task->batch && sort_out(task) == 0) {
        task_enlist(task);
        task_unhang(task, false);
        task_end(task);
        return;
    }
    if (task->batch || !is_worn_out(task->registration, task->delivery, &err))
        nargs = push_call(task, &err);
    if (nargs >= 0)
        task_go_on(task, nargs);
    else
        fail_unstarted(task, &err);
}
