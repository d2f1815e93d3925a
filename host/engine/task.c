#include "engine/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "engine/internal.h"
#include "engine/task_internal.h"
#include "vm/guard.h"

/* How many ended tasks an instance keeps for those to come. */
#if defined(__SANITIZE_ADDRESS__)
#define TASKS_SPARE 0 /* so that a late use of one is found */
#else
#define TASKS_SPARE 64
#endif

char task_cancelled_marker;

#define TASK_OF_TIMEOUT(d) ((struct task *)((char *)(d)-offsetof(struct task, timeout)))
#define TASK_OF_EXPIRY(e) ((struct task *)((char *)(e)-offsetof(struct task, expiry)))

struct task *task_retain(struct task *task)
{
    atomic_fetch_add_explicit(&task->references, 1, memory_order_relaxed);
    return task;
}

void task_release(struct task *task)
{
    if (atomic_fetch_sub_explicit(&task->references, 1, memory_order_acq_rel) != 1)
        return;
    struct instance *instance = task->instance;
    if (task->publish)
        task_forget_publishes(task);
    if (task->failure)
        failure_clear(task->failure);
    if (task->late)
        late_failures_free(task->late);
    /* Most have none of these, and free costs something also when there is nothing to free. */
    if (task->failure || task->failed_publish || task->batch) {
        free(task->failure);
        free(task->failed_publish);
        free(task->batch);
    }
    if (instance->spare_count < TASKS_SPARE) {
        LL_PREPEND(instance->spare_tasks, task);
        instance->spare_count++;
    } else {
        free(task);
    }
    instance_release(instance);
}

void task_free_spare(struct instance *instance)
{
    while (instance->spare_tasks) {
        struct task *task = instance->spare_tasks;
        instance->spare_tasks = task->next;
        free(task);
    }
}

/* All zero. */
static struct task *take_task(struct instance *instance)
{
    struct task *task = instance->spare_tasks;
    if (!task)
        return calloc(1, sizeof *task);
    instance->spare_tasks = task->next;
    instance->spare_count--;
    memset(task, 0, sizeof *task);
    return task;
}

struct task *task_new(struct instance *instance)
{
    struct task *task = take_task(instance);
    if (!task)
        return NULL;
    atomic_init(&task->references, 1);
    task->instance = instance_retain(instance);
    task->resume_args = -1;
    DL_APPEND(instance->tasks, task);
    instance->task_count++;
    return task;
}

void task_make_runnable(struct task *task)
{
    task->state = TASK_RUNNABLE;
    DL_APPEND2(task->instance->runnable, task, run_prev, run_next);
}

/* Keeps the first failure of a root. Takes what failure holds. */
static void fail(struct task *root, struct failure *failure)
{
    if (!root->failure && (root->failure = malloc(sizeof *root->failure)))
        *root->failure = *failure;
    else
        failure_clear(failure);
}

/* The function of the task has ended: everything that hung on it goes. */
void task_leave(struct task *task, bool reusable)
{
    struct instance *instance = task->instance;
    while (task->ops)
        op_abandon(task->ops);
    if (task->coroutine.L && instance->vm)
        vm_give(instance->vm, task->coroutine, reusable);
    task->coroutine.L = NULL;
    DL_DELETE(instance->tasks, task);
    instance->task_count--;
}

void task_end(struct task *root)
{
    struct instance *instance = root->instance;
    root->state = TASK_ENDED;
    if (root->timed && clock_cancel(instance->engine->clock, &root->timeout))
        task_release(root);
    /* Before the verdict: a retry here begins the next attempt. */
    if (root->message && instance->vm)
        instance->engine->hooks->end_messages(root);
    root->message = NULL;
    task_settle(root);
    if (root->batch)
        dispatch_finished_batch(instance, root->source, root->batch, root->batch_count);
    else
        dispatch_finished(instance, root->source, root->delivery);
    root->delivery = NULL;
    root->batch_count = 0;
    task_release(root);
}

static const char *type_of_result(lua_State *L, int index)
{
    return lua_isnoneornil(L, index) ? NULL : lua_typename(L, lua_type(L, index));
}

/* `return nil, err` and `return false, err` mean failure; the rest is a core handler's reply, and
 * means nothing elsewhere. VM_BROKEN: so is the state, by what `broken` tells. */
