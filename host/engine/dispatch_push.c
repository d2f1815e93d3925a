/* What comes to a source: its messages, the ticks of its timer; and what is taken off its queue
 * again, as it has not started. */
#include <stdio.h>
#include <utlist.h>

#include "base/log.h"
#include "engine/dispatch.h"
#include "engine/internal.h"

static void hand_back(struct delivery *delivery)
{
    delivery_settle(delivery, VERDICT_NAK, 0, NULL);
    delivery_release(delivery);
}

/* What a push has to say, once the lock is given back. */
struct push_news {
    uint64_t dropped; /* so far; 0: nothing was dropped now */
    int waiting;      /* for others of their key; 0: nothing to say of that */
    uint64_t before;  /* dropped until now */
    char handler[128];
};

/* Has the count passed a power of two? */
static bool is_round(uint64_t before, uint64_t now)
{
    return (before ^ now) > before;
}

static void tell_news(const struct source *source, const struct push_news *news)
{
    struct log_context context = {.script = source->script->name, .handler = news->handler};
    /* At powers of two: an overload is said soon and does not flood the log. */
    if (is_round(news->before, news->dropped))
        log_event(LOG_WARN, &context, "slow handler: %llu messages dropped so far",
                  (unsigned long long)news->dropped);
    if (news->waiting)
        log_event(LOG_WARN, &context,
                  "%d messages wait for others of their key: the consumer pauses as long as they "
                  "do (order_by)",
                  news->waiting);
}

/* With the lock held: it is queued, or waits in its lane. */
static void enqueue(struct dispatch *dispatch, struct source *source, struct delivery *delivery,
                    const char *key, struct push_news *news)
{
    if (!key || lane_enter(source->lanes, delivery, key, &news->waiting))
        DL_APPEND(source->fifo, delivery);
    source->queued++;
    source->queued_bytes += delivery->len;
    dispatch->queued++;
    if (source->queued == 1)
        dispatch_batch_wait(source);
    dispatch_ready_source(dispatch, source);
}

static bool has_room(const struct source *source, const struct delivery *delivery)
{
    const struct engine_options *options = &source->engine->options;
    return source->queued < options->subscription_messages &&
           source->queued_bytes + delivery->len <= options->subscription_bytes;
}

/* With the lock held. Takes messages off the queue until there is room for this one; returns them,
 * to be released (utlist). One that is larger than the whole bound finds none. */
static struct delivery *make_room(struct dispatch *dispatch, struct source *source,
                                  const struct delivery *delivery)
{
    struct delivery *oldest, *dropped = NULL;
    while (!has_room(source, delivery) && (oldest = source->fifo)) {
        DL_DELETE(source->fifo, oldest);
        source->queued--;
        source->queued_bytes -= oldest->len;
        dispatch->queued--;
        source->dropped++;
        DL_APPEND(dropped, oldest);
    }
    return dropped;
}

void dispatch_push(struct source *source, struct delivery *delivery)
{
    struct dispatch *dispatch = &source->engine->dispatch;
    struct delivery *dropped = NULL, *each, *next;
    bool core = !delivery->consumer;
    struct push_news news = {0};
    char key[LANE_KEY_MAX];
    bool ordered = source->lanes && lane_key(source->lanes, delivery, key);

    dispatch_lock(dispatch);
    bool parts = !core && source->state == SOURCE_STOPPING;
    bool closed = source->state == SOURCE_STOPPED;
    uint64_t dropped_before = source->dropped;
    if (core && !closed && source->registration->drop_old)
        dropped = make_room(dispatch, source, delivery);
    bool full = core && !has_room(source, delivery);
    if (parts)
        DL_APPEND(source->parting, delivery);
    else if (!closed && full)
        source->dropped++;
    else if (!closed)
        enqueue(dispatch, source, delivery, ordered ? key : NULL, &news);
    if (source->dropped > dropped_before)
        news = (struct push_news){source->dropped, news.waiting, dropped_before, ""};
    if (news.dropped || news.waiting)
        snprintf(news.handler, sizeof news.handler, "%s", source->registration->handler);
    dispatch_unlock(dispatch);

    if (news.dropped || news.waiting)
        tell_news(source, &news);
    DL_FOREACH_SAFE(dropped, each, next)
        delivery_release(each);
    if (closed)
        hand_back(delivery);
    else if (!parts && full)
        delivery_release(delivery);
}

void dispatch_due(struct source *source)
{
    struct dispatch *dispatch = &source->engine->dispatch;
    dispatch_lock(dispatch);
    if (source->state == SOURCE_SERVING && source->due == 0 && source->running == 0) {
        source->due = 1;
        dispatch_ready_source(dispatch, source);
    }
    dispatch_unlock(dispatch);
}

struct delivery *dispatch_empty(struct source *source)
{
    struct dispatch *dispatch = &source->engine->dispatch;
    dispatch_lock(dispatch);
    struct delivery *all = source->fifo, *delivery, *next;
    source->fifo = NULL;
    if (source->lanes) {
        struct delivery *waiting = lanes_empty(source->lanes);
        DL_FOREACH(all, delivery)
            lane_over(source->lanes, delivery, &next);
        DL_CONCAT(all, waiting);
    }
    dispatch->queued -= source->queued;
    source->queued = 0;
    source->queued_bytes = 0;
    if (dispatch->running == 0 && dispatch->queued == 0)
        pthread_cond_broadcast(&dispatch->idle);
    dispatch_unlock(dispatch);
    return all;
}
