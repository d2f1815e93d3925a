/* instance - one Lua state of a script's generation, with a mailbox; run by one worker at a time.
 *
 *          ┌── post ──┐
 *   IDLE ──┤          ├─▶ READY (in the ready queue) ─▶ BUSY (a worker has it) ─▶ IDLE or READY
 *          └── job ───┘
 *
 * State and mailbox are guarded by the dispatch lock; everything else belongs to the worker that
 * has checked it out. References: the generation, each op, each task. */
#ifndef MOONBUS_ENGINE_INSTANCE_H
#define MOONBUS_ENGINE_INSTANCE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "vm/loader.h"
#include "vm/vm.h"

struct delivery;
struct engine;
struct generation;
struct instance;
struct loading;
struct source;
struct task;

/* Something for an instance to do, embedded in what it concerns. */
struct event {
    struct event *prev, *next;
    void (*run)(struct event *event, struct instance *instance); /* on the worker */
};

enum instance_state { INSTANCE_IDLE, INSTANCE_READY, INSTANCE_BUSY };

/* An entry of the ready queue; first member of instance and source. */
struct ready {
    struct ready *prev, *next;
    enum { READY_INSTANCE, READY_SOURCE } kind;
    bool queued;
};

struct instance {
    struct ready ready;
    struct engine *engine;
    struct generation *generation; /* reference held */
    atomic_int references;

    /* Under the dispatch lock. */
    enum instance_state state;
    struct event *mailbox;
    struct instance *idle_prev, *idle_next; /* generation's list of idle instances */
    struct instance *next;                  /* generation's list of all */
    bool worn; /* its state stays full: no new work, and it goes when its tasks have ended */
    bool lost; /* its thread could not be stopped: its messages were handed back */

    /* What its thread runs, or ran last, by instance_runs. Compared and not followed by others,
     * unless the dispatch lock keeps it. */
    _Atomic(struct source *) runs_source;
    _Atomic(const struct delivery *) runs_delivery;

    /* The worker's. */
    struct vm *vm;
    int *handlers;                /* owned: refs of the functions, by order of registration */
    int message_ref, running_ref; /* registry, the api's: messages' metatable; place -> message of a
                                     run */
    struct places {
        int *free; /* owned: a stack of the places below `made` that are not taken */
        int count, capacity, made;
    } places;                /* the api's, of that table */
    struct loading *loading; /* the script's top level is running: what it has registered */
    struct task *current;    /* the task whose coroutine runs, or NULL */
    struct task *tasks;      /* all, for cancelling */
    struct task *runnable;   /* to be resumed before the worker gives the instance back */
    unsigned task_count;
    struct task *spare_tasks; /* owned: ended, by `next`, for those to come */
    int spare_count;
    struct { /* one ended root task, to be told at the next take */
        struct source *source;
        struct delivery *delivery;
    } finished;
    struct event stop;               /* cancels all tasks; posted once */
    struct event retire;             /* the same, for its generation has had its time */
    bool stop_posted, retire_posted; /* under the dispatch lock */
};

/* The instance of a running Lua state or coroutine. Never NULL inside a binding. */
struct instance *instance_of(lua_State *L);

struct instance *instance_retain(struct instance *instance);
void instance_release(struct instance *instance);
/* When the last reference has gone. */
void instance_destroy(struct instance *instance);

/* Any thread: appends to the mailbox and makes it ready. */
void instance_post(struct instance *instance, struct event *event);

/* Loads a script into a new instance of a generation; what it registers goes to loading. Blocks.
 * NULL with failure. One reference. */
struct instance *instance_load(struct generation *generation, struct loading *loading,
                               struct failure *failure);

/* Closes the Lua state. Nothing of it runs, and nothing will. */
void instance_close(struct instance *instance);

/* The worker: the Lua state is broken. Ends the run that broke it (its root; NULL: none), lets the
 * others begin again on another instance, and frees what the state held. In discard.c. */
void instance_discard(struct instance *instance, struct task *culprit);

/* The worker, before it gives the instance back: one whose memory stays full is replaced. In
 * discard.c. */
void instance_inspect(struct instance *instance);

/* With the dispatch lock held: the thread that has it may never come back. Its messages leave their
 * sources; returns those that are to be handed back, a reference each (utlist). In discard.c. */
struct delivery *instance_lose(struct instance *instance);

/* The worker: what it is about to run, should its thread be given up in it. delivery: or NULL. */
static inline void instance_runs(struct instance *instance, struct source *source,
                                 const struct delivery *delivery)
{
    atomic_store_explicit(&instance->runs_source, source, memory_order_relaxed);
    atomic_store_explicit(&instance->runs_delivery, delivery, memory_order_relaxed);
}

/* The worker: resumes what is runnable until nothing is. */
void instance_run(struct instance *instance);

#endif
