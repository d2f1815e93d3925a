#include "engine/op.h"

#include <stdlib.h>
#include <utlist.h>

#include "bus/reap.h"
#include "engine/task.h"

#define OP_OF_EVENT(e) ((struct op *)((char *)(e)-offsetof(struct op, event)))

static void on_event(struct event *event, struct instance *instance)
{
    (void)instance;
    struct op *op = OP_OF_EVENT(event);
    op->complete = true;
    if (op->task)
        task_on_op(op);
    op_release(op);
}

struct op *op_new(struct task *task, int (*push)(struct op *, lua_State *),
                  void (*cancel)(struct op *))
{
    struct op *op = malloc(sizeof *op);
    if (!op)
        return NULL;
    atomic_init(&op->references, 1);
    op->event = (struct event){.run = on_event};
    op->instance = instance_retain(task->instance);
    op->task = task;
    op->complete = false;
    op->handle = 0;
    op->deadline = (struct deadline){.on_due = NULL};
    op->result = (struct op_result){.code = ERR_NONE};
    op->push = push;
    op->cancel = cancel;
    op->destroy = NULL;
    op->work = NULL;
    DL_APPEND(task->ops, op);
    return op;
}

struct op *op_retain(struct op *op)
{
    atomic_fetch_add_explicit(&op->references, 1, memory_order_relaxed);
    return op;
}

void op_release(struct op *op)
{
    if (atomic_fetch_sub_explicit(&op->references, 1, memory_order_acq_rel) != 1)
        return;
    if (op->destroy)
        op->destroy(op);
    reap(op->result.msg);
    free(op->result.text);
    instance_release(op->instance);
    free(op);
}

void op_complete(struct op *op)
{
    instance_post(op->instance, &op->event);
}

void op_abandon(struct op *op)
{
    struct task *task = op->task;
    if (!task)
        return;
    DL_DELETE(task->ops, op);
    if (task->waiting == op)
        task->waiting = NULL;
    op->task = NULL;
    if (!op->complete && op->cancel)
        op->cancel(op);
    op_release(op);
}
