#include "engine/dispatch.h"

#include <utlist.h>

#include "base/thread.h"
#include "base/value.h"
#include "engine/internal.h"

void dispatch_init(struct dispatch *dispatch)
{
    thread_mutex_init(&dispatch->lock);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&dispatch->idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void dispatch_destroy(struct dispatch *dispatch)
{
    pthread_cond_destroy(&dispatch->idle);
    pthread_mutex_destroy(&dispatch->lock);
}

static void post(struct sleeper *woken)
{
    while (woken) {
        struct sleeper *next = woken->next; /* of one that is posted nothing may be touched */
        sem_post(&woken->posted);
        woken = next;
    }
}

void dispatch_lock(struct dispatch *dispatch)
{
    pthread_mutex_lock(&dispatch->lock);
}

void dispatch_unlock(struct dispatch *dispatch)
{
    struct sleeper *woken = dispatch->woken;
    dispatch->woken = NULL;
    pthread_mutex_unlock(&dispatch->lock);
    post(woken);
}

int dispatch_wait(struct dispatch *dispatch, pthread_cond_t *cond, uint64_t until_ns)
{
    struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S),
                             .tv_nsec = (long)(until_ns % NS_PER_S)};
    post(dispatch->woken);
    dispatch->woken = NULL;
    return pthread_cond_timedwait(cond, &dispatch->lock, &until);
}

bool dispatch_wake(struct dispatch *dispatch)
{
    struct sleeper *sleeper = dispatch->sleepers;
    if (!sleeper)
        return false;
    dispatch->sleepers = sleeper->next;
    dispatch->sleeping--;
    sleeper->next = dispatch->woken;
    dispatch->woken = sleeper;
    return true;
}

/* With the lock held, which is given back meanwhile: until dispatch_wake has taken this one. */
static void sleep_here(struct dispatch *dispatch, struct sleeper *sleeper)
{
    sleeper->next = dispatch->sleepers;
    dispatch->sleepers = sleeper;
    dispatch->sleeping++;
    dispatch_unlock(dispatch);
    while (sem_wait(&sleeper->posted) != 0) { /* a signal of the watchdog */
    }
    dispatch_lock(dispatch);
}

static void make_ready(struct dispatch *dispatch, struct engine *engine, struct ready *ready)
{
    ready->queued = true;
    DL_APPEND(dispatch->queue, ready);
    if (!dispatch_wake(dispatch))
        workers_watch(engine->workers);
}

/* Of what the messages of one batch add up to: a share of the memory that the script may use, for
 * it will decode them. A larger message is a batch of its own. */
#define BATCH_SHARE 4

static size_t batch_bytes(const struct source *source)
{
    size_t memory = source->generation->memory_bytes;
    return memory ? memory / BATCH_SHARE : SIZE_MAX;
}

static bool source_runnable(const struct source *source)
{
    if (source->limit && source->running >= source->limit)
        return false;
    if (source->due > 0)
        return true;
    int size = source->registration->batch_size;
    bool enough = !size || source->queued >= size || source->batch_due ||
                  source->queued_bytes >= batch_bytes(source);
    return source->fifo && enough;
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
    if (!instance->vm || instance->worn)
        return;
    DL_PREPEND2(generation->idle, instance, idle_prev, idle_next);
    struct source *source = generation->waiting;
    if (source) {
        DL_DELETE2(generation->waiting, source, wait_prev, wait_next);
        source->waiting = false;
        dispatch_ready_source(dispatch, source);
    }
}

/* What is to be done with a delivery whose run is over, when the lock has been given back. */
enum over { OVER_RELEASE, OVER_HELD, OVER_HAND_BACK };

/* With the lock held: it goes to the head of the queue, for it was there before all others. */
static enum over rebind(struct dispatch *dispatch, struct source *source, struct delivery *delivery)
{
    if (source->state != SOURCE_SERVING)
        return OVER_HAND_BACK;
    delivery->rebound = false;
    DL_PREPEND(source->fifo, delivery);
    source->queued++;
    source->queued_bytes += delivery->len;
    dispatch->queued++;
    dispatch_batch_wait(source);
    return OVER_HELD;
}

