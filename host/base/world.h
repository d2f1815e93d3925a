/* world - the threads of the host in simulated time, on one OS thread, in an order that a seed
 * chooses.
 *
 *   world_call(world, run, arg) ─▶ a fiber ─ thread_start ─▶ more fibers
 *                                    │
 *              mutex, cond, join, sleep: waits ──▶ the seed picks who goes on
 *                                                  nobody can: the time jumps to the next deadline
 *
 * Inside of a world a thread of base/thread is a fiber, base/sync is where it lets others go on,
 * and clock_now_ns() and clock_wall_ns() stand still while anything runs. So what takes hours by
 * the clock takes milliseconds, and the same seed gives the same run: world_trace tells whether it
 * did. What the code between two waits does is one step, which nobody interrupts: races of single
 * instructions are ThreadSanitizer's.
 *
 * Host code must wait in base/sync and base/thread alone; whatever else blocks stops the world.
 * Random numbers come from random_bytes (base/random.h), which asks the world. Signals, processes,
 * sockets and files are not part of it.
 *
 * One OS thread, the one that made it, uses a world; outside of world_call and the like, it is as
 * if there was none. No other thread may touch what lives in it. */
#ifndef MOONBUS_BASE_WORLD_H
#define MOONBUS_BASE_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct world;

struct world_options {
    uint64_t seed;
    /* Of a thousand times that a mutex is locked, how often others go first; how often a condition
     * that nobody signalled wakes. 0: never. */
    unsigned yields, false_wakes;
    uint64_t max_steps; /* a run of more has lost its way (WORLD_ENDLESS); 0: 100 million */
    int64_t wall_ns;    /* where its wall clock begins, since 1970; 0: 2026-01-01T00:00:00Z */
};

enum world_end {
    WORLD_DONE,    /* what was asked for has happened */
    WORLD_STUCK,   /* nobody can run, and no time is waited for: world_report tells who waits */
    WORLD_LATE,    /* the time was over before */
    WORLD_ENDLESS, /* too many steps */
};

/* NULL: out of memory. Its time begins at 1,000 s. */
struct world *world_new(const struct world_options *options);

/* What fibers are left never go on: their stacks are given back, what lay on them is lost. */
void world_free(struct world *world);

/* Runs run(arg) on a fiber of its own, and the others with it, until it has returned; not beyond
 * until_ns (UINT64_MAX: for as long as it takes). Its result to *result (or NULL). When the end is
 * another one than WORLD_DONE it is left where it is. */
enum world_end world_call(struct world *world, const char *name, void *(*run)(void *), void *arg,
                          uint64_t until_ns, void **result);

/* Runs everything until then, which is the time afterwards. */
enum world_end world_run_until(struct world *world, uint64_t until_ns);

/* Runs what can run now; the time stands. */
enum world_end world_settle(struct world *world);

/* Runs until is_so(arg), which is asked whenever nobody can run at this time; until_ns at the
 * latest. is_so runs on no fiber, and takes no lock. */
enum world_end world_run_while_not(struct world *world, bool (*is_so)(void *arg), void *arg,
                                   uint64_t until_ns);

uint64_t world_now_ns(const struct world *world);
/* Somebody sets the wall clock, forward or (negative) back. */
void world_set_wall(struct world *world, int64_t by_ns);
/* Fibers that have not ended. */
int world_fibers(const struct world *world);
/* How often it was chosen who goes on. */
uint64_t world_steps(const struct world *world);
/* From here on it is WORLD_ENDLESS after so many more steps, in place of max_steps. */
void world_allow(struct world *world, uint64_t steps);
/* A number from the world's seed; for those that ask from outside, too. */
uint64_t world_random(struct world *world);

/* A hash of who ran when, and of all that world_note was told: equal for equal runs. */
uint64_t world_trace(const struct world *world);
void world_note(struct world *world, const char *text);

/* One line for each fiber that has not ended: what it waits for, since when, until when, and from
 * where (file+offset, for addr2line -e). Returns text, which is the world's until the next call. */
const char *world_report(struct world *world);

#endif
