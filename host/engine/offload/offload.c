/* offload - calls: their queue, their line, their timeouts, their ends. */
#include "engine/offload/offload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/container.h"
#include "base/sync.h"
#include "base/value.h"
#include "engine/offload/offload_private.h"

/* Copies, where limits.memory is none. */
#define COPY_MOST ((size_t)1 << 30)
/* What may wait with its arguments; beyond that their callers wait without. */
#define QUEUE_MOST 256
#define QUEUE_MOST_BYTES ((size_t)64 << 20)

struct offload *offload_new(struct clock *clock, struct watchdog *watchdog)
{
    struct offload *offload = calloc(1, sizeof *offload);
    if (!offload)
        return NULL;
    offload->clock = clock;
    offload->watchdog = watchdog;
    offload->limit = 1;
    offload->notice.on_due = offload_on_notice;
    mutex_init(&offload->lock);
    cond_init(&offload->work);
    cond_init(&offload->ended);
    return offload;
}

void offload_free(struct offload *offload)
{
    if (!offload)
        return;
    struct offload_call *call, *next;
    clock_cancel(offload->clock, &offload->notice);
    DL_FOREACH_SAFE(offload->lost_calls, call, next)
        offload_call_release(call);
    offload_free_versions(offload);
    cond_destroy(&offload->ended);
    cond_destroy(&offload->work);
    mutex_destroy(&offload->lock);
    free(offload);
}

void offload_set_stand_in(struct offload *offload, const struct offload_stand_in *stand_in)
{
    offload->stand_in = stand_in;
}

void offload_set_threads(struct offload *offload, int threads)
{
    mutex_lock(&offload->lock);
    offload->limit = threads;
    cond_broadcast(&offload->work);
    offload_wake(offload);
    mutex_unlock(&offload->lock);
}

/* Room in the queue: with the lock held ---------------------------------------------------------
 */

static bool has_room(const struct offload *offload)
{
    must_hold(&offload->lock);
    return offload->queued + offload->placed < QUEUE_MOST &&
           offload->queued_bytes < QUEUE_MOST_BYTES;
}

/* Calls at the head of the line that have room now; for offload_complete_granted. */
static struct offload_call *grant(struct offload *offload)
{
    struct offload_call *granted = NULL;
    must_hold(&offload->lock);
    while (offload->line && has_room(offload)) {
        struct offload_call *call = offload->line;
        DL_DELETE(offload->line, call);
        offload->waiting--;
        offload->placed++;
        call->state = CALL_PLACED;
        call->granted = call->op;
        call->op = NULL;
        LL_APPEND(granted, call);
    }
    return granted;
}

void offload_complete_granted(struct offload_call *granted)
{
    while (granted) {
        struct offload_call *call = granted;
        granted = call->next;
        op_complete(call->granted);
        offload_call_release(call); /* the line's */
    }
}

struct offload_call *offload_next(struct offload *offload, struct offload_call **granted)
{
    struct offload_call *call = offload->queue;
    must_hold(&offload->lock);
    *granted = NULL;
    if (!call)
        return NULL;
    DL_DELETE(offload->queue, call);
    offload->queued--;
    offload->queued_bytes -= plain_bytes(call->arguments);
    offload->running++;
    call->state = CALL_RUNNING;
    *granted = grant(offload);
    return call;
}

/* Takes a call that has not begun off its list. True: the list's reference is the caller's. */
static bool withdraw(struct offload_call *call)
{
    struct offload *offload = call->offload;
    must_hold(&offload->lock);
    switch (call->state) {
    case CALL_IN_LINE:
        DL_DELETE(offload->line, call);
        offload->waiting--;
        return true;
    case CALL_QUEUED:
        DL_DELETE(offload->queue, call);
        offload->queued--;
        offload->queued_bytes -= plain_bytes(call->arguments);
        return true;
    case CALL_PLACED:
        offload->placed--;
        return false;
    default:
        return false;
    }
}

/* Calls -----------------------------------------------------------------------------------------
 */

static void on_timeout(struct deadline *deadline);

