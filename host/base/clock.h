/* clock - the thread that owns every deadline of the process: leases due, timeouts, timers.
 *
 *   any thread ── clock_arm ──▶ wheel (one mutex) ──▶ clock thread ── on_due ──▶ posts an event
 *
 * Why one thread of its own: a deadline in the loop of a worker fires late, or falsely, after
 * a handler burned the CPU there.
 *
 * A deadline is embedded in an object that its owner keeps alive while it is armed or its
 * on_due runs: hold a reference for it. clock_cancel tells who gives that reference back:
 * true, the caller; false, on_due has it (it ran, runs, or is about to), or it was not armed.
 *
 * Resolution 1 ms: a deadline never fires early, and up to about 1 ms late. */
#ifndef MOONBUS_BASE_CLOCK_H
#define MOONBUS_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/wheel.h"

struct clock;

struct deadline {
    struct wheel_timer timer;
    /* Called on the clock thread without any lock; must not block. May arm it again. */
    void (*on_due)(struct deadline *deadline);
};

/* Starts the thread. NULL, with err, when it cannot. */
struct clock *clock_new(struct err *err);

/* Ends the thread: no on_due runs any more, so that what they reach may be freed. What is still
 * armed never fires, but may be cancelled. Not from on_due. Again: no effect. */
void clock_stop(struct clock *clock);

/* Stops it if need be. NULL is allowed. */
void clock_free(struct clock *clock);

/* Monotonic nanoseconds (CLOCK_MONOTONIC); in a simulated world its own (world.h). */
uint64_t clock_now_ns(void);

/* The same, of the kernel's last tick: some milliseconds ago, and never in the future. It costs a
 * fifth (clock_gettime(2), CLOCK_MONOTONIC_COARSE). */
uint64_t clock_lately_ns(void);

/* Is the time simulated? What looks again and again, in case that something has happened, may do it
 * seldom then: a year is to pass in a moment. */
bool clock_is_simulated(void);

/* Wall clock, nanoseconds since 1970. */
int64_t clock_wall_ns(void);

/* The wall clock at a moment of clock_now_ns that has just been: costs less than to read it. It
 * follows the wall clock when that is set, within WALL_LATE_NS. */
#define WALL_LATE_NS 100000000
int64_t clock_wall_at(uint64_t now_ns);

/* Arms, or moves when it is armed (then returns false: there was a reference already).
 * deadline->on_due must be set. Any thread, also inside on_due. */
bool clock_arm(struct clock *clock, struct deadline *deadline, uint64_t at_ns);

/* True: it was armed and will not fire. False: it was not armed, or on_due has begun. */
bool clock_cancel(struct clock *clock, struct deadline *deadline);

#endif
