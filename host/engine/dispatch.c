#include "engine/dispatch.h"

#include <stdio.h>
#include <utlist.h>

#include "base/log.h"
#include "engine/internal.h"

void dispatch_init(struct dispatch *dispatch)
{
    pthread_mutex_init(&dispatch->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&dispatch->work, &monotonic);
    pthread_cond_init(&dispatch->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void dispatch_destroy(struct dispatch *dispatch)
{
    pthread_cond_destroy(&dispatch->work);
    pthread_cond_destroy(&dispatch->idle);
    pthread_mutex_destroy(&dispatch->lock);
}

static void make_ready(struct dispatch *dispatch, struct engine *engine, struct ready *ready)
{
    ready->queued = true;
    DL_APPEND(dispatch->queue, ready);
    if (dispatch->sleeping > 0)
        pthread_cond_signal(&dispatch->work);
    else
        workers_watch(engine->workers);
}

static bool source_runnable(const struct source *source)
{
    return (source->fifo || source->due > 0) && (!source->limit || source->running < source->limit);
}

void dispatch_ready_source(struct dispatch *dispatch, struct source *source)
{
    if (!source->ready.queued && !source->waiting && source_runnable(source))
        make_ready(dispatch, source->engine, &source->ready);
}

void dispatch_ready_instance(struct dispatch *dispatch, struct instance *instance)
{
    if (instance->state != INSTANCE_IDLE)
        return;
    /* An instance that is closed, or not in service yet, is idle without being on the list. */
    struct generation *generation = instance->generation;
    if (instance->idle_prev)
        DL_DELETE2(generation->idle, instance, idle_prev, idle_next);
    instance->idle_prev = instance->idle_next = NULL;
    instance->state = INSTANCE_READY;
    make_ready(dispatch, instance->engine, &instance->ready);
}

void dispatch_instance_idle(struct dispatch *dispatch, struct instance *instance)
{
    struct generation *generation = instance->generation;
    instance->state = INSTANCE_IDLE;
    if (!instance->vm)
        return;
    DL_PREPEND2(generation->idle, instance, idle_prev, idle_next);
    struct source *source = generation->waiting;
    if (source) {
        DL_DELETE2(generation->waiting, source, wait_prev, wait_next);
        source->waiting = false;
        dispatch_ready_source(dispatch, source);
    }
}

/* With the lock held: a root task has ended. Returns the delivery's reference to be released
 * outside the lock. */
static void finish(struct dispatch *dispatch, struct generation *generation, struct source *source,
                   struct delivery *delivery)
{
    if (delivery)
        DL_DELETE(source->active, delivery);
    source->running--;
    generation->running--;
    dispatch->running--;
    dispatch_ready_source(dispatch, source);
    if (dispatch->draining && dispatch->running == 0 && dispatch->queued == 0)
        pthread_cond_broadcast(&dispatch->idle);
}

void dispatch_finished(struct instance *instance, struct source *source, struct delivery *delivery)
{
    if (!instance->finished.source) {
        instance->finished.source = source;
        instance->finished.delivery = delivery;
        return;
    }
    struct dispatch *dispatch = &instance->engine->dispatch;
    pthread_mutex_lock(&dispatch->lock);
    finish(dispatch, instance->generation, source, delivery);
    pthread_mutex_unlock(&dispatch->lock);
    if (delivery)
        delivery_release(delivery);
}

/* With the lock held. */
static void give_back(struct dispatch *dispatch, struct instance *instance)
{
    struct generation *generation = instance->generation;
    if (instance->finished.source) {
        finish(dispatch, generation, instance->finished.source, instance->finished.delivery);
        instance->finished.source = NULL;
        instance->finished.delivery = NULL;
    }
    if (instance->mailbox) {
        instance->state = INSTANCE_IDLE;
        dispatch_ready_instance(dispatch, instance);
    } else {
        dispatch_instance_idle(dispatch, instance);
    }
    if (generation->retired)
        generation_reap(generation);
}

/* With the lock held: a job of a source for an idle instance of its generation. */
static bool take_job(struct dispatch *dispatch, struct source *source, struct take *out)
{
    if (!source_runnable(source))
        return false;
    struct generation *generation = source->generation;
    struct instance *instance = generation->idle;
    if (!instance) {
        source->waiting = true;
        DL_APPEND2(generation->waiting, source, wait_prev, wait_next);
        generation_grow(generation);
        return false;
    }
    DL_DELETE2(generation->idle, instance, idle_prev, idle_next);
    instance->idle_prev = instance->idle_next = NULL;
    instance->state = INSTANCE_BUSY;

    struct delivery *delivery = source->fifo;
    if (delivery) {
        DL_DELETE(source->fifo, delivery);
        DL_APPEND(source->active, delivery);
        source->queued--;
        source->queued_bytes -= delivery->len;
        dispatch->queued--;
    } else {
        source->due--;
    }
    source->running++;
    generation->running++;
    dispatch->running++;
    dispatch_ready_source(dispatch, source);
    *out = (struct take){.instance = instance,
                         .source = source,
                         .registration = source->registration,
                         .delivery = delivery};
    return true;
}

static bool take_next(struct dispatch *dispatch, struct take *out)
{
    for (;;) {
        struct ready *ready = dispatch->queue;
        if (!ready)
            return false;
        DL_DELETE(dispatch->queue, ready);
        ready->queued = false;
        if (ready->kind == READY_INSTANCE) {
            struct instance *instance = (struct instance *)ready;
            instance->state = INSTANCE_BUSY;
            *out = (struct take){.instance = instance, .events = instance->mailbox};
            instance->mailbox = NULL;
            return true;
        }
        if (take_job(dispatch, (struct source *)ready, out))
            return true;
    }
}

bool dispatch_take(struct dispatch *dispatch, struct instance *done, struct take *out)
{
    struct delivery *ended = done ? done->finished.delivery : NULL;
    pthread_mutex_lock(&dispatch->lock);
    if (done)
        give_back(dispatch, done);
    bool took = !dispatch->stopping && take_next(dispatch, out);
    if (ended) {
        /* It may be the last reference: not released under the lock, nor after a long wait. */
        pthread_mutex_unlock(&dispatch->lock);
        delivery_release(ended);
        if (took)
            return true;
        pthread_mutex_lock(&dispatch->lock);
    }
    while (!took && !dispatch->stopping) {
        took = take_next(dispatch, out);
        if (took)
            break;
        dispatch->sleeping++;
        pthread_cond_wait(&dispatch->work, &dispatch->lock);
        dispatch->sleeping--;
    }
    pthread_mutex_unlock(&dispatch->lock);
    return took;
}

static void hand_back(struct delivery *delivery)
{
    delivery_settle(delivery, VERDICT_NAK, 0, NULL);
    delivery_release(delivery);
}

void dispatch_push(struct source *source, struct delivery *delivery)
{
    struct engine *engine = source->engine;
    struct dispatch *dispatch = &engine->dispatch;
    bool core = !delivery->consumer;
    uint64_t dropped = 0;
    char handler[128] = "";

    pthread_mutex_lock(&dispatch->lock);
    bool closed = source->state == SOURCE_STOPPED || (!core && source->state == SOURCE_STOPPING);
    bool full = core && (source->queued >= engine->options.subscription_messages ||
                         source->queued_bytes + delivery->len > engine->options.subscription_bytes);
    if (!closed && !full) {
        DL_APPEND(source->fifo, delivery);
        source->queued++;
        source->queued_bytes += delivery->len;
        dispatch->queued++;
        dispatch_ready_source(dispatch, source);
    } else if (full) {
        dropped = ++source->dropped;
        snprintf(handler, sizeof handler, "%s", source->registration->handler);
    }
    pthread_mutex_unlock(&dispatch->lock);

    /* At powers of two: an overload is said soon and does not flood the log. */
    if (dropped && (dropped & (dropped - 1)) == 0) {
        struct log_context context = {.script = source->script->name, .handler = handler};
        log_event(LOG_WARN, &context, "slow handler: %llu messages dropped so far",
                  (unsigned long long)dropped);
    }
    if (full)
        delivery_release(delivery);
    else if (closed)
        hand_back(delivery);
}

void dispatch_due(struct source *source)
{
    struct dispatch *dispatch = &source->engine->dispatch;
    pthread_mutex_lock(&dispatch->lock);
    if (source->state == SOURCE_SERVING && source->due == 0 && source->running == 0) {
        source->due = 1;
        dispatch_ready_source(dispatch, source);
    }
    pthread_mutex_unlock(&dispatch->lock);
}

struct delivery *dispatch_empty(struct source *source)
{
    struct dispatch *dispatch = &source->engine->dispatch;
    pthread_mutex_lock(&dispatch->lock);
    struct delivery *all = source->fifo;
    source->fifo = NULL;
    dispatch->queued -= source->queued;
    source->queued = 0;
    source->queued_bytes = 0;
    if (dispatch->running == 0 && dispatch->queued == 0)
        pthread_cond_broadcast(&dispatch->idle);
    pthread_mutex_unlock(&dispatch->lock);
    return all;
}
