/* What a consumer holds, what it settled lately, and what is condemned, by stream sequence. With
 * the lock held, but for the last two. */
#include <stdlib.h>

#include "bus/consumer_internal.h"
#include "bus/wire.h"

static struct delivery **slot(struct consumer *consumer, uint64_t stream_sequence)
{
    return &consumer->table[stream_sequence & consumer->table_mask];
}

static struct settled *settled_slot(struct consumer *consumer, uint64_t stream_sequence)
{
    return &consumer->settled[stream_sequence & (SETTLED_SLOTS - 1)];
}

/* The timestamp tells a message of a stream that was made anew, with the same sequence. */
struct delivery *consumer_find_held(struct consumer *consumer, const struct ack_subject *ack)
{
    struct delivery *delivery = *slot(consumer, ack->stream_sequence);

    while (delivery != NULL && (delivery->stream_sequence != ack->stream_sequence ||
                                delivery->timestamp_ns != ack->timestamp_ns))
        delivery = delivery->held_next;
    return delivery;
}

bool consumer_was_settled(struct consumer *consumer, const struct ack_subject *ack, uint64_t now_ns)
{
    const struct settled *settled = settled_slot(consumer, ack->stream_sequence);

    if (settled->stream_sequence != ack->stream_sequence ||
        settled->timestamp_ns != ack->timestamp_ns)
        return false;
    return ack->delivered > 1 ||
           (now_ns < consumer->doubt_until_ns && settled->at_ns >= consumer->doubt_from_ns);
}

void consumer_forget(struct consumer *consumer, struct delivery *delivery, uint64_t now_ns)
{
    struct delivery **at = slot(consumer, delivery->stream_sequence);
    int verdict = delivery->verdict;

    while (*at != NULL && *at != delivery)
        at = &(*at)->held_next;
    if (*at == delivery)
        *at = delivery->held_next;
    /* Also when the lease is lost and a term is not sent: it is in its dead letter, or was dropped
     * on purpose, and must not be run here again. */
    if (verdict == VERDICT_ACK || verdict == VERDICT_TERM)
        *settled_slot(consumer, delivery->stream_sequence) =
            (struct settled){delivery->stream_sequence, delivery->timestamp_ns, now_ns};
}

void consumer_hold(struct consumer *consumer, struct delivery *delivery)
{
    struct delivery **at = slot(consumer, delivery->stream_sequence);

    delivery->held_next = *at;
    *at = delivery_retain(delivery);
}

struct condemned *consumer_take_condemned(struct consumer *consumer, const struct ack_subject *ack)
{
    struct condemned **at = &consumer->condemned[ack->stream_sequence % CONDEMNED_SLOTS];
    struct condemned *why = *at;

    if (why == NULL || why->stream_sequence != ack->stream_sequence ||
        why->timestamp_ns != ack->timestamp_ns)
        return NULL;
    *at = NULL;
    return why;
}

void consumer_condemn(struct consumer *consumer, struct condemned *why, unsigned pardons)
{
    struct condemned **at = &consumer->condemned[why->stream_sequence % CONDEMNED_SLOTS];

    pthread_mutex_lock(&consumer->lock);
    if (pardons == consumer->pardons) {
        free(*at);
        *at = why;
        why = NULL;
    }
    pthread_mutex_unlock(&consumer->lock);
    free(why);
}

void consumer_pardon(struct consumer *consumer)
{
    pthread_mutex_lock(&consumer->lock);
    consumer->pardons++;
    for (int i = 0; i < CONDEMNED_SLOTS; i++) {
        free(consumer->condemned[i]);
        consumer->condemned[i] = NULL;
    }
    pthread_mutex_unlock(&consumer->lock);
}
