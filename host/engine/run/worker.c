/* worker - the threads: each in its loop, spare ones, lost ones, the end. */
#include "engine/run/worker.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/consume/delivery.h"
#include "bus/link/burst.h"
#include "bus/link/library.h"
#include "engine/run/stuck.h"
#include "engine/run/task.h"
#include "engine/sched/dispatch.h"
#include "engine/sched/watchdog.h"
#include "engine/source/checkout.h"
#include "engine/source/hand.h"

/* How long all workers may be busy before a spare one is started: long against an ordinary handler
 * (microseconds), short against what a person or a heartbeat notices. */
#define SPARE_AFTER_NS (20 * NS_PER_MS)

struct worker {
    struct workers *workers; /* not owned */
    struct worker *next;
    struct thread thread;
    pid_t tid; /* the kernel's name for it */
    struct watched watched;
    struct stuck stuck; /* what it is lost to; dispatch lock */
    struct sleeper sleeper;
    struct hand hand;
    struct burst burst;
    _Atomic(struct instance *) has;      /* the instance that it has checked out */
    atomic_uint_least64_t busy_since_ns; /* 0: it waits for work */
};

struct workers {
    struct clock *clock;       /* not owned */
    struct dispatch *dispatch; /* not owned */
    struct worker *all;        /* owned; list guarded by the dispatch lock */
    int count, limit;
    int alive;
    int lost;
    struct delivery *given_back; /* of lost ones, a reference each; dispatch lock */
    bool watching;               /* dispatch lock: `watch` is armed */
    struct deadline watch;
    struct hands hands;
    struct cond ended; /* with the dispatch lock */
};

/* When memory was short its state is looked at first (instance_inspect). */
static bool may_go_on(const struct instance *instance)
{
    return instance->vm && !instance->vm->refused;
}

/* What it sends goes out in between, however many there are. */
static void run_tasks(struct instance *instance, struct burst *burst)
{
    while (task_run_next(instance))
        burst_look(burst, instance->slice_ns);
    burst_look(burst, instance->slice_ns);
}

static void start_messages(struct job *job, struct worker *worker)
{
    struct instance *instance = job->instance;
    do {
        task_start(job);
        run_tasks(instance, &worker->burst);
    } while (may_go_on(instance) && checkout_next_in_hand(&worker->hand, job, instance->slice_ns));
}

static void run_events(const struct job *job, struct worker *worker)
{
    struct event *event = job->events;
    while (event) {
        struct event *next = event->next;
        event->run(event, job->instance);
        event = next;
    }
    run_tasks(job->instance, &worker->burst);
}

static void do_job(struct job *job, struct worker *worker)
{
    job->instance->slice_ns = job->now_ns;
    if (job->source)
        start_messages(job, worker);
    else
        run_events(job, worker);
    instance_inspect(job->instance);
    instance_note_memory(job->instance);
}

static int start_worker(struct workers *workers);

/* The thread may never come back. Should it, it finds nobody in want of it. */
static void on_lost(struct watched *watched)
{
    struct worker *worker = container_of(watched, struct worker, watched);
    struct workers *workers = worker->workers;
    thread_run_last(worker->tid);
    workers->count--;
    workers->lost++;
    struct instance *instance = atomic_load_explicit(&worker->has, memory_order_acquire);
    if (instance) {
        stuck_note(&worker->stuck, instance, workers->lost);
        struct delivery *given_back = checkout_lose(instance);
        DL_CONCAT(workers->given_back, given_back);
    }
    if (!workers->dispatch->stopping)
        start_worker(workers);
}

/* It was lost, and has come back all the same: what it ran has been handed back. */
static bool worker_is_lost(struct worker *worker, struct instance *instance)
{
    struct dispatch *dispatch = worker->workers->dispatch;
    if (!atomic_load_explicit(&worker->watched.lost, memory_order_acquire))
        return false;
    dispatch_lock(dispatch);
    worker->workers->lost--;
    struct delivery *message = stuck_end(&worker->stuck);
    dispatch_unlock(dispatch);
    if (message)
        delivery_release(message);
    if (instance->vm)
        instance_discard(instance, NULL);
    checkout_return(dispatch, instance);
    return true;
}

