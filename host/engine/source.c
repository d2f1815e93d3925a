/* source - where a registered handler's work comes from: starting it, stopping it. Its queue is
 * dispatch's. */
#include <stdlib.h>
#include <utlist.h>

#include "base/log.h"
#include "base/value.h"
#include "engine/internal.h"

#define SOURCE_OF_TIMER(d) ((struct source *)((char *)(d)-offsetof(struct source, timer)))

/* The clock. A tick while the last one still runs is left out: never on top of itself. */
static void on_timer(struct deadline *deadline)
{
    struct source *source = SOURCE_OF_TIMER(deadline);
    struct dispatch *dispatch = &source->engine->dispatch;
    dispatch_due(source);
    dispatch_lock(dispatch);
    source->armed--;
    if (source->state == SOURCE_SERVING && source->registration->kind == REGISTER_EVERY) {
        uint64_t period = (uint64_t)source->registration->period_ns, now = clock_now_ns();
        source->next_ns += period;
        if (source->next_ns <= now)
            source->next_ns += (now - source->next_ns) / period * period + period;
        source->armed += clock_arm(source->engine->clock, &source->timer, source->next_ns);
    }
    dispatch_unlock(dispatch);
}

/* The clock: the oldest message of a batch has waited enough. */
static void on_batch(struct deadline *deadline)
{
    struct source *source = SOURCE_OF_TIMER(deadline);
    struct dispatch *dispatch = &source->engine->dispatch;
    dispatch_lock(dispatch);
    source->armed--;
    if (source->fifo) {
        source->batch_due = true;
        dispatch_ready_source(dispatch, source);
    }
    dispatch_unlock(dispatch);
}

struct source *source_new(struct script *script, struct generation *generation,
                          struct registration *registration)
{
    struct source *source = calloc(1, sizeof *source);
    if (!source)
        return NULL;
    struct dispatch *dispatch = &script->engine->dispatch;
    source->ready.kind = READY_SOURCE;
    source->engine = script->engine;
    source->script = script;
    source->generation = generation_retain(generation);
    source->registration = registration;
    source->limit = registration->concurrency;
    source->timer.on_due = registration->batch_size ? on_batch : on_timer;
    if (registration->order != ORDER_NONE) {
        source->lanes = lanes_new(source, registration);
        if (!source->lanes) {
            generation_release(generation);
            free(source);
            return NULL;
        }
    }
    /* Both: the list is read under either. */
    pthread_mutex_lock(&script->starting);
    dispatch_lock(dispatch);
    LL_APPEND(script->sources, source);
    dispatch_unlock(dispatch);
    pthread_mutex_unlock(&script->starting);
    return source;
}

void source_drop(struct source *source)
{
    struct script *script = source->script;
    struct dispatch *dispatch = &source->engine->dispatch;
    pthread_mutex_lock(&script->starting);
    dispatch_lock(dispatch);
    LL_DELETE(script->sources, source);
    dispatch_unlock(dispatch);
    pthread_mutex_unlock(&script->starting);
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
    if (source->consumer)
        consumer_free(source->consumer);
    generation_release(source->generation);
    free(source);
}

enum source_state source_state(struct source *source)
{
    struct dispatch *dispatch = &source->engine->dispatch;
    dispatch_lock(dispatch);
    enum source_state state = source->state;
    dispatch_unlock(dispatch);
    return state;
}

static void set_state(struct source *source, enum source_state state)
{
    struct dispatch *dispatch = &source->engine->dispatch;
    dispatch_lock(dispatch);
    source->state = state;
    pthread_cond_broadcast(&dispatch->idle);
    if (state == SOURCE_STOPPED)
        generation_reap(source->generation);
    dispatch_unlock(dispatch);
}

int source_start(struct source *source, struct err *err)
{
    struct registration *registration = source->registration;
    struct engine *engine = source->engine;
    set_state(source, SOURCE_SERVING);
    switch (registration->kind) {
    case REGISTER_SUBSCRIBE:
        source->subscription =
            subscription_new(engine->bus, registration->subject, registration->queue, source, err);
        if (!source->subscription) {
            set_state(source, SOURCE_STOPPED);
            return err ? (int)err->code : ERR_CLOSED;
        }
        break;
    case REGISTER_CONSUME:
        consumer_start(source->consumer);
        break;
    case REGISTER_EVERY:
    case REGISTER_AFTER:
        if (registration->timer_cancelled) {
            set_state(source, SOURCE_STOPPED);
            break;
        }
        source->next_ns = clock_now_ns() + (uint64_t)registration->period_ns;
        dispatch_lock(&engine->dispatch);
        source->armed += clock_arm(engine->clock, &source->timer, source->next_ns);
        dispatch_unlock(&engine->dispatch);
        break;
    case REGISTER_START:
        dispatch_due(source);
        break;
    case REGISTER_STOP:
    case REGISTER_STREAM:
        break;
    }
    return 0;
}

