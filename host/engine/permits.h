/* permits - the locks and semaphores of the process: who holds them, and who waits for them.
 *
 *   hold_new ─▶ hold_take ─┬─ there is a place ─▶ HELD ── hold_leave, or its ttl is over ─▶ OVER
 *                          └─▶ WAITING ─┬─ its turn ─▶ HELD, on_end(ERR_NONE)      ▲
 *                                       ├─ its wait is over ─▶ on_end(ERR_TIMEOUT) ┤
 *                                       └─ hold_leave ─────────────────────────────┘
 *
 * A permit has a kind, a name and a number of places (a lock: one), and is there as long as
 * somebody holds it or waits for it. Whoever comes later waits behind who waits already. All takers
 * of a name share it; how many places it has is what was stated last.
 *
 * Any thread. One lock, held for a look-up and a few pointers; no other lock is taken under it but
 * the clock's. on_end is called without it, on the thread that made the place free, or the clock's.
 */
#ifndef MOONBUS_ENGINE_PERMITS_H
#define MOONBUS_ENGINE_PERMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"

#define PERMITS_NAME_MAX 1024
/* How many hold or wait at a time, over all permits. */
#define PERMITS_HOLDS_MAX 100000

struct permits;
struct hold;

/* Of a lock of the cluster, and of a place of a semaphore, a process takes its own first: of all
 * its handlers one at a time asks the server. */
enum permit_kind { PERMIT_LOCK, PERMIT_SEMAPHORE, PERMIT_CLUSTER_LOCK, PERMIT_CLUSTER_SEMAPHORE };

struct permit_wish {
    enum permit_kind kind;
    const char *name; /* borrowed for the call */
    size_t name_len;
    unsigned places;   /* of the permit */
    int64_t ttl_ns;    /* after that a place is given back whatever its holder does; 0: never */
    const void *taker; /* only compared */
};

/* clock: not owned; must have stopped before permits_free. NULL when out of memory. */
struct permits *permits_new(struct clock *clock);
/* Every hold has been left. */
void permits_free(struct permits *permits);

/* Drawn by chance: of all processes it is this one's alone. */
uint64_t permits_identity(struct permits *permits);

/* How many places of this permit does somebody hold for whom is_mine(taker, whom) is true? It is
 * called with the lock held. */
unsigned permits_held(struct permits *permits, const struct permit_wish *wish,
                      bool (*is_mine)(const void *taker, const void *whom), const void *whom);

/* Neither held nor waiting, with one reference. NULL when out of memory. */
struct hold *hold_new(struct permits *permits, const struct permit_wish *wish);
struct hold *hold_retain(struct hold *hold);
void hold_release(struct hold *hold);
/* With a NUL behind it, but it may have others. */
const char *hold_name(const struct hold *hold);

enum hold_taken {
    HOLD_TAKEN,
    HOLD_WAITS, /* on_end will be called, unless hold_leave says HOLD_WAITED */
    HOLD_BUSY,  /* there is none, and it was not to wait: the hold is as before */
    HOLD_FULL,  /* PERMITS_HOLDS_MAX, or no memory: as before */
};

/* Until it has taken or waits, again and again; then never more. wait_ns: 0: not at all;
 * HOLD_FOR_EVER. */
#define HOLD_FOR_EVER INT64_MAX
enum hold_taken hold_take(struct hold *hold, int64_t wait_ns,
                          void (*on_end)(void *context, enum err_code code), void *context);

enum hold_left {
    HOLD_HELD,   /* it did until now */
    HOLD_WAITED, /* it did until now; on_end will not be called */
    HOLD_NEITHER,
};

/* It does not hold, and does not wait: the next one's turn. Idempotent. */
enum hold_left hold_leave(struct hold *hold);
bool hold_is_held(struct hold *hold);

#endif
