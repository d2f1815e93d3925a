/* timeouts - when the time is over of what waits in an instance. It is a list of all, of which the
 * clock knows the first.
 *
 *   worker ── add, remove ──▶ list ◀── take ── worker ◀── mailbox ◀── expiry ── clock
 *
 * A run whose reply has come before the end of its time gets that reply, however long the worker is
 * busy: the list gives what was due when `expiry` was posted, and what was posted before it is seen
 * first.
 *
 * Owner: the instance, whose worker calls all of it but for what says otherwise. */
#ifndef MOONBUS_ENGINE_VERSION_TIMEOUTS_H
#define MOONBUS_ENGINE_VERSION_TIMEOUTS_H

#include "base/clock.h"
#include "base/dues.h"
#include "engine/version/event.h"

struct instance;

struct timeouts {
    struct dues dues;
    struct deadline deadline; /* while it is armed, or `expiry` on its way, that has a reference of
                                 the instance's */
    uint64_t armed_ns;        /* for when; UINT64_MAX: it is not */
    uint64_t posted_ns;       /* when `expiry` was posted last: the clock's, then the worker's */
    struct event expiry;
};

void timeouts_init(struct timeouts *timeouts);
void timeouts_clear(struct timeouts *timeouts);

/* Adds one that is not in there. on_expiry: of all the same; takes what is due by timeouts_take,
 * until there is nothing more. */
void timeouts_add(struct instance *instance, struct due *due, uint64_t at_ns,
                  void (*on_expiry)(struct event *event, struct instance *instance));
/* Takes it out, if it is in there. */
void timeouts_remove(struct instance *instance, struct due *due);
/* In on_expiry. NULL: nothing more is due, and the clock knows the next one; the instance may be
 * gone then. */
struct due *timeouts_take(struct instance *instance);

/* Whoever has the instance last: nothing waits in it any more, and nothing will. */
void timeouts_end(struct instance *instance);

#endif
