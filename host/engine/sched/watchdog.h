/* watchdog - bounds how long Lua may run without waiting: limits.cpu, and a handler's timeout.
 *
 *   the clock, each tick ─▶ a run that is the same one for longer than its limit
 *        at once    GUARD_RAISE: an error at its next instruction, again at each tick
 *        0.2 s on   GUARD_ESCAPE: out of compiled code; its Lua state is discarded
 *        1.2 s on   lost: the thread is left to itself
 *
 * limits.cpu is counted in ticks: while the whole process is stopped, no handler computes. A
 * handler's timeout is real time, as the server's ack_wait is. The watchdog ticks only while a
 * thread is awake. */
#ifndef MOONBUS_ENGINE_SCHED_WATCHDOG_H
#define MOONBUS_ENGINE_SCHED_WATCHDOG_H

#include <stdatomic.h>

#include "base/stat.h"
#include "base/thread.h"
#include "vm/guard.h"

struct clock;
struct dispatch;
struct watchdog;

/* A thread that runs scripts. The owner of the thread owns it. */
struct watched {
    struct watched *prev, *next; /* all of this: the dispatch lock */
    struct guard guard;          /* the thread's and its own rules */
    struct thread thread;
    uint64_t number;           /* the run that was seen at the last tick */
    uint64_t ran_ns, asked_ns; /* for how long it has been seen; been asked to end */
    bool escaping;             /* it was asked to, by the jump */
    uint64_t overdue;          /* the run whose handler's timeout is over */
    atomic_bool lost;          /* changes under the dispatch lock */
    bool spare; /* losing it is its owner's matter, and does not bring the host to its end */
    /* With the dispatch lock held, on the clock: it could not be stopped. */
    void (*on_lost)(struct watched *watched);
};

/* How far it had to go with runs, and how often: each stage counts once for a run. */
enum watchdog_stage { WATCHDOG_RAISE, WATCHDOG_ESCAPE, WATCHDOG_LOSE, WATCHDOG_STAGES };

/* Counted under the dispatch lock; any thread reads. */
struct watchdog_counts {
    struct stat_counter stages[WATCHDOG_STAGES];
};
const struct watchdog_counts *watchdog_counts(const struct watchdog *watchdog);

/* What it calls on the clock, without a lock. */
struct watchdog_events {
    void *owner;
    /* So many threads could not be stopped by now, one of them just now. */
    void (*on_lost)(void *owner, int lost);
    /* At each tick. */
    void (*on_tick)(void *owner);
};

/* Becomes dispatch's watchdog. clock and dispatch are not owned. NULL: no memory. */
struct watchdog *watchdog_new(struct clock *clock, struct dispatch *dispatch,
                              const struct watchdog_events *events);
/* No thread is watched any more. */
void watchdog_free(struct watchdog *watchdog);

/* The calling thread, from now on; and no longer. Take the dispatch lock. on_lost: may be NULL. */
void watchdog_add(struct watchdog *watchdog, struct watched *watched,
                  void (*on_lost)(struct watched *));
void watchdog_remove(struct watchdog *watchdog, struct watched *watched);

/* With the dispatch lock held: somebody is about to run. */
void watchdog_wake(struct watchdog *watchdog);

#endif
