/* dispatch - the ready queue, the threads that wait for it, and the one lock of the engine.
 *
 *   dispatch_ready ─▶ ready queue ─▶ dispatch_first (a worker)
 *         └─ dispatch_wake ─▶ woken ── dispatch_unlock ─▶ posted: a worker that slept
 *
 * What is ready is embedded in what it concerns: an instance that has something in its mailbox, or
 * a source that has work. The lock guards both, and the lists that they are on; this unit knows
 * neither. */
#ifndef MOONBUS_ENGINE_SCHED_DISPATCH_H
#define MOONBUS_ENGINE_SCHED_DISPATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/sync.h"

struct hands;
struct watchdog;

/* An entry of the ready queue; a member of an instance or a source. */
struct ready {
    struct ready *prev, *next;
    enum { READY_INSTANCE, READY_SOURCE } kind;
    bool queued;
};

/* A worker that waits for work, at a semaphore instead of a condition. The semaphore is posted
 * after the lock is released, so that the worker does not wake into it, and only once for each
 * sleep, however much becomes ready until it runs. For round trips one by one, 1.1-1.7 switches of
 * workers became 1.0. */
struct sleeper {
    struct sleeper *next; /* in sleepers, then in woken */
    struct semaphore posted;
};

struct dispatch {
    struct mutex lock;   /* ready queue, sources, mailboxes, generations' lists. With it held only
                            these are taken: offload's, a puller's (delivery_park, consumer_misses,
                            consumer_stat), the clock's and the pool's; and a spare worker's thread
                            is started */
    struct cond idle;    /* waiters for the end of what runs */
    struct ready *queue; /* utlist */
    struct sleeper *sleepers; /* workers that wait, the last one first: its caches are warm; not
                                 owned */
    int sleeping;             /* how many they are */
    struct sleeper *woken;    /* to be posted with the lock released; not owned */
    bool looking;             /* between dispatch_look and dispatch_looked, */
    int unwoken;              /* so much became ready that nobody was woken for */
    uint64_t takes;           /* so far */
    int running, queued;      /* root tasks, deliveries: over all sources */
    bool stopping;            /* workers end */
    bool draining;
    struct watchdog *watchdog;         /* not owned; set once, before any thread runs */
    struct hands *hands;               /* not owned; what workers have in hand (source/hand.h);
                                          NULL: there are no workers yet */
    void (*on_crowded)(void *workers); /* with the lock held: something is ready and nobody sleeps;
                                          NULL: there are no workers yet */
    void *workers;                     /* not owned */
};

void dispatch_init(struct dispatch *dispatch);
/* Nobody uses it. */
void dispatch_clear(struct dispatch *dispatch);

/* The lock is taken and released by these alone: workers that were woken meanwhile are posted. */
void dispatch_lock(struct dispatch *dispatch) LOCKS(dispatch->lock);
void dispatch_unlock(struct dispatch *dispatch) UNLOCKS(dispatch->lock);
/* With the lock held, which is released meanwhile: cond_wait_until. False: until_ns has come. */
bool dispatch_wait(struct dispatch *dispatch, struct cond *cond, uint64_t until_ns)
    NEEDS(dispatch->lock);

/* All that follows with the lock held. */

/* Wakes one worker. False: none sleeps. */
bool dispatch_wake(struct dispatch *dispatch);
/* Releases the lock meanwhile: until dispatch_wake has taken this one. */
void dispatch_sleep(struct dispatch *dispatch, struct sleeper *sleeper) NEEDS(dispatch->lock);

/* The calling worker gives back what it had, and then takes the next: what becomes ready between
 * these two wakes others only if the caller has left it there. A source whose runs come one at a
 * time would wake a second worker at each end, for what the first one takes itself. */
void dispatch_look(struct dispatch *dispatch);
void dispatch_looked(struct dispatch *dispatch, bool took);

/* Queues it, and wakes a worker. It is not queued yet. */
void dispatch_ready(struct dispatch *dispatch, struct ready *ready);
/* Takes the first; NULL: nothing is ready. */
struct ready *dispatch_first(struct dispatch *dispatch);
/* A worker has got something to do. */
void dispatch_taken(struct dispatch *dispatch);
/* Nothing runs and nothing is queued: wakes those that wait for that. */
void dispatch_signal_idle(struct dispatch *dispatch);

#endif
