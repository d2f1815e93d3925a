/* checkout - an instance and a job for a worker. */
#include "engine/source/checkout.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/container.h"
#include "bus/consume/delivery.h"
#include "engine/source/checkout_private.h"
#include "engine/source/crew.h"
#include "engine/source/hand.h"
#include "engine/source/handling.h"
#include "engine/source/kind.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"
#include "engine/version/script.h"

/* What was queued starts now; 0: in a moment, for a worker has it in hand. */
static void begin_delivery(struct source *source, struct delivery *delivery, uint64_t now_ns)
{
    DL_DELETE(source->fifo, delivery);
    DL_APPEND(source->active, delivery);
    atomic_store_explicit(&handling_of(delivery)->started_ns, now_ns, memory_order_relaxed);
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

static void count_runs(struct source *source, int count)
{
    source_state_begin(&source->state, count);
    source->generation->running += count;
    source->scripts->dispatch->running += count;
}

/* How many messages a worker may take at once. One of an ordered source by itself: the next one of
 * its key waits until it is told that its run has ended. */
static int share_of(const struct source *source)
{
    if (source->lanes || source->state.rules.batch)
        return 1;
    return source_state_share(&source->state, HAND_SHARES, HAND_MOST);
}

/* Further messages of the same source, to be begun one after the other. */
static void fill_hand(struct source *source, const struct job *job, struct hand *hand, int share)
{
    int count = 0;
    while (++count < share && source->fifo) {
        struct delivery *delivery = source->fifo;
        begin_delivery(source, delivery, 0);
        handling_of(delivery)->runs_on = job->instance;
        hand_fill(hand, source, delivery);
    }
    if (--count == 0)
        return;
    count_runs(source, count);
    hand_watch(source->scripts->dispatch->hands, hand);
}

static void hand_out(struct job *job, struct instance *instance, struct hand *hand)
{
    instance->state = INSTANCE_BUSY;
    instance->hand = hand;
    job->instance = instance_retain(instance);
    hand_begin(hand, instance, job->now_ns);
}

/* Work of a source for an idle instance of its generation. */
static bool take_of_source(struct source *source, struct hand *hand, struct job *job)
{
    struct generation *generation = source->generation;
    struct instance *instance = generation->idle;
    if (!source_state_may_begin(&source->state, source->fifo != NULL)) {
        crew_serve_waiting(generation); /* the instance that it was called for is free */
        return false;
    }
    if (!instance) {
        wait_for_instance(source);
        return false;
    }
    int share = share_of(source);
    *job = (struct job){
        .source = source, .registration = source->registration, .now_ns = clock_now_ns()};
    if (!take_work(source, job))
        return false;
    generation_remove_idle(generation, instance);
    hand_out(job, instance, hand);
    count_runs(source, 1);
    note_runs_on(job);
    if (job->delivery)
        fill_hand(source, job, hand, share);
    source_ready(source);
    return true;
}

/* What came to the instance. */
static void take_of_instance(struct instance *instance, struct hand *hand, struct job *job)
{
    *job = (struct job){.events = instance->mailbox, .now_ns = clock_now_ns()};
    instance->mailbox = NULL;
    hand_out(job, instance, hand);
    /* One may end a run, and the next one compute. */
    if (job->events->next)
        hand_watch(instance->scripts->dispatch->hands, hand);
}

static bool take_job(struct dispatch *dispatch, struct hand *hand, struct job *job)
{
    struct ready *ready;
    must_hold(&dispatch->lock);
    while ((ready = dispatch_first(dispatch))) {
        if (ready->kind == READY_INSTANCE)
            take_of_instance(container_of(ready, struct instance, ready), hand, job);
        else if (!take_of_source(container_of(ready, struct source, ready), hand, job))
            continue;
        dispatch_taken(dispatch);
        return true;
    }
    return false;
}

bool checkout_now(struct dispatch *dispatch, struct hand *hand, struct instance *had,
                  struct job *job)
{
    struct leftover leftover;
    leftover.count = 0;
    leftover.last = NULL;
    dispatch_lock(dispatch);
    dispatch_look(dispatch);
    if (had)
        checkout_in(had, &leftover);
    bool took = !dispatch->stopping && take_job(dispatch, hand, job);
    dispatch_looked(dispatch, took);
    dispatch_unlock(dispatch);
    if (leftover.count > 0 || leftover.last)
        checkout_end_leftover(&leftover);
    return took;
}

bool checkout_next(struct dispatch *dispatch, struct sleeper *sleeper, struct hand *hand,
                   struct job *job)
{
    bool took = false;
    dispatch_lock(dispatch);
    while (!took && !dispatch->stopping) {
        took = take_job(dispatch, hand, job);
        if (!took)
            dispatch_sleep(dispatch, sleeper);
    }
    dispatch_unlock(dispatch);
    return took;
}

bool checkout_next_in_hand(struct hand *hand, struct job *job, uint64_t now_ns)
{
    struct delivery *delivery = hand_next(hand, now_ns);
    if (!delivery)
        return false;
    atomic_store_explicit(&handling_of(delivery)->started_ns, now_ns, memory_order_relaxed);
    job->delivery = delivery;
    job->now_ns = now_ns;
    return true;
}
