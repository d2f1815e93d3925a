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
 * What waits does not use up the consumer's credit, up to a bound, so that one hot key does not
 * starve the others. All functions with the dispatch lock held, but for lane_key. */
#ifndef MOONBUS_ENGINE_LANE_H
#define MOONBUS_ENGINE_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct delivery;
struct lanes;
struct registration;
struct source;

#define LANE_KEY_MAX 1024

/* The lanes of a source. What registration says of the order is copied: it holds for as long as the
 * source is there, and outlives the generation. NULL: no memory. */
struct lanes *lanes_new(struct source *source, const struct registration *registration);
/* Nothing is in them, and nothing is held. */
void lanes_free(struct lanes *lanes);

/* Nothing is in them, nothing of the clock's will touch them. NULL is quiet. */
bool lanes_quiet(const struct lanes *lanes);

/* Writes the key of a message; false when it has none (no such header or token): then it is in no
 * order. For its present owner, without the lock. */
bool lane_key(const struct lanes *lanes, struct delivery *delivery, char key[LANE_KEY_MAX]);

/* True: it may be queued. False: it waits in its lane, which has the reference now. *tell: how many
 * wait, when that is to be logged (without the lock), because the consumer pauses; else 0. */
bool lane_enter(struct lanes *lanes, struct delivery *delivery, const char *key, int *tell);

/* Its run is to be repeated after delay_ns: noted now, done by lane_over. */
void lane_hold(struct delivery *delivery, int64_t delay_ns);

bool lane_wants_hold(const struct delivery *delivery);

/* Its run is over. Returns true when it is held: the lane has the reference, and queues it again
 * itself. Else the key goes on: *next is to be queued, or NULL. A message without a lane: false. */
bool lane_over(struct lanes *lanes, struct delivery *delivery, struct delivery **next);

/* Takes out all that waits or is held, for handing back; a utlist. */
struct delivery *lanes_empty(struct lanes *lanes);

#endif
