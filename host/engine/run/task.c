/* task - one coroutine: its runs, its waits, its end. task_start.c begins with it. */
#include "engine/run/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/join.h"
#include "base/log.h"
#include "engine/hooks.h"
#include "engine/run/op.h"
#include "engine/run/task_private.h"
#include "engine/source/checkout.h"
#include "engine/source/handling.h"
#include "engine/source/source.h"
#include "engine/version/script.h"
#include "vm/guard.h"

/* How many ended tasks an instance keeps for those to come. */
#if defined(__SANITIZE_ADDRESS__)
#define TASKS_SPARE 0 /* so that a late use of one is found */
#else
#define TASKS_SPARE 64
#endif

char task_cancelled_marker;

/* What a run has failed with when there was no memory to keep it; static, so never changed. A
 * message that was rejected, or could not be read, is not tried again. */
static struct failure unkept = {
    .err = {ERR_MEMORY, "it failed, and there was no memory to keep why"}};
static struct failure unkept_rejection = {
    .err = {ERR_BAD_PAYLOAD, "it was rejected, and there was no memory to keep why"}};

static bool has_own_failure(const struct task *root)
{
    return root->failure && root->failure != &unkept && root->failure != &unkept_rejection;
}

static void free_failure(struct task *root)
{
    if (has_own_failure(root)) {
        failure_clear(root->failure);
        free(root->failure);
    }
    root->failure = NULL;
}

struct task *task_retain(struct task *task)
{
    atomic_fetch_add_explicit(&task->references, 1, memory_order_relaxed);
    return task;
}

/* What a verdict may have made of a run that had it not before: its log lines name a trace. */
static void forget_verdict(struct task *task)
{
    if (task->failure)
        free_failure(task);
    if (task->trace) {
        free(task->trace);
        task->trace = NULL;
    }
}

void task_release(struct task *task)
{
    if (atomic_fetch_sub_explicit(&task->references, 1, memory_order_acq_rel) != 1)
        return;
    struct instance *instance = task->instance;
    if (task->published.others)
        publish_counts_clear(&task->published);
    if (task->late)
        late_failures_free(task->late);
    /* Most have none of these, and free costs something also when there is nothing to free. */
    if (task->failed_publish || task->batch) {
        free(task->failed_publish);
        free(task->batch);
    }
    forget_verdict(task);
    if (instance->spare_count < TASKS_SPARE) {
        struct spare *spare = (struct spare *)(void *)task;
        LL_PREPEND(instance->spare_tasks, spare);
        instance->spare_count++;
    } else {
        free(task);
    }
    instance_release(instance);
}

/* All zero. */
static struct task *take_task(struct instance *instance)
{
    struct spare *spare = instance->spare_tasks;
    if (!spare)
        return calloc(1, sizeof(struct task));
    instance->spare_tasks = spare->next;
    instance->spare_count--;
    return memset(spare, 0, sizeof(struct task));
}

struct task *task_new(struct instance *instance)
{
    struct task *task = take_task(instance);
    if (!task)
        return NULL;
    atomic_init(&task->references, 1);
    task->instance = instance;
    task->resume_args = -1;
    return task;
}

void task_enlist(struct task *task)
{
    struct instance *instance = task->instance;
    if (task->listed)
        return;
    task->listed = true;
    instance_retain(instance);
    DL_APPEND(instance->tasks, task);
    instance->task_count++;
}

void task_make_runnable(struct task *task)
{
    task->state = TASK_RUNNABLE;
    DL_APPEND2(task->instance->runnable, task, run_prev, run_next);
}

void task_fail(struct task *root, struct failure *failure)
{
    if (root->failure)
        failure_clear(failure);
    else
        task_fail_anew(root, failure);
}

void task_fail_anew(struct task *root, struct failure *failure)
{
    bool rejected = failure->err.code == ERR_BAD_PAYLOAD;
    free_failure(root);
    root->failure = malloc(sizeof *root->failure);
    if (root->failure) {
        *root->failure = *failure;
        return;
    }
    root->failure = rejected ? &unkept_rejection : &unkept;
    failure_clear(failure);
}

