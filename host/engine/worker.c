#include "engine/worker.h"

#include <errno.h>
#include <nats/nats.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#include "base/thread.h"
#include "base/value.h"
#include "engine/internal.h"
#include "engine/stuck.h"
#include "engine/task.h"

/* How long all workers may be busy before a spare one is started: long against an ordinary handler
 * (microseconds), short against what a person or a heartbeat notices. */
#define SPARE_AFTER_NS (20 * NS_PER_MS)

struct worker {
    struct workers *workers; /* not owned */
    struct worker *next;
    pthread_t thread;
    pid_t tid; /* the kernel's name for it */
    struct watched watched;
    struct stuck stuck; /* what it was given up in; dispatch lock */
    struct sleeper sleeper;
    _Atomic(struct instance *) has;      /* the instance that it has checked out */
    atomic_uint_least64_t busy_since_ns; /* 0: it waits for work */
};

struct workers {
    struct engine *engine; /* not owned */
    struct worker *all;    /* owned; list guarded by the dispatch lock */
    int count, limit;
    int alive;
    int lost;
    struct delivery *given_back; /* of lost ones, a reference each; dispatch lock */
    bool watching;               /* dispatch lock: `watch` is armed */
    struct deadline watch;
    pthread_cond_t ended; /* with the dispatch lock */
};

#define WORKER_OF_WATCHED(w) ((struct worker *)((char *)(w)-offsetof(struct worker, watched)))
#define WORKERS_OF_WATCH(d) ((struct workers *)((char *)(d)-offsetof(struct workers, watch)))

static void run(struct take *take)
{
    if (take->source) {
        task_start(take);
    } else {
        struct event *event = take->events;
        while (event) {
            struct event *next = event->next;
            event->run(event, take->instance);
            event = next;
        }
    }
    instance_run(take->instance);
    instance_inspect(take->instance);
}

static int start_worker(struct workers *workers);

/* The thread may never come back. Should it, it finds nobody in want of it. */
static void on_lost(struct watched *watched)
{
    struct worker *worker = WORKER_OF_WATCHED(watched);
    struct workers *workers = worker->workers;
    struct sched_param param = {0};
    sched_setscheduler(worker->tid, SCHED_IDLE, &param);
    workers->count--;
    workers->lost++;
    struct instance *instance = atomic_load_explicit(&worker->has, memory_order_acquire);
    if (instance) {
        stuck_note(&worker->stuck, instance, workers->lost);
        struct delivery *given_back = instance_lose(instance);
        DL_CONCAT(workers->given_back, given_back);
    }
    if (!workers->engine->dispatch.stopping)
        start_worker(workers);
}

/* It was given up, and has come back all the same: what it ran has been handed back. */
static bool worker_is_lost(struct worker *worker, struct instance *instance)
{
    struct dispatch *dispatch = &worker->workers->engine->dispatch;
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
    dispatch_give_back(dispatch, instance);
    return true;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct dispatch *dispatch = &worker->workers->engine->dispatch;
    struct instance *done = NULL;
    struct take take;
    worker->tid = (pid_t)syscall(SYS_gettid);
    watchdog_add(worker->workers->engine->watchdog, &worker->watched, on_lost);
    while (dispatch_take(dispatch, &worker->sleeper, done, &take)) {
        atomic_store_explicit(&worker->busy_since_ns, take.now_ns, memory_order_relaxed);
        atomic_store_explicit(&worker->has, take.instance, memory_order_release);
        run(&take);
        atomic_store_explicit(&worker->has, NULL, memory_order_release);
        atomic_store_explicit(&worker->busy_since_ns, 0, memory_order_relaxed);
        done = take.instance;
        if (worker_is_lost(worker, done))
            break;
    }
    watchdog_remove(worker->workers->engine->watchdog, &worker->watched);
    nats_ReleaseThreadMemory();
    dispatch_lock(dispatch);
    worker->workers->alive--;
    pthread_cond_broadcast(&worker->workers->ended);
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
    sem_init(&worker->sleeper.posted, 0, 0);
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
    struct workers *workers = WORKERS_OF_WATCH(deadline);
    struct dispatch *dispatch = &workers->engine->dispatch;
    uint64_t now = clock_now_ns();
    dispatch_lock(dispatch);
    if (dispatch->queue && !dispatch->stopping) {
        if (workers->count < workers->limit && all_stuck(workers, now))
            start_worker(workers);
        clock_arm(workers->engine->clock, &workers->watch, now + SPARE_AFTER_NS);
    } else {
        workers->watching = false;
    }
    dispatch_unlock(dispatch);
}

