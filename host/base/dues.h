/* dues - what is due when, of many things that mostly come in the order in which they are due:
 * requests of one timeout, runs of one handler. Whoever has it needs one deadline, for the first.
 *
 *   add ─▶ the list whose last one is due before it, and latest of these ─▶ take
 *      └─▶ the wheel, where no list is in order with it ────────────────────┘
 *
 * So each timeout comes to have a list of its own, in which adding and removing cost next to
 * nothing. Timeouts that are all different make do with the wheel.
 *
 * Pure: no clock, no lock. A due is part of what it belongs to; the lists own none. */
#ifndef MOONBUS_BASE_DUES_H
#define MOONBUS_BASE_DUES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/wheel.h"

/* All zero: it is not in there. */
struct due {
    struct wheel_timer timer; /* in the wheel, or linked into a list alone */
    uint64_t at_ns;
    enum { DUE_NOT, DUE_IN_LIST, DUE_IN_WHEEL } place;
};

enum { DUES_LISTS = 4 };

struct dues {
    struct wheel_timer lists[DUES_LISTS]; /* rings: next is the first, prev the last */
    struct wheel_timer *last;             /* where one was added last */
    struct wheel *wheel;                  /* owned; NULL: nothing has needed it yet */
    uint64_t now_ns;                      /* as far as it is known: not after now */
};

void dues_init(struct dues *dues, uint64_t now_ns);
void dues_clear(struct dues *dues);

/* Adds one that is not in there. */
void dues_add(struct dues *dues, struct due *due, uint64_t at_ns);
/* Takes it out. False: it was not in there. */
bool dues_remove(struct dues *dues, struct due *due);

/* Takes one that is due out; NULL: none is. */
struct due *dues_take(struct dues *dues, uint64_t now_ns);
/* When to take one (it may be early, never late); UINT64_MAX: there is none. */
uint64_t dues_next_ns(const struct dues *dues);

#endif
