/* whereabouts - at which line of its script each of the oldest runs of an instance waits.
 *
 *   whoever looks ── whereabouts_ask ─▶ mailbox ─▶ the instance's worker walks its tasks
 *                 ◀── whereabouts_of (from the next look on) ──── and notes their lines
 *
 * Nothing is noted while nobody asks, so a message pays nothing. An instance whose handler computes
 * does not read its mailbox: its last answer is believed for a moment. All of it is guarded by the
 * dispatch lock; tasks and messages are compared, never followed. */
#ifndef MOONBUS_ENGINE_RUN_WHEREABOUTS_H
#define MOONBUS_ENGINE_RUN_WHEREABOUTS_H

#include <stdint.h>

#include "engine/version/instance.h"

struct whereabout {
    const struct source *source;
    const struct delivery *delivery; /* of a batch the first; NULL: a timer, a hook */
    uint64_t started_ns;
    char place[160]; /* "orders.lua:14"; "": its function has ended, its publishes are waited for */
};

/* With the dispatch lock held: the instance notes it when it comes to it. Without memory: not. */
void whereabouts_ask(struct instance *instance);

/* With the dispatch lock held: what it noted when it was asked the last time, the oldest first;
 * nothing, if that is long ago. Its own. */
const struct whereabout *whereabouts_of(const struct instance *instance, uint64_t now_ns,
                                        int *count);

#endif
