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
#include "bus/ack_subject.h"
#include "bus/consume/leases.h"
#include "bus/consume/ordered.h"
#include "bus/consume/puller.h"
#include "bus/request/inbox.h"

static bool beat_open(struct link_gate *gate);
static void beat_done(struct link_gate *gate, bool sent);
static bool verdict_open(struct link_gate *gate);
static void verdict_done(struct link_gate *gate, bool sent);

static struct puller *puller_of(const struct delivery *delivery)
{
    return delivery->leases->puller;
}

static uint64_t ack_wait_of(const struct delivery *delivery)
{
    return (uint64_t)puller_of(delivery)->ack_wait_ns;
}

/* What every message has is zero in it; or it is NULL. */
static struct delivery *new_delivery(struct delivery *delivery, struct packet *packet)
{
    if (!delivery)
        return NULL;
    atomic_init(&delivery->references, 1);
    atomic_init(&delivery->attempt, 1);
    delivery->bytes = packet_bytes(packet);
    delivery->packet = packet_take(packet);
    return delivery;
}

/* Memory for one without a lease. */
static struct delivery *plain_block(void)
{
    struct delivery *delivery = malloc(sizeof *delivery);
    if (delivery)
        memset(delivery, 0, offsetof(struct delivery, attempts_before));
    return delivery;
}

struct delivery *delivery_new_core(struct packet *packet, uint64_t now_ns)
{
    struct delivery *delivery = new_delivery(plain_block(), packet);
    if (!delivery)
        return NULL;
    delivery->reply_to = delivery->packet.reply;
    delivery->arrived_ns = now_ns;
    delivery->timestamp_ns = clock_wall_at(now_ns);
    return delivery;
}

void delivery_own(struct delivery *delivery)
{
    if (delivery->leases) /* its ack subject lies there; and its consumer's credit bounds them */
        return;
    packet_own(&delivery->packet);
    if (delivery->reply_to)
        delivery->reply_to = delivery->packet.reply;
}

static void note_stored(struct delivery *delivery, const struct ack_subject *ack)
{
    delivery->stream_sequence = ack->stream_sequence;
    delivery->pending = ack->pending;
    delivery->timestamp_ns = ack->timestamp_ns;
}

struct delivery *delivery_new_ordered(struct ordered *ordered, struct packet *packet,
                                      const struct ack_subject *ack)
{
    struct delivery *delivery = new_delivery(plain_block(), packet);
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
    struct delivery *delivery = new_delivery(leases_block(leases), packet);
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
    delivery->key_sequence = ack->stream_sequence;
    delivery->key_timestamp_ns = ack->timestamp_ns;
    delivery->attempt = ack->delivered > 0 ? ack->delivered : 1;
    delivery->beat_gate = (struct link_gate){.open = beat_open, .done = beat_done};
    delivery->verdict_gate = (struct link_gate){.open = verdict_open, .done = verdict_done};
    return delivery;
}

struct delivery *delivery_retain(struct delivery *delivery)
{
    atomic_fetch_add_explicit(&delivery->references, 1, memory_order_relaxed);
    return delivery;
}

void delivery_release(struct delivery *delivery)
{
    if (atomic_fetch_sub(&delivery->references, 1) != 1)
        return;
    if (delivery->ordered)
        ordered_released(delivery->ordered, delivery->bytes);
    packet_clear(&delivery->packet);
    struct leases *leases = delivery->leases;
    if (!leases) {
        free(delivery);
        return;
    }
    if (delivery->rejoined) /* freeing nothing costs, and this is done for each message */
        free(delivery->rejoined);
    if (!leases_keep_block(leases, delivery))
        free(delivery);
    puller_release(leases->puller);
}

static int settled_already(const struct delivery *delivery, struct err *err)
{
    if (delivery_verdict(delivery) == VERDICT_NONE)
        return err_set(err, ERR_SETTLED, "the message is on its way to %s",
                       delivery_is_copied(delivery) ? "the stream of retries" : "the dead letter");
    return err_set(err, ERR_SETTLED, "the message has had its verdict");
}

/* --- heartbeats --- */

void delivery_join(struct delivery *delivery, const char *ack_subject,
                   const struct ack_subject *ack, uint64_t now_ns)
{
    must_hold(&puller_of(delivery)->lock);
    char *copy = strdup(ack_subject);
    /* Without memory the older subject stays: an ack of it counts all the same. */
    if (copy) {
        free(delivery->rejoined);
        delivery->ack_subject = delivery->rejoined = copy;
        if (delivery->attempts_before + ack->delivered > delivery->attempt)
            delivery->attempt = delivery->attempts_before + ack->delivered;
    }
    delivery_state_join(&delivery->state, copy, now_ns);
    leases_joined(delivery->leases, delivery, now_ns);
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
        leases_tell_lost(delivery->leases);
}

/* On the thread that writes, when the heartbeat's turn has come. */
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

