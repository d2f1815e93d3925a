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

/* What a push has to log, once the lock is released. */
struct push_news {
    uint64_t dropped; /* so far; 0: nothing was dropped now */
    uint64_t before;  /* dropped until now */
    int waiting;      /* for others of their key; 0: nothing to log of that */
};

/* Has the count passed a power of two? */
static bool is_round(uint64_t before, uint64_t now)
{
    return (before ^ now) > before;
}

static void log_news(const struct source *source, const struct push_news *news, const char *handler)
{
    struct log_context context = {.script = source->script->name, .handler = handler};
    /* At powers of two: an overload is logged soon and does not flood the log. */
    if (is_round(news->before, news->dropped))
        log_event(LOG_WARN, &context, "slow handler: %llu messages dropped so far",
                  (unsigned long long)news->dropped);
    if (news->waiting)
        log_event(LOG_WARN, &context,
                  "%d messages wait for an earlier one of their key: the consumer pauses until "
                  "they need not (order_by)",
                  news->waiting);
}

void source_count_queued(struct source *source, const struct delivery *delivery)
{
    must_hold(&source->scripts->dispatch->lock);
    source_state_queue(&source->state, delivery->packet.len);
    source->scripts->dispatch->queued++;
}

void source_count_unqueued(struct source *source, const struct delivery *delivery)
{
    must_hold(&source->scripts->dispatch->lock);
    source_state_unqueue(&source->state, delivery->packet.len);
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
                    struct push_news *news)
{
    bool held_back = key && lanes_hold_back(source->lanes, delivery);
    if (!held_back && (!key || lane_enter(source->lanes, delivery, key, &news->waiting)))
        DL_APPEND(source->fifo, delivery);
    if (key && lanes_starved(source->lanes))
        source_try_again(source);
    source_count_queued(source, delivery);
    if (source->state.queued == 1)
        source_batch_wait(source);
    source_ready(source);
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

/* What becomes of a message, after as many of the oldest as need be have been dropped for it:
 * these, to be released (utlist), are added to *dropped. */
static enum source_fate decide(struct source *source, const struct delivery *delivery,
                               struct delivery **dropped)
{
    enum source_fate fate;
    while ((fate = source_state_fate(&source->state, delivery->packet.len, source->fifo != NULL)) ==
           SOURCE_MAKE_ROOM) {
        struct delivery *oldest = drop_oldest(source);
        DL_APPEND(*dropped, oldest);
    }
    return fate;
}

/* With the lock held. */
static void carry_out(struct source *source, enum source_fate fate, struct delivery *delivery,
                      const char *key, struct push_news *news)
{
    switch (fate) {
    case SOURCE_QUEUE:
        enqueue(source, delivery, key, news);
        break;
    case SOURCE_PART:
        DL_APPEND(source->parting, delivery);
        break;
    case SOURCE_DROP:
        source->state.dropped++;
        break;
    case SOURCE_HAND_BACK:
    case SOURCE_MAKE_ROOM:
        break;
    }
}

/* With the lock held: a message has come, and before it some of the oldest had to go. */
static void count_arrived(struct source *source, enum source_fate fate,
                          const struct delivery *delivery, uint64_t dropped)
{
    struct tally *tally = source->registration->tally;
    must_hold(&source->scripts->dispatch->lock);
    if (fate == SOURCE_HAND_BACK || fate == SOURCE_PART)
        return;
    stat_add(&tally->received, 1);
    if (delivery->consumer && atomic_load_explicit(&delivery->attempt, memory_order_relaxed) > 1)
        stat_add(&tally->redelivered, 1);
    if (dropped)
        stat_add(&tally->dropped, dropped);
}

/* Without the lock: what nobody will handle. */
static void end_unwanted(enum source_fate fate, struct delivery *delivery)
{
    if (fate == SOURCE_HAND_BACK)
        delivery_settle(delivery, VERDICT_NAK, 0, NULL);
    if (fate == SOURCE_HAND_BACK || fate == SOURCE_DROP)
        delivery_release(delivery);
}

void source_push(struct source *source, struct delivery *delivery)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    struct delivery *dropped = NULL, *each, *next;
    struct push_news news = {0};
    char key[LANE_KEY_MAX], handler[128]; /* not cleared: they are large, and each message passes */
    bool ordered = source->lanes && lane_key(source->lanes, delivery, key);

    dispatch_lock(dispatch);
    uint64_t before = source->state.dropped;
    enum source_fate fate = decide(source, delivery, &dropped);
    carry_out(source, fate, delivery, ordered ? key : NULL, &news);
    count_arrived(source, fate, delivery, source->state.dropped - before);
    if (source->state.dropped > before) {
        news.dropped = source->state.dropped;
        news.before = before;
    }
    if (news.dropped || news.waiting)
        snprintf(handler, sizeof handler, "%s", source->registration->handler);
    dispatch_unlock(dispatch);

    if (news.dropped || news.waiting)
        log_news(source, &news, handler);
    DL_FOREACH_SAFE(dropped, each, next)
        delivery_release(each);
    end_unwanted(fate, delivery);
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
