/* checkout_back - what comes back: runs that have ended, what a worker has not begun, the instance.
 */
#include <stdlib.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/container.h"
#include "bus/consume/delivery.h"
#include "engine/source/checkout_private.h"
#include "engine/source/crew.h"
#include "engine/source/hand.h"
#include "engine/source/handling.h"
#include "engine/source/lane.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"
#include "engine/version/script.h"

/* --- the end of a run --- */

/* It goes to the head of the queue, for it was there before all others. */
static enum after_run requeue(struct source *source, struct delivery *delivery)
{
    if (source->state.phase != SOURCE_SERVING)
        return AFTER_HAND_BACK;
    handling_of(delivery)->rebound = false;
    DL_PREPEND(source->fifo, delivery);
    source_count_queued(source, delivery);
    source_batch_wait(source);
    return AFTER_KEPT;
}

/* Its key goes on, with it or with the next one. */
static enum after_run end_in_lane(struct source *source, struct delivery *delivery)
{
    struct delivery *next;
    /* The source has stopped since that was decided: there will be no other run. */
    bool too_late = source->state.phase != SOURCE_SERVING && lane_wants_hold(delivery);
    if (too_late)
        lane_hold(delivery, -1);
    if (lane_over(source->lanes, delivery, &next)) {
        source_count_queued(source, delivery);
        return AFTER_KEPT;
    }
    if (next)
        DL_APPEND(source->fifo, next);
    return too_late ? AFTER_HAND_BACK : AFTER_RELEASE;
}

static enum after_run end_delivery(struct source *source, struct delivery *delivery)
{
    must_hold(&source->scripts->dispatch->lock);
    DL_DELETE(source->active, delivery);
    if (handling_of(delivery)->rebound)
        return requeue(source, delivery);
    return source->lanes ? end_in_lane(source, delivery) : AFTER_RELEASE;
}

/* So many root tasks of the instance run no more. */
static void end_runs(struct instance *instance, struct source *source, int count)
{
    struct dispatch *dispatch = instance->scripts->dispatch;
    must_hold(&dispatch->lock);
    source_state_end(&source->state, count);
    instance->generation->running -= count;
    dispatch->running -= count;
    source_ready(source);
    if (dispatch->draining)
        dispatch_signal_idle(dispatch);
}

/* One of them ends, with its message (NULL: it has none). Adds to *count, unless it was counted
 * when its thread was lost, and its run was over. */
static enum after_run end_one(struct instance *instance, const struct hand_end *end, int *count)
{
    if (end->delivery && instance->lost)
        return AFTER_RELEASE;
    ++*count;
    return end->delivery ? end_delivery(end->source, end->delivery) : AFTER_KEPT;
}

/* Without the lock, as it may be the last reference. */
static void after_run(struct delivery *delivery, enum after_run after)
{
    if (!delivery || after == AFTER_KEPT)
        return;
    if (after == AFTER_HAND_BACK)
        delivery_settle(delivery, VERDICT_NAK, 0, NULL);
    delivery_release(delivery);
}

/* The runs that have ended, and whose places nobody has given back yet. */
static void take_ends(struct hand *hand, struct leftover *leftover)
{
    struct instance *instance = hand->instance;
    struct source *source = NULL;
    struct hand_end end;
    int count = 0; /* of that source */
    while (hand_take_end(hand, &end)) {
        if (count > 0 && end.source != source) {
            end_runs(instance, source, count);
            count = 0;
        }
        source = end.source;
        enum after_run after = end_one(instance, &end, &count);
        if (!end.delivery || after == AFTER_KEPT)
            continue;
        leftover->deliveries[leftover->count] = end.delivery;
        leftover->after[leftover->count++] = after;
    }
    if (count > 0)
        end_runs(instance, source, count);
}

static void end_runs_left(const struct leftover *leftover)
{
    for (int i = 0; i < leftover->count; i++)
        after_run(leftover->deliveries[i], leftover->after[i]);
}

/* What is noted, and lies in a hand that nobody looks at. */
static void tell_ends(struct instance *instance)
{
    struct dispatch *dispatch = instance->scripts->dispatch;
    struct leftover leftover;
    leftover.count = 0;
    dispatch_lock(dispatch);
    take_ends(instance->hand, &leftover);
    dispatch_unlock(dispatch);
    end_runs_left(&leftover);
}

void checkout_ended(struct instance *instance, struct source *source, struct delivery *delivery)
{
    bool goes_on = instance->runnable != NULL;
    if (hand_note_end(instance->hand, source, delivery, goes_on)) {
        if (goes_on && hand_is_left(instance->hand))
            tell_ends(instance);
        return;
    }
    struct dispatch *dispatch = instance->scripts->dispatch;
    dispatch_lock(dispatch);
    int count = 0;
    struct hand_end end = {source, delivery};
    enum after_run after = end_one(instance, &end, &count);
    if (count)
        end_runs(instance, source, count);
    dispatch_unlock(dispatch);
    after_run(delivery, after);
}

