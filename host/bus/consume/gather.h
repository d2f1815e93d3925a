/* gather - what one read of the connection brings to one source goes up to it at once: so the lock
 * of the queues is taken, and a worker is woken, once for all of it.
 *
 *   on_message ── gather_add ─▶ list ── the read has ended, or the list is long ─▶ sink
 *
 * A part of the subscription or the consumer that messages come by. On the delivery thread alone;
 * the link calls it before that subscription has drained, so nothing is left in it then. */
#ifndef MOONBUS_BUS_CONSUME_GATHER_H
#define MOONBUS_BUS_CONSUME_GATHER_H

#include "bus/link/link.h"

struct delivery;
struct intake;

struct gather {
    struct link_gatherer gatherer;
    const struct intake *intake;   /* not owned */
    void *source;                  /* not owned; the sink's */
    struct delivery *first, *last; /* by `next`; a reference each */
    int count;
};

/* Of zeroed memory. */
void gather_init(struct gather *gather, const struct intake *intake, void *source);
/* In an on_message of the intake's link. Takes the reference. */
void gather_add(struct gather *gather, struct delivery *delivery);
/* What has been gathered goes up now. */
void gather_flush(struct gather *gather);

#endif
