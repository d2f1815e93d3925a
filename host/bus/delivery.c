#include "bus/delivery.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/join.h"
#include "base/log.h"
#include "base/value.h"
#include "bus/consumer_internal.h"
#include "bus/reap.h"
#include "bus/wire.h"

static bool gate_open(struct link_gate *gate);
static void gate_done(struct link_gate *gate, bool sent);
static bool verdict_open(struct link_gate *gate);
static void verdict_done(struct link_gate *gate, bool sent);
static void on_beat(struct deadline *deadline);

static struct delivery *new_delivery(natsMsg *msg)
{
    struct delivery *delivery = calloc(1, sizeof(*delivery));

    if (delivery == NULL) {
        reap(msg);
        return NULL;
    }
    atomic_init(&delivery->references, 1);
    atomic_init(&delivery->verdict, VERDICT_NONE);
    atomic_init(&delivery->attempt, 1);
    delivery->msg = msg;
    delivery->subject = natsMsg_GetSubject(msg);
    delivery->data = natsMsg_GetData(msg);
    delivery->len = (size_t)natsMsg_GetDataLength(msg);
    return delivery;
}

struct delivery *delivery_new_core(natsMsg *msg)
{
    struct delivery *delivery = new_delivery(msg);

    if (delivery == NULL)
        return NULL;
    delivery->reply_to = natsMsg_GetReply(msg);
    delivery->timestamp_ns = clock_wall_ns();
    return delivery;
}

struct delivery *delivery_new(struct consumer *consumer, natsMsg *msg,
                              const struct ack_subject *ack, uint64_t now_ns)
{
    struct delivery *delivery = new_delivery(msg);

    if (delivery == NULL)
        return NULL;
    delivery->ack_subject = natsMsg_GetReply(msg);
    delivery->consumer = consumer_retain(consumer);
    delivery->stream = consumer->spec.stream;
    delivery->durable = consumer->spec.durable;
    delivery->pardons = consumer->pardons;
    delivery->stream_sequence = ack->stream_sequence;
    delivery->pending = ack->pending;
    delivery->timestamp_ns = ack->timestamp_ns;
    delivery->attempt = ack->delivered > 0 ? ack->delivered : 1;
    delivery->renewed_ns = now_ns;
    delivery->beat.on_due = on_beat;
    delivery->gate.open = gate_open;
    delivery->gate.done = gate_done;
    delivery->verdict_gate = (struct link_gate){.open = verdict_open, .done = verdict_done};
    return delivery;
}

struct delivery *delivery_retain(struct delivery *delivery)
{
    atomic_fetch_add_explicit(&delivery->references, 1, memory_order_relaxed);
    return delivery;
}

static void release(struct delivery *delivery, int references)
{
    if (atomic_fetch_sub(&delivery->references, references) != references)
        return;
    reap(delivery->msg);
    if (delivery->consumer != NULL)
        consumer_release(delivery->consumer);
    if (delivery->rejoined != NULL)
        free(delivery->rejoined);
    free(delivery);
}

void delivery_release(struct delivery *delivery)
{
    release(delivery, 1);
}

/* Heartbeats are due at multiples of a step, so that those of many messages go out in bulk: each by
 * itself would wake the clock, the writer, and with its flush the reader (10,000 messages held for
 * long, ack_wait 6 s: 6.6-8.3 % of a CPU, and 1.0-1.2 % in steps). */
#define BEAT_STEPS 32
#define BEAT_STEP_MOST_NS (250 * NS_PER_MS)

/* When the next heartbeat is due: a third of ack_wait, less up to a tenth of it, so that what
 * arrived together is not renewed together for ever, and what is left over of a step; but never
 * past the lease's own end. */
static uint64_t next_beat(const struct delivery *delivery, uint64_t now_ns)
{
    uint64_t ack_wait_ns = (uint64_t)delivery->consumer->ack_wait_ns;
    uint64_t third = ack_wait_ns / 3;
    uint64_t step = third / BEAT_STEPS;
    uint64_t at = now_ns + third - (uint64_t)((double)(third / 10) * retry_random());
    uint64_t end = delivery->renewed_ns + ack_wait_ns;

    if (step > BEAT_STEP_MOST_NS)
        step = BEAT_STEP_MOST_NS;
    if (step > 0)
        at -= at % step;
    return at < end ? at : end;
}

