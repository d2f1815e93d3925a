#include "engine/offload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/value.h"
#include "engine/offload_internal.h"

/* Copies, where limits.memory is none. */
#define COPY_MOST ((size_t)1 << 30)
/* What may wait with its arguments; beyond that their callers wait without. */
#define QUEUE_MOST 256
#define QUEUE_MOST_BYTES ((size_t)64 << 20)

#define CALL_OF_TIMEOUT(d)                                                                         \
    ((struct offload_call *)((char *)(d)-offsetof(struct offload_call, timeout)))

struct offload *offload_new(struct engine *engine)
{
    struct offload *offload = calloc(1, sizeof *offload);
    if (!offload)
        return NULL;
    offload->engine = engine;
    offload->limit = 1;
    offload->notice.on_due = offload_on_notice;
    pthread_mutex_init(&offload->lock, NULL);
    pthread_cond_init(&offload->work, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&offload->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return offload;
}

void offload_free(struct offload *offload)
{
    if (!offload)
        return;
    struct offload_call *call, *next;
    clock_cancel(offload->engine->clock, &offload->notice);
    DL_FOREACH_SAFE(offload->lost_calls, call, next)
        offload_call_release(call);
    offload_free_versions(offload);
    pthread_cond_destroy(&offload->ended);
    pthread_cond_destroy(&offload->work);
    pthread_mutex_destroy(&offload->lock);
    free(offload);
}

void offload_set_threads(struct offload *offload, int threads)
{
    pthread_mutex_lock(&offload->lock);
    offload->limit = threads;
    pthread_cond_broadcast(&offload->work);
    offload_wake(offload);
    pthread_mutex_unlock(&offload->lock);
}

/* Room in the queue: with the lock held ---------------------------------------------------------
 */

static bool has_room(const struct offload *offload)
{
    return offload->queued + offload->placed < QUEUE_MOST &&
           offload->queued_bytes < QUEUE_MOST_BYTES;
}

/* Those at the head of the line for whom there is room now; for offload_tell. */
static struct offload_call *grant(struct offload *offload)
{
    struct offload_call *granted = NULL;
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

void offload_tell(struct offload_call *granted)
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
    offload_tell(end.granted);
    if (end.withdrawn)
        offload_call_release(call);
}

static bool is_over(const struct offload_call *call)
{
    return call->state == CALL_DONE || call->state == CALL_OVER;
}

/* With the lock held. */
static void say_timeout(struct offload_call *call)
{
    char timeout[32];
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
    struct offload_call *call = CALL_OF_TIMEOUT(deadline);
    struct offload *offload = call->offload;
    struct end end = {0};
    pthread_mutex_lock(&offload->lock);
    bool ends = !is_over(call);
    if (ends) {
        say_timeout(call);
        end = end_call(call);
    }
    pthread_mutex_unlock(&offload->lock);
    if (ends)
        after_end(call, end);
    if (end.op)
        op_complete(end.op);
    offload_call_release(call);
}

static void disarm(struct offload_call *call)
{
    if (clock_cancel(call->offload->engine->clock, &call->timeout))
        offload_call_release(call);
}

/* With the lock held. */
static void enqueue(struct offload_call *call, struct plain *arguments)
{
    struct offload *offload = call->offload;
    if (call->state == CALL_PLACED)
        offload->placed--;
    call->state = CALL_QUEUED;
    call->arguments = arguments;
    offload->queued++;
    offload->queued_bytes += plain_bytes(arguments);
    DL_APPEND(offload->queue, call);
    offload_wake(offload);
}

/* With the lock held. */
static int check_submit(const struct offload_call *call, struct err *err)
{
    const struct offload *offload = call->offload;
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
    pthread_mutex_lock(&offload->lock);
    int rc = check_submit(call, err);
    if (rc == 0) {
        call->op = op;
        offload_call_retain(call);
        /* Nobody overtakes who has been told to submit once more. */
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
            clock_arm(offload->engine->clock, &call->timeout, call->due_ns);
        }
    }
    pthread_mutex_unlock(&offload->lock);
    plain_release(arguments);
    return rc;
}

bool offload_cancel(struct offload_call *call, struct op *op)
{
    struct offload *offload = call->offload;
    struct end end = {0};
    pthread_mutex_lock(&offload->lock);
    bool ours = op ? call->op == op : call->state == CALL_PLACED;
    if (ours)
        end = end_call(call);
    pthread_mutex_unlock(&offload->lock);
    if (ours) {
        disarm(call);
        after_end(call, end);
    }
    return ours;
}

bool offload_wanted(struct offload_call *call)
{
    pthread_mutex_lock(&call->offload->lock);
    bool wanted = call->state == CALL_RUNNING;
    pthread_mutex_unlock(&call->offload->lock);
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
    pthread_mutex_lock(&call->offload->lock);
    enum call_state state = call->state;
    bool late = call->timed_out;
    pthread_mutex_unlock(&call->offload->lock);
    if (state == CALL_PLACED)
        return OFFLOAD_TURN;
    *failure = late ? &call->late : &call->failure;
    if ((*failure)->err.code != ERR_NONE)
        return OFFLOAD_FAILED;
    *results = call->results;
    call->results = NULL;
    return OFFLOAD_RESULTS;
}

/* The status ------------------------------------------------------------------------------------
 */

cJSON *offload_report(struct offload *offload)
{
    pthread_mutex_lock(&offload->lock);
    const struct {
        const char *name;
        double number;
    } numbers[] = {
        {"limit", offload->limit},
        {"threads", offload->alive},
        {"lost", offload->lost},
        {"running", offload->running},
        {"queued", offload->queued},
        {"waiting", offload->waiting + offload->placed},
        {"calls", (double)offload->calls},
        {"failed", (double)offload->failed},
        {"timed_out", (double)offload->timed_out},
    };
    pthread_mutex_unlock(&offload->lock);
    cJSON *object = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        cJSON_AddNumberToObject(object, numbers[i].name, numbers[i].number);
    return object;
}

void offload_unready(struct offload *offload, cJSON *reasons)
{
    char text[120];
    pthread_mutex_lock(&offload->lock);
    int lost = offload->lost;
    bool none = offload->alive == 0 && !offload_may_start(offload);
    pthread_mutex_unlock(&offload->lock);
    snprintf(text, sizeof text,
             "bus.offload: no thread is left, %d are in calls that do not return", lost);
    if (none)
        cJSON_AddItemToArray(reasons, cJSON_CreateString(text));
}
