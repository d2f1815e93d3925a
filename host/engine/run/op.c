/* op - made, completed, abandoned. */
#include "engine/run/op.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/container.h"
#include "engine/run/task.h"
#include "engine/version/script.h"
#include "trace/tracer.h"

static void on_event(struct event *event, struct instance *instance)
{
    (void)instance;
    struct op *op = container_of(event, struct op, event);
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
    op->span = NULL;
    DL_APPEND(task->ops, op);
    return op;
}

struct op *op_retain(struct op *op)
{
    atomic_fetch_add_explicit(&op->references, 1, memory_order_relaxed);
    return op;
}

/* What only a code is known of says no more. */
static void end_span(struct op *op)
{
    enum err_code code = op->span->end_ns ? op->result.code : ERR_CANCELLED;
    if (code != ERR_NONE && !op->span->error)
        trace_span_fail(op->span, err_name(code), NULL);
    tracer_end(op->instance->scripts->tracer, op->span);
}

void op_release(struct op *op)
{
    if (atomic_fetch_sub_explicit(&op->references, 1, memory_order_acq_rel) != 1)
        return;
    if (op->destroy)
        op->destroy(op);
    if (op->span)
        end_span(op);
    packet_clear(&op->result.reply);
    free(op->result.text);
    instance_release(op->instance);
    free(op);
}

void op_complete(struct op *op)
{
    if (op->span)
        trace_span_stop(op->span);
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