void workers_watch(struct workers *workers)
{
    if (!workers || workers->watching || workers->count >= workers->limit)
        return;
    workers->watching = true;
    clock_arm(workers->engine->clock, &workers->watch, clock_now_ns() + SPARE_AFTER_NS);
}

void workers_hand_back(struct workers *workers, int64_t delay_ns)
{
    struct dispatch *dispatch = &workers->engine->dispatch;
    struct delivery *delivery, *next;
    dispatch_lock(dispatch);
    struct delivery *all = workers->given_back;
    workers->given_back = NULL;
    if (dispatch->draining)
        pthread_cond_broadcast(&dispatch->idle);
    dispatch_unlock(dispatch);
    DL_FOREACH_SAFE(all, delivery, next) {
        delivery_settle(delivery, VERDICT_NAK, delay_ns, NULL);
        delivery_release(delivery);
    }
}

/* One that comes back before it is told of has nothing to tell. */
void workers_tell_lost(struct workers *workers)
{
    struct engine *engine = workers->engine;
    struct worker *worker;
    do {
        struct stuck copy;
        dispatch_lock(&engine->dispatch);
        for (worker = workers->all; worker; worker = worker->next) {
            if (worker->stuck.script && !worker->stuck.told) {
                copy = stuck_copy(&worker->stuck);
                break;
            }
        }
        dispatch_unlock(&engine->dispatch);
        if (worker)
            stuck_tell(&copy, atomic_load(&engine->max_stuck));
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

int workers_lost(struct workers *workers)
{
    struct dispatch *dispatch = &workers->engine->dispatch;
    dispatch_lock(dispatch);
    int lost = workers->lost;
    dispatch_unlock(dispatch);
    return lost;
}

struct workers *workers_new(struct engine *engine, int count, struct err *err)
{
    struct workers *workers = calloc(1, sizeof *workers);
    if (!workers) {
        err_set(err, ERR_MEMORY, "no memory for the workers");
        return NULL;
    }
    workers->engine = engine;
    workers->limit = 2 * count;
    workers->watch.on_due = on_watch;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&workers->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);

    dispatch_lock(&engine->dispatch);
    int rc = 0;
    while (rc == 0 && workers->count < count)
        rc = start_worker(workers);
    dispatch_unlock(&engine->dispatch);
    if (rc)
        err_set(err, ERR_SYSTEM, "cannot start %d worker threads", count);
    return workers;
}

int workers_stop(struct workers *workers, uint64_t deadline_ns)
{
    struct dispatch *dispatch = &workers->engine->dispatch;
    dispatch_lock(dispatch);
    dispatch->stopping = true;
    while (dispatch_wake(dispatch)) {
    }
    int rc = 0;
    while (workers->alive > 0 && rc != ETIMEDOUT)
        rc = dispatch_wait(dispatch, &workers->ended, deadline_ns);
    int left = workers->alive;
    dispatch_unlock(dispatch);
    clock_cancel(workers->engine->clock, &workers->watch);
    return left;
}

void workers_free(struct workers *workers)
{
    while (workers->all) {
        struct worker *worker = workers->all;
        workers->all = worker->next;
        pthread_join(worker->thread, NULL);
        sem_destroy(&worker->sleeper.posted);
        free(worker);
    }
    pthread_cond_destroy(&workers->ended);
    free(workers);
}