void source_hand_back(struct source *source)
{
    struct dispatch *dispatch = &source->engine->dispatch;
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

/* Drained: only now does the server know that we take no more. Handed back earlier, a message could
 * come to the very request that we are about to leave, and wait there for ack_wait. Nothing more
 * arrives, and who waits for the stop waits for the handing back too. */
static void on_stopped(void *owner)
{
    source_hand_back(owner);
    set_state(owner, SOURCE_STOPPED); /* from here on it may be freed */
}

/* With the dispatch lock held. */
static void disarm(struct source *source)
{
    source->armed -= clock_cancel(source->engine->clock, &source->timer);
}

void source_stop(struct source *source)
{
    struct dispatch *dispatch = &source->engine->dispatch;
    dispatch_lock(dispatch);
    bool serving = source->state == SOURCE_SERVING;
    bool hook = source->registration->kind == REGISTER_STOP;
    if (serving && !hook)
        source->state = SOURCE_STOPPING;
    struct subscription *subscription = source->subscription;
    source->subscription = NULL;
    if (serving && !hook)
        disarm(source);
    dispatch_unlock(dispatch);
    if (!serving || hook)
        return;
    if (subscription) {
        subscription_stop(subscription, on_stopped);
    } else if (source->consumer) {
        struct delivery *all = dispatch_empty(source);
        dispatch_lock(dispatch);
        DL_CONCAT(source->parting, all);
        dispatch_unlock(dispatch);
        consumer_stop(source->consumer, on_stopped);
    } else {
        on_stopped(source);
    }
}

void source_mute(struct source *source)
{
    enum registration_kind kind = source->registration->kind;
    if (source->state != SOURCE_SERVING || (kind != REGISTER_EVERY && kind != REGISTER_AFTER))
        return;
    source->state = SOURCE_STOPPED;
    source->due = 0;
    disarm(source);
}

/* With the dispatch lock held: will nothing touch it any more? */
static bool has_ended(const struct source *source)
{
    bool stopped = source->state == SOURCE_STOPPED || source->registration->kind == REGISTER_STOP;
    return source->generation->closed && !source->pinned && stopped &&
           source->state != SOURCE_IDLE && !source->ready.queued && !source->waiting &&
           source->queued == 0 && !source->active && !source->parting && source->running == 0 &&
           source->armed == 0 && lanes_quiet(source->lanes);
}

void source_sweep(struct script *script)
{
    struct dispatch *dispatch = &script->engine->dispatch;
    struct source *source, *next, *ended = NULL;
    pthread_mutex_lock(&script->starting);
    dispatch_lock(dispatch);
    LL_FOREACH_SAFE(script->sources, source, next) {
        if (!has_ended(source))
            continue;
        LL_DELETE(script->sources, source);
        LL_PREPEND(ended, source);
    }
    dispatch_unlock(dispatch);
    pthread_mutex_unlock(&script->starting);
    LL_FOREACH_SAFE(ended, source, next)
        source_free(source);
}

int source_hooks_due(struct script *script, struct generation *generation,
                     enum registration_kind kind)
{
    int count = 0;
    struct source *source;
    LL_FOREACH(script->sources, source) {
        if (source->generation != generation || source->registration->kind != kind ||
            source->state != SOURCE_SERVING)
            continue;
        source->due = 1;
        dispatch_ready_source(&script->engine->dispatch, source);
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
    struct dispatch *dispatch = &instance->engine->dispatch;
    struct script *script = instance->generation->script;
    struct source *source, *found = NULL;
    dispatch_lock(dispatch);
    LL_FOREACH(script->sources, source) {
        if (source->generation == instance->generation && source->registration->index == index &&
            source->state == SOURCE_SERVING)
            found = source;
    }
    if (found)
        source_mute(found);
    dispatch_unlock(dispatch);
}