/* With the lock held. */
static enum over leave_active(struct dispatch *dispatch, struct source *source,
                              struct delivery *delivery)
{
    struct delivery *next;
    DL_DELETE(source->active, delivery);
    if (delivery->rebound)
        return rebind(dispatch, source, delivery);
    if (!source->lanes)
        return OVER_RELEASE;
    /* The source has stopped since that was decided: there will be no other run. */
    bool parts = source->state != SOURCE_SERVING && lane_wants_hold(delivery);
    if (parts)
        lane_hold(delivery, -1);
    if (lane_over(source->lanes, delivery, &next)) {
        source->queued++;
        source->queued_bytes += delivery->len;
        dispatch->queued++;
        return OVER_HELD;
    }
    if (next)
        DL_APPEND(source->fifo, next);
    return parts ? OVER_HAND_BACK : OVER_RELEASE;
}

static void dispose(struct delivery *delivery, enum over over)
{
    if (over == OVER_HELD)
        return;
    if (over == OVER_HAND_BACK)
        delivery_settle(delivery, VERDICT_NAK, 0, NULL);
    delivery_release(delivery);
}

/* With the lock held: a root task has ended. */
static enum over finish(struct dispatch *dispatch, struct instance *instance, struct source *source,
                        struct delivery *delivery)
{
    struct generation *generation = instance->generation;
    enum over over = OVER_RELEASE;
    if (delivery && instance->lost)
        return over; /* its run was over when the thread was given up */
    if (delivery)
        over = leave_active(dispatch, source, delivery);
    source->running--;
    generation->running--;
    dispatch->running--;
    dispatch_ready_source(dispatch, source);
    if (dispatch->draining && dispatch->running == 0 && dispatch->queued == 0)
        pthread_cond_broadcast(&dispatch->idle);
    return over;
}

void dispatch_finished(struct instance *instance, struct source *source, struct delivery *delivery)
{
    if (!instance->finished.source) {
        instance->finished.source = source;
        instance->finished.delivery = delivery;
        return;
    }
    struct dispatch *dispatch = &instance->engine->dispatch;
    dispatch_lock(dispatch);
    enum over over = finish(dispatch, instance, source, delivery);
    dispatch_unlock(dispatch);
    if (delivery)
        dispose(delivery, over);
}

void dispatch_finished_batch(struct instance *instance, struct source *source,
                             struct delivery **batch, int count)
{
    struct dispatch *dispatch = &instance->engine->dispatch;
    dispatch_lock(dispatch);
    if (!instance->lost) {
        for (int i = count - 1; i >= 0; i--) {
            if (leave_active(dispatch, source, batch[i]) == OVER_HELD)
                batch[i] = NULL;
        }
        finish(dispatch, instance, source, NULL);
    }
    dispatch_unlock(dispatch);
    for (int i = 0; i < count; i++) {
        if (batch[i])
            dispose(batch[i], batch[i]->rebound ? OVER_HAND_BACK : OVER_RELEASE);
    }
}

bool dispatch_rebind(struct source *source, struct delivery *delivery)
{
    struct dispatch *dispatch = &source->engine->dispatch;
    dispatch_lock(dispatch);
    bool serves = source->state == SOURCE_SERVING && !delivery_settled(delivery);
    if (serves && delivery->lane)
        lane_hold(delivery, 0);
    else
        delivery->rebound = serves;
    dispatch_unlock(dispatch);
    return serves;
}

bool dispatch_hold(struct source *source, struct delivery *delivery, int64_t delay_ns)
{
    struct dispatch *dispatch = &source->engine->dispatch;
    dispatch_lock(dispatch);
    bool holds = delivery->lane && source->state == SOURCE_SERVING;
    if (holds)
        lane_hold(delivery, delay_ns);
    dispatch_unlock(dispatch);
    return holds;
}

