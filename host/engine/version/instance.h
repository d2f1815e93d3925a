/* instance - one Lua state of a script's generation, with a mailbox; run by one worker at a time.
 *
 *          ┌── post ──┐
 *   IDLE ──┤          ├─▶ READY (in the ready queue) ─▶ BUSY (a worker has it) ─▶ IDLE or READY
 *          └── job ───┘
 *
 * State and mailbox are guarded by the dispatch lock; everything else belongs to the worker that
 * has checked it out. References: the generation, each op, each task. */
#ifndef MOONBUS_ENGINE_VERSION_INSTANCE_H
#define MOONBUS_ENGINE_VERSION_INSTANCE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "engine/sched/dispatch.h"
#include "engine/version/event.h"
#include "engine/version/registration.h"
#include "engine/version/tally.h"
#include "engine/version/timeouts.h"
#include "vm/vm.h"

struct delivery;
struct generation;
struct hand;
struct instance;
struct scripts;
struct source;
struct task;
struct whereabouts;

enum instance_state { INSTANCE_IDLE, INSTANCE_READY, INSTANCE_BUSY };

/* What is kept of an ended task, or op, for the next one: its memory. */
struct spare {
    struct spare *next;
};

struct spare_list {
    struct spare *first; /* owned */
    int count;
};

#define OP_BLOCKS 2 /* kinds of blocks that ops are in */

struct instance {
    struct ready ready;
    struct scripts *scripts;       /* not owned */
    struct generation *generation; /* reference held */
    atomic_int references;

    /* Under the dispatch lock. */
    enum instance_state state;
    struct event *mailbox;
    struct instance *idle_prev, *idle_next; /* generation's list of idle instances */
    struct instance *next;                  /* generation's list of all */
    bool worn; /* its state stays full: no new work, and it goes when its tasks have ended */
    bool lost; /* its thread could not be stopped: its messages were handed back */
    struct whereabouts *whereabouts; /* owned; where its runs were; NULL: nobody has asked */
    struct hand *hand; /* its worker's, while that has it checked out; not owned (source/hand.h) */

    /* What its thread runs, or ran last, by instance_runs. Compared and not followed by others,
     * unless the dispatch lock keeps it. */
    _Atomic(struct source *) runs_source;
    _Atomic(const struct delivery *) runs_delivery;

    /* The worker's. */
    struct vm *vm;
    int *handlers;             /* owned: refs of the functions, by order of registration of the
                                  generation's first instance */
    struct tally_cell **cells; /* owned, each, and the array: what is counted of a handler here, by
                                  the same order; NULL: it has not run yet */
    struct tally_calls calls;  /* what is counted of what the script calls */
    _Atomic size_t memory_bytes; /* that its state had when it was given back last */
    uint64_t slice_ns;           /* when its worker last looked at the clock */
    int *order;                  /* owned: of its own n-th registration (from 0) the place in that
                                    order; NULL: it is the first one */
    struct {
        char name[64];              /* of the stream that stored the last publish; "": none yet */
        const char *seen, *subject; /* the subjects of the last publish, and of one that came twice
                                       in a row: its string does not go away */
        int name_ref, subject_ref;  /* registry: both strings; 0: none yet */
    } sent;                         /* the api's: what most publishes have in common */
    int message_ref;                /* registry, the api's: messages' metatable */
    struct loading *loading;        /* the script's top level is running: what it has registered */
    struct task *current;           /* the task whose coroutine runs, or NULL */
    struct task *tasks;             /* all, for cancelling */
    struct task *runnable;          /* to be resumed before the worker gives the instance back */
    unsigned task_count;
    struct spare *spare_tasks; /* owned */
    int spare_count;
    struct spare_list spare_blocks[OP_BLOCKS]; /* the ops' (op_new_with) */
    struct task *standby;     /* owned: what runs that return at once use again and again, with its
                                 coroutine; holds nothing else while it rests; NULL: none */
    struct timeouts timeouts; /* of the runs that wait */
    uint64_t run_count;       /* that it has begun: names a run */
    struct event stop;        /* cancels all tasks; posted once */
    struct event retire;      /* the same, for its generation is one too many */
    bool stop_posted, retire_posted; /* under the dispatch lock */
};

/* The instance of a running Lua state or coroutine. Never NULL inside a binding. */
struct instance *instance_of(lua_State *L);

struct instance *instance_retain(struct instance *instance);
void instance_release(struct instance *instance);
/* The same in two steps, for a caller that holds the dispatch lock. True: it was the last
 * reference, and the caller calls instance_free when the lock is released. */
bool instance_unref(struct instance *instance);
void instance_free(struct instance *instance);

/* The worker: where runs of that handler are counted. NULL: there is no memory for it. */
struct tally_cell *instance_cell(struct instance *instance,
                                 const struct registration *registration);

/* Any thread: appends to the mailbox and makes it ready. */
void instance_post(struct instance *instance, struct event *event);

/* With the dispatch lock held: it has something to do, unless it is at it. */
void instance_ready(struct instance *instance);

/* Loads a script into a new instance of a generation; what it registers goes to loading. Blocks.
 * NULL with failure. One reference. */
struct instance *instance_load(struct generation *generation, struct loading *loading,
                               struct failure *failure);

/* Called by the api while the script's top level runs: takes the registration, gives it its index
 * and keeps the function on top of L (or none: nil) as its handler; pops it. 0 or ERR_MEMORY: the
 * registration is still the caller's. */
int instance_register(struct instance *instance, lua_State *L, struct registration *registration);

/* While the script loads: the function on top of L is called in place of the handler of that
 * registration; pops it. */
void instance_replace_handler(struct instance *instance, lua_State *L, int index);

/* The Lua state goes, and with it the coroutine of the standby. */
void instance_drop_standby(struct instance *instance);

/* Closes the Lua state. Nothing of it runs, and nothing will. */
void instance_close(struct instance *instance);

/* The worker, when it is done with it: for those that look at it from outside. */
static inline void instance_note_memory(struct instance *instance)
{
    size_t bytes = instance->vm ? instance->vm->used_bytes : 0;
    atomic_store_explicit(&instance->memory_bytes, bytes, memory_order_relaxed);
}

/* The worker: what it is about to run, should its thread be lost in it. delivery: or NULL. */
static inline void instance_runs(struct instance *instance, struct source *source,
                                 const struct delivery *delivery)
{
    atomic_store_explicit(&instance->runs_source, source, memory_order_relaxed);
    atomic_store_explicit(&instance->runs_delivery, delivery, memory_order_relaxed);
}

#endif
