/* op - something that a task waits for: a reply, a PubAck, a point in time.
 *
 *   binding ─ op_new ─▶ pending ── op_complete (any thread) ─▶ instance's mailbox ─▶ task resumes
 *                          └───── op_abandon (task cancelled, ended) ─▶ cancel(op)
 *
 * Recipe of a binding that waits: check the arguments; api_task (raises when cancelled, or out of
 * place); op_new; start what completes it (retain a reference for that side); task_wait. The op's
 * fields other than `event` and `result` belong to the instance's owner; `result` belongs to the
 * side that completes it until op_complete, then to the owner. Collecting a coroutine releases
 * nothing: `destroy` releases what an op holds. */
#ifndef MOONBUS_ENGINE_RUN_OP_H
#define MOONBUS_ENGINE_RUN_OP_H

#include <lua.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "bus/packet.h"
#include "bus/wire.h"
#include "engine/version/instance.h"

struct link_gatherer;
struct task;
struct trace_span;

/* Small: ten thousands of them may wait. What the two fields without a fixed meaning hold is the
 * binding's matter. */
struct op_result {
    enum err_code code; /* ERR_NONE: it worked */
    char *text;         /* owned, or NULL */
    uint64_t number;
    bool duplicate;      /* of a receipt */
    bool retried;        /* of a receipt: it was sent more than once */
    bool trial;          /* of a publish: a failure is not noted */
    struct packet reply; /* owned; or empty */
};

struct op {
    struct event event;     /* posted when complete */
    struct op *prev, *next; /* the task's list */
    atomic_int references;
    struct instance *instance; /* reference held */
    struct task *task;         /* NULL once abandoned or delivered */
    bool complete;
    signed char block; /* which kind of block it is in, which goes back to the instance if the
                          task's thread ends it; NO_BLOCK: none */

    uint64_t handle;          /* inbox id, for cancel */
    uint64_t began_ns;        /* of a request: when it was made */
    struct deadline deadline; /* of sleep */
    struct op_result result;

    /* Pushes what the binding returns onto L; returns how many. Runs once, on the task's thread,
     * when the task resumes. */
    int (*push)(struct op *op, lua_State *L);
    /* Stops the other side; if it will not complete any more, releases that side's reference. May
     * be NULL. */
    void (*cancel)(struct op *op);
    /* With the last reference, on any thread: releases `work`. May be NULL. */
    void (*destroy)(struct op *op);
    void *work; /* what only its binding knows of */

    /* Owned: what is recorded of it, until it is complete; ends with the op. NULL: nothing. */
    struct trace_span *span;
};

/* A pending op of the task, with one reference, the task's. NULL when out of memory. */
struct op *op_new(struct task *task, int (*push)(struct op *, lua_State *),
                  void (*cancel)(struct op *));
/* The same with so many bytes behind it, for what it waits for: op_more. They are there as long as
 * the op, so whoever uses them has a reference. One block for both: instances keep some. */
struct op *op_new_with(struct task *task, size_t more, int (*push)(struct op *, lua_State *),
                       void (*cancel)(struct op *));
void *op_more(struct op *op);
struct op *op_retain(struct op *op);
void op_release(struct op *op);

/* Any thread, once: consumes the caller's reference. */
void op_complete(struct op *op);

/* The same, in an on_message of the publish connection alone, whose inbox has all replies: it is
 * posted when the read has ended, under one taking of the lock for all that the read has brought.
 */
void op_complete_by_reply(struct op *op);
/* What posts them; the engine's: `scripts` has it. */
void op_post_replied(struct link_gatherer *gatherer);

/* The task's thread: nobody waits for it any more. Idempotent. */
void op_abandon(struct op *op);

#endif