struct offload_call *offload_call_new(struct offload *offload, const struct offload_target *target)
{
    struct offload_call *call = calloc(1, sizeof *call);
    if (!call)
        return NULL;
    atomic_init(&call->references, 1);
    call->offload = offload;
    call->policy = policy_retain(target->policy);
    call->timeout_ns = target->timeout_ns;
    call->timeout.on_due = on_timeout;
    if (target->trace_id && target->span_id) {
        snprintf(call->trace_id, sizeof call->trace_id, "%s", target->trace_id);
        snprintf(call->span_id, sizeof call->span_id, "%s", target->span_id);
    }
    call->script = strdup(target->script);
    call->path = strdup(target->path);
    call->module = strdup(target->module);
    call->function = strdup(target->function);
    if (call->script && call->path && call->module && call->function)
        return call;
    offload_call_release(call);
    return NULL;
}

struct plain_rules offload_rules(const struct policy *policy, const char *each)
{
    return (struct plain_rules){.verb = "passed between threads",
                                .each = each,
                                .limit_bytes =
                                    policy->memory_bytes ? policy->memory_bytes : COPY_MOST};
}

struct offload_call *offload_call_retain(struct offload_call *call)
{
    atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
    return call;
}

void offload_call_release(struct offload_call *call)
{
    if (!call || atomic_fetch_sub_explicit(&call->references, 1, memory_order_acq_rel) != 1)
        return;
    free(call->script);
    free(call->path);
    free(call->module);
    free(call->function);
    plain_release(call->arguments);
    plain_release(call->results);
    failure_clear(&call->failure);
    policy_release(call->policy);
    free(call);
}

/* With the lock held: the end of a call whose result would come too late, or is in want of nobody.
 */
struct end {
    struct op *op; /* the reference of the side that completes it; or NULL */
    bool withdrawn;
    struct offload_call *granted;
};

static struct end end_call(struct offload_call *call)
{
    struct end end = {.op = call->op};
    must_hold(&call->offload->lock);
    if (call->thread) /* what runs for nobody is asked to end */
        offload_interrupt(call->thread);
    end.withdrawn = withdraw(call);
    end.granted = grant(call->offload);
    call->op = NULL;
    call->state = CALL_OVER;
    return end;
}

/* Outside of all locks. */
static void after_end(struct offload_call *call, struct end end)
{
    offload_complete_granted(end.granted);
    if (end.withdrawn)
        offload_call_release(call);
}

static bool is_over(const struct offload_call *call)
{
    return call->state == CALL_DONE || call->state == CALL_OVER;
}

static void note_timed_out(struct offload_call *call)
{
    char timeout[32];
    must_hold(&call->offload->lock);
    bool began = call->state == CALL_RUNNING;
    value_format_duration(call->timeout_ns, timeout, sizeof timeout);
    call->timed_out = true;
    call->offload->timed_out++;
    err_set(&call->late.err, ERR_TIMEOUT, "%s.%s %s within %s", call->module, call->function,
            began ? "did not end" : "found no thread free", timeout);
}

/* The clock. Has the reference of the armed deadline. */
static void on_timeout(struct deadline *deadline)
{
    struct offload_call *call = container_of(deadline, struct offload_call, timeout);
    struct offload *offload = call->offload;
    struct end end = {0};
    mutex_lock(&offload->lock);
    bool ends = !is_over(call);
    if (ends) {
        note_timed_out(call);
        end = end_call(call);
    }
    mutex_unlock(&offload->lock);
    if (ends)
        after_end(call, end);
    if (end.op)
        op_complete(end.op);
    offload_call_release(call);
}

static void disarm(struct offload_call *call)
{
    if (clock_cancel(call->offload->clock, &call->timeout))
        offload_call_release(call);
}

static void enqueue(struct offload_call *call, struct plain *arguments)
{
    struct offload *offload = call->offload;
    must_hold(&offload->lock);
    if (call->state == CALL_PLACED)
        offload->placed--;
    call->arguments = arguments;
    if (offload_is_taken(call))
        return;
    call->state = CALL_QUEUED;
    offload->queued++;
    offload->queued_bytes += plain_bytes(arguments);
    DL_APPEND(offload->queue, call);
    offload_wake(offload);
}