/* Blocks for it. What the worker has sent goes before it waits. */
static bool next_job(struct worker *worker, struct instance *had, struct job *job)
{
    struct dispatch *dispatch = worker->workers->dispatch;
    bool took = checkout_now(dispatch, &worker->hand, had, job);
    if (!took) {
        burst_write(&worker->burst);
        took = checkout_next(dispatch, &worker->sleeper, &worker->hand, job);
    }
    if (took)
        burst_look(&worker->burst, job->now_ns);
    return took;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct dispatch *dispatch = worker->workers->dispatch;
    struct instance *had = NULL;
    struct job job;
    worker->tid = (pid_t)syscall(SYS_gettid);
    watchdog_add(dispatch->watchdog, &worker->watched, on_lost);
    burst_begin(&worker->burst);
    while (next_job(worker, had, &job)) {
        atomic_store_explicit(&worker->busy_since_ns, job.now_ns, memory_order_relaxed);
        atomic_store_explicit(&worker->has, job.instance, memory_order_release);
        do_job(&job, worker);
        atomic_store_explicit(&worker->has, NULL, memory_order_release);
        atomic_store_explicit(&worker->busy_since_ns, 0, memory_order_relaxed);
        had = job.instance;
        if (worker_is_lost(worker, had))
            break;
    }
    burst_end(&worker->burst);
    watchdog_remove(dispatch->watchdog, &worker->watched);
    library_end_thread();
    dispatch_lock(dispatch);
    worker->workers->alive--;
    cond_broadcast(&worker->workers->ended);
    dispatch_unlock(dispatch);
    return NULL;
}

/* With the dispatch lock held, or before there is anyone to share it with. */
static int start_worker(struct workers *workers)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker)
        return -1;
    worker->workers = workers;
    semaphore_init(&worker->sleeper.posted);
    char name[32];
    snprintf(name, sizeof name, "worker %d", workers->count + 1);
    if (thread_start(&worker->thread, name, worker_main, worker, NULL) != 0) {
        free(worker);
        return -1;
    }
    worker->next = workers->all;
    workers->all = worker;
    workers->count++;
    workers->alive++;
    return 0;
}

static bool all_stuck(const struct workers *workers, uint64_t now)
{
    for (const struct worker *worker = workers->all; worker; worker = worker->next) {
        uint64_t since = atomic_load_explicit(&worker->busy_since_ns, memory_order_relaxed);
        if (since == 0 || now < since + SPARE_AFTER_NS)
            return false;
    }
    return true;
}

/* The clock: work has been ready for a while and nobody slept. */
static void on_watch(struct deadline *deadline)
{
    struct workers *workers = container_of(deadline, struct workers, watch);
    struct dispatch *dispatch = workers->dispatch;
    uint64_t now = clock_now_ns();
    dispatch_lock(dispatch);
    if (dispatch->queue && !dispatch->stopping) {
        if (workers->count < workers->limit && all_stuck(workers, now))
            start_worker(workers);
        clock_arm(workers->clock, &workers->watch, now + SPARE_AFTER_NS);
    } else {
        workers->watching = false;
    }
    dispatch_unlock(dispatch);
}

/* Work is ready and nobody sleeps. Looks again in a moment. */
static void on_crowded(void *owner)
{
    struct workers *workers = owner;
    must_hold(&workers->dispatch->lock);
    if (workers->watching || workers->count >= workers->limit)
        return;
    workers->watching = true;
    clock_arm(workers->clock, &workers->watch, clock_now_ns() + SPARE_AFTER_NS);
}

void workers_hand_back(struct workers *workers, int64_t delay_ns)
{
    struct dispatch *dispatch = workers->dispatch;
    struct delivery *delivery, *next;
    dispatch_lock(dispatch);
    struct delivery *all = workers->given_back;
    workers->given_back = NULL;
    if (dispatch->draining)
        cond_broadcast(&dispatch->idle);
    dispatch_unlock(dispatch);
    DL_FOREACH_SAFE(all, delivery, next) {
        delivery_settle(delivery, VERDICT_NAK, delay_ns, NULL);
        delivery_release(delivery);
    }
}

