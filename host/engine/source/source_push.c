/* source_push - what comes to a source, and what is taken off its queue again, as it has not
 * started. */
#include <stdio.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/value.h"
#include "bus/consume/delivery.h"
#include "engine/source/lane.h"
#include "engine/source/source.h"
#include "engine/version/script.h"

/* A batch or a lane for which there was no memory is tried again after that. */
#define AGAIN_NS (100 * NS_PER_MS)

/* From so many on, core messages that wait do not share memory any more: each might be all that is
 * left of 16 KB. */
#define SHARED_MOST 1024

/* What a push leaves to be done once the lock is released. */
struct push {
    struct delivery *dropped;     /* utlist: to be released */
    struct delivery *handed_back; /* utlist: to be nak'd and released */
    uint64_t before;              /* how many had been dropped before it, */
    uint64_t after;               /* and after it */
    int waiting;                  /* for others of their key; 0: nothing to log of that */
};

/* Has the count passed a power of two? */
static bool is_round(uint64_t before, uint64_t now)
{
    return (before ^ now) > before;
}

static bool has_news(const struct push *push)
{
    return push->after > push->before || push->waiting;
}

static void log_news(const struct source *source, const struct push *push, const char *handler)
{
    struct log_context context = {.script = source->script->name, .handler = handler};
    /* At powers of two: an overload is logged soon and does not flood the log. A burst may pass
     * several, and end between two: the last that it passed is told. */
    if (is_round(push->before, push->after))
        log_event(LOG_WARN, &context, "slow handler: %llu messages dropped so far",
                  1ULL << (63 - __builtin_clzll(push->after)));
    if (push->waiting)
        log_event(LOG_WARN, &context,
                  "%d messages wait for an earlier one of their key: the consumer pauses until "
                  "they need not (order_by)",
                  push->waiting);
}

void source_count_queued(struct source *source, const struct delivery *delivery)
{
    must_hold(&source->scripts->dispatch->lock);
    source_state_queue(&source->state, delivery->bytes);
    source->scripts->dispatch->queued++;
}

void source_count_unqueued(struct source *source, const struct delivery *delivery)
{
    must_hold(&source->scripts->dispatch->lock);
    source_state_unqueue(&source->state, delivery->bytes);
    source->scripts->dispatch->queued--;
}

void source_ready(struct source *source)
{
    if (!source->ready.queued && !source->waiting &&
        source_state_may_begin(&source->state, source->fifo != NULL))
        dispatch_ready(source->scripts->dispatch, &source->ready);
}

void source_batch_wait(struct source *source)
{
    if (!source->registration->batch_size || !source->fifo)
        return;
    uint64_t wait = (uint64_t)source->registration->batch_wait_ns;
    source->state.armed += clock_arm(source->scripts->clock, &source->timer, clock_now_ns() + wait);
}

void source_try_again(struct source *source)
{
    uint64_t then = clock_now_ns() + (uint64_t)AGAIN_NS;
    must_hold(&source->scripts->dispatch->lock);
    source->state.armed += clock_arm(source->scripts->clock, &source->timer, then);
}

/* It is queued, or waits in its lane. */
static void enqueue(struct source *source, struct delivery *delivery, const char *key,
                    struct push *push)
{
    bool held_back = key && lanes_hold_back(source->lanes, delivery);
    if (!held_back && (!key || lane_enter(source->lanes, delivery, key, &push->waiting)))
        DL_APPEND(source->fifo, delivery);
    if (key && lanes_starved(source->lanes))
        source_try_again(source);
    source_count_queued(source, delivery);
}

/* Takes the oldest off the queue; the caller has its reference. */
static struct delivery *drop_oldest(struct source *source)
{
    struct delivery *oldest = source->fifo;
    DL_DELETE(source->fifo, oldest);
    source_count_unqueued(source, oldest);
    source->state.dropped++;
    return oldest;
}

/* What becomes of a message, after as many of the oldest as need be have been dropped for it. */
static enum source_fate decide(struct source *source, const struct delivery *delivery,
                               struct push *push)
{
    enum source_fate fate;
    while ((fate = source_state_fate(&source->state, delivery->bytes, source->fifo != NULL)) ==
           SOURCE_MAKE_ROOM) {
        struct delivery *oldest = drop_oldest(source);
        DL_APPEND(push->dropped, oldest);
    }
    return fate;
}

/* With the lock held. */
static void carry_out(struct source *source, enum source_fate fate, struct delivery *delivery,
                      const char *key, struct push *push)
{
    switch (fate) {
    case SOURCE_QUEUE:
        if (source->state.queued >= SHARED_MOST)
            delivery_own(delivery);
        enqueue(source, delivery, key, push);
        break;
    case SOURCE_PART:
        DL_APPEND(source->parting, delivery);
        break;
    case SOURCE_DROP:
        source->state.dropped++;
        DL_APPEND(push->dropped, delivery);
        break;
    case SOURCE_HAND_BACK:
        DL_APPEND(push->handed_back, delivery);
        break;
    case SOURCE_MAKE_ROOM:
        break;
    }
}