/* The coroutine of a root goes, and with it what holds its message objects. If its children go on,
 * so does its run. Where the state goes, too, nobody holds them: they end with the run, before it.
 */
static void leave_messages(struct task *root)
{
    const struct engine_hooks *hooks = root->instance->scripts->hooks;
    if (!root->instance->vm)
        return;
    if (root->spawned_tasks)
        hooks->loosen_messages(root);
    else
        hooks->end_messages(root);
}

/* The function of the task has ended: everything that hung on it goes. */
void task_unhang(struct task *task, bool reusable)
{
    struct instance *instance = task->instance;
    while (task->ops)
        op_abandon(task->ops);
    if (task->messages)
        leave_messages(task);
    if (task->coroutine.L && instance->vm)
        vm_checkin(instance->vm, task->coroutine, reusable);
    task->coroutine.L = NULL;
    DL_DELETE(instance->tasks, task);
    instance->task_count--;
}

void task_return_place(struct task *root)
{
    if (root->batch)
        checkout_ended_batch(root->instance, root->source, root->batch, root->batch_count);
    else
        checkout_ended(root->instance, root->source, root->delivery);
    root->delivery = NULL;
    root->batch_count = 0;
    task_release(root);
}

void task_end(struct task *root)
{
    struct instance *instance = root->instance;
    root->state = TASK_ENDED;
    timeouts_remove(instance, &root->timeout);
    /* Before the verdict: a retry here begins the next attempt. */
    if (root->messages)
        instance->scripts->hooks->end_messages(root);
    task_settle(root);
    task_return_place(root);
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
    int first = root->below + 1, count = lua_gettop(L) - root->below;
    struct failure failure;
    if (count == 0)
        return VM_RETURNED;
    failure_init(&failure);
    if (count >= 2 && !lua_toboolean(L, first) && !lua_isnil(L, first + 1)) {
        if (!vm_describe(root->instance->vm, L, first + 1, NULL, &failure)) {
            *broken = failure;
            return VM_BROKEN;
        }
        task_fail(root, &failure);
        return VM_RETURNED;
    }
    if (root->source->state.brings == SOURCE_BRINGS_MESSAGES) {
        if (root->cancelled == CANCEL_TIMEOUT) /* the requester is told so, whatever was caught */
            return VM_RETURNED;
        if (root->instance->scripts->hooks->reply(root, L, count, &failure.err) != 0)
            task_fail(root, &failure);
        return VM_RETURNED;
    }
    const char *type = count > 0 ? type_of_result(L, first) : NULL;
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
    task_fail(task->root, failure);
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

uint64_t task_due_ns(const struct task *root)
{
    int64_t timeout_ns = root->registration->timeout_ns;
    return timeout_ns ? root->started_ns + (uint64_t)timeout_ns : 0;
}

static void on_expiry(struct event *event, struct instance *instance)
{
    struct due *due;
    (void)event;
    while ((due = timeouts_take(instance)))
        task_cancel(container_of(due, struct task, timeout), CANCEL_TIMEOUT);
}

void task_begin_timeout(struct task *root)
{
    uint64_t due_ns = task_due_ns(root);
    if (root->timed || !due_ns)
        return;
    root->timed = true;
    timeouts_add(root->instance, &root->timeout, due_ns, on_expiry);
}

/* The run has had the thread since its worker last looked at the clock. */
static void note_slice(struct instance *instance, struct task *root)
{
    uint64_t now_ns = clock_now_ns();
    root->cpu_ns += now_ns - instance->slice_ns;
    instance->slice_ns = now_ns;
}

/* The function of a root has returned: is its verdict all that is left to do? */
static bool is_over_at_once(const struct task *root)
{
    return !root->listed && !root->batch && !root->failure && !root->ops && !root->spawned_tasks &&
           !root->cancelled && !publish_counts_any(&root->published) && !root->failed_publish &&
           !root->late && !root->trace &&
           atomic_load_explicit(&root->references, memory_order_relaxed) == 1;
}

/* The end of such a run: its root rests until the next one. */
static void end_at_once(struct task *root)
{
    struct instance *instance = root->instance;
    instance->current = NULL;
    instance->scripts->hooks->end_messages(root);
    lua_settop(root->coroutine.L, 0);
    task_settle(root);
    forget_verdict(root);
    checkout_ended(instance, root->source, root->delivery);
    root->delivery = NULL;
    root->retry_asked = root->responded = root->unsent = false;
    root->cpu_ns = 0;
    instance->standby = root;
}

void task_go_on(struct task *task, int nargs)
{
    struct instance *instance = task->instance;
    struct failure failure;
    failure_init(&failure);
    task->state = TASK_RUNNING;
    instance->current = task;
    instance_runs(instance, task->root->source, task->root->delivery);
    /* A cancelled task may clean up; limits.cpu bounds that. */
    guard_set_due(task->root->cancelled ? 0 : task_due_ns(task->root));
    enum vm_end end = vm_resume(instance->vm, task->coroutine, nargs, &failure);
    if (end == VM_RETURNED && task->root == task)
        end = judge_results(task, &failure);
    guard_set_due(0);
    note_slice(instance, task->root);
    if (end == VM_RETURNED && is_over_at_once(task)) {
        end_at_once(task);
        return;
    }
    task_enlist(task);
    switch (end) {
    case VM_YIELDED:
        instance->current = NULL;
        task->state = TASK_WAITING;
        task_begin_timeout(task->root);
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
            task_fail(task, &failure);
        else
            child_died(task, &failure);
        break;
    case VM_BROKEN:
        note_timeout(task->root, &failure);
        task_fail(task->root, &failure);
        instance_discard(instance, task->root);
        return;
    }
    instance->current = NULL;
    task_unhang(task, end == VM_RETURNED);
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
    task_go_on(task, nargs);
}

bool task_run_next(struct instance *instance)
{
    struct task *task = instance->runnable;
    if (!task)
        return false;
    DL_DELETE2(instance->runnable, task, run_prev, run_next);
    task_resume(task);
    return true;
}

void task_check_time(struct task *task)
{
    struct task *root = task->root;
    int64_t limit_ns = root->registration->timeout_ns;
    if (limit_ns && !root->cancelled && clock_lately_ns() >= root->started_ns + (uint64_t)limit_ns)
        task_cancel(root, CANCEL_TIMEOUT);
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
        return "too many versions of the script live (limits.generations)";
    case CANCEL_REPLACED:
        return "this version of the script was replaced";
    case CANCEL_PARENT:
        return "the handler that started this has ended, or has cancelled it";
    case CANCEL_NONE:
        break;
    }
    return "not cancelled";
}

int task_message_id(struct task *task, const struct delivery *input, const char *subject, char *buf,
                    size_t size)
{
    struct task *root = task->root;
    if (!input && !root->batch)
        input = root->delivery;
    buf[0] = '\0';
    if (!input || !input->consumer)
        return 0;
    struct publish_counts *counts = root->batch ? &root->published : &task->published;
    unsigned k = publish_counts_next(counts, input, subject);
    struct join id = join_in(buf, size);
    delivery_join_id(input, &id);
    if (k > 0 && message_id(&id, root->batch ? root->path : task->path, k, subject))
        return 0;
    return err_set(NULL, ERR_MEMORY, "no memory for the id of a message");
}

void task_publish_failed(struct task *task, const struct err *err)
{
    struct task *root = task->root;
    if (root->failed_publish)
        return;
    root->failed_publish = malloc(sizeof *err);
    if (root->failed_publish)
        *root->failed_publish = *err;
    else if (!root->failure)
        root->failure = &unkept;
}
