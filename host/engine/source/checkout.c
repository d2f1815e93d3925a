/* checkout - an instance and a job for a worker, and back. */
#include "engine/source/checkout.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/container.h"
#include "bus/consume/delivery.h"
#include "engine/source/crew.h"
#include "engine/source/handling.h"
#include "engine/source/kind.h"
#include "engine/source/lane.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"
#include "engine/version/script.h"

/* --- the end of a run --- */

/* What becomes of a message whose run has ended, when the lock has been released. */
enum after_run {
    AFTER_RELEASE,   /* it has had its verdict, or somebody else sees to that */
    AFTER_KEPT,      /* it is queued again, or its lane holds it */
    AFTER_HAND_BACK, /* it was to run again, but its source has stopped */
};

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

/* A root task of the instance runs no more. */
static void end_run(struct instance *instance, struct source *source)
{
    struct dispatch *dispatch = instance->scripts->dispatch;
    must_hold(&dispatch->lock);
    source_state_end(&source->state);
    instance->generation->running--;
    dispatch->running--;
    source_ready(source);
    if (dispatch->draining)
        dispatch_signal_idle(dispatch);
}

/* The same with its message; NULL: it had none. */
static enum after_run end_run_of(struct instance *instance, struct source *source,
                                 struct delivery *delivery)
{
    if (delivery && instance->lost)
        return AFTER_RELEASE; /* its run was over when the thread was lost */
    enum after_run after = delivery ? end_delivery(source, delivery) : AFTER_KEPT;
    end_run(instance, source);
    return after;
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

void checkout_ended(struct instance *instance, struct source *source, struct delivery *delivery)
{
    if (!instance->ended.source) {
        instance->ended = (struct ended_root){source, delivery};
        return;
    }
    struct dispatch *dispatch = instance->scripts->dispatch;
    dispatch_lock(dispatch);
    enum after_run after = end_run_of(instance, source, delivery);
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
        end_run(instance, source);
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
        source_state_end(&source->state);
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
    instance->lost = true;
    LL_FOREACH(instance->generation->script->sources, source) {
        source->state.pinned = true;
        lose_active(source, instance, &lost);
    }
    crew_remove(instance);
    return lost;
}

/* --- the next job --- */

/* What was queued starts now. */
static void begin_delivery(struct source *source, struct delivery *delivery, uint64_t now_ns)
{
    DL_DELETE(source->fifo, delivery);
    DL_APPEND(source->active, delivery);
    handling_of(delivery)->started_ns = now_ns;
    source_count_unqueued(source, delivery);
}

/* False: no memory for it now. */
static bool take_batch(struct source *source, struct job *job)
{
    const struct source_rules *rules = &source->state.rules;
    int count = 0, most = source->state.queued;
    size_t bytes = 0;
    if (most > rules->batch)
        most = rules->batch;
    struct delivery **batch = malloc((size_t)most * sizeof *batch);
    if (!batch) {
        source_try_again(source);
        return false;
    }
    while (count < most && (!count || bytes + source->fifo->packet.len <= rules->batch_bytes)) {
        bytes += source->fifo->packet.len;
        batch[count] = source->fifo;
        begin_delivery(source, batch[count++], job->now_ns);
    }
    job->batch = batch;
    job->batch_count = count;
    job->delivery = batch[0];
    source->state.batch_due = false;
    source_batch_wait(source);
    return true;
}

static void take_owed(struct source *source, struct job *job)
{
    const struct kind *kind = source->registration->kind;
    source->state.owed--;
    if (kind->take)
        job->planned = kind->take(source);
}

/* A message, several, or a run of a timer or hook. False: no memory for it now. */
static bool take_work(struct source *source, struct job *job)
{
    if (source->fifo && source->state.rules.batch)
        return take_batch(source, job);
    job->delivery = source->fifo;
    if (source->fifo)
        begin_delivery(source, source->fifo, job->now_ns);
    else
        take_owed(source, job);
    return true;
}

static void wait_for_instance(struct source *source)
{
    source->waiting = true;
    DL_APPEND2(source->generation->waiting, source, wait_prev, wait_next);
    crew_grow(source->generation);
}

/* Whom the instance runs for, should its thread be lost. */
static void note_runs_on(const struct job *job)
{
    for (int i = 0; i < job->batch_count; i++) {
        handling_of(job->batch[i])->runs_on = job->instance;
        handling_of(job->batch[i])->follows = i > 0;
    }
    if (job->delivery)
        handling_of(job->delivery)->runs_on = job->instance;
}

/* Work of a source for an idle instance of its generation. */
static bool take_of_source(struct source *source, struct job *job)
{
    struct generation *generation = source->generation;
    struct instance *instance = generation->idle;
    if (!source_state_may_begin(&source->state, source->fifo != NULL))
        return false;
    if (!instance) {
        wait_for_instance(source);
        return false;
    }
    *job = (struct job){
        .source = source, .registration = source->registration, .now_ns = clock_now_ns()};
    if (!take_work(source, job))
        return false;
    generation_remove_idle(generation, instance);
    instance->state = INSTANCE_BUSY;
    job->instance = instance_retain(instance);
    source_state_begin(&source->state);
    generation->running++;
    source->scripts->dispatch->running++;
    note_runs_on(job);
    source_ready(source);
    return true;
}

/* What came to the instance. */
static void take_of_instance(struct instance *instance, struct job *job)
{
    instance->state = INSTANCE_BUSY;
    *job = (struct job){.instance = instance_retain(instance),
                        .events = instance->mailbox,
                        .now_ns = clock_now_ns()};
    instance->mailbox = NULL;
}

static bool take_job(struct dispatch *dispatch, struct job *job)
{
    struct ready *ready;
    must_hold(&dispatch->lock);
    while ((ready = dispatch_first(dispatch))) {
        if (ready->kind == READY_INSTANCE)
            take_of_instance(container_of(ready, struct instance, ready), job);
        else if (!take_of_source(container_of(ready, struct source, ready), job))
            continue;
        dispatch_taken(dispatch);
        return true;
    }
    return false;
}

/* --- checking in --- */

/* What is left to do without the lock. */
struct leftover {
    struct delivery *delivery; /* of the run that ended; or NULL */
    enum after_run after;
    struct instance *last; /* its last reference is gone; or NULL */
};

static struct leftover check_in(struct instance *instance)
{
    struct generation *generation = instance->generation;
    struct leftover leftover = {.delivery = instance->ended.delivery};
    must_hold(&instance->scripts->dispatch->lock);
    if (instance->ended.source) {
        leftover.after = end_run_of(instance, instance->ended.source, leftover.delivery);
        instance->ended = (struct ended_root){0};
    }
    if (instance->mailbox) {
        instance->state = INSTANCE_IDLE;
        instance_ready(instance);
    } else {
        crew_idle(instance);
    }
    if (generation->retired)
        crew_reap(generation);
    if (instance_unref(instance))
        leftover.last = instance;
    return leftover;
}

static bool has_leftover(const struct leftover *leftover)
{
    return leftover->delivery || leftover->last;
}

static void end_leftover(const struct leftover *leftover)
{
    after_run(leftover->delivery, leftover->after);
    if (leftover->last)
        instance_free(leftover->last);
}

bool checkout_next(struct dispatch *dispatch, struct sleeper *sleeper, struct instance *had,
                   struct job *job)
{
    struct leftover leftover = {0};
    dispatch_lock(dispatch);
    if (had)
        leftover = check_in(had);
    bool took = !dispatch->stopping && take_job(dispatch, job);
    if (has_leftover(&leftover)) { /* not after a long wait */
        dispatch_unlock(dispatch);
        end_leftover(&leftover);
        if (took)
            return true;
        dispatch_lock(dispatch);
    }
    while (!took && !dispatch->stopping) {
        took = take_job(dispatch, job);
        if (!took)
            dispatch_sleep(dispatch, sleeper);
    }
    dispatch_unlock(dispatch);
    return took;
}

void checkout_return(struct dispatch *dispatch, struct instance *had)
{
    dispatch_lock(dispatch);
    struct leftover leftover = check_in(had);
    dispatch_unlock(dispatch);
    end_leftover(&leftover);
}
