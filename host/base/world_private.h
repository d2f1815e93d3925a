/* world_private - what the files of world share; nobody else includes it.
 *
 *   world.c         who runs when
 *   world_report.c  who waits for what, as text */
#ifndef MOONBUS_BASE_WORLD_PRIVATE_H
#define MOONBUS_BASE_WORLD_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fiber.h"
#include "base/world.h"

#define NEVER UINT64_MAX
#define OWN_MAX 8
#define REPORT_BYTES 8192

enum strand_state { STRAND_READY, STRAND_WAITS, STRAND_ENDED };
enum waits_for { FOR_NOTHING, FOR_MUTEX, FOR_COND, FOR_SEMAPHORE, FOR_END, FOR_TIME };

struct strand {
    struct strand *prev, *next; /* utlist: world->all, in the order of their start */
    struct world *world;
    struct fiber fiber;
    char name[16];
    int number;
    enum strand_state state;
    enum waits_for kind;
    const void *what; /* the mutex, cond, semaphore or strand */
    const void *from; /* where in the code */
    uint64_t until_ns, since_ns;
    bool in_time; /* it was woken before until_ns */
    bool detached;
    void *(*run)(void *);
    void *arg, *result;
    uintptr_t own[OWN_MAX]; /* while it does not run */
};

struct world {
    uint64_t random, trace, steps, max_steps;
    unsigned yields, false_wakes;
    uint64_t now_ns;
    int64_t wall_ns;     /* of the day, when it began */
    int64_t wall_set_ns; /* by so much somebody has set the wall clock */
    struct strand *all;  /* owned, but for those that have ended and are joined */
    struct strand *current;
    int ready, waiting_for_mutex, started, left;
    /* What the caller of the world waits for. */
    struct fiber caller;
    uintptr_t caller_own[OWN_MAX];
    uint64_t limit_ns;
    const struct strand *awaited;
    bool (*is_so)(void *);
    void *is_so_arg;
    enum world_end end;
    char report[REPORT_BYTES];
};

#endif
