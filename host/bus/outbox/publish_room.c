/* publish_room - the line of those who wait for room: in the order in which they came, each with
 * the bytes that it wants to hand in. Whoever is called comes again, and finds room, or gets its
 * place back. */
#include <utlist.h>

#include "bus/outbox/publish_private.h"

static void join_line(struct outbox *outbox, struct outbox_room *room)
{
    must_hold(&outbox->lock);
    if (!room->ticket)
        room->ticket = ++outbox->tickets;
    struct outbox_room *after = outbox->line;
    /* Most are the last ones; who comes again was among the first. */
    if (after && after->prev->ticket < room->ticket)
        after = NULL;
    while (after && after->ticket < room->ticket)
        after = after->next;
    if (after)
        DL_PREPEND_ELEM(outbox->line, after, room);
    else
        DL_APPEND(outbox->line, room);
    room->waits = true;
    atomic_store(&outbox->has_line, true);
}

static void leave_line(struct outbox *outbox, struct outbox_room *room)
{
    must_hold(&outbox->lock);
    DL_DELETE(outbox->line, room);
    room->waits = false;
    atomic_store(&outbox->has_line, outbox->line != NULL);
}

bool outbox_enter(struct outbox *outbox, struct outbox_room *room)
{
    mutex_lock(&outbox->lock);
    bool first = !outbox->line || (room->ticket && room->ticket < outbox->line->ticket);
    bool enters = outbox->closed || (first && publish_fits(outbox, room->bytes));
    if (!enters)
        join_line(outbox, room);
    mutex_unlock(&outbox->lock);
    return enters;
}

/* If nothing is pending nobody would call those who are left: all of them come then. */
static struct outbox_room *take_first_ones(struct outbox *outbox)
{
    must_hold(&outbox->lock);
    struct outbox_room *called = NULL, *room;
    size_t bytes = 0;
    while ((room = outbox->line) && publish_fits(outbox, bytes + room->bytes)) {
        bytes += room->bytes;
        leave_line(outbox, room);
        DL_APPEND(called, room);
    }
    return called;
}

void publish_call_line(struct outbox *outbox)
{
    struct outbox_room *called, *room, *next;
    if (!atomic_load(&outbox->has_line))
        return;
    mutex_lock(&outbox->lock);
    called = take_first_ones(outbox);
    mutex_unlock(&outbox->lock);
    DL_FOREACH_SAFE(called, room, next)
        room->on_room(room); /* it may be gone then */
}

bool outbox_leave(struct outbox *outbox, struct outbox_room *room)
{
    mutex_lock(&outbox->lock);
    bool waited = room->waits;
    if (waited)
        leave_line(outbox, room);
    mutex_unlock(&outbox->lock);
    if (waited) /* who stood behind it may want less */
        publish_call_line(outbox);
    return waited;
}
