/* hand - what a worker has taken of a source at once: messages that it has not begun yet, and runs
 * that have ended and whose places are not given back yet.
 *
 *   queue ── hand_fill ─▶ messages ── hand_next ─▶ a run ── hand_note_end ─▶ ended ── hand_take_end
 *     ▲                       │        the worker,            the worker,       │
 *     └──── hand_take_back ◀──┘        no lock                no lock           ▼
 *                                                                      its place, its lane
 *
 * One taking of the dispatch lock serves many messages: a worker takes up to a share of what is
 * queued, and gives all of it back together. Nothing waits there for long:
 *
 *   - its worker begins nothing of it any more once HAND_NS have passed;
 *   - if its worker computes, the clock takes from it what it has not begun, and the places of what
 *     has ended (hand_watch), so that others go on;
 *   - so does whoever stops a source or gives it to another version: what has not begun there was
 *     never begun.
 *
 * Owner of a message in it: the hand, until the worker has claimed it by hand_next, or somebody
 * with the dispatch lock by hand_take_back: `range` says which, and changes in one step. The
 * message is on its source's list of active ones, counts as one that runs, and has a place of its
 * concurrency. Owner of an end: the hand, until somebody with the dispatch lock takes it. Each
 * worker has one hand. This unit knows no source: checkout does what follows. What each message
 * passes is inline. */
#ifndef MOONBUS_ENGINE_SOURCE_HAND_H
#define MOONBUS_ENGINE_SOURCE_HAND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bug.h"
#include "base/clock.h"
#include "base/value.h"

struct delivery;
struct dispatch;
struct instance;
struct source;

/* More spares nothing: of the lock's share of a message a thirtieth is left. */
#define HAND_MOST 32
/* A worker takes one of so many shares of what is queued and may run: the others are for the
 * others. */
#define HAND_SHARES 4
/* For so long a worker begins what it has in hand: short against what a person notices, long
 * against the microseconds of an ordinary handler. */
#define HAND_NS ((uint64_t)1 * NS_PER_MS)

/* A run that has ended. */
struct hand_end {
    struct source *source;
    struct delivery *delivery; /* its message, the reference of the list of active ones; or NULL */
};

struct hand {
    struct hand *prev, *next;  /* of those that are watched: the dispatch lock */
    atomic_bool watched;       /* changes under the dispatch lock; the worker reads it */
    struct instance *instance; /* not owned: what its worker has checked out; the dispatch lock */
    struct source *source;     /* not owned: whose messages they are */
    uint64_t until_ns;         /* when its time is over; the dispatch lock, and its worker */
    atomic_uint range;         /* messages: how many there are, and how many are not in it any more
                                  from the first on */
    struct delivery *messages[HAND_MOST];
    struct hand_end ended[HAND_MOST];
    atomic_uint noted, told; /* of ended: by the worker; by whoever has the dispatch lock */
};

/* Those of all workers that are watched. */
struct hands {
    struct clock *clock;       /* these are not owned */
    struct dispatch *dispatch; /* its lock guards the rest */
    struct hand *watched;      /* utlist */
    bool looking;              /* `look` is armed */
    struct deadline look;
};

/* on_look: on the clock, when the time of a hand that is watched may be over; it calls hands_late
 * until that has none left. */
void hands_init(struct hands *hands, struct clock *clock, struct dispatch *dispatch,
                void (*on_look)(struct deadline *look));
/* No worker has anything. */
void hands_clear(struct hands *hands);

/* --- with the dispatch lock held --- */

/* Its worker has checked the instance out, and has nothing in hand. */
void hand_begin(struct hand *hand, struct instance *instance, uint64_t now_ns);
/* The clock looks after it from now on; and no longer: before its ends are taken. Again: nothing.
 */
void hand_watch(struct hands *hands, struct hand *hand);
void hand_unwatch(struct hands *hands, struct hand *hand);
/* One that is watched and whose time is over; NULL: there is none, and the clock looks again when
 * there may be. */
struct hand *hands_late(struct hands *hands, uint64_t now_ns);
/* Takes the last of the messages that its worker has not claimed; NULL: there is none. */
struct delivery *hand_take_back(struct hand *hand);

/* `range`: the number of messages above, the number of those that were claimed below. */
#define HAND_COUNT_SHIFT 16
#define HAND_CLAIMED_MASK 0xffffu

/* Adds a message of the source that is to be begun after what is there. There is room. */
static inline void hand_fill(struct hand *hand, struct source *source, struct delivery *delivery)
{
    unsigned count = atomic_load_explicit(&hand->range, memory_order_relaxed) >> HAND_COUNT_SHIFT;
    BUG_ON(count == HAND_MOST);
    hand->source = source;
    hand->messages[count] = delivery;
    atomic_store_explicit(&hand->range, (count + 1) << HAND_COUNT_SHIFT, memory_order_relaxed);
}

/* Takes an end, the oldest first. False: there is none. */
static inline bool hand_take_end(struct hand *hand, struct hand_end *end)
{
    unsigned told = atomic_load_explicit(&hand->told, memory_order_relaxed);
    if (told == atomic_load(&hand->noted))
        return false;
    *end = hand->ended[told];
    atomic_store_explicit(&hand->told, told + 1, memory_order_relaxed);
    return true;
}

/* --- its worker, without a lock --- */

/* Claims the next one; NULL: there is none, or the time of the hand is over. */
static inline struct delivery *hand_next(struct hand *hand, uint64_t now_ns)
{
    unsigned range = atomic_load_explicit(&hand->range, memory_order_relaxed);
    do {
        if (range >> HAND_COUNT_SHIFT == (range & HAND_CLAIMED_MASK) || now_ns >= hand->until_ns)
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(&hand->range, &range, range + 1,
                                                    memory_order_acq_rel, memory_order_relaxed));
    return hand->messages[range & HAND_CLAIMED_MASK];
}

/* Notes an end. False: it must be told under the lock now, for it may be long until this hand is
 * looked at. goes_on: its worker has something else to do before it gives the instance back: then
 * hand_is_left comes next. */
static inline bool hand_note_end(struct hand *hand, struct source *source,
                                 struct delivery *delivery, bool goes_on)
{
    unsigned noted = atomic_load_explicit(&hand->noted, memory_order_relaxed);
    unsigned told = atomic_load_explicit(&hand->told, memory_order_relaxed);
    bool watched = atomic_load_explicit(&hand->watched, memory_order_relaxed);
    if (noted == HAND_MOST || (!watched && (goes_on || noted != told)))
        return false;
    hand->ended[noted] = (struct hand_end){source, delivery};
    if (goes_on)
        atomic_store(&hand->noted, noted + 1);
    else
        atomic_store_explicit(&hand->noted, noted + 1, memory_order_release);
    return true;
}

/* Has somebody taken the ends meanwhile, and looks at the hand no more, so that what was noted last
 * may lie there? In hand_unwatch and in the note above each writes its own before it reads the
 * other's: one of the two finds it. */
static inline bool hand_is_left(struct hand *hand)
{
    return !atomic_load(&hand->watched);
}

#endif
