/* lane - order by key: of the messages of one key one is queued or runs, the others wait in the
 * key's lane, in the order in which they came.
 *
 *   push ── lane_enter ─┬─ first of its key ─▶ source's queue ─▶ runs ── lane_over ─┬─▶ the next
 *                       └─ else: waits                 ▲                              │
 *                                                      └── its backoff ── lane_hold ──┘
 *
 * A message that failed is retried here, held with heartbeats, and its key waits for it: a nak may
 * go to another process, and the order would be gone.
 *
 * When a connection is cut, what was on its way comes again after newer messages: all that comes is
 * held back until nothing is missing (bus/consume/gap.h).
 *
 *   push ── lanes_hold_back ── "behind", by stream sequence ── lanes_end_hold_back ─▶ lane_enter
 *
 * What waits does not use up the consumer's credit, up to a bound, so that one hot key does not
 * starve the others. All functions with the dispatch lock held, but for lanes_new,
 * lanes_free and lane_key. */
#ifndef MOONBUS_ENGINE_SOURCE_LANE_H
#define MOONBUS_ENGINE_SOURCE_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct clock;
struct delivery;
struct dispatch;
struct lanes;
struct registration;

#define LANE_KEY_MAX 1024

/* The lanes of a source. What registration says of the order is copied: it holds for as long as the
 * source is there, and outlives the generation. on_retry: the backoff of one that was held is over,
 * it is to be queued; on the clock, with the dispatch lock held. NULL: no memory. */
struct lanes *lanes_new(const struct registration *registration, struct clock *clock,
                        struct dispatch *dispatch,
                        void (*on_retry)(void *owner, struct delivery *delivery), void *owner);
/* Nothing is in them, and nothing is held. */
void lanes_free(struct lanes *lanes);

/* Nothing is in them, nothing of the clock's will touch them. NULL is quiet. */
bool lanes_quiet(const struct lanes *lanes);

/* Writes the key of a message; false when it has none (no such header or token): then it is in no
 * order. For its present owner, without the lock. */
bool lane_key(const struct lanes *lanes, struct delivery *delivery, char key[LANE_KEY_MAX]);

/* True: it may be queued. False: it waits in its lane, which has the reference now; or, where there
 * is no memory for a lane, it is held back as below (lanes_starved). *tell: how many
 * wait, when that is to be logged (without the lock), because the consumer pauses; else 0. */
bool lane_enter(struct lanes *lanes, struct delivery *delivery, const char *key, int *tell);

/* True: it is held back, because messages were lost on their way and will come again; so are these,
 * when they come, until none is missing. The lanes have the reference now. Before lane_enter; for
 * one that has a key. */
bool lanes_hold_back(struct lanes *lanes, struct delivery *delivery);

/* Nothing is missing any more: what was held back enters its lanes, in the order of the stream;
 * what may be queued is appended to *queue. */
void lanes_end_hold_back(struct lanes *lanes, struct delivery **queue);
/* There was no memory for a lane: lanes_end_hold_back is to be called again in a moment. */
bool lanes_starved(const struct lanes *lanes);

/* Its run is to be repeated after delay_ns: noted now, done by lane_over. */
void lane_hold(struct delivery *delivery, int64_t delay_ns);

bool lane_wants_hold(const struct delivery *delivery);

/* Its run is over. Returns true when it is held: the lane has the reference, and queues it again
 * itself. Else the key goes on: *next is to be queued, or NULL. A message without a lane: false. */
bool lane_over(struct lanes *lanes, struct delivery *delivery, struct delivery **next);

/* Takes out all that waits or is held, for handing back; a utlist. */
struct delivery *lanes_empty(struct lanes *lanes);

#endif
