/* What a consumer holds, what it settled lately, and what is condemned, by stream sequence. */
#include "bus/consume/leases.h"

#include <stdlib.h>

#include "base/value.h"
#include "bus/consume/delivery.h"
#include "bus/consume/puller.h"
#include "bus/wire.h"

#define BUCKETS_LEAST 256
#define BUCKETS_MOST 65536
#define LOST_TOLD_AGAIN_NS (60 * NS_PER_S)

bool leases_init(struct leases *leases, struct puller *puller, int most)
{
    size_t buckets = BUCKETS_LEAST;
    while (buckets < (size_t)most && buckets < BUCKETS_MOST)
        buckets *= 2;
    leases->puller = puller;
    leases->table_mask = buckets - 1;
    leases->table = calloc(buckets, sizeof *leases->table);
    leases->settled = calloc(SETTLED_SLOTS, sizeof *leases->settled);
    return leases->table && leases->settled;
}

void leases_clear(struct leases *leases)
{
    free(leases->table);
    free(leases->settled);
    for (int i = 0; i < CONDEMNED_SLOTS; i++)
        free(leases->condemned[i]);
    *leases = (struct leases){0};
}

/* --- held --- */

static struct delivery **bucket_of(const struct leases *leases, uint64_t stream_sequence)
{
    return &leases->table[stream_sequence & leases->table_mask];
}

static struct settled_message *settled_slot(const struct leases *leases, uint64_t stream_sequence)
{
    return &leases->settled[stream_sequence & (SETTLED_SLOTS - 1)];
}

/* The timestamp tells a message of a stream that was made anew, with the same sequence. */
struct delivery *leases_find(const struct leases *leases, const struct ack_subject *ack)
{
    must_hold(&leases->puller->lock);
    struct delivery *delivery = *bucket_of(leases, ack->stream_sequence);
    while (delivery && (delivery->stream_sequence != ack->stream_sequence ||
                        delivery->timestamp_ns != ack->timestamp_ns))
        delivery = delivery->held_next;
    return delivery;
}

bool leases_was_settled(const struct leases *leases, const struct ack_subject *ack, uint64_t now_ns)
{
    must_hold(&leases->puller->lock);
    const struct settled_message *settled = settled_slot(leases, ack->stream_sequence);
    if (settled->stream_sequence != ack->stream_sequence ||
        settled->timestamp_ns != ack->timestamp_ns)
        return false;
    return ack->delivered > 1 || puller_in_doubt(leases->puller, settled->at_ns, now_ns);
}

void leases_hold(struct leases *leases, struct delivery *delivery)
{
    must_hold(&leases->puller->lock);
    struct delivery **bucket = bucket_of(leases, delivery->stream_sequence);
    delivery->held_next = *bucket;
    *bucket = delivery_retain(delivery);
    leases->puller->holds++;
}

void leases_remove(struct leases *leases, struct delivery *delivery, uint64_t now_ns)
{
    must_hold(&leases->puller->lock);
    struct delivery **place = bucket_of(leases, delivery->stream_sequence);
    while (*place && *place != delivery)
        place = &(*place)->held_next;
    if (*place == delivery) {
        *place = delivery->held_next;
        leases->puller->holds--;
        leases->puller->forgotten++;
    }
    /* Also when the lease is lost and a term is not sent: it is in its dead letter, or was dropped
     * on purpose, and must not be run here again. */
    if (delivery_state_is_done(&delivery->state))
        *settled_slot(leases, delivery->stream_sequence) =
            (struct settled_message){delivery->stream_sequence, delivery->timestamp_ns, now_ns};
}

void leases_renew(struct leases *leases, uint64_t now_ns)
{
    must_hold(&leases->puller->lock);
    for (size_t i = 0; i <= leases->table_mask; i++)
        for (struct delivery *held = leases->table[i]; held; held = held->held_next)
            delivery_beat_now(held, now_ns);
}

bool leases_note_lost(struct leases *leases, uint64_t now_ns)
{
    must_hold(&leases->puller->lock);
    bool tell =
        leases->lost_told_ns == 0 || now_ns > leases->lost_told_ns + (uint64_t)LOST_TOLD_AGAIN_NS;
    stat_add_shared(&leases->puller->counts->leases_lost, 1);
    if (now_ns > leases->lost_told_ns) /* callers may pass timestamps out of order */
        leases->lost_told_ns = now_ns;
    return tell;
}

/* --- condemned --- */

struct condemned *leases_take_condemned(struct leases *leases, const struct ack_subject *ack)
{
    must_hold(&leases->puller->lock);
    struct condemned **place = &leases->condemned[ack->stream_sequence % CONDEMNED_SLOTS];
    struct condemned *why = *place;
    if (!why || why->stream_sequence != ack->stream_sequence ||
        why->timestamp_ns != ack->timestamp_ns)
        return NULL;
    *place = NULL;
    return why;
}

void leases_condemn(struct leases *leases, struct condemned *why, unsigned pardons)
{
    struct condemned **place = &leases->condemned[why->stream_sequence % CONDEMNED_SLOTS];
    mutex_lock(&leases->puller->lock);
    if (pardons == leases->pardons) {
        free(*place);
        *place = why;
        why = NULL;
    }
    mutex_unlock(&leases->puller->lock);
    free(why);
}

void leases_pardon(struct leases *leases)
{
    mutex_lock(&leases->puller->lock);
    leases->pardons++;
    for (int i = 0; i < CONDEMNED_SLOTS; i++) {
        free(leases->condemned[i]);
        leases->condemned[i] = NULL;
    }
    mutex_unlock(&leases->puller->lock);
}
