/* source - making it, starting it, stopping it; its timers and hooks. */
#include "engine/source/source.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/container.h"
#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/consume/delivery.h"
#include "engine/source/crew.h"
#include "engine/source/kind.h"
#include "engine/source/lane.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"
#include "engine/version/script.h"

/* Of what the messages of one batch add up to: a share of the memory that the script may use, for
 * it will decode them. A larger message is a batch of its own. */
#define BATCH_SHARE 4
/* A start that has no memory is tried again after so long, for so long. */
#define START_AGAIN_NS (100 * NS_PER_MS)
#define START_MEMORY_NS ((uint64_t)5 * (uint64_t)NS_PER_S)

void source_tick(struct source *source)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    dispatch_lock(dispatch);
    if (source_state_tick(&source->state))
        source_ready(source);
    dispatch_unlock(dispatch);
}

/* The clock: the oldest message of a batch has waited enough, or something is tried again for which
 * there was no memory. */
static void on_wait_over(struct deadline *deadline)
{
    struct source *source = container_of(deadline, struct source, timer);
    struct dispatch *dispatch = source->scripts->dispatch;
    dispatch_lock(dispatch);
    source->state.armed--;
    if (source->lanes)
        source_end_hold_back(source);
    if (source->fifo) {
        source->state.batch_due = true;
        source_ready(source);
    }
    dispatch_unlock(dispatch);
}

/* The clock, with the dispatch lock held: a message of an ordered source is run again. */
static void on_retry(void *owner, struct delivery *delivery)
{
    struct source *source = owner;
    DL_APPEND(source->fifo, delivery);
    source_ready(source);
}

/* What its registration and its generation state. */
static void apply_rules(struct source *source)
{
    const struct registration *registration = source->registration;
    size_t memory = source->generation->memory_bytes;
    source->state.rules = (struct source_rules){
        .limit = registration->concurrency,
        .messages = source->scripts->messages,
        .bytes = source->scripts->bytes,
        .drop_old = registration->drop_old,
        .batch = registration->batch_size,
        .batch_bytes = memory ? memory / BATCH_SHARE : SIZE_MAX,
    };
}

struct source *source_new(struct script *script, struct generation *generation,
                          struct registration *registration)
{
    struct source *source = calloc(1, sizeof *source);
    if (!source)
        return NULL;
    struct scripts *scripts = script->scripts;
    source->ready.kind = READY_SOURCE;
    source->scripts = scripts;
    source->script = script;
    source->generation = generation_retain(generation);
    source->registration = registration;
    source_state_init(&source->state, registration->kind->brings);
    apply_rules(source);
    source->timer.on_due = on_wait_over;
    if (registration->order != ORDER_NONE) {
        source->lanes =
            lanes_new(registration, scripts->clock, scripts->dispatch, on_retry, source);
        if (!source->lanes) {
            generation_release(generation);
            free(source);
            return NULL;
        }
    }
    /* Both: the list is read under either. */
    mutex_lock(&script->starting);
    dispatch_lock(scripts->dispatch);
    LL_APPEND(script->sources, source);
    dispatch_unlock(scripts->dispatch);
    mutex_unlock(&script->starting);
    return source;
}

void source_free_unstarted(struct source *source)
{
    struct script *script = source->script;
    struct dispatch *dispatch = source->scripts->dispatch;
    mutex_lock(&script->starting);
    dispatch_lock(dispatch);
    LL_DELETE(script->sources, source);
    dispatch_unlock(dispatch);
    mutex_unlock(&script->starting);
    source_free(source);
}

void source_free(struct source *source)
{
    struct delivery *delivery, *next;
    DL_FOREACH_SAFE(source->fifo, delivery, next) {
        DL_DELETE(source->fifo, delivery);
        delivery_release(delivery);
    }
    lanes_free(source->lanes);
    if (source->registration->kind->clear)
        source->registration->kind->clear(source);
    generation_release(source->generation);
    free(source);
}

enum source_phase source_phase(struct source *source)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    dispatch_lock(dispatch);
    enum source_phase phase = source->state.phase;
    dispatch_unlock(dispatch);
    return phase;
}

void source_arm(struct source *source, uint64_t due_ns)
{
    must_hold(&source->scripts->dispatch->lock);
    source->next_ns = due_ns;
    source->state.armed += clock_arm(source->scripts->clock, &source->timer, due_ns);
}

static void disarm(struct source *source)
{
    source->state.armed -= clock_cancel(source->scripts->clock, &source->timer);
}

/* It is STOPPED: nothing comes any more. Wakes those that wait for that. It may be freed as soon as
 * the lock is released. */
static void note_stopped(struct source *source)
{
    must_hold(&source->scripts->dispatch->lock);
    cond_broadcast(&source->scripts->dispatch->idle);
    crew_reap(source->generation);
}