static enum vm_end judge_results(struct task *root, struct failure *broken)
{
    lua_State *L = root->coroutine.L;
    int count = lua_gettop(L);
    struct failure failure;
    failure_init(&failure);
    if (count >= 2 && !lua_toboolean(L, 1) && !lua_isnil(L, 2)) {
        if (!vm_describe(root->instance->vm, L, 2, NULL, &failure)) {
            *broken = failure;
            return VM_BROKEN;
        }
        fail(root, &failure);
        return VM_RETURNED;
    }
    if (root->registration->kind == REGISTER_SUBSCRIBE) {
        if (root->instance->engine->hooks->reply(root, L, count, &failure.err) != 0)
            fail(root, &failure);
        return VM_RETURNED;
    }
    const char *type = count > 0 ? type_of_result(L, 1) : NULL;
    /* `return msg:nak()` is a way to write it; so is `return msg:reject()`, which is judged later.
     */
    bool settled =
        (root->delivery && delivery_settled(root->delivery)) || root->failure || root->retry_asked;
    if (type && !settled && !root->source->warned) {
        root->source->warned = true;
        struct log_context context = {.script = root->source->script->name,
                                      .handler = root->registration->handler,
                                      .file = root->registration->file,
                                      .line = root->registration->line};
        log_event(LOG_WARN, &context,
                  "the handler returned a %s, which means nothing here: use msg:nak, msg:term or "
                  "return nil, err",
                  type);
    }
    return VM_RETURNED;
}

/* A child that died without its Lua wrapper noticing (no memory, a stray yield): its future will
 * never be completed, so the whole run fails. */
static void child_died(struct task *task, struct failure *failure)
{
    fail(task->root, failure);
    task_cancel(task->root, CANCEL_PARENT);
}

/* Stopped by the watchdog: because of its timeout, or because of limits.cpu? */
static void note_timeout(struct task *root, const struct failure *failure)
{
    int64_t timeout = root->registration->timeout_ns;
    if (failure->err.code == ERR_CPU && !root->cancelled && timeout &&
        clock_now_ns() >= root->started_ns + (uint64_t)timeout)
        root->cancelled = CANCEL_TIMEOUT;
}

/* When the handler's time is over; 0: never. */
static uint64_t due_of(const struct task *root)
{
    int64_t timeout_ns = root->registration->timeout_ns;
    return timeout_ns ? root->started_ns + (uint64_t)timeout_ns : 0;
}

void task_arm_timeout(struct task *root)
{
    uint64_t due_ns = due_of(root);
    if (root->timed || !due_ns)
        return;
    root->timed = true;
    task_retain(root);
    clock_arm(root->instance->engine->clock, &root->timeout, due_ns);
}

static void run(struct task *task, int nargs)
{
    struct instance *instance = task->instance;
    struct failure failure;
    failure_init(&failure);
    task->state = TASK_RUNNING;
    instance->current = task;
    instance_runs(instance, task->root->source, task->root->delivery);
    guard_set_whom(task->root);
    /* Who has been told may clean up; limits.cpu bounds that. */
    guard_set_due(task->root->cancelled ? 0 : due_of(task->root));
    enum vm_end end = vm_resume(instance->vm, task->coroutine, nargs, &failure);
    if (end == VM_RETURNED && task->root == task)
        end = judge_results(task, &failure);
    guard_set_due(0);
    switch (end) {
    case VM_YIELDED:
        instance->current = NULL;
        task->state = TASK_WAITING;
        task_arm_timeout(task->root);
        if (task->cancelled)
            task_make_runnable(task);
        return;
    case VM_RETURNED:
        if (task->root == task && task->failure)
            note_timeout(task, task->failure);
        break;
    case VM_FAILED:
        note_timeout(task->root, &failure);
        if (task->root == task)
            fail(task, &failure);
        else
            child_died(task, &failure);
        break;
    case VM_BROKEN:
        note_timeout(task->root, &failure);
        fail(task->root, &failure);
        instance_discard(instance, task->root);
        return;
    }
    instance->current = NULL;
    task_leave(task, end == VM_RETURNED);
    if (task->root == task)
        task_end_root(task);
    else
        task_end_child(task);
}

void task_resume(struct task *task)
{
    lua_State *L = task->coroutine.L;
    int nargs = task->resume_args;
    task->resume_args = -1;
    struct op *op = task->waiting;
    if (nargs < 0 && task->cancelled) {
        lua_pushlightuserdata(L, TASK_CANCELLED);
        lua_pushstring(L, task_cancel_text(task->cancelled));
        nargs = 2;
    } else if (nargs < 0) {
        nargs = op->push(op, L);
    }
    if (op)
        op_abandon(op);
    run(task, nargs);
}

/* The clock: the handler's time is over. The reference of the armed timeout goes with the event. */
static void on_timeout(struct deadline *deadline)
{
    struct task *task = TASK_OF_TIMEOUT(deadline);
    watchdog_overdue(task->instance->engine->watchdog, task);
    instance_post(task->instance, &task->expiry);
}

static void on_expiry(struct event *event, struct instance *instance)
{
    (void)instance;
    struct task *task = TASK_OF_EXPIRY(event);
    if (task->state != TASK_ENDED)
        task_cancel(task, CANCEL_TIMEOUT);
    task_release(task);
}

