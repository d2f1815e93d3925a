/* stuck - what a lost thread runs: for the log, and for the status.
 *
 *   the clock ── stuck_note (under the dispatch lock) ─▶ the worker's ── stuck_copy ─▶ stuck_log
 *   the thread, should it come back: stuck_end
 *
 * The thread goes on all the while, so nothing that it owns is touched: not the task, not the Lua
 * state. It has noted by instance_runs what it was about to run; that source and that message are
 * looked up where the dispatch lock keeps them. */
#ifndef MOONBUS_ENGINE_RUN_STUCK_H
#define MOONBUS_ENGINE_RUN_STUCK_H

#include <stdbool.h>
#include <stdint.h>

struct delivery;
struct instance;
struct source;

/* Owned by the worker, under the dispatch lock; what is to be logged is a copy. */
struct stuck {
    struct source *source;     /* not owned: stays, as it is pinned; NULL: not known */
    struct delivery *delivery; /* of a batch the first; a reference; NULL: timer, hook */
    const char *script;        /* not owned: scripts stay. NULL: the thread is not stuck */
    char handler[256], file[256];
    int line, attempts, batch_count;
    int others;        /* whose messages waited in its Lua state, and were handed back, too */
    int number;        /* how many were stuck then, with this one */
    uint64_t since_ns; /* when its handler began */
    bool logged;
};

/* With the dispatch lock held, before checkout_lose: this is what the instance's thread runs. */
void stuck_note(struct stuck *stuck, struct instance *instance, int number);

/* With the dispatch lock held: for stuck_log, with a reference of its own. It counts as logged
 * then. */
struct stuck stuck_copy(struct stuck *stuck);

/* Any thread, without a lock: one line of the log, and the copy ends. most: limits.max_stuck. */
void stuck_log(struct stuck *copy, int most);

/* With the dispatch lock held: it has come back. Returns what is to be released without the lock,
 * or NULL. */
struct delivery *stuck_end(struct stuck *stuck);

#endif
