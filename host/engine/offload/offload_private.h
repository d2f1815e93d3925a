/* offload_private - what the files of offload share; nobody else includes it.
 *
 *   offload.c           calls: queue, line, timeouts, ends
 *   offload_thread.c    threads: start, work, get lost, stop
 *   offload_state.c     one thread's Lua state, and what runs in it
 *   offload_versions.c  of each module, the last one that loaded, for all threads */
#ifndef MOONBUS_ENGINE_OFFLOAD_OFFLOAD_PRIVATE_H
#define MOONBUS_ENGINE_OFFLOAD_OFFLOAD_PRIVATE_H

#include <sys/types.h>

#include "base/clock.h"
#include "base/sync.h"
#include "base/table.h"
#include "base/thread.h"
#include "engine/offload/offload.h"
#include "engine/offload/offload_stand_in.h"
#include "engine/sched/watchdog.h"
#include "engine/version/policy.h"

enum call_state {
    CALL_NEW,
    CALL_IN_LINE, /* on `line`: waits for a place in the queue, without its arguments */
    CALL_PLACED,  /* a place is kept for it */
    CALL_QUEUED,  /* on `queue` */
    CALL_RUNNING,
    CALL_DONE,
    CALL_OVER, /* timed out, or given up */
};

struct offload_call {
    struct offload_call *prev, *next; /* of queue or line, or of lost_calls */
    atomic_int references; /* its op, its ticket, queue or line or thread, the armed timeout */
    struct offload *offload;
    struct deadline timeout;
    struct policy *policy;                   /* reference held */
    char *script, *path, *module, *function; /* owned */
    char trace_id[33], span_id[17];          /* of the run that calls; "": it has none */
    int64_t timeout_ns;
    struct plain *arguments; /* owned: by the submitter, then the thread */

    /* The lock of offload. */
    enum call_state state;
    struct op *op;      /* the reference of the side that completes it; NULL: nobody waits */
    struct op *granted; /* the same, of one that has got its place and is not told yet */
    struct offload_thread *thread; /* that runs it, or NULL; borrowed */
    uint64_t due_ns;               /* 0: not submitted yet */
    bool timed_out;
    struct failure late; /* then; err alone */

    /* The thread's until the op completes, then the worker's. */
    struct plain *results;  /* owned */
    struct failure failure; /* owned; code ERR_NONE: none */
};

struct offload_thread {
    struct offload_thread *next;
    struct offload *offload;
    struct thread thread;
    pid_t tid;
    struct watched watched;
    struct vm *vm;             /* owned; NULL: none yet, or it had to go */
    struct plain *lent;        /* a reference: what its Lua is being given; or NULL */
    int run_ref;               /* its registry: what runs a call */
    struct offload_call *call; /* a reference; changes under the lock */
    bool lost, ended;          /* the lock */
};

struct offload {
    struct clock *clock;                     /* not owned */
    struct watchdog *watchdog;               /* not owned */
    const struct offload_stand_in *stand_in; /* not owned; NULL: none */
    struct mutex lock;                       /* all below */
    struct cond work;                        /* threads wait */
    struct cond ended;                       /* offload_stop waits */
    struct offload_call *queue, *line;       /* utlist; a reference each */
    int queued, placed, waiting;
    size_t queued_bytes;
    int limit;                      /* threads */
    int alive, idle, lost, running; /* threads that are not lost; of these, asleep; lost; calls */
    struct offload_thread *threads; /* owned; all that have not been joined */
    bool stopping;
    struct offload_version *versions; /* owned; uthash */
    uint64_t calls, failed, timed_out;
    struct offload_call *lost_calls; /* utlist, a reference each: that threads were lost to, to be
                                        told of */
    struct deadline notice;          /* armed for that, outside of all locks */
};

/* --- offload.c --- */

/* With the lock held: the next call, now RUNNING, with the queue's reference; NULL: none. *granted:
 * for offload_complete_granted, when the lock is not held. */
struct offload_call *offload_next(struct offload *offload, struct offload_call **granted);
void offload_complete_granted(struct offload_call *granted);

/* The thread, with the lock held: results or failure are there. Returns the op that waits for them,
 * for offload_ended, which also lets the call go, when the lock is not held. */
struct op *offload_end(struct offload_call *call);
/* The thread: somebody still waits for it. */
bool offload_wanted(struct offload_call *call);
void offload_ended(struct offload_call *call, struct op *op);

/* --- offload_stand_in.c --- */

/* With the lock held, a call that has its place: does the stand-in take it? It runs then. */
bool offload_is_taken(struct offload_call *call);

/* --- offload_thread.c --- */

/* With the lock held: may there be one thread more? */
bool offload_may_start(const struct offload *offload);
/* With the lock held: has somebody take what is queued. */
void offload_wake(struct offload *offload);
/* With the lock held: what the thread runs is over now, also when it has not entered Lua yet. */
void offload_interrupt(struct offload_thread *thread);
void offload_thread_lost(struct watched *watched);
void offload_on_notice(struct deadline *deadline);

/* --- offload_state.c --- */

/* Runs thread->call to its end, on the calling thread, under the watchdog. */
void offload_run(struct offload_thread *thread);

/* --- offload_versions.c: any thread, without the lock --- */

/* Takes over files: what a module was made of that has loaded, and is what is on disk now. id: one
 * text for each content. */
void offload_keep_version(struct offload *offload, const char *key, size_t len, const char *id,
                          struct plain *files);
/* Is one kept (of this id; NULL: any)? */
bool offload_is_version(struct offload *offload, const char *key, size_t len, const char *id);
/* Its files, a reference of the caller's; NULL: none. */
struct plain *offload_version(struct offload *offload, const char *key, size_t len);
/* True: one is kept, and this has not been told of a newer one that does not load. NULL: what is on
 * disk does. */
bool offload_complain(struct offload *offload, const char *key, size_t len, const char *text);
/* No thread is left. */
void offload_free_versions(struct offload *offload);

#endif
