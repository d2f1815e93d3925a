/* hand - who has what of it: one step each. */
#include "engine/source/hand.h"

#include <stddef.h>
#include <utlist.h>

#include "engine/sched/dispatch.h"

void hands_init(struct hands *hands, struct clock *clock, struct dispatch *dispatch,
                void (*on_look)(struct deadline *look))
{
    hands->clock = clock;
    hands->dispatch = dispatch;
    hands->look.on_due = on_look;
}

void hands_clear(struct hands *hands)
{
    clock_cancel(hands->clock, &hands->look);
}

void hand_begin(struct hand *hand, struct instance *instance, uint64_t now_ns)
{
    hand->instance = instance;
    hand->source = NULL;
    hand->until_ns = now_ns + HAND_NS;
    atomic_store_explicit(&hand->range, 0, memory_order_relaxed);
    atomic_store_explicit(&hand->noted, 0, memory_order_relaxed);
    atomic_store_explicit(&hand->told, 0, memory_order_relaxed);
}

void hand_watch(struct hands *hands, struct hand *hand)
{
    must_hold(&hands->dispatch->lock);
    if (atomic_load_explicit(&hand->watched, memory_order_relaxed))
        return;
    atomic_store_explicit(&hand->watched, true, memory_order_relaxed);
    DL_APPEND(hands->watched, hand);
    if (hands->looking)
        return;
    hands->looking = true;
    clock_arm(hands->clock, &hands->look, hand->until_ns);
}

void hand_unwatch(struct hands *hands, struct hand *hand)
{
    must_hold(&hands->dispatch->lock);
    if (!atomic_load_explicit(&hand->watched, memory_order_relaxed))
        return;
    atomic_store(&hand->watched, false);
    DL_DELETE(hands->watched, hand);
}

struct hand *hands_late(struct hands *hands, uint64_t now_ns)
{
    struct hand *hand;
    uint64_t next_ns = UINT64_MAX;
    must_hold(&hands->dispatch->lock);
    DL_FOREACH(hands->watched, hand) {
        if (now_ns >= hand->until_ns)
            return hand;
        if (hand->until_ns < next_ns)
            next_ns = hand->until_ns;
    }
    hands->looking = hands->watched != NULL;
    if (hands->looking)
        clock_arm(hands->clock, &hands->look, next_ns);
    return NULL;
}

/* Both ends of the range move by a compare and exchange of all of it: a message is never claimed
 * and taken back. */
struct delivery *hand_take_back(struct hand *hand)
{
    unsigned range = atomic_load_explicit(&hand->range, memory_order_relaxed);
    do {
        if (range >> HAND_COUNT_SHIFT == (range & HAND_CLAIMED_MASK))
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(&hand->range, &range,
                                                    range - (1u << HAND_COUNT_SHIFT),
                                                    memory_order_acq_rel, memory_order_relaxed));
    return hand->messages[(range >> HAND_COUNT_SHIFT) - 1];
}