/* Takes over one reference for the clock. With the consumer's lock held, while the table has the
 * delivery, so that this is never the last reference. */
static void arm(struct delivery *delivery, uint64_t at_ns)
{
    if (!clock_arm(delivery->consumer->bus->clock, &delivery->beat, at_ns))
        delivery_release(delivery);
}

void delivery_hold(struct delivery *delivery, uint64_t now_ns)
{
    arm(delivery_retain(delivery), next_beat(delivery, now_ns));
}

void delivery_join(struct delivery *delivery, const char *ack_subject,
                   const struct ack_subject *ack, uint64_t now_ns)
{
    char *copy = strdup(ack_subject);

    /* Without memory the older subject stays: an ack of it counts all the same. */
    if (copy != NULL) {
        free(delivery->rejoined);
        delivery->ack_subject = delivery->rejoined = copy;
        delivery->renewed_ns = now_ns;
        delivery->lost = false;
        if (ack->delivered > delivery->attempt)
            delivery->attempt = ack->delivered;
    }
    delivery->joined++;
    arm(delivery_retain(delivery), next_beat(delivery, now_ns));
}

/* With the consumer's lock held: is the lease lost? The clock finds out when it is due; but after
 * the process was stopped or starved, another thread may come first. */
static bool lapsed(struct delivery *delivery, uint64_t now_ns, bool *tell)
{
    struct consumer *consumer = delivery->consumer;

    if (!delivery->lost && now_ns >= delivery->renewed_ns + (uint64_t)consumer->ack_wait_ns) {
        delivery->lost = true;
        *tell = consumer_lease_lost(consumer, now_ns);
    }
    return delivery->lost;
}

static void tell_lost(struct consumer *consumer)
{
    consumer_log(consumer, LOG_WARN,
                 "leases could not be renewed within ack_wait: the server may give the messages "
                 "that are being handled to someone else");
}

/* On the writer's thread, when the heartbeat's turn has come. */
static bool gate_open(struct link_gate *gate)
{
    struct delivery *delivery = (struct delivery *)((char *)gate - offsetof(struct delivery, gate));
    struct consumer *consumer = delivery->consumer;
    bool tell = false;

    pthread_mutex_lock(&consumer->lock);
    bool open = delivery->verdict == VERDICT_NONE && delivery->joined == delivery->beat_joined &&
                !lapsed(delivery, clock_now_ns(), &tell);
    pthread_mutex_unlock(&consumer->lock);
    if (tell)
        tell_lost(consumer);
    return open;
}

static void gate_done(struct link_gate *gate, bool sent)
{
    struct delivery *delivery = (struct delivery *)((char *)gate - offsetof(struct delivery, gate));
    struct consumer *consumer = delivery->consumer;

    pthread_mutex_lock(&consumer->lock);
    delivery->beating = false;
    if (sent && delivery->joined == delivery->beat_joined)
        delivery->renewed_ns = clock_now_ns();
    pthread_mutex_unlock(&consumer->lock);
    delivery_release(delivery);
}

/* With the consumer's lock held. One heartbeat waits at a time: while the writer is stuck, more of
 * them would say nothing new. */
static void send_beat(struct delivery *delivery)
{
    struct link_frame frame = {.subject = delivery->ack_subject,
                               .data = "+WPI",
                               .len = strlen("+WPI"),
                               .gate = &delivery->gate};

    if (delivery->beating)
        return;
    delivery->beating = true;
    delivery->beat_joined = delivery->joined;
    delivery_retain(delivery);
    if (link_send(delivery->consumer->bus->consume, LANE_URGENT, &frame, NULL) != 0) {
        delivery->beating = false;
        delivery_release(delivery); /* the table has another */
    }
}

static void on_beat(struct deadline *deadline)
{
    struct delivery *delivery =
        (struct delivery *)((char *)deadline - offsetof(struct delivery, beat));
    struct consumer *consumer = delivery->consumer;
    bool tell = false, armed = false;
    uint64_t now_ns = clock_now_ns();

    pthread_mutex_lock(&consumer->lock);
    if (delivery->verdict == VERDICT_NONE && !lapsed(delivery, now_ns, &tell)) {
        send_beat(delivery);
        arm(delivery, next_beat(delivery, now_ns));
        armed = true;
    }
    pthread_mutex_unlock(&consumer->lock);

    if (tell)
        tell_lost(consumer);
    if (!armed)
        delivery_release(delivery);
}