/* One that comes back before it is logged is not. */
void workers_log_lost(struct workers *workers, int most)
{
    struct dispatch *dispatch = workers->dispatch;
    struct worker *worker;
    do {
        struct stuck copy;
        dispatch_lock(dispatch);
        for (worker = workers->all; worker; worker = worker->next) {
            if (worker->stuck.script && !worker->stuck.logged) {
                copy = stuck_copy(&worker->stuck);
                break;
            }
        }
        dispatch_unlock(dispatch);
        if (worker)
            stuck_log(&copy, most);
    } while (worker);
}

int workers_stuck(const struct workers *workers, const struct source *source, uint64_t *oldest_ns)
{
    int count = 0;
    for (const struct worker *worker = workers->all; worker; worker = worker->next) {
        const struct stuck *stuck = &worker->stuck;
        if (!stuck->script || stuck->source != source)
            continue;
        count++;
        if (stuck->since_ns < *oldest_ns)
            *oldest_ns = stuck->since_ns;
    }
    return count;
}

int workers_busy(struct workers *workers, int *count)
{
    struct dispatch *dispatch = workers->dispatch;
    int busy = 0;
    dispatch_lock(dispatch);
    for (const struct worker *worker = workers->all; worker; worker = worker->next)
        busy += atomic_load_explicit(&worker->busy_since_ns, memory_order_relaxed) != 0;
    *count = workers->alive;
    dispatch_unlock(dispatch);
    return busy;
}

int workers_lost(struct workers *workers)
{
    struct dispatch *dispatch = workers->dispatch;
    dispatch_lock(dispatch);
    int lost = workers->lost;
    dispatch_unlock(dispatch);
    return lost;
}

struct workers *workers_new(struct clock *clock, struct dispatch *dispatch, int count,
                            struct err *err)
{
    struct workers *workers = calloc(1, sizeof *workers);
    if (!workers) {
        err_set(err, ERR_MEMORY, "no memory for the workers");
        return NULL;
    }
    workers->clock = clock;
    workers->dispatch = dispatch;
    workers->limit = 2 * count;
    workers->watch.on_due = on_watch;
    cond_init(&workers->ended);
    hands_init(&workers->hands, clock, dispatch, checkout_relieve);

    dispatch_lock(dispatch);
    dispatch->workers = workers;
    dispatch->hands = &workers->hands;
    dispatch->on_crowded = on_crowded;
    int code = 0;
    while (!code && workers->count < count)
        code = start_worker(workers);
    dispatch_unlock(dispatch);
    if (!code)
        return workers;
    err_set(err, ERR_SYSTEM, "cannot start %d worker threads", count);
    workers_stop(workers, UINT64_MAX);
    workers_free(workers);
    return NULL;
}

int workers_stop(struct workers *workers, uint64_t deadline_ns)
{
    struct dispatch *dispatch = workers->dispatch;
    dispatch_lock(dispatch);
    dispatch->stopping = true;
    while (dispatch_wake(dispatch)) {
    }
    bool in_time = true;
    while (workers->alive > 0 && in_time)
        in_time = dispatch_wait(dispatch, &workers->ended, deadline_ns);
    int left = workers->alive;
    dispatch_unlock(dispatch);
    clock_cancel(workers->clock, &workers->watch);
    hands_clear(&workers->hands);
    return left;
}

void workers_free(struct workers *workers)
{
    while (workers->all) {
        struct worker *worker = workers->all;
        workers->all = worker->next;
        thread_join(worker->thread);
        semaphore_destroy(&worker->sleeper.posted);
        free(worker);
    }
    workers->dispatch->on_crowded = NULL;
    workers->dispatch->hands = NULL;
    cond_destroy(&workers->ended);
    free(workers);
}
