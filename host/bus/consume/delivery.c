/* A lease and its heartbeats; the verdict, which only one caller can give. */
#include "bus/consume/delivery.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/container.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/consume/leases.h"
#include "bus/consume/ordered.h"
#include "bus/consume/puller.h"
#include "bus/request/inbox.h"
#include "bus/retry.h"
#include "bus/wire.h"

static bool beat_open(struct link_gate *gate);
static void beat_done(struct link_gate *gate, bool sent);
static bool verdict_open(struct link_gate *gate);
static void verdict_done(struct link_gate *gate, bool sent);
static void on_beat(struct deadline *deadline);

static struct puller *puller_of(const struct delivery *delivery)
{
    return delivery->leases->puller;
}

static uint64_t ack_wait_of(const struct delivery *delivery)
{
    return (uint64_t)puller_of(delivery)->ack_wait_ns;
}

static struct delivery *new_delivery(struct packet *packet, size_t room)
{
    struct delivery *delivery = calloc(1, sizeof *delivery + room);
    if (!delivery)
        return NULL;
    atomic_init(&delivery->references, 1);
    atomic_init(&delivery->attempt, 1);
    delivery->packet = packet_take(packet);
    return delivery;
}

struct delivery *delivery_new_core(struct packet *packet, size_t room)
{
    struct delivery *delivery = new_delivery(packet, room);
    if (!delivery)
        return NULL;
    delivery->reply_to = delivery->packet.reply;
    delivery->arrived_ns = clock_now_ns();
    delivery->timestamp_ns = clock_wall_at(delivery->arrived_ns);
    return delivery;
}

static void note_stored(struct delivery *delivery, const struct ack_subject *ack)
{
    delivery->stream_sequence = ack->stream_sequence;
    delivery->pending = ack->pending;
    delivery->timestamp_ns = ack->timestamp_ns;
}

struct delivery *delivery_new_ordered(struct ordered *ordered, struct packet *packet,
                                      const struct ack_subject *ack, size_t room)
{
    struct delivery *delivery = new_delivery(packet, room);
    if (!delivery)
        return NULL;
    delivery->ordered = ordered_retain(ordered);
    delivery->stream = ordered_stream(ordered);
    delivery->arrived_ns = clock_now_ns();
    note_stored(delivery, ack);
    return delivery;
}

struct delivery *delivery_new(struct consumer *consumer, struct leases *leases,
                              struct packet *packet, const struct ack_subject *ack, uint64_t now_ns)
{
    struct puller *puller = leases->puller;
    must_hold(&puller->lock);
    struct delivery *delivery = new_delivery(packet, puller->intake->sink.room);
    if (!delivery)
        return NULL;
    delivery_state_init(&delivery->state, now_ns);
    delivery->arrived_ns = now_ns;
    delivery->ack_subject = delivery->packet.reply;
    delivery->consumer = consumer;
    delivery->leases = leases;
    puller_retain(puller);
    delivery->stream = puller->stream;
    delivery->durable = puller->name;
    delivery->pardons = leases->pardons;
    note_stored(delivery, ack);
    delivery->attempt = ack->delivered > 0 ? ack->delivered : 1;
    delivery->beat.on_due = on_beat;
    delivery->beat_gate = (struct link_gate){.open = beat_open, .done = beat_done};
    delivery->verdict_gate = (struct link_gate){.open = verdict_open, .done = verdict_done};
    return delivery;
}

struct delivery *delivery_retain(struct delivery *delivery)
{
    atomic_fetch_add_explicit(&delivery->references, 1, memory_order_relaxed);
    return delivery;
}

static void release_references(struct delivery *delivery, int references)
{
    if (atomic_fetch_sub(&delivery->references, references) != references)
        return;
    if (delivery->ordered)
        ordered_released(delivery->ordered, delivery->packet.len);
    packet_clear(&delivery->packet);
    if (delivery->leases)
        puller_release(puller_of(delivery));
    if (delivery->rejoined) /* freeing nothing costs, and this is done for each message */
        free(delivery->rejoined);
    free(delivery);
}

void delivery_release(struct delivery *delivery)
{
    release_references(delivery, 1);
}

/* --- what has become of it --- */

enum verdict delivery_verdict(const struct delivery *delivery)
{
    return delivery_state_verdict(&delivery->state);
}

bool delivery_settled(const struct delivery *delivery)
{
    return delivery_state_is_taken(&delivery->state);
}