static int settled_already(const struct delivery *delivery, struct err *err)
{
    if (delivery->verdict == VERDICT_NONE)
        return err_set(err, ERR_SETTLED, "the message is on its way to the dead letter");
    return err_set(err, ERR_SETTLED, "the message has had its verdict");
}

/* What is left to do about a lease that has ended. */
struct ended {
    int references;  /* of the table and of the clock: to release */
    uint64_t now_ns; /* when that was */
};

/* The one step that ends the lease. letter: by its dead letter. 0: the caller gives the verdict,
 * and then gives it back. */
static int take(struct delivery *delivery, enum verdict verdict, bool letter, struct ended *ended,
                struct err *err)
{
    struct consumer *consumer = delivery->consumer;
    int none = VERDICT_NONE;

    *ended = (struct ended){0};
    if (consumer == NULL) {
        if (!atomic_compare_exchange_strong(&delivery->verdict, &none, verdict))
            return settled_already(delivery, err);
        return 0;
    }

    bool tell = false;
    ended->now_ns = clock_now_ns();
    pthread_mutex_lock(&consumer->lock);
    bool first = letter == delivery->dead &&
                 atomic_compare_exchange_strong(&delivery->verdict, &none, verdict);
    if (first) {
        lapsed(delivery, ended->now_ns, &tell);
        consumer_forget(consumer, delivery, ended->now_ns);
        ended->references = 1 + clock_cancel(consumer->bus->clock, &delivery->beat);
    }
    pthread_mutex_unlock(&consumer->lock);
    if (tell)
        tell_lost(consumer);
    return first ? 0 : settled_already(delivery, err);
}

/* After the verdict is on its way. */
static void give_back(struct delivery *delivery, const struct ended *ended)
{
    consumer_released(delivery->consumer, delivery, ended->now_ns);
    release(delivery, ended->references);
}

/* A nak or term that had to wait in the lane, for a connection say, until the lease was over: by
 * now it would act on whoever has the message. */
static bool verdict_open(struct link_gate *gate)
{
    struct delivery *delivery =
        (struct delivery *)((char *)gate - offsetof(struct delivery, verdict_gate));
    struct consumer *consumer = delivery->consumer;

    pthread_mutex_lock(&consumer->lock);
    bool open = clock_now_ns() - delivery->renewed_ns < (uint64_t)consumer->ack_wait_ns;
    pthread_mutex_unlock(&consumer->lock);
    return open;
}

static void send_ack(struct delivery *delivery)
{
    struct link_frame frame = {
        .subject = delivery->ack_subject, .data = "+ACK", .len = strlen("+ACK")};

    link_send(delivery->consumer->bus->consume, LANE_URGENT, &frame, NULL);
}

static void verdict_done(struct link_gate *gate, bool sent)
{
    struct delivery *delivery =
        (struct delivery *)((char *)gate - offsetof(struct delivery, verdict_gate));

    if (!sent && delivery->stored)
        send_ack(delivery);
    delivery_release(delivery);
}

/* Nobody else touches ack_subject any more: the delivery has left the table. */
static int send_verdict(struct delivery *delivery, enum verdict verdict, int64_t delay_ns,
                        struct err *err)
{
    char text[64] = "+ACK";

    if (verdict == VERDICT_TERM)
        snprintf(text, sizeof(text), "+TERM"); /* bare: with a reason 2.9 ignores it */
    else if (verdict == VERDICT_NAK && delay_ns > 0)
        snprintf(text, sizeof(text), "-NAK {\"delay\": %" PRId64 "}", delay_ns);
    else if (verdict == VERDICT_NAK)
        snprintf(text, sizeof(text), "-NAK");

    struct link_frame frame = {.subject = delivery->ack_subject, .data = text, .len = strlen(text)};
    if (verdict != VERDICT_ACK) {
        frame.gate = &delivery->verdict_gate;
        delivery_retain(delivery);
    }
    int code = link_send(delivery->consumer->bus->consume, LANE_URGENT, &frame, err);
    if (code != 0 && frame.gate != NULL)
        delivery_release(delivery); /* the caller has another */
    return code;
}

