/* Levels of slots; timers come down a level as their time comes near. */
#include "base/wheel.h"

#include <stdlib.h>
#include <utlist.h>

#define SLOT_BITS 6
#define SLOTS (1u << SLOT_BITS)
#define LEVELS 11 /* 11 * 6 bits: every 64-bit tick has a place, so there is no "too far" */

struct level {
    uint64_t used;                    /* bit n: slot n holds something */
    struct wheel_timer *slots[SLOTS]; /* not owned */
};

struct wheel {
    uint64_t now;
    size_t count;
    struct wheel_timer *due; /* due <= now; not owned */
    struct level levels[LEVELS];
};

struct wheel *wheel_new(uint64_t now)
{
    struct wheel *wheel = calloc(1, sizeof *wheel);
    if (wheel)
        wheel->now = now;
    return wheel;
}

void wheel_free(struct wheel *wheel)
{
    free(wheel);
}

static unsigned level_of(const struct wheel *wheel, uint64_t due)
{
    return (unsigned)(63 - __builtin_clzll(due ^ wheel->now)) / SLOT_BITS;
}

static unsigned slot_of(uint64_t due, unsigned level)
{
    return (unsigned)(due >> (level * SLOT_BITS)) & (SLOTS - 1);
}

/* The level and slot follow from the tick and now alone, and stay the same until now reaches the
 * slot: no timer has to remember its place. */
static void insert(struct wheel *wheel, struct wheel_timer *timer)
{
    if (timer->due <= wheel->now) {
        DL_APPEND(wheel->due, timer);
        return;
    }
    unsigned n = level_of(wheel, timer->due), slot = slot_of(timer->due, n);
    struct level *level = &wheel->levels[n];
    DL_APPEND(level->slots[slot], timer);
    level->used |= UINT64_C(1) << slot;
}

void wheel_add(struct wheel *wheel, struct wheel_timer *timer, uint64_t due)
{
    timer->due = due;
    insert(wheel, timer);
    wheel->count++;
}

static void disarm(struct wheel *wheel, struct wheel_timer *timer)
{
    timer->next = timer->prev = NULL;
    wheel->count--;
}

bool wheel_remove(struct wheel *wheel, struct wheel_timer *timer)
{
    if (!wheel_armed(timer))
        return false;
    if (timer->due <= wheel->now) {
        DL_DELETE(wheel->due, timer);
    } else {
        unsigned n = level_of(wheel, timer->due), slot = slot_of(timer->due, n);
        struct level *level = &wheel->levels[n];
        DL_DELETE(level->slots[slot], timer);
        if (!level->slots[slot])
            level->used &= ~(UINT64_C(1) << slot);
    }
    disarm(wheel, timer);
    return true;
}

bool wheel_armed(const struct wheel_timer *timer)
{
    return timer->prev != NULL;
}

/* The first slot that holds something: every slot of a level lies before the next level's. False
 * when all are empty. */
static bool first_slot(const struct wheel *wheel, unsigned *level, unsigned *slot, uint64_t *tick)
{
    for (unsigned n = 0; n < LEVELS; n++) {
        uint64_t used = wheel->levels[n].used;
        if (!used)
            continue;
        unsigned shift = n * SLOT_BITS;
        uint64_t above = shift + SLOT_BITS < 64 ? UINT64_MAX << (shift + SLOT_BITS) : 0;
        *level = n;
        *slot = (unsigned)__builtin_ctzll(used);
        *tick = (wheel->now & above) | (uint64_t)*slot << shift;
        return true;
    }
    return false;
}

void wheel_advance(struct wheel *wheel, uint64_t now)
{
    unsigned n, slot;
    uint64_t tick;
    while (first_slot(wheel, &n, &slot, &tick) && tick <= now) {
        struct level *level = &wheel->levels[n];
        struct wheel_timer *list = level->slots[slot];
        level->slots[slot] = NULL;
        level->used &= ~(UINT64_C(1) << slot);
        wheel->now = tick;
        while (list) {
            struct wheel_timer *timer = list;
            DL_DELETE(list, timer);
            insert(wheel, timer);
        }
    }
    if (now > wheel->now)
        wheel->now = now;
}

struct wheel_timer *wheel_take(struct wheel *wheel)
{
    struct wheel_timer *timer = wheel->due;
    if (timer) {
        DL_DELETE(wheel->due, timer);
        disarm(wheel, timer);
    }
    return timer;
}

uint64_t wheel_next(const struct wheel *wheel)
{
    unsigned level, slot;
    uint64_t tick;
    if (wheel->due)
        return wheel->now;
    return first_slot(wheel, &level, &slot, &tick) ? tick : UINT64_MAX;
}

size_t wheel_count(const struct wheel *wheel)
{
    return wheel->count;
}