bool delivery_is_letters(const struct delivery *delivery)
{
    return delivery_state_is_letters(&delivery->state);
}

bool delivery_was_joined(const struct delivery *delivery)
{
    return delivery_state_joined(&delivery->state) > 0;
}

static int settled_already(const struct delivery *delivery, struct err *err)
{
    if (delivery_verdict(delivery) == VERDICT_NONE)
        return err_set(err, ERR_SETTLED, "the message is on its way to the dead letter");
    return err_set(err, ERR_SETTLED, "the message has had its verdict");
}

/* --- heartbeats --- */

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
    uint64_t ack_wait_ns = ack_wait_of(delivery);
    uint64_t third = ack_wait_ns / 3;
    uint64_t step = third / BEAT_STEPS;
    uint64_t at = now_ns + third - (uint64_t)((double)(third / 10) * retry_random());
    uint64_t end = delivery->state.renewed_ns + ack_wait_ns;
    if (step > BEAT_STEP_MOST_NS)
        step = BEAT_STEP_MOST_NS;
    if (step > 0)
        at -= at % step;
    return at < end ? at : end;
}

/* Takes over one reference for the clock. While the table has the delivery, so that this is never
 * the last reference. */
static void arm_beat(struct delivery *delivery, uint64_t at_ns)
{
    must_hold(&puller_of(delivery)->lock);
    if (!clock_arm(puller_of(delivery)->intake->clock, &delivery->beat, at_ns))
        delivery_release(delivery);
}

void delivery_hold(struct delivery *delivery, uint64_t now_ns)
{
    arm_beat(delivery_retain(delivery), next_beat(delivery, now_ns));
}

void delivery_join(struct delivery *delivery, const char *ack_subject,
                   const struct ack_subject *ack, uint64_t now_ns)
{
    must_hold(&puller_of(delivery)->lock);
    char *copy = strdup(ack_subject);
    /* Without memory the older subject stays: an ack of it counts all the same. */
    if (copy) {
        free(delivery->rejoined);
        delivery->ack_subject = delivery->rejoined = copy;
        if (ack->delivered > delivery->attempt)
            delivery->attempt = ack->delivered;
    }
    delivery_state_join(&delivery->state, copy, now_ns);
    arm_beat(delivery_retain(delivery), next_beat(delivery, now_ns));
}

void delivery_beat_now(struct delivery *delivery, uint64_t now_ns)
{
    must_hold(&puller_of(delivery)->lock);
    /* One that has just come due is armed again by on_beat. */
    if (clock_cancel(puller_of(delivery)->intake->clock, &delivery->beat))
        arm_beat(delivery, now_ns);
}

/* Is the lease lost? The clock finds out when it is due; but after the process was stopped or
 * starved, another thread may come first. *tell: say so in the log. */
static bool note_lapse(struct delivery *delivery, uint64_t now_ns, bool *tell)
{
    must_hold(&puller_of(delivery)->lock);
    bool news = false;
    bool lost = delivery_state_lapse(&delivery->state, ack_wait_of(delivery), now_ns, &news);
    if (news)
        *tell = leases_note_lost(delivery->leases, now_ns);
    return lost;
}

static void unlock_lease(struct delivery *delivery, bool tell) UNLOCKS(puller_of(delivery)->lock);

static void unlock_lease(struct delivery *delivery, bool tell)
{
    mutex_unlock(&puller_of(delivery)->lock);
    if (tell)
        puller_log(puller_of(delivery), LOG_WARN,
                   "leases could not be renewed within ack_wait: the server may give the messages "
                   "that are being handled to somebody else");
}

/* On the writer's thread, when the heartbeat's turn has come. */
static bool beat_open(struct link_gate *gate)
{
    struct delivery *delivery = container_of(gate, struct delivery, beat_gate);
    bool news = false, tell = false;
    mutex_lock(&puller_of(delivery)->lock);
    uint64_t now_ns = clock_now_ns();
    bool open = delivery_state_beat_wanted(&delivery->state, ack_wait_of(delivery), now_ns, &news);
    if (news)
        tell = leases_note_lost(delivery->leases, now_ns);
    unlock_lease(delivery, tell);
    return open;
}

