/* handling - what the engine keeps of a message while it is queued and handled. It lies in the room
 * behind its delivery (struct sink), all zero when that comes, and goes with it. */
#ifndef MOONBUS_ENGINE_SOURCE_HANDLING_H
#define MOONBUS_ENGINE_SOURCE_HANDLING_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/consume/delivery.h"

struct instance;
struct lane;

struct handling {
    /* Under the dispatch lock. */
    struct lane *lane;        /* of its key; NULL: it has none */
    struct instance *runs_on; /* while its handler runs; else NULL */
    uint64_t started_ns;      /* when that began */
    bool rebound;             /* it is to be run again */
    bool follows;             /* in its batch it is not the first */

    /* The task's. */
    bool unreadable; /* msg:json failed on it */
    bool traced;     /* its verdict is recorded */
    unsigned runs;   /* how often a handler began on it, here */
};

static inline struct handling *handling_of(const struct delivery *delivery)
{
    return (struct handling *)(void *)delivery->room;
}

#endif
