/* beats - when the heartbeats of a consumer's deliveries are due. It is a list of all of them, the
 * next one first; whoever has it needs one deadline, for that one.
 *
 *   begin ─▶ young ── three quarters of the time to its heartbeat have passed ─▶ put ─▶ take
 *            in the order in which they came                           in the order in which they
 *                                                                      are due
 *
 * Most messages are settled while they are young, and cost next to nothing here.
 *
 * A heartbeat is due a third of ack_wait after the one before, less up to a tenth of that by
 * chance, so that what arrived together is not renewed together for ever; at a multiple of a step,
 * so that those of many messages go out in bulk; and at the end of the lease at the latest.
 *
 * Pure: no clock, no lock. Timers are part of what they belong to. Owner: leases, under its
 * puller's lock. */
#ifndef MOONBUS_BUS_CONSUME_BEATS_H
#define MOONBUS_BUS_CONSUME_BEATS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/wheel.h"

/* Part of what it belongs to; all zero: it is not in the list. */
struct beat {
    struct wheel_timer timer;
    uint64_t since_ns; /* when its lease began */
    bool is_young;
};

struct beats {
    struct wheel_timer *young; /* utlist; not owned */
    struct wheel *wheel;       /* owned; its ticks are milliseconds */
    uint64_t ack_wait_ns, third_ns, step_ns;
};

/* Of zeroed memory. False: out of memory; beats_clear in any case. */
bool beats_init(struct beats *beats, uint64_t now_ns);
void beats_clear(struct beats *beats);

/* A lease begins: it is young. Returns when it will not be any more. */
uint64_t beats_begin(struct beats *beats, struct beat *beat, uint64_t ack_wait_ns, uint64_t now_ns);
/* Takes one out that is young no longer, to be put; NULL: none is. */
struct beat *beats_ripe(struct beats *beats, uint64_t now_ns);

/* Puts the next heartbeat of a lease into the list, or moves it. chance: from 0 on, below 1;
 * renewed_ns: when the server last heard of it; since_ns: the time that its period is counted from.
 * Returns when it is due. */
uint64_t beats_put(struct beats *beats, struct beat *beat, uint64_t ack_wait_ns,
                   uint64_t renewed_ns, double chance, uint64_t since_ns);
/* The same, due now. False: it is not in the list, and is not put there. */
bool beats_put_now(struct beats *beats, struct beat *beat, uint64_t now_ns);
/* Takes it out, if it is there. */
void beats_remove(struct beats *beats, struct beat *beat);

/* Takes one that is due out; NULL: none is. */
struct beat *beats_take(struct beats *beats, uint64_t now_ns);
/* When to look for a ripe one, or to take one (it may be early, never late); UINT64_MAX: the list
 * is empty. */
uint64_t beats_next_ns(const struct beats *beats);
bool beats_empty(const struct beats *beats);

#endif
