/* handling - what the engine keeps of a message while it is queued and handled. It lies in the room
 * of its delivery, all zero when that comes, and goes with it. */
#ifndef MOONBUS_ENGINE_SOURCE_HANDLING_H
#define MOONBUS_ENGINE_SOURCE_HANDLING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/consume/delivery.h"

struct instance;
struct lane;

struct handling {
    /* Under the dispatch lock. */
    struct lane *lane;        /* of its key; NULL: it has none */
    struct instance *runs_on; /* while its handler runs, or is about to; else NULL */
    bool rebound;             /* it is to be run again */
    bool follows;             /* in its batch it is not the first */

    /* When its handler began; 0: it has not yet. Its worker writes it, any thread reads. */
    atomic_uint_least64_t started_ns;

    /* The task's. */
    bool unreadable; /* msg:json failed on it */
    bool traced;     /* its verdict is recorded */
    unsigned runs;   /* how often a handler began on it, here */
};

_Static_assert(sizeof(struct handling) <= DELIVERY_ROOM, "there is room for it");
_Static_assert(offsetof(struct delivery, room) % _Alignof(struct handling) == 0, "its place");

static inline struct handling *handling_of(const struct delivery *delivery)
{
    return (struct handling *)(void *)delivery->room;
}

static inline uint64_t handling_started_ns(const struct delivery *delivery)
{
    return atomic_load_explicit(&handling_of(delivery)->started_ns, memory_order_relaxed);
}

#endif
