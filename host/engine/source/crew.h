/* crew - the instances of a generation at work: which is idle, when there is one more, when one
 * goes, and when all do.
 *
 *   work and no idle instance ── crew_grow ─▶ pool: one more is loaded ─▶ idle
 *   retired, nothing of it runs or comes ── crew_reap ─▶ "stop" hooks ─▶ pool: all are closed
 *
 * All functions with the dispatch lock held. */
#ifndef MOONBUS_ENGINE_SOURCE_CREW_H
#define MOONBUS_ENGINE_SOURCE_CREW_H

#include <stdbool.h>

struct generation;
struct instance;

/* The instance has nothing to do: the next source that waits for one is ready. */
void crew_idle(struct instance *instance);

/* If an instance is idle: the source that has waited longest for one, and has work, is ready. */
void crew_serve_waiting(struct generation *generation);

/* There is work and no idle instance: another one is loaded on the pool if there may be one more.
 */
void crew_grow(struct generation *generation);

/* The generation goes on without the instance, and may have another one made. Somebody else holds a
 * reference. Any number of calls. */
void crew_remove(struct instance *instance);

/* Should it have another instance? There is work for one, or it has none at all: what comes next
 * shall not wait for a load. */
bool crew_is_wanting(const struct generation *generation);

/* If it is retired and nothing of it runs or comes: its "stop" hooks run, then its states are
 * closed on the pool. Any number of calls. */
void crew_reap(struct generation *generation);

#endif