/* With the lock held. */
static enum over give_back(struct dispatch *dispatch, struct instance *instance)
{
    struct generation *generation = instance->generation;
    enum over over = OVER_RELEASE;
    if (instance->finished.source) {
        over = finish(dispatch, instance, instance->finished.source, instance->finished.delivery);
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
    return over;
}

/* With the lock held: what was queued and starts now. */
static void begin(struct dispatch *dispatch, struct source *source, struct delivery *delivery,
                  uint64_t now_ns)
{
    DL_DELETE(source->fifo, delivery);
    DL_APPEND(source->active, delivery);
    delivery->started_ns = now_ns;
    source->queued--;
    source->queued_bytes -= delivery->len;
    dispatch->queued--;
}

void dispatch_batch_wait(struct source *source)
{
    if (!source->registration->batch_size || !source->fifo)
        return;
    uint64_t wait = (uint64_t)source->registration->batch_wait_ns;
    source->armed += clock_arm(source->engine->clock, &source->timer, clock_now_ns() + wait);
}

/* With the lock held. False: no memory for it now. */
static bool take_batch(struct dispatch *dispatch, struct source *source, struct take *out)
{
    int size = source->registration->batch_size, count = 0;
    int most = source->queued < size ? source->queued : size;
    size_t bytes = 0;
    struct delivery **batch = malloc((size_t)most * sizeof *batch);
    if (!batch)
        return false;
    while (count < most && (!count || bytes + source->fifo->len <= batch_bytes(source))) {
        bytes += source->fifo->len;
        batch[count] = source->fifo;
        begin(dispatch, source, batch[count++], out->now_ns);
    }
    out->batch = batch;
    out->batch_count = count;
    out->delivery = batch[0];
    source->batch_due = false;
    dispatch_batch_wait(source);
    return true;
}

/* With the lock held: a job of a source for an idle instance of its generation. */
static bool take_job(struct dispatch *dispatch, struct source *source, struct take *out)
{
    if (!source_runnable(source))
        return false;
    struct generation *generation = source->generation;
    struct instance *instance = generation->idle;
    *out = (struct take){
        .source = source, .registration = source->registration, .now_ns = clock_now_ns()};
    if (!instance) {
        source->waiting = true;
        DL_APPEND2(generation->waiting, source, wait_prev, wait_next);
        generation_grow(generation);
        return false;
    }
    if (source->fifo && source->registration->batch_size) {
        if (!take_batch(dispatch, source, out))
            return false;
    } else if (source->fifo) {
        out->delivery = source->fifo;
        begin(dispatch, source, out->delivery, out->now_ns);
    } else {
        source->due--;
    }
    DL_DELETE2(generation->idle, instance, idle_prev, idle_next);
    instance->idle_prev = instance->idle_next = NULL;
    instance->state = INSTANCE_BUSY;
    out->instance = instance_retain(instance);
    source->running++;
    generation->running++;
    dispatch->running++;
    for (int i = 0; i < out->batch_count; i++) {
        out->batch[i]->runs_on = instance;
        out->batch[i]->follows = i > 0;
    }
    if (out->delivery)
        out->delivery->runs_on = instance;
    dispatch_ready_source(dispatch, source);
    return true;
}

/* With the lock held: what is ready next. */
static bool take_first(struct dispatch *dispatch, struct take *out)
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
            *out = (struct take){.instance = instance_retain(instance),
                                 .events = instance->mailbox,
                                 .now_ns = clock_now_ns()};
            instance->mailbox = NULL;
            return true;
        }
        if (take_job(dispatch, (struct source *)ready, out))
            return true;
    }
}

/* With the lock held. Two that became ready while the last worker slept have both woken that one:
 * nobody comes for what it leaves behind, so the watch is set here. */
static bool take_next(struct dispatch *dispatch, struct take *out)
{
    if (!take_first(dispatch, out))
        return false;
    dispatch->takes++;
    struct engine *engine = out->instance->engine;
    watchdog_wake(engine->watchdog);
    if (dispatch->queue && !dispatch->sleepers)
        workers_watch(engine->workers);
    return true;
}

bool dispatch_take(struct dispatch *dispatch, struct sleeper *sleeper, struct instance *done,
                   struct take *out)
{
    struct delivery *ended = done ? done->finished.delivery : NULL;
    dispatch_lock(dispatch);
    enum over over = done ? give_back(dispatch, done) : OVER_RELEASE;
    bool last = done && atomic_fetch_sub_explicit(&done->references, 1, memory_order_acq_rel) == 1;
    bool took = !dispatch->stopping && take_next(dispatch, out);
    if (ended || last) {
        /* It may be the last reference: not released under the lock, nor after a long wait. */
        dispatch_unlock(dispatch);
        if (ended)
            dispose(ended, over);
        if (last)
            instance_destroy(done);
        if (took)
            return true;
        dispatch_lock(dispatch);
    }
    while (!took && !dispatch->stopping) {
        took = take_next(dispatch, out);
        if (took)
            break;
        sleep_here(dispatch, sleeper);
    }
    dispatch_unlock(dispatch);
    return took;
}

void dispatch_give_back(struct dispatch *dispatch, struct instance *done)
{
    struct delivery *ended = done->finished.delivery;
    dispatch_lock(dispatch);
    enum over over = give_back(dispatch, done);
    dispatch_unlock(dispatch);
    if (ended)
        dispose(ended, over);
    instance_release(done);
}
