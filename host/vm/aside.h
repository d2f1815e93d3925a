/* aside - runs a function that uses Lua on a thread of its own, and waits for it, but no longer
 * than Lua may take.
 *
 *   caller ── aside_run ──▶ thread: run ─▶ loader_call_within, which says when its time is over
 *      └ waits for its end; from then on
 *          at once    GUARD_RAISE: an error at its next instruction
 *          0.2 s on   GUARD_ESCAPE: out of a call of LuaJIT's own, as of a hopeless pattern
 *          1.2 s on   the thread is left to itself, and the caller goes on without it
 *
 * For loads, whose callers (the main thread, the pool) must come back. The watchdog of the engine
 * does the same for handlers, whose threads nobody waits for. The struct, and all that run uses,
 * must stay until the thread has ended: if it was left to itself, `late` frees that. */
#ifndef MOONBUS_VM_ASIDE_H
#define MOONBUS_VM_ASIDE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/sync.h"
#include "base/thread.h"
#include "vm/guard.h"

struct aside {
    void (*run)(struct aside *aside);  /* on the thread */
    void (*late)(struct aside *aside); /* there, too, when run has returned and nobody waits any
                                          more; the last call for the struct: may free it */
    const atomic_bool *hurry[2];       /* not owned, or NULL; if one is true, its time is over */

    /* Private; zeroed memory. */
    struct thread thread;
    struct guard guard;
    struct mutex lock; /* all below; a leaf */
    struct cond changed;
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