static void beat_done(struct link_gate *gate, bool sent)
{
    struct delivery *delivery = container_of(gate, struct delivery, beat_gate);
    mutex_lock(&puller_of(delivery)->lock);
    delivery_state_beat_ended(&delivery->state, sent, clock_now_ns());
    unlock_lease(delivery, false);
    if (sent)
        stat_add_shared(&puller_of(delivery)->counts->heartbeats, 1);
    delivery_release(delivery);
}

/* While the writer is stuck, more of them than one would say nothing new. */
static void send_beat(struct delivery *delivery)
{
    must_hold(&puller_of(delivery)->lock);
    struct link_frame frame = {.subject = delivery->ack_subject,
                               .data = "+WPI",
                               .len = strlen("+WPI"),
                               .gate = &delivery->beat_gate};
    if (!delivery_state_beat(&delivery->state))
        return;
    delivery_retain(delivery);
    if (link_send(puller_of(delivery)->intake->link, LANE_URGENT, &frame, NULL) != 0) {
        delivery_state_beat_ended(&delivery->state, false, 0);
        delivery_release(delivery); /* the table has another */
    }
}

static void on_beat(struct deadline *deadline)
{
    struct delivery *delivery = container_of(deadline, struct delivery, beat);
    bool tell = false, armed = false;
    uint64_t now_ns = clock_now_ns();
    mutex_lock(&puller_of(delivery)->lock);
    if (delivery_verdict(delivery) == VERDICT_NONE && !note_lapse(delivery, now_ns, &tell)) {
        send_beat(delivery);
        arm_beat(delivery, next_beat(delivery, now_ns));
        armed = true;
    }
    unlock_lease(delivery, tell);
    if (!armed)
        delivery_release(delivery);
}

int delivery_progress(struct delivery *delivery, struct err *err)
{
    bool tell = false;
    int code = 0;
    if (!delivery->leases)
        return delivery_settled(delivery) ? settled_already(delivery, err) : 0;
    mutex_lock(&puller_of(delivery)->lock);
    if (delivery_settled(delivery))
        code = settled_already(delivery, err);
    else if (note_lapse(delivery, clock_now_ns(), &tell))
        code = err_set(err, ERR_LOST,
                       "the lease is lost: the server may have given the message to someone else");
    else
        send_beat(delivery);
    unlock_lease(delivery, tell);
    return code;
}

/* --- the verdict --- */

/* What is left to do about a lease that has ended. */
struct ended {
    uint64_t now_ns; /* when that was */
    int references;  /* of the table and of the clock: to release */
};

/* The lease has ended, by the step of the machine that `first` tells of: it leaves the table. Gives
 * the lock back. 0: the caller sends the frame, and then calls release_ended. */
static int end_lease(struct delivery *delivery, bool first, struct ended *ended, struct err *err)
    UNLOCKS(puller_of(delivery)->lock);

static int end_lease(struct delivery *delivery, bool first, struct ended *ended, struct err *err)
{
    must_hold(&puller_of(delivery)->lock);
    bool tell = false;
    if (first) {
        note_lapse(delivery, ended->now_ns, &tell);
        leases_remove(delivery->leases, delivery, ended->now_ns);
        ended->references = 1 + clock_cancel(puller_of(delivery)->intake->clock, &delivery->beat);
    }
    unlock_lease(delivery, tell);
    return first ? 0 : settled_already(delivery, err);
}

/* After the verdict is on its way. */
static void release_ended(struct delivery *delivery, const struct ended *ended)
{
    puller_released(puller_of(delivery), delivery->packet.len, delivery->state.parked,
                    ended->now_ns);
    release_references(delivery, ended->references);
}

/* A nak or term that had to wait in the lane, for a connection say, until the lease was over: by
 * now it would act on whoever has the message. */
static bool verdict_open(struct link_gate *gate)
{
    struct delivery *delivery = container_of(gate, struct delivery, verdict_gate);
    mutex_lock(&puller_of(delivery)->lock);
    bool open = delivery_state_in_time(&delivery->state, ack_wait_of(delivery), clock_now_ns());
    unlock_lease(delivery, false);
    return open;
}

static int send_frame(struct delivery *delivery, enum verdict verdict, int64_t delay_ns,
                      struct err *err)
{
    char text[64] = "+ACK";
    if (verdict == VERDICT_TERM)
        snprintf(text, sizeof text, "+TERM"); /* bare: with a reason 2.9 ignores it */
    else if (verdict == VERDICT_NAK && delay_ns > 0)
        snprintf(text, sizeof text, "-NAK {\"delay\": %" PRId64 "}", delay_ns);
    else if (verdict == VERDICT_NAK)
        snprintf(text, sizeof text, "-NAK");

