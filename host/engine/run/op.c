/* op - made, completed, abandoned. */
#include "engine/run/op.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/container.h"
#include "bus/bus.h"
#include "engine/run/task.h"
#include "engine/version/script.h"
#include "trace/tracer.h"

/* How large the blocks are that an instance keeps for ops to come: a request, and a publish of a
 * few hundred bytes. */
static const size_t block_bytes[OP_BLOCKS] = {512, 1536};
/* As many are kept of each as end at a time: a read of the connection brings the ends of hundreds.
 */
#if defined(__SANITIZE_ADDRESS__)
#define BLOCKS_SPARE 0 /* so that a late use of one is found */
#else
#define BLOCKS_SPARE 512
#endif
#define NO_BLOCK (-1)

/* Where what is behind an op begins. */
#define MORE_AT ((sizeof(struct op) + 15) / 16 * 16)

static void let_go(struct op *op, bool by_task);

static void on_event(struct event *event, struct instance *instance)
{
    (void)instance;
    struct op *op = container_of(event, struct op, event);
    op->complete = true;
    if (op->task)
        task_on_op(op);
    let_go(op, true);
}

static struct op *begin(struct op *op, struct task *task, int (*push)(struct op *, lua_State *),
                        void (*cancel)(struct op *))
{
    if (!op)
        return NULL;
    atomic_init(&op->references, 1);
    op->event = (struct event){.run = on_event};
    op->instance = instance_retain(task->instance);
    op->task = task;
    op->complete = false;
    op->block = NO_BLOCK;
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

struct op *op_new(struct task *task, int (*push)(struct op *, lua_State *),
                  void (*cancel)(struct op *))
{
    return begin(malloc(sizeof(struct op)), task, push, cancel);
}

static void *take_block(struct instance *instance, int kind)
{
    struct spare_list *list = &instance->spare_blocks[kind];
    struct spare *spare = list->first;
    if (!spare)
        return malloc(block_bytes[kind]);
    list->first = spare->next;
    list->count--;
    return spare;
}

struct op *op_new_with(struct task *task, size_t more, int (*push)(struct op *, lua_State *),
                       void (*cancel)(struct op *))
{
    int kind = 0;
    while (kind < OP_BLOCKS && block_bytes[kind] < MORE_AT + more)
        kind++;
    bool fits = kind < OP_BLOCKS;
    void *memory = fits ? take_block(task->instance, kind) : malloc(MORE_AT + more);
    struct op *op = begin(memory, task, push, cancel);
    if (op && fits)
        op->block = (signed char)kind;
    return op;
}

void *op_more(struct op *op)
{
    return (char *)op + MORE_AT;
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

static void free_op(struct op *op, bool by_task)
{
    struct instance *instance = op->instance;
    bool keep = by_task && op->block != NO_BLOCK;
    struct spare_list *list = keep ? &instance->spare_blocks[op->block] : NULL;
    if (keep && list->count < BLOCKS_SPARE) {
        struct spare *spare = (struct spare *)(void *)op;
        LL_PREPEND(list->first, spare);
        list->count++;
    } else {
        free(op);
    }
    instance_release(instance);
}

/* by_task: on the thread that has the instance. */
static void let_go(struct op *op, bool by_task)
{
    if (atomic_fetch_sub_explicit(&op->references, 1, memory_order_acq_rel) != 1)
        return;
    if (op->destroy)
        op->destroy(op);
    if (op->span)
        end_span(op);
    if (op->result.reply.subject)
        packet_clear(&op->result.reply);
    if (op->result.text)
        free(op->result.text);
    free_op(op, by_task);
}

void op_release(struct op *op)
{
    let_go(op, false);
}

void op_complete(struct op *op)
{
    if (op->span)
        trace_span_stop(op->span);
    instance_post(op->instance, &op->event);
}

void op_complete_by_reply(struct op *op)
{
    struct scripts *scripts = op->instance->scripts;
    if (op->span)
        trace_span_stop(op->span);
    DL_APPEND(scripts->replied, &op->event);
    link_at_read_end(scripts->bus->publish, &scripts->at_read_end);
}

void op_post_replied(struct link_gatherer *gatherer)
{
    struct scripts *scripts = container_of(gatherer, struct scripts, at_read_end);
    struct event *event, *next;
    dispatch_lock(scripts->dispatch);
    DL_FOREACH_SAFE(scripts->replied, event, next) {
        struct instance *instance = container_of(event, struct op, event)->instance;
        DL_APPEND(instance->mailbox, event);
        instance_ready(instance);
    }
    scripts->replied = NULL;
    dispatch_unlock(scripts->dispatch);
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
    let_go(op, true);
}
