/* What a consumer holds, what it settled lately, and what is condemned, by stream sequence. */
#include "bus/consume/leases.h"

#include <stdlib.h>
#include <string.h>

#include "base/container.h"
#include "base/value.h"
#include "bus/ack_subject.h"
#include "bus/consume/delivery.h"
#include "bus/consume/puller.h"
#include "bus/retry.h"

#define BUCKETS_LEAST 256
#define BUCKETS_MOST 65536
#define LOST_TOLD_AGAIN_NS (60 * NS_PER_S)
/* Heartbeats for one taking of the lock, which each message takes, too. */
#define BEATS_AT_ONCE 16

/* So much memory of deliveries is kept: what is allocated on one thread and freed on another is
 * what allocators are slowest at. */
#define BLOCKS_MOST 256

static void on_due(struct deadline *deadline);

bool leases_init(struct leases *leases, struct puller *puller, int most)
{
    size_t buckets = BUCKETS_LEAST;
    while (buckets < (size_t)most && buckets < BUCKETS_MOST)
        buckets *= 2;
    leases->puller = puller;
    leases->due.on_due = on_due;
    leases->table_mask = buckets - 1;
    leases->table = calloc(buckets, sizeof *leases->table);
    leases->settled = calloc(SETTLED_SLOTS, sizeof *leases->settled);
    return beats_init(&leases->beats, clock_now_ns()) && leases->table && leases->settled;
}

static void free_blocks(struct delivery *blocks)
{
    while (blocks) {
        struct delivery *next = blocks->next;
        free(blocks);
        blocks = next;
    }
}

void leases_clear(struct leases *leases)
{
    free_blocks(leases->blocks);
    free_blocks(atomic_load(&leases->over));
    beats_clear(&leases->beats);
    free(leases->table);
    free(leases->settled);
    for (int i = 0; i < CONDEMNED_SLOTS; i++)
        free(leases->condemned[i]);
    *leases = (struct leases){0};
}

/* --- memory --- */

struct delivery *leases_block(struct leases *leases)
{
    must_hold(&leases->puller->lock);
    if (!leases->blocks)
        leases->blocks = atomic_exchange_explicit(&leases->over, NULL, memory_order_acquire);
    struct delivery *block = leases->blocks;
    if (!block)
        return calloc(1, sizeof *block);
    leases->blocks = block->next;
    atomic_fetch_sub_explicit(&leases->kept, 1, memory_order_relaxed);
    memset(block, 0, sizeof *block);
    return block;
}

/* All of them are taken off at once, so nobody is confused by one that comes back meanwhile. */
bool leases_keep_block(struct leases *leases, struct delivery *delivery)
{
#ifdef __SANITIZE_ADDRESS__
    (void)leases;
    (void)delivery;
    return false; /* who touches it is to be noticed */
#else
    if (atomic_fetch_add_explicit(&leases->kept, 1, memory_order_relaxed) >= BLOCKS_MOST) {
        atomic_fetch_sub_explicit(&leases->kept, 1, memory_order_relaxed);
        return false;
    }
    delivery->next = atomic_load_explicit(&leases->over, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&leases->over, &delivery->next, delivery,
                                                  memory_order_release, memory_order_relaxed))
        ;
    return true;
#endif
}

/* --- heartbeats --- */

/* The deadline is only ever moved forward: most leases end before it, and when it comes too early,
 * it is armed for the next one. */
static void wake_by(struct leases *leases, uint64_t at_ns)
{
    must_hold(&leases->puller->lock);
    if (at_ns == UINT64_MAX || (leases->due_ns != 0 && leases->due_ns <= at_ns))
        return;
    leases->due_ns = at_ns;
    puller_retain(leases->puller);
    if (!clock_arm(leases->puller->intake->clock, &leases->due, at_ns))
        puller_release(leases->puller); /* the caller has another */
}

static uint64_t put_beat(struct leases *leases, struct delivery *delivery, uint64_t since_ns)
{
    must_hold(&leases->puller->lock);
    return beats_put(&leases->beats, &delivery->beat, (uint64_t)leases->puller->ack_wait_ns,
                     delivery->state.renewed_ns, retry_random(), since_ns);
}