void checkout_ended_batch(struct instance *instance, struct source *source, struct delivery **batch,
                          int count)
{
    struct dispatch *dispatch = instance->scripts->dispatch;
    dispatch_lock(dispatch);
    if (!instance->lost) {
        /* Backwards, as each that is queued again goes to the front. */
        for (int i = count - 1; i >= 0; i--) {
            if (end_delivery(source, batch[i]) == AFTER_KEPT)
                batch[i] = NULL;
        }
        end_runs(instance, source, 1);
    }
    dispatch_unlock(dispatch);
    for (int i = 0; i < count; i++) {
        if (batch[i])
            after_run(batch[i], handling_of(batch[i])->rebound ? AFTER_HAND_BACK : AFTER_RELEASE);
    }
}

bool checkout_rebind(struct source *source, struct delivery *delivery)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    dispatch_lock(dispatch);
    bool serves = source->state.phase == SOURCE_SERVING && !delivery_settled(delivery);
    if (serves && handling_of(delivery)->lane)
        lane_hold(delivery, 0);
    else
        handling_of(delivery)->rebound = serves;
    dispatch_unlock(dispatch);
    return serves;
}

bool checkout_hold(struct source *source, struct delivery *delivery, int64_t delay_ns)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    dispatch_lock(dispatch);
    bool holds = handling_of(delivery)->lane && source->state.phase == SOURCE_SERVING;
    if (holds)
        lane_hold(delivery, delay_ns);
    dispatch_unlock(dispatch);
    return holds;
}

static void lose_active(struct source *source, struct instance *instance, struct delivery **lost)
{
    struct delivery *delivery, *next, *after;
    DL_FOREACH_SAFE(source->active, delivery, next) {
        if (handling_of(delivery)->runs_on != instance)
            continue;
        DL_DELETE(source->active, delivery);
        handling_of(delivery)->runs_on = NULL;
        if (source->lanes) {
            lane_hold(delivery, -1);
            if (!lane_over(source->lanes, delivery, &after) && after)
                DL_APPEND(source->fifo, after);
        }
        delivery_retain(delivery);
        DL_APPEND(*lost, delivery);
        if (handling_of(delivery)->follows)
            continue;
        source_state_end(&source->state, 1);
        instance->generation->running--;
        source->scripts->dispatch->running--;
        source_ready(source);
    }
}

struct delivery *checkout_lose(struct instance *instance)
{
    struct delivery *lost = NULL;
    struct source *source;
    must_hold(&instance->scripts->dispatch->lock);
    source_take_back(instance->hand);
    instance->lost = true;
    LL_FOREACH(instance->generation->script->sources, source) {
        source->state.pinned = true;
        lose_active(source, instance, &lost);
    }
    crew_remove(instance);
    return lost;
}

/* --- checking in --- */

void checkout_in(struct instance *instance, struct leftover *leftover)
{
    struct generation *generation = instance->generation;
    struct dispatch *dispatch = instance->scripts->dispatch;
    struct hand *hand = instance->hand;
    must_hold(&dispatch->lock);
    leftover->count = 0;
    source_take_back(hand);
    take_ends(hand, leftover);
    hand_unwatch(dispatch->hands, hand);
    instance->hand = NULL;
    if (instance->mailbox) {
        instance->state = INSTANCE_IDLE;
        instance_ready(instance);
    } else {
        crew_idle(instance);
    }
    if (generation->retired)
        crew_reap(generation);
    leftover->last = instance_unref(instance) ? instance : NULL;
}

void checkout_end_leftover(const struct leftover *leftover)
{
    end_runs_left(leftover);
    if (leftover->last)
        instance_free(leftover->last);
}

void checkout_return(struct dispatch *dispatch, struct instance *had)
{
    struct leftover leftover;
    dispatch_lock(dispatch);
    checkout_in(had, &leftover);
    dispatch_unlock(dispatch);
    checkout_end_leftover(&leftover);
}

/* One worker computes: others go on with what it has in hand. */
static void relieve(struct hands *hands, struct hand *hand, struct leftover *leftover)
{
    source_take_back(hand);
    hand_unwatch(hands, hand);
    take_ends(hand, leftover);
}

void checkout_relieve(struct deadline *look)
{
    struct hands *hands = container_of(look, struct hands, look);
    struct hand *late;
    do {
        struct leftover leftover;
        leftover.count = 0;
        leftover.last = NULL;
        dispatch_lock(hands->dispatch);
        late = hands_late(hands, clock_now_ns());
        if (late)
            relieve(hands, late, &leftover);
        dispatch_unlock(hands->dispatch);
        checkout_end_leftover(&leftover);
    } while (late);
}