/* What runs short of memory may have it in a moment; its version would serve by half without it. */
static int start_kind(struct source *source, struct err *err)
{
    const struct kind *kind = source->registration->kind;
    uint64_t until_ns = clock_now_ns() + START_MEMORY_NS;
    int code;
    while ((code = kind->start(source, err)) == ERR_MEMORY && clock_now_ns() < until_ns)
        thread_sleep_until(clock_now_ns() + (uint64_t)START_AGAIN_NS);
    return code;
}

int source_start(struct source *source, struct err *err)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    must_hold(&source->script->starting);
    dispatch_lock(dispatch);
    source_state_start(&source->state);
    dispatch_unlock(dispatch);
    int code = source->registration->kind->start ? start_kind(source, err) : 0;
    if (code) {
        dispatch_lock(dispatch);
        source_state_fail(&source->state);
        note_stopped(source);
        dispatch_unlock(dispatch);
    }
    return code;
}

void source_hand_back(struct source *source)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    struct delivery *delivery, *next;
    dispatch_lock(dispatch);
    struct delivery *all = source->parting;
    source->parting = NULL;
    dispatch_unlock(dispatch);
    DL_FOREACH_SAFE(all, delivery, next) {
        delivery_settle(delivery, VERDICT_NAK, 0, NULL);
        delivery_release(delivery);
    }
}

/* Drained: only now does the server know that we accept no more. If a message were handed back
 * earlier, it could be delivered to the very request that we are about to drop, and wait there for
 * ack_wait. Nothing more arrives, and the end of the stop waits for the handing back, too. */
static void on_drained(void *owner)
{
    struct source *source = owner;
    struct dispatch *dispatch = source->scripts->dispatch;
    source_hand_back(source);
    dispatch_lock(dispatch);
    source_state_drained(&source->state);
    note_stopped(source);
    dispatch_unlock(dispatch);
}

void source_stop(struct source *source)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    must_hold(&source->script->starting);
    dispatch_lock(dispatch);
    enum source_stop stop = source_state_stop(&source->state);
    if (stop != SOURCE_STOP_NOTHING)
        disarm(source);
    if (stop == SOURCE_STOP_ENDED)
        note_stopped(source);
    dispatch_unlock(dispatch);
    if (stop == SOURCE_STOP_DRAIN)
        source->registration->kind->stop(source, on_drained);
}

void source_hand_over(struct source *source, struct generation *generation)
{
    struct generation *old = source->generation;
    must_hold(&source->scripts->dispatch->lock);
    source_take_all_back(source);
    if (source->waiting) {
        DL_DELETE2(old->waiting, source, wait_prev, wait_next);
        source->waiting = false;
    }
    source->generation = generation_retain(generation);
    source->registration = source->heir;
    source->heir = NULL;
    if (source->registration->kind->on_hand_over)
        source->registration->kind->on_hand_over(source);
    apply_rules(source);
    source_ready(source);
    generation_release(old); /* never the last: the script has one */
}

void source_cancel(struct source *source)
{
    must_hold(&source->scripts->dispatch->lock);
    if (!source_state_cancel(&source->state))
        return;
    disarm(source);
    note_stopped(source);
}

/* Will nothing touch it any more? */
static bool has_ended(const struct source *source)
{
    return source->generation->closed && source_state_has_ended(&source->state) &&
           !source->ready.queued && !source->waiting && !source->active && !source->parting &&
           lanes_quiet(source->lanes);
}

void source_reap(struct script *script)
{
    struct dispatch *dispatch = script->scripts->dispatch;
    struct source *source, *next, *ended = NULL;
    mutex_lock(&script->starting);
    dispatch_lock(dispatch);
    LL_FOREACH_SAFE(script->sources, source, next) {
        if (!has_ended(source))
            continue;
        LL_DELETE(script->sources, source);
        LL_PREPEND(ended, source);
    }
    dispatch_unlock(dispatch);
    mutex_unlock(&script->starting);
    LL_FOREACH_SAFE(ended, source, next)
        source_free(source);
}

int source_hooks_due(struct script *script, struct generation *generation,
                     enum source_brings brings)
{
    int count = 0;
    struct source *source;
    must_hold(&script->scripts->dispatch->lock);
    LL_FOREACH(script->sources, source) {
        if (source->generation != generation || source->state.brings != brings ||
            !source_state_owe(&source->state))
            continue;
        source_ready(source);
        count++;
    }
    return count;
}

void source_cancel_timer(struct instance *instance, int index)
{
    if (instance->loading) {
        instance->loading->items[index - 1]->timer_cancelled = true;
        return;
    }
    struct dispatch *dispatch = instance->scripts->dispatch;
    struct script *script = instance->generation->script;
    struct source *source, *found = NULL;
    if (instance->order)
        index = instance->order[index - 1] + 1;
    dispatch_lock(dispatch);
    LL_FOREACH(script->sources, source) {
        if (source->generation == instance->generation && source->registration->index == index &&
            source->state.phase == SOURCE_SERVING)
            found = source;
    }
    if (found)
        source_cancel(found);
    dispatch_unlock(dispatch);
}