/* With the lock held: a message has come. */
static void count_arrived(struct source *source, enum source_fate fate,
                          const struct delivery *delivery)
{
    struct tally *tally = source->registration->tally;
    must_hold(&source->scripts->dispatch->lock);
    if (fate == SOURCE_HAND_BACK || fate == SOURCE_PART)
        return;
    stat_add(&tally->received, 1);
    if (delivery->consumer && atomic_load_explicit(&delivery->attempt, memory_order_relaxed) > 1)
        stat_add(&tally->redelivered, 1);
}

/* With the lock held. */
static void push_one(struct source *source, struct delivery *delivery, const char *key,
                     struct push *push)
{
    enum source_fate fate = decide(source, delivery, push);
    count_arrived(source, fate, delivery); /* carried out, it may be somebody else's */
    carry_out(source, fate, delivery, key, push);
}

/* Without the lock: what nobody will handle. */
static void end_unwanted(struct push *push)
{
    struct delivery *each, *next;
    DL_FOREACH_SAFE(push->dropped, each, next)
        delivery_release(each);
    DL_FOREACH_SAFE(push->handed_back, each, next) {
        delivery_settle(each, VERDICT_NAK, 0, NULL);
        delivery_release(each);
    }
}

/* Under one taking of the lock. key: of all of them; NULL: they have none. */
static void push_list(struct source *source, struct delivery *list, const char *key)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    struct push push = {0};
    char handler[128]; /* not cleared: each message passes */

    dispatch_lock(dispatch);
    bool was_empty = source->state.queued == 0;
    push.before = source->state.dropped;
    while (list) {
        struct delivery *next = list->next; /* it goes to another list */
        push_one(source, list, key, &push);
        list = next;
    }
    push.after = source->state.dropped;
    if (push.after > push.before)
        stat_add(&source->registration->tally->dropped, push.after - push.before);
    if (was_empty)
        source_batch_wait(source);
    source_ready(source);
    if (has_news(&push))
        snprintf(handler, sizeof handler, "%s", source->registration->handler);
    dispatch_unlock(dispatch);

    if (has_news(&push))
        log_news(source, &push, handler);
    end_unwanted(&push);
}

/* Where there is an order, each has a key of its own, which is read without the lock. */
static void push_ordered(struct source *source, struct delivery *list)
{
    char key[LANE_KEY_MAX];
    while (list) {
        struct delivery *next = list->next;
        bool has_key = lane_key(source->lanes, list, key);
        list->next = NULL;
        push_list(source, list, has_key ? key : NULL);
        list = next;
    }
}

void source_push(struct source *source, struct delivery *list)
{
    if (source->lanes)
        push_ordered(source, list);
    else
        push_list(source, list, NULL);
}

void source_drop_unread(struct source *source)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    char handler[128];
    dispatch_lock(dispatch);
    uint64_t dropped = ++source->state.dropped;
    stat_add(&source->registration->tally->received, 1);
    stat_add(&source->registration->tally->dropped, 1);
    snprintf(handler, sizeof handler, "%s", source->registration->handler);
    dispatch_unlock(dispatch);
    struct log_context context = {.script = source->script->name, .handler = handler};
    if (is_round(dropped - 1, dropped))
        log_event(LOG_WARN, &context,
                  "out of memory: a message was dropped unseen; messages dropped so far: %llu",
                  (unsigned long long)dropped);
}

void source_end_hold_back(struct source *source)
{
    must_hold(&source->scripts->dispatch->lock);
    lanes_end_hold_back(source->lanes, &source->fifo);
    if (lanes_starved(source->lanes))
        source_try_again(source);
}

void source_whole(struct source *source)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    dispatch_lock(dispatch);
    if (source->lanes)
        source_end_hold_back(source);
    source_ready(source);
    dispatch_unlock(dispatch);
}

struct delivery *source_empty(struct source *source)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    dispatch_lock(dispatch);
    source_take_all_back(source);
    struct delivery *all = source->fifo, *delivery, *next;
    source->fifo = NULL;
    if (source->lanes) {
        struct delivery *waiting = lanes_empty(source->lanes);
        DL_FOREACH(all, delivery)
            lane_over(source->lanes, delivery, &next);
        DL_CONCAT(all, waiting);
    }
    dispatch->queued -= source_state_empty(&source->state);
    dispatch_signal_idle(dispatch);
    dispatch_unlock(dispatch);
    return all;
}
