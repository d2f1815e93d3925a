/* wheel - a hierarchical timer wheel: hundreds of thousands of timers, each armed and
 * cancelled in constant time. Pure: it knows ticks, not clocks, threads or locks.
 *
 * Timers are embedded in what they belong to; the wheel owns none of them. Not thread-safe.
 *
 *   level 0   one slot for each of the 64 ticks around now
 *   level 1   one slot for 64 ticks each ...
 *   level 10  the last of the 64 bits of a tick
 *   due       what has come due and was not taken yet
 *
 * A timer waits at the level of the highest six bits in which its tick differs from now. When
 * now reaches a slot of level n > 0, its timers move down: at most ten times in a timer's life.
 * A bit for each slot says whether it holds anything, so empty time costs nothing. */
#ifndef MOONBUS_BASE_WHEEL_H
#define MOONBUS_BASE_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wheel_timer {
    struct wheel_timer *next, *prev; /* in its slot; prev is NULL when not armed */
    uint64_t due;                    /* tick */
};

struct wheel;

/* now: the tick at which the wheel starts. NULL when out of memory. */
struct wheel *wheel_new(uint64_t now);
void wheel_free(struct wheel *wheel);

/* Arms a timer that is not armed (all zero at first). A due tick that is not after now has come
 * due already. */
void wheel_add(struct wheel *wheel, struct wheel_timer *timer, uint64_t due);

/* Disarms. False when it was not armed. */
bool wheel_remove(struct wheel *wheel, struct wheel_timer *timer);

bool wheel_armed(const struct wheel_timer *timer);

/* Moves to tick `now` (never backwards: an earlier one changes nothing). What comes due stays
 * armed until it is taken, so that it can still be removed or moved. */
void wheel_advance(struct wheel *wheel, uint64_t now);

/* The first timer that has come due, disarmed; NULL for none. In the order of their ticks; those
 * of one tick, and those that were due when they were armed, in the order of arming. */
struct wheel_timer *wheel_take(struct wheel *wheel);

/* The next tick at which there could be something to do (it may be early, never late);
 * UINT64_MAX when nothing is armed. */
uint64_t wheel_next(const struct wheel *wheel);

size_t wheel_count(const struct wheel *wheel);

#endif
