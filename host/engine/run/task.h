/* task - one run of a handler, or of a function that it spawned: a coroutine and what hangs on it.
 *
 *   RUNNABLE ─▶ RUNNING ─┬─ yields ─▶ WAITING (on one op) ── completes, is cancelled ─▶ RUNNABLE
 *                        └─ returns, fails ─▶ ENDING (children, kept publishes) ─▶ settled, freed
 *
 * The root of a tree of tasks is the run of a handler: it has the delivery, the timeout, and the
 * verdict. Children end with it: when the root's function has returned, they are cancelled, but for
 * those that are `kept` (asynchronous publishes), which are waited for. Only when all have ended is
 * the message settled.
 *
 * Most handlers return at once. What they need is not made for each: a root begins on no list, and
 * if nothing of it is left when its function has returned, it rests, coroutine and all, until the
 * next run (instance->standby). One that waits, spawns or fails is enlisted: from then on it is a
 * task as drawn above.
 *
 * A cancelled task gets an error raised at its pending binding, and at every later one.
 * Owner: the worker that has the instance. `timeout` is one of the instance's (timeouts.h). */
#ifndef MOONBUS_ENGINE_RUN_TASK_H
#define MOONBUS_ENGINE_RUN_TASK_H

#include "base/dues.h"
#include "bus/consume/delivery.h"
#include "engine/run/message_id.h"
#include "engine/version/instance.h"

struct job;
struct message;
struct op;
struct registration;
struct run_trace;
struct source;
struct tally_cell;
struct trace_span;

enum task_state { TASK_RUNNABLE, TASK_RUNNING, TASK_WAITING, TASK_ENDING, TASK_ENDED };

enum cancel_reason {
    CANCEL_NONE,
    CANCEL_TIMEOUT,  /* the handler's timeout */
    CANCEL_STOP,     /* the host stops */
    CANCEL_RETIRED,  /* its generation was the oldest of too many */
    CANCEL_REPLACED, /* a "start" hook's: its version was replaced */
    CANCEL_PARENT,   /* its handler ended, or gather gave it up, or :cancel() */
};

struct late_failures;

struct task {
    struct task *prev, *next;         /* instance's list of all */
    struct task *run_prev, *run_next; /* instance's list of runnable */
    atomic_int references;            /* itself, Lua's future objects */
    struct instance *instance;
    struct task *root;   /* itself for a root */
    struct task *parent; /* the task that spawned it, or that one's parent; NULL for a root */
    struct task *peer_prev, *peer_next; /* root's list of all that were spawned under it */
    struct coroutine coroutine;
    enum task_state state;
    int resume_args;    /* RUNNABLE: values on the coroutine's stack; -1: op's */
    struct op *ops;     /* pending, owned */
    struct op *waiting; /* WAITING: the one of them that resumes it */
    enum cancel_reason cancelled;
    bool kept;   /* waited for at the end of its root, not cancelled */
    bool listed; /* it is on its instance's list, and has a reference of it (task_enlist) */

    char path[64];                   /* "0" for the root, "2", "2.1": by order of spawn */
    unsigned spawned;                /* by this task so far: names the next path */
    unsigned children;               /* of them, and of theirs, that live and have it as parent */
    struct publish_counts published; /* for message ids; of a batch, the root's are those of all */

    /* Root only. */
    struct source *source;
    struct registration *registration; /* of the generation it runs on */
    struct delivery *delivery; /* on its source's list of active ones; NULL: timer, hook; of a batch
                                  the first */
    uint64_t number;           /* among the runs of its instance, from 1 */
    struct delivery **batch;   /* owned array of all; NULL: no batch */
    int batch_count;
    int64_t planned;          /* of a cron line: the time of this run; else 0 */
    struct message *messages; /* the api's: its message objects (hooks.h) */
    int below;                /* so many values lie below the function of its coroutine, for that */
    bool retry_asked;         /* order_by: msg:nak was called, which means a retry here */
    int64_t retry_delay_ns;
    struct task *spawned_tasks; /* those that live */
    bool responded;             /* msg:respond was called */
    bool unsent;                /* so much of its script waits that its reply found no room */
    struct failure *failure;    /* owned; NULL: it has not failed */
    struct run_trace *trace;    /* owned; NULL: nobody has asked, or it has none (run_trace.h) */
    struct late_failures *late; /* owned; of what it spawned; NULL: none */
    struct err *failed_publish; /* owned; the first; NULL: none failed */
    struct tally_cell *cell;    /* not owned: its instance's; NULL: it is not counted */
    uint64_t started_ns;
    uint64_t cpu_ns;    /* for how long it and its children have had a thread */
    struct due timeout; /* begins when it first waits: most handlers have ended by then */
    bool timed;         /* it has begun */
};

/* The worker: starts the handler that was checked out. */
void task_start(const struct job *job);

/* The worker: resumes what has been runnable on the instance for longest. False: nothing is. */
bool task_run_next(struct instance *instance);

/* The worker: continues a runnable task. */
void task_resume(struct task *task);

/* Spawns a child of `parent`: the function and its nargs arguments are moved from the top of L.
 * It runs when its parent has suspended. NULL when there is no memory. The caller gets a
 * reference. */
struct task *task_spawn(struct task *parent, lua_State *L, int nargs, bool kept);

