/* watchdog - bounds how long Lua may run without waiting: limits.cpu, and a handler's timeout.
 *
 *   the clock, each tick ─▶ a run that is the same one for longer than its limit
 *        at once    GUARD_RAISE: an error at its next instruction, again at each tick
 *        0.2 s on   GUARD_ESCAPE: out of compiled code; its Lua state is given up
 *        1.2 s on   lost: the thread is left to itself
 *
 * For limits.cpu time is counted in ticks: when the whole process was stopped for a while nobody
 * has computed for too long. A handler's timeout is of the clock, as the server's ack_wait is. It
 * ticks only while somebody is awake. */
#ifndef MOONBUS_ENGINE_WATCHDOG_H
#define MOONBUS_ENGINE_WATCHDOG_H

#include <pthread.h>

#include <stdatomic.h>

#include "vm/guard.h"

struct engine;
struct watchdog;

/* A thread that runs scripts. Owned by who has the thread. */
struct watched {
    struct watched *prev, *next; /* all of this: the dispatch lock */
    struct guard guard;          /* the thread's and its own rules */
    pthread_t thread;
    uint64_t number;           /* the run that was seen at the last tick */
    uint64_t ran_ns, asked_ns; /* for how long it has been seen; been asked to end */
    uint64_t overdue;          /* the run whose handler's timeout is over */
    atomic_bool lost;          /* changes under the dispatch lock */
    bool spare; /* losing it is its owner's matter, and does not bring the host to its end */
    /* With the dispatch lock held, on the clock: it could not be stopped. */
    void (*on_lost)(struct watched *watched);
};

struct watchdog *watchdog_new(struct engine *engine);
/* No thread is watched any more. */
void watchdog_free(struct watchdog *watchdog);

/* The calling thread, from now on; and no longer. Take the dispatch lock. on_lost: may be NULL. */
void watchdog_add(struct watchdog *watchdog, struct watched *watched,
                  void (*on_lost)(struct watched *));
void watchdog_remove(struct watchdog *watchdog, struct watched *watched);

/* With the dispatch lock held: somebody is about to run. */
void watchdog_wake(struct watchdog *watchdog);

/* Any thread: the time of what runs for `whom` (guard_set_whom) is over, if it runs just now. */
void watchdog_overdue(struct watchdog *watchdog, const void *whom);

#endif