    struct link_frame frame = {.subject = delivery->ack_subject, .data = text, .len = strlen(text)};
    if (verdict != VERDICT_ACK) {
        frame.gate = &delivery->verdict_gate;
        delivery_retain(delivery);
    }
    int code = link_send(puller_of(delivery)->intake->link, LANE_URGENT, &frame, err);
    if (code != 0 && frame.gate)
        delivery_release(delivery); /* the caller has another */
    return code;
}

static void verdict_done(struct link_gate *gate, bool sent)
{
    struct delivery *delivery = container_of(gate, struct delivery, verdict_gate);
    if (!sent && delivery_state_instead(&delivery->state) == VERDICT_ACK)
        send_frame(delivery, VERDICT_ACK, 0, NULL);
    delivery_release(delivery);
}

/* Nobody else touches ack_subject any more: the delivery has left the table. */
static int send_verdict(struct delivery *delivery, int64_t delay_ns, struct err *err)
{
    enum verdict verdict = delivery_state_frame(&delivery->state);
    if (verdict == VERDICT_NONE)
        return err_set(err, ERR_LOST,
                       "the lease is lost: the server may have given the message to someone else, "
                       "so only an ack may be sent for it");
    return send_frame(delivery, verdict, delay_ns, err);
}

int delivery_settle(struct delivery *delivery, enum verdict verdict, int64_t delay_ns,
                    struct err *err)
{
    struct ended ended = {0};
    if (!delivery->leases)
        return delivery_state_settle(&delivery->state, verdict) ? 0
                                                                : settled_already(delivery, err);
    ended.now_ns = clock_now_ns();
    mutex_lock(&puller_of(delivery)->lock);
    int code = end_lease(delivery, delivery_state_settle(&delivery->state, verdict), &ended, err);
    if (code != 0)
        return code;
    code = send_verdict(delivery, delay_ns, err);
    release_ended(delivery, &ended);
    return code;
}

int delivery_begin_letter(struct delivery *delivery, struct err *err)
{
    mutex_lock(&puller_of(delivery)->lock);
    bool first = delivery_state_begin_letter(&delivery->state);
    unlock_lease(delivery, false);
    return first ? 0 : settled_already(delivery, err);
}

void delivery_end_letter(struct delivery *delivery, enum delivery_phase end, int64_t delay_ns)
{
    struct ended ended = {.now_ns = clock_now_ns()};
    mutex_lock(&puller_of(delivery)->lock);
    if (end_lease(delivery, delivery_state_end_letter(&delivery->state, end), &ended, NULL) != 0)
        return;
    send_verdict(delivery, delay_ns, NULL);
    release_ended(delivery, &ended);
}

int delivery_ack_sync(struct delivery *delivery, struct inbox *inbox, uint64_t deadline_ns,
                      void (*on_reply)(void *owner, struct packet *reply, enum err_code code),
                      void *owner, uint64_t *id, struct err *err)
{
    struct ended ended = {.now_ns = clock_now_ns()};
    *id = 0;
    if (!delivery->leases)
        return err_set(err, ERR_INVALID, "a core message has nothing to acknowledge");
    mutex_lock(&puller_of(delivery)->lock);
    bool first = delivery_state_settle(&delivery->state, VERDICT_ACK);
    int code = end_lease(delivery, first, &ended, err);
    if (code != 0)
        return code;

    struct link_frame frame = {
        .subject = delivery->ack_subject, .data = "+ACK", .len = strlen("+ACK")};
    struct err failed = {0};
    *id = inbox_request_safe(inbox, &frame, deadline_ns, on_reply, NULL, owner, &failed);
    if (*id == 0) {
        send_frame(delivery, VERDICT_ACK, 0, NULL);
        code = err_set(err, failed.code, "%s", failed.message);
    }
    release_ended(delivery, &ended);
    return code;
}

bool delivery_park(struct delivery *delivery, bool parked)
{
    struct puller *puller = puller_of(delivery);
    const char *warn = NULL;
    mutex_lock(&puller->lock);
    bool changed = delivery_state_park(&delivery->state, parked);
    if (changed)
        warn = puller_park(puller, parked);
    puller_unlock(puller, warn);
    return changed;
}
