/* source_back - what workers have in hand, and have not begun, comes back to its source. */
#include <utlist.h>

#include "engine/source/hand.h"
#include "engine/source/handling.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"
#include "engine/version/script.h"

static void take_back(struct source *source, struct instance *instance, struct delivery *delivery)
{
    must_hold(&source->scripts->dispatch->lock);
    DL_DELETE(source->active, delivery);
    handling_of(delivery)->runs_on = NULL;
    DL_PREPEND(source->fifo, delivery);
    source_count_queued(source, delivery);
    source_state_end(&source->state, 1);
    instance->generation->running--;
    source->scripts->dispatch->running--;
}

/* The last one first, so that all of them are in their order again. */
void source_take_back(struct hand *hand)
{
    struct source *source = hand->source;
    struct delivery *delivery;
    bool any = false;
    while ((delivery = hand_take_back(hand))) {
        take_back(source, hand->instance, delivery);
        any = true;
    }
    if (any)
        source_ready(source);
}

void source_take_all_back(struct source *source)
{
    struct hands *hands = source->scripts->dispatch->hands;
    struct hand *hand;
    must_hold(&source->scripts->dispatch->lock);
    if (!hands)
        return;
    DL_FOREACH(hands->watched, hand) {
        if (hand->source == source)
            source_take_back(hand);
    }
}