/* False: no more are due. */
static bool beat_some(struct leases *leases, bool *tell)
{
    must_hold(&leases->puller->lock);
    uint64_t now_ns = clock_now_ns();
    struct beat *beat;
    int some = 0;
    while (some < BEATS_AT_ONCE && (beat = beats_ripe(&leases->beats, now_ns)) != NULL) {
        struct delivery *delivery = container_of(beat, struct delivery, beat);
        put_beat(leases, delivery, delivery->arrived_ns);
        some++;
    }
    while (some < BEATS_AT_ONCE && (beat = beats_take(&leases->beats, now_ns)) != NULL) {
        struct delivery *delivery = container_of(beat, struct delivery, beat);
        if (delivery_beat(delivery, now_ns, tell))
            put_beat(leases, delivery, now_ns);
        some++;
    }
    return some == BEATS_AT_ONCE;
}

static void on_due(struct deadline *deadline)
{
    struct leases *leases = container_of(deadline, struct leases, due);
    struct puller *puller = leases->puller;
    bool tell = false;
    mutex_lock(&puller->lock);
    leases->due_ns = 0;
    while (beat_some(leases, &tell)) {
        mutex_unlock(&puller->lock); /* settling does not wait for all of them */
        mutex_lock(&puller->lock);
    }
    wake_by(leases, beats_next_ns(&leases->beats));
    mutex_unlock(&puller->lock);
    if (tell)
        leases_tell_lost(leases);
    puller_release(puller);
}

/* When nothing is held any more, nobody needs the deadline. */
static void cancel_idle(struct leases *leases)
{
    must_hold(&leases->puller->lock);
    if (!beats_empty(&leases->beats) || !clock_cancel(leases->puller->intake->clock, &leases->due))
        return;
    leases->due_ns = 0;
    puller_release(leases->puller); /* the caller has another */
}

void leases_end(struct leases *leases)
{
    struct puller *puller = leases->puller;
    mutex_lock(&puller->lock);
    leases->ending = true;
    cancel_idle(leases);
    mutex_unlock(&puller->lock);
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
    while (delivery && (delivery->key_sequence != ack->stream_sequence ||
                        delivery->key_timestamp_ns != ack->timestamp_ns))
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

void leases_hold(struct leases *leases, struct delivery *delivery, uint64_t now_ns)
{
    must_hold(&leases->puller->lock);
    struct delivery **bucket = bucket_of(leases, delivery->key_sequence);
    delivery->held_next = *bucket;
    *bucket = delivery_retain(delivery);
    leases->puller->holds++;
    wake_by(leases, beats_begin(&leases->beats, &delivery->beat,
                                (uint64_t)leases->puller->ack_wait_ns, now_ns));
}

void leases_joined(struct leases *leases, struct delivery *delivery, uint64_t now_ns)
{
    wake_by(leases, put_beat(leases, delivery, now_ns));
}

void leases_remove(struct leases *leases, struct delivery *delivery, uint64_t now_ns)
{
    must_hold(&leases->puller->lock);
    struct delivery **place = bucket_of(leases, delivery->key_sequence);
    while (*place && *place != delivery)
        place = &(*place)->held_next;
    if (*place == delivery) {
        *place = delivery->held_next;
        leases->puller->holds--;
        leases->puller->forgotten++;
    }
    beats_remove(&leases->beats, &delivery->beat);
    if (leases->ending)
        cancel_idle(leases);
    /* Also when the lease is lost and a term is not sent: it is in its dead letter, or was dropped
     * on purpose, and must not be run here again. */
    if (delivery_state_is_done(&delivery->state))
        *settled_slot(leases, delivery->key_sequence) =
            (struct settled_message){delivery->key_sequence, delivery->key_timestamp_ns, now_ns};
}

void leases_renew(struct leases *leases, uint64_t now_ns)
{
    must_hold(&leases->puller->lock);
    bool any = false;
    for (size_t i = 0; i <= leases->table_mask; i++)
        for (struct delivery *held = leases->table[i]; held; held = held->held_next)
            any |= beats_put_now(&leases->beats, &held->beat, now_ns);
    if (any)
        wake_by(leases, now_ns);
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

void leases_tell_lost(const struct leases *leases)
{
    puller_log(leases->puller, LOG_WARN,
               "leases could not be renewed within ack_wait: the server may give the messages "
               "that are being handled to somebody else");
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
