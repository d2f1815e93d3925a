/* A list of deliveries, for the end of a read. */
#include "bus/consume/gather.h"

#include <stddef.h>

#include "base/container.h"
#include "bus/consume/delivery.h"
#include "bus/consume/intake.h"

/* With more than that the lock is hardly worth a thought, and a worker could have begun. */
#define MOST 64

static void on_read_end(struct link_gatherer *gatherer)
{
    gather_flush(container_of(gatherer, struct gather, gatherer));
}

void gather_init(struct gather *gather, const struct intake *intake, void *source)
{
    gather->gatherer.on_read_end = on_read_end;
    gather->intake = intake;
    gather->source = source;
}

void gather_add(struct gather *gather, struct delivery *delivery)
{
    if (gather->last)
        gather->last->next = delivery;
    else
        gather->first = delivery;
    gather->last = delivery;
    link_at_read_end(gather->intake->link, &gather->gatherer);
    if (++gather->count == MOST)
        gather_flush(gather);
}

void gather_flush(struct gather *gather)
{
    const struct sink *sink = &gather->intake->sink;
    struct delivery *list = gather->first;
    gather->first = gather->last = NULL;
    gather->count = 0;
    if (list)
        sink->on_delivery(sink->owner, gather->source, list);
}