void task_check_time(struct task *task)
{
    struct task *root = task->root;
    int64_t limit_ns = root->registration->timeout_ns;
    if (limit_ns && !root->cancelled && clock_now_ns() >= root->started_ns + (uint64_t)limit_ns)
        task_cancel(root, CANCEL_TIMEOUT);
}

/* Fails a run before its function was called. */
static void refuse(struct task *task, const struct err *err)
{
    struct failure failure = {.err = *err};
    fail(task, &failure);
    task_leave(task, false);
    task_end(task);
}

/* More deliveries than attempts, and then some: the process crashes on this message again and
 * again. It goes to the dead letter without another run. */
#define CRASHES_BELIEVED 3

static bool is_worn_out(const struct registration *registration, const struct delivery *delivery,
                        struct err *err)
{
    uint64_t most = (uint64_t)registration->attempts + CRASHES_BELIEVED;
    if (!registration->attempts || !delivery || !delivery->consumer || delivery->attempt <= most)
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

/* No memory even for a task: the messages come again. */
static void turn_away(const struct take *take)
{
    int64_t delay_ns = take->registration->backoff.min_ns;
    for (int i = 0; i < take->batch_count; i++)
        delivery_settle(take->batch[i], VERDICT_NAK, delay_ns, NULL);
    if (take->batch) {
        dispatch_finished_batch(take->instance, take->source, take->batch, take->batch_count);
        free(take->batch);
        return;
    }
    if (take->delivery)
        delivery_settle(take->delivery, VERDICT_NAK, delay_ns, NULL);
    dispatch_finished(take->instance, take->source, take->delivery);
}

/* The handler's argument: a message, or a list of them. Returns how many. */
static int push_arguments(lua_State *L, struct task *task)
{
    const struct engine_hooks *hooks = task->instance->engine->hooks;
    if (task->batch) {
        lua_createtable(L, task->batch_count, 0);
        for (int i = 0, place = 0; i < task->batch_count; i++) {
            if (task->batch[i]->dead)
                continue;
            hooks->push_message(L, task, task->batch[i]);
            lua_rawseti(L, -2, ++place);
        }
    } else if (task->delivery) {
        hooks->push_message(L, task, task->delivery);
    }
    return task->delivery ? 1 : 0;
}

void task_start(const struct take *take)
{
    struct instance *instance = take->instance;
    struct registration *registration = take->registration;
    struct delivery *delivery = take->delivery;
    struct task *task = task_new(instance);
    if (!task) {
        turn_away(take);
        return;
    }
    task->root = task;
    strcpy(task->path, "0");
    task->source = take->source;
    task->registration = registration;
    task->delivery = delivery;
    task->batch = take->batch;
    task->batch_count = take->batch_count;
    task->started_ns = take->now_ns;
    task->timeout.on_due = on_timeout;
    task->expiry.run = on_expiry;

    struct err err;
    if (task->batch && sort_out(task) == 0) {
        task_leave(task, false);
        task_end(task);
        return;
    }
    if (!task->batch && is_worn_out(registration, delivery, &err)) {
        refuse(task, &err);
        return;
    }
    if (vm_take(instance->vm, &task->coroutine, &err) != 0) {
        refuse(task, &err);
        return;
    }
    lua_State *L = task->coroutine.L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, instance->handlers[registration->index - 1]);
    int nargs = push_arguments(L, task);
    if (!vm_has_room(instance->vm)) {
        err_set(&err, ERR_MEMORY, "not enough memory: the limit of %zu KB is reached%s",
                instance->vm->limit_bytes / 1024, nargs ? " with this message" : "");
        refuse(task, &err);
        return;
    }
    run(task, nargs);
}

int task_wait(lua_State *L, struct op *op)
{
    if (op->complete) {
        int count = op->push(op, L);
        op_abandon(op);
        return count;
    }
    op->task->waiting = op;
    return vm_yield(L);
}

void task_on_op(struct op *op)
{
    struct task *task = op->task;
    if (task->waiting == op && task->state == TASK_WAITING)
        task_make_runnable(task);
}

const char *task_cancel_text(enum cancel_reason reason)
{
    switch (reason) {
    case CANCEL_TIMEOUT:
        return "the handler ran longer than its timeout";
    case CANCEL_STOP:
        return "the host is stopping";
    case CANCEL_RETIRED:
        return "this version of the script has had its time";
    case CANCEL_PARENT:
        return "the handler that started this has ended, or has cancelled it";
    case CANCEL_NONE:
        break;
    }
    return "not cancelled";
}

void task_publish_failed(struct task *task, const struct err *err)
{
    struct task *root = task->root;
    if (!root->failed_publish && (root->failed_publish = malloc(sizeof *err)))
        *root->failed_publish = *err;
}