bool delivery_beat(struct delivery *delivery, uint64_t now_ns, bool *tell)
{
    must_hold(&puller_of(delivery)->lock);
    if (note_lapse(delivery, now_ns, tell))
        return false;
    send_beat(delivery);
    return true;
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

/* It has its verdict: its lease has ended. The table's reference is the caller's now. */
static void leave_leases(struct delivery *delivery, uint64_t now_ns, bool *tell)
{
    must_hold(&puller_of(delivery)->lock);
    note_lapse(delivery, now_ns, tell);
    leases_remove(delivery->leases, delivery, now_ns);
}

/* The same; then the verdict goes to the lane, and its credit is free. One taking of the lock does
 * for all of it, so the frames are in the lane in the order of the verdicts, and a request for more
 * is behind them. Gives the lock back. */
static int end_lease(struct delivery *delivery, int64_t delay_ns, uint64_t now_ns, struct err *err)
    UNLOCKS(puller_of(delivery)->lock);

static int end_lease(struct delivery *delivery, int64_t delay_ns, uint64_t now_ns, struct err *err)
{
    must_hold(&puller_of(delivery)->lock);
    bool tell = false;
    leave_leases(delivery, now_ns, &tell);
    int code = send_verdict(delivery, delay_ns, err);
    const char *warn =
        puller_give_back(puller_of(delivery), delivery->bytes, delivery->state.parked, now_ns);
    puller_unlock(puller_of(delivery), warn);
    if (tell)
        leases_tell_lost(delivery->leases);
    delivery_release(delivery);
    return code;
}

int delivery_settle(struct delivery *delivery, enum verdict verdict, int64_t delay_ns,
                    struct err *err)
{
    if (!delivery->leases)
        return delivery_state_settle(&delivery->state, verdict) ? 0
                                                                : settled_already(delivery, err);
    uint64_t now_ns = clock_now_ns();
    mutex_lock(&puller_of(delivery)->lock);
    if (delivery_state_settle(&delivery->state, verdict))
        return end_lease(delivery, delay_ns, now_ns, err);
    unlock_lease(delivery, false);
    return settled_already(delivery, err);
}

/* Whoever takes a first step keeps all others from settling it; the last step settles it. */
static int first_step(struct delivery *delivery, bool (*step)(struct delivery_state *),
                      struct err *err)
{
    mutex_lock(&puller_of(delivery)->lock);
    bool first = step(&delivery->state);
    unlock_lease(delivery, false);
    return first ? 0 : settled_already(delivery, err);
}

static void last_step(struct delivery *delivery,
                      bool (*step)(struct delivery_state *, enum delivery_phase),
                      enum delivery_phase end, int64_t delay_ns)
{
    uint64_t now_ns = clock_now_ns();
    mutex_lock(&puller_of(delivery)->lock);
    if (step(&delivery->state, end))
        end_lease(delivery, delay_ns, now_ns, NULL);
    else
        unlock_lease(delivery, false);
}

int delivery_begin_letter(struct delivery *delivery, struct err *err)
{
    return first_step(delivery, delivery_state_begin_letter, err);
}

void delivery_end_letter(struct delivery *delivery, enum delivery_phase end, int64_t delay_ns)
{
    last_step(delivery, delivery_state_end_letter, end, delay_ns);
}

int delivery_begin_copy(struct delivery *delivery, struct err *err)
{
    return first_step(delivery, delivery_state_begin_copy, err);
}

void delivery_end_copy(struct delivery *delivery, bool stored, int64_t delay_ns)
{
    last_step(delivery, delivery_state_end_copy, stored ? DELIVERY_COPIED : DELIVERY_NAKED,
              delay_ns);
}

bool delivery_is_lost(struct delivery *delivery)
{
    bool tell = false;
    mutex_lock(&puller_of(delivery)->lock);
    bool lost = note_lapse(delivery, clock_now_ns(), &tell);
    unlock_lease(delivery, tell);
    return lost;
}

/* The ack as a request: without the consumer's lock, since the inbox has one of its own. */
static int request_ack(struct delivery *delivery, struct inbox *inbox, uint64_t deadline_ns,
                       void (*on_reply)(void *owner, struct packet *reply, enum err_code code),
                       void *owner, uint64_t *id, struct err *err)
{
    struct link_frame frame = {
        .subject = delivery->ack_subject, .data = "+ACK", .len = strlen("+ACK")};
    struct err failed = {0};
    *id = inbox_request_safe(inbox, &frame, deadline_ns, on_reply, NULL, owner, &failed);
    if (*id != 0)
        return 0;
    send_frame(delivery, VERDICT_ACK, 0, NULL);
    return err_set(err, failed.code, "%s", failed.message);
}

int delivery_ack_sync(struct delivery *delivery, struct inbox *inbox, uint64_t deadline_ns,
                      void (*on_reply)(void *owner, struct packet *reply, enum err_code code),
                      void *owner, uint64_t *id, struct err *err)
{
    uint64_t now_ns = clock_now_ns();
    bool tell = false;
    *id = 0;
    if (!delivery->leases)
        return err_set(err, ERR_INVALID, "a core message has nothing to acknowledge");
    mutex_lock(&puller_of(delivery)->lock);
    bool first = delivery_state_settle(&delivery->state, VERDICT_ACK);
    if (first)
        leave_leases(delivery, now_ns, &tell);
    unlock_lease(delivery, tell);
    if (!first)
        return settled_already(delivery, err);
    int code = request_ack(delivery, inbox, deadline_ns, on_reply, owner, id, err);
    puller_released(puller_of(delivery), delivery->bytes, delivery->state.parked, now_ns);
    delivery_release(delivery);
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