/* Suspends the running task until op completes; for `return task_wait(L, op)` in a binding. */
int task_wait(lua_State *L, struct op *op);

/* The worker: op has completed; its task becomes runnable if it waits for it. */
void task_on_op(struct op *op);

/* Raises in the task, and its children, at their pending or next binding. The worker only. */
void task_cancel(struct task *task, enum cancel_reason reason);

/* When the handler's time is over (monotonic); 0: never. */
uint64_t task_due_ns(const struct task *root);

/* Cancels the running task's root when its time is over. The clock's own event waits for the
 * worker, which a handler that computes without waiting keeps busy. The worker only. */
void task_check_time(struct task *task);

/* The worker; events of an instance, for whoever posts them: all of its tasks are cancelled, as the
 * host stops; or those that go with its generation (instance->generation->cancelled: all; else its
 * "start" hooks). */
void task_on_stop(struct event *event, struct instance *instance);
void task_on_retire(struct event *event, struct instance *instance);

/* The message of the error that a cancelled task gets. */
const char *task_cancel_text(enum cancel_reason reason);

/* Gives the verdict of a root task whose function and children have ended; logs what failed. In
 * settle.c. */
void task_settle(struct task *task);

/* A task, spawned under a run, has failed after it was cancelled, which is nobody's to hear.
 * Thousands may: the log gets the first of them and how many, when the run has ended. Copies. In
 * settle.c. */
void task_failed_late(struct task *task, const char *text, const char *file, int line);
void late_failures_free(struct late_failures *late);

/* One message of the run goes to its dead letter now (msg:reject in a batch, msg:nak at the last
 * attempt), or comes again if there is none; the run has nothing to do with it any more. file: the
 * place in the script, for the log; NULL: none. In settle.c. */
void task_dead_letter(struct task *root, struct delivery *delivery, const struct err *reason,
                      const char *file, int line);

/* A root has failed by this, whatever it failed by before: its message shall not count as handled.
 * Without memory it has failed all the same, and not even why is known. Owns what failure holds. */
void task_fail_anew(struct task *root, struct failure *failure);

/* The last thing of a run, when its messages have their verdict: the source has its place again,
 * and what the run referred to is gone. */
void task_return_place(struct task *root);

/* Ends what hung on a task whose coroutine has ended, or is out of reach, and takes it off its
 * instance. reusable: the coroutine. */
void task_unhang(struct task *task, bool reusable);

/* The timeout of a root that goes on after this begins, unless it has. */
void task_begin_timeout(struct task *root);

/* The run is over: its verdict, and the end of its root. */
void task_end(struct task *root);

struct task *task_retain(struct task *task);
void task_release(struct task *task);

/* The next message id for a publish of this task to subject, as the contract says:
 * <stream>:<timestamp>:<consumer>:<sequence>:<task>.<k>:<subject> (message_id.h). input: one of the
 * run's deliveries, which must be named in a batch; NULL: its only one. In a batch <task> is 0, and
 * k counts over all tasks: the place of an input in the batch must not show. Empty without a
 * JetStream input: the id shall be random. ERR_MEMORY: there is an input, and no memory to count
 * with; a random id would be another one in its next attempt. */
int task_message_id(struct task *task, const struct delivery *input, const char *subject, char *buf,
                    size_t size);

/* Where there is a tracer (OpenTelemetry), in task_spans.c: the run begins; its verdicts are given,
 * and it ends as root->failure says. */
void task_begin_span(struct task *root);
void task_end_span(struct task *root);

/* The task sends something: adds what goes along to its headers. A span, the caller's, for what is
 * to be recorded of it; NULL: nothing is. */
struct task_sending {
    const char *operation; /* "publish", "request" */
    const char *subject, *id;
    const struct delivery *from; /* in a batch, the message that it comes from; or NULL */
    size_t len;                  /* of its data */
    size_t room;                 /* bytes of headers that may be added */
};
struct trace_span *task_trace_send(struct task *task, const struct task_sending *sending,
                                   struct headers *headers);

/* The handler has given this verdict on a message of its run; the span is the caller's. NULL:
 * nothing is recorded. */
struct trace_span *task_trace_verdict(struct task *root, struct delivery *delivery,
                                      enum verdict verdict);

/* A dead letter is sent to the subject: what goes along (deadletter.h). NULL: nothing is
 * recorded. */
struct letter_escort *task_trace_letter(struct task *root, const struct delivery *delivery,
                                        const char *subject);

/* A JetStream publish of this task could not be stored: unless the handler gives its own verdict,
 * its message is nak'd. */
void task_publish_failed(struct task *task, const struct err *err);

/* The worker: the Lua state of the instance is broken. Ends the run that broke it (its root; NULL:
 * none), lets the others begin again on another instance, and frees what the state held. In
 * discard.c. */
void instance_discard(struct instance *instance, struct task *culprit);

/* The worker, before it checks the instance in: one whose memory stays full is replaced. In
 * discard.c. */
void instance_inspect(struct instance *instance);

/* What runs before a coroutine is resumed after a wait: pushes the values for the binding. A
 * cancelled task gets TASK_CANCELLED (a light userdata) and its reason's text, which the Lua side
 * raises. */
extern char task_cancelled_marker;
#define TASK_CANCELLED ((void *)&task_cancelled_marker)

#endif