int delivery_settle(struct delivery *delivery, enum verdict verdict, int64_t delay_ns,
                    struct err *err)
{
    struct ended ended;
    int code = take(delivery, verdict, false, &ended, err);

    if (code != 0 || delivery->consumer == NULL)
        return code;
    if (delivery->lost && verdict != VERDICT_ACK)
        code = err_set(err, ERR_LOST,
                       "the lease is lost: the server may have given the message to someone "
                       "else, so only an ack may be sent for it");
    else
        code = send_verdict(delivery, verdict, delay_ns, err);
    give_back(delivery, &ended);
    return code;
}

int delivery_begin_letter(struct delivery *delivery, struct err *err)
{
    struct consumer *consumer = delivery->consumer;

    pthread_mutex_lock(&consumer->lock);
    bool first = delivery->verdict == VERDICT_NONE && !delivery->dead;
    if (first)
        delivery->dead = true;
    pthread_mutex_unlock(&consumer->lock);
    return first ? 0 : settled_already(delivery, err);
}

void delivery_end_letter(struct delivery *delivery, enum verdict verdict, bool stored,
                         int64_t delay_ns)
{
    struct ended ended;

    delivery->stored = stored;
    if (take(delivery, verdict, true, &ended, NULL) != 0)
        return;
    if (!delivery->lost)
        send_verdict(delivery, verdict, delay_ns, NULL);
    else if (stored)
        send_ack(delivery);
    give_back(delivery, &ended);
}

int delivery_ack_sync(struct delivery *delivery, struct inbox *inbox, uint64_t deadline_ns,
                      void (*on_reply)(void *owner, natsMsg *reply, enum err_code code),
                      void *owner, uint64_t *id, struct err *err)
{
    struct ended ended;

    *id = 0;
    if (delivery->consumer == NULL)
        return err_set(err, ERR_INVALID, "a core message has nothing to acknowledge");
    int code = take(delivery, VERDICT_ACK, false, &ended, err);
    if (code != 0)
        return code;

    struct link_frame frame = {
        .subject = delivery->ack_subject, .data = "+ACK", .len = strlen("+ACK")};
    struct err failed = {0};
    *id = inbox_request(inbox, &frame, deadline_ns, on_reply, owner, &failed);
    if (*id == 0) {
        send_verdict(delivery, VERDICT_ACK, 0, NULL);
        code = err_set(err, failed.code, "%s", failed.message);
    }
    give_back(delivery, &ended);
    return code;
}

int delivery_progress(struct delivery *delivery, struct err *err)
{
    struct consumer *consumer = delivery->consumer;
    bool tell = false;
    int code = 0;

    if (consumer != NULL)
        pthread_mutex_lock(&consumer->lock);
    if (delivery_settled(delivery))
        code = settled_already(delivery, err);
    else if (consumer != NULL && lapsed(delivery, clock_now_ns(), &tell))
        code = err_set(err, ERR_LOST,
                       "the lease is lost: the server may have given the message to someone else");
    else if (consumer != NULL)
        send_beat(delivery);
    if (consumer != NULL)
        pthread_mutex_unlock(&consumer->lock);
    if (tell)
        tell_lost(consumer);
    return code;
}

bool delivery_settled(const struct delivery *delivery)
{
    return atomic_load(&((struct delivery *)delivery)->verdict) != VERDICT_NONE ||
           atomic_load(&((struct delivery *)delivery)->dead);
}

char *delivery_make_id(const char *stream, int64_t timestamp_ns, const char *durable,
                       uint64_t sequence, char *buf, size_t size)
{
    struct join id = join_in(buf, size);
    join_text(&id, stream);
    join_text(&id, ":");
    join_number(&id, (uint64_t)timestamp_ns);
    join_text(&id, ":");
    join_text(&id, durable);
    join_text(&id, ":");
    join_number(&id, sequence);
    return buf;
}

char *delivery_id(const struct delivery *delivery, char *buf, size_t size)
{
    buf[0] = '\0';
    if (delivery->consumer != NULL)
        delivery_make_id(delivery->stream, delivery->timestamp_ns, delivery->durable,
                         delivery->stream_sequence, buf, size);
    return buf;
}
