/* bindings_room - tasks that wait until the outbox has room for what they publish. */
#include "base/container.h"
#include "bus/bus.h"
#include "engine/bindings.h"
#include "engine/version/script.h"

static struct outbox *outbox_of(const struct instance *instance)
{
    return instance->scripts->bus->outbox;
}

bool binding_has_room(const struct instance *instance, size_t bytes, uint64_t ticket)
{
    return outbox_has_room(outbox_of(instance), bytes, ticket);
}

static void on_room(struct outbox_room *room)
{
    op_complete(container_of(room, struct binding_room, room)->op);
}

void binding_wait_for_room(struct op *op, size_t bytes, uint64_t ticket)
{
    struct binding_room *waits = op_more(op);
    waits->op = op_retain(op);
    waits->room = (struct outbox_room){.bytes = bytes, .ticket = ticket, .on_room = on_room};
    if (outbox_enter(outbox_of(op->instance), &waits->room))
        op_complete(op);
}

void binding_cancel_room(struct op *op)
{
    struct binding_room *waits = op_more(op);
    if (outbox_leave(outbox_of(op->instance), &waits->room))
        op_release(op);
}