static int check_submit(const struct offload_call *call, struct err *err)
{
    const struct offload *offload = call->offload;
    must_hold(&offload->lock);
    if (offload->stopping)
        return err_set(err, ERR_CLOSED, "the host is stopping");
    if (call->state == CALL_OVER)
        return err_set(err, ERR_TIMEOUT, "%s", call->late.err.message);
    return 0;
}

int offload_submit(struct offload_call *call, struct op *op, struct plain *arguments,
                   struct err *err)
{
    struct offload *offload = call->offload;
    mutex_lock(&offload->lock);
    int code = check_submit(call, err);
    if (!code) {
        call->op = op;
        offload_call_retain(call);
        /* No call overtakes one that was asked to submit once more. */
        bool first = !offload->line && !offload->placed && has_room(offload);
        if (call->state == CALL_PLACED || first) {
            enqueue(call, arguments);
            arguments = NULL;
        } else {
            call->state = CALL_IN_LINE;
            offload->waiting++;
            DL_APPEND(offload->line, call);
        }
        if (!call->due_ns) {
            call->due_ns = clock_now_ns() + (uint64_t)call->timeout_ns;
            offload_call_retain(call);
            clock_arm(offload->clock, &call->timeout, call->due_ns);
        }
        if (call->state == CALL_RUNNING)
            offload->stand_in->ask(offload->stand_in->owner, call);
    }
    mutex_unlock(&offload->lock);
    plain_release(arguments);
    return code;
}

bool offload_cancel(struct offload_call *call, struct op *op)
{
    struct offload *offload = call->offload;
    struct end end = {0};
    mutex_lock(&offload->lock);
    bool ours = op ? call->op == op : call->state == CALL_PLACED;
    if (ours)
        end = end_call(call);
    mutex_unlock(&offload->lock);
    if (ours) {
        disarm(call);
        after_end(call, end);
    }
    return ours;
}

bool offload_wanted(struct offload_call *call)
{
    mutex_lock(&call->offload->lock);
    bool wanted = call->state == CALL_RUNNING;
    mutex_unlock(&call->offload->lock);
    return wanted;
}

struct op *offload_end(struct offload_call *call)
{
    struct offload *offload = call->offload;
    offload->running--;
    offload->calls++;
    if (call->state != CALL_RUNNING)
        return NULL;
    struct op *op = call->op;
    call->state = CALL_DONE;
    call->op = NULL;
    offload->failed += call->failure.err.code != ERR_NONE;
    return op;
}

void offload_ended(struct offload_call *call, struct op *op)
{
    disarm(call);
    if (op)
        op_complete(op);
    offload_call_release(call);
}

enum offload_outcome offload_outcome(struct offload_call *call, struct plain **results,
                                     const struct failure **failure)
{
    mutex_lock(&call->offload->lock);
    enum call_state state = call->state;
    bool late = call->timed_out;
    mutex_unlock(&call->offload->lock);
    if (state == CALL_PLACED)
        return OFFLOAD_TURN;
    *failure = late ? &call->late : &call->failure;
    if ((*failure)->err.code != ERR_NONE)
        return OFFLOAD_FAILED;
    *results = call->results;
    call->results = NULL;
    return OFFLOAD_RESULTS;
}

void offload_stat(struct offload *offload, struct offload_stat *stat)
{
    mutex_lock(&offload->lock);
    *stat = (struct offload_stat){
        .limit = offload->limit,
        .threads = offload->alive,
        .lost = offload->lost,
        .running = offload->running,
        .queued = offload->queued,
        .waiting = offload->waiting + offload->placed,
        .calls = offload->calls,
        .failed = offload->failed,
        .timed_out = offload->timed_out,
        .none_left = offload->alive == 0 && !offload_may_start(offload),
    };
    mutex_unlock(&offload->lock);
}
