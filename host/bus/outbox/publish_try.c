/* One try of a publish after the other: when it is sent, and when again. */
#include <utlist.h>

#include "base/container.h"
#include "base/sync.h"
#include "bus/outbox/publish_private.h"

static void try_now(struct publish *publish, struct publish_outcome *outcome);

/* --- the gate: of a publish that waits in the lane more than once, the last frame goes --- */

static struct publish *of_gate(struct link_gate *gate)
{
    return container_of(gate, struct publish, gate);
}

static bool gate_open(struct link_gate *gate)
{
    struct publish *publish = of_gate(gate);
    return atomic_load(&publish->frames) == 1 && !atomic_load(&publish->over);
}

static void gate_done(struct link_gate *gate, bool sent)
{
    struct publish *publish = of_gate(gate);
    (void)sent;
    atomic_fetch_sub(&publish->frames, 1);
    publish_release(publish);
}

struct link_gate publish_gate(void)
{
    return (struct link_gate){.open = gate_open, .done = gate_done};
}

/* --- after a try that failed --- */

void publish_try_later(struct publish *publish, const struct err *err,
                       struct publish_outcome *outcome)
{
    must_hold(&publish->outbox->lock);
    publish->failures++;
    if (publish->failures >= (unsigned)publish->attempts) {
        struct err last = *err;
        if (publish->attempts > 1)
            err_prefix(&last, "after %d attempts", publish->attempts);
        publish_end_failed(publish, &last, outcome);
        return;
    }
    publish_back_off(publish, publish->failures);
}

void publish_back_off(struct publish *publish, unsigned nth)
{
    must_hold(&publish->outbox->lock);
    struct outbox *outbox = publish->outbox;
    int64_t delay_ns = backoff_delay_ns(&outbox->options.backoff, nth, retry_random());
    publish->stage = STAGE_BACKOFF;
    publish_retain(publish);
    clock_arm(outbox->clock, &publish->deadline, clock_now_ns() + (uint64_t)delay_ns);
}

void publish_on_due(struct deadline *deadline)
{
    struct publish *publish = container_of(deadline, struct publish, deadline);
    struct outbox *outbox = publish->outbox;
    struct publish_outcome outcome;
    outcome.publish = NULL;
    mutex_lock(&outbox->lock);
    if (publish->stage == STAGE_BACKOFF)
        try_now(publish, &outcome);
    publish_fill_window(outbox);
    mutex_unlock(&outbox->lock);
    publish_tell(&outcome);
    publish_release(publish);
}

/* --- sending --- */

static void on_call_gone(void *owner)
{
    publish_release(owner);
}

static int send_try(struct publish *publish, struct err *err)
{
    must_hold(&publish->outbox->lock);
    struct outbox *outbox = publish->outbox;
    struct link_frame frame = {
        .subject = publish->subject,
        .data = publish->data,
        .len = publish->len,
        .headers = &publish->headers,
        .gate = &publish->gate,
        .flow = publish->flow,
        .owed = true, /* the window bounds them */
    };
    uint64_t now_ns = clock_now_ns();
    if (!publish->began_ns)
        publish->began_ns = now_ns;
    publish->stage = STAGE_SENT;
    publish->tries++;
    atomic_fetch_add(&publish->references, 2); /* the call's and the frame's */
    atomic_fetch_add(&publish->frames, 1);
    /* The one before it may not be gone yet. */
    struct inbox_request *request = publish->sent_first ? NULL : &publish->first;
    publish->sent_first = true;
    publish->call =
        inbox_request_in(outbox->inbox, request, &frame, now_ns + (uint64_t)publish->timeout_ns,
                         publish_on_puback, on_call_gone, publish, err);
    if (publish->call && publish->tries > 1 && publish->account)
        stat_add(&publish->account->retries, 1);
    if (publish->call)
        return 0;
    publish->tries--;
    atomic_fetch_sub(&publish->frames, 1);
    publish_release(publish); /* the frame's */
    return err->code;
}

static void try_now(struct publish *publish, struct publish_outcome *outcome)
{
    must_hold(&publish->outbox->lock);
    struct err err;
    int code = publish->was_full
                   ? err_set(&err, ERR_FULL, "\"%s\": the connection is full", publish->subject)
                   : send_try(publish, &err);
    if (code == ERR_FULL && !publish->at_once) /* others send so much: no failure of this one */
        publish_back_off(publish, 1);
    else if (code == ERR_DISCONNECTED)
        publish_try_later(publish, &err, outcome);
    else if (code)
        publish_end_failed(publish, &err, outcome);
}

void publish_try_or_arm(struct publish *publish)
{
    must_hold(&publish->outbox->lock);
    struct err err;
    int code = send_try(publish, &err);
    if (!code)
        return;
    publish->was_full = publish->at_once && code == ERR_FULL;
    publish->stage = STAGE_BACKOFF;
    publish_retain(publish);
    clock_arm(publish->outbox->clock, &publish->deadline, clock_now_ns());
}

static void enter_window(struct publish *publish)
{
    must_hold(&publish->outbox->lock);
    struct outbox *outbox = publish->outbox;
    DL_DELETE(outbox->queue, publish);
    DL_APPEND(outbox->window, publish);
    publish->in_window = true;
    outbox->in_window++;
}

static bool has_room(const struct outbox *outbox)
{
    return outbox->in_window < outbox->options.window && !outbox->closed;
}

void publish_fill_window(struct outbox *outbox)
{
    must_hold(&outbox->lock);
    while (outbox->queue && has_room(outbox)) {
        struct publish *publish = outbox->queue;
        enter_window(publish);
        publish_try_or_arm(publish);
    }
}

void publish_enter_window(struct publish *publish, struct publish_outcome *outcome)
{
    struct outbox *outbox = publish->outbox;
    must_hold(&outbox->lock);
    if (outbox->queue != publish || !has_room(outbox))
        return;
    enter_window(publish);
    try_now(publish, outcome);
}
