/* aside - runs what has Lua in it on a thread of its own, and waits for that, but no longer than
 * Lua may take.
 *
 *   caller ── aside_run ──▶ thread: run ─▶ loader_call_within, which says when its time is over
 *      └ waits for its end; from then on
 *          at once    GUARD_RAISE: an error at its next instruction
 *          0.2 s on   GUARD_ESCAPE: out of a call of LuaJIT's own, as of a hopeless pattern
 *          1.2 s on   the thread is left to itself, and the caller goes on without it
 *
 * For loads, whose callers (the main thread, the pool) must come back. The watchdog of the engine
 * does the same for handlers, whose threads nobody waits for. What run uses belongs to who embeds
 * the struct, and stays until the thread has ended: when it is left, `late` gives that back. */
#ifndef MOONBUS_VM_ASIDE_H
#define MOONBUS_VM_ASIDE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/err.h"
#include "vm/guard.h"

struct aside {
    void (*run)(struct aside *aside);  /* on the thread */
    void (*late)(struct aside *aside); /* the same, when run has returned and nobody waits any more;
                                          the last that happens to the struct: may free it */
    const atomic_bool *hurry;          /* not owned; true: its time is over now; or NULL */

    /* Private; zeroed memory. */
    pthread_t thread;
    struct guard guard;
    pthread_mutex_t lock; /* all below; a leaf */
    pthread_cond_t changed;
    pid_t tid;
    bool ended, left;
};

enum aside_end {
    ASIDE_ENDED,   /* run has returned; the thread is gone */
    ASIDE_LEFT,    /* it has not, and nothing interrupts it; the struct is the thread's */
    ASIDE_REFUSED, /* err tells: there is no thread */
};

/* Blocks. Any thread, but none that runs Lua itself. */
enum aside_end aside_run(struct aside *aside, struct err *err);

#endif
