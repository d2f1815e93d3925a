/* checkout_private - what checkout.c (the next job) and checkout_back.c (what comes back) share.
 * Nobody else includes it. The worker; the clock, when it relieves one. */
#ifndef MOONBUS_ENGINE_SOURCE_CHECKOUT_PRIVATE_H
#define MOONBUS_ENGINE_SOURCE_CHECKOUT_PRIVATE_H

#include "engine/source/checkout.h"
#include "engine/source/hand.h"

/* What becomes of a message whose run has ended, when the lock has been released. */
enum after_run {
    AFTER_RELEASE,   /* it has had its verdict, or somebody else sees to that */
    AFTER_KEPT,      /* it is queued again, or its lane holds it */
    AFTER_HAND_BACK, /* it was to run again, but its source has stopped */
};

/* What is left to do without the lock. Not cleared: count says how much there is. */
struct leftover {
    int count;
    struct delivery *deliveries[HAND_MOST]; /* of runs that have ended */
    enum after_run after[HAND_MOST];
    struct instance *last; /* its last reference is gone; or NULL */
};

/* With the dispatch lock held: the worker has nothing to do with the instance any more, nor with
 * what was in its hand. Fills leftover. */
void checkout_in(struct instance *instance, struct leftover *leftover);
void checkout_end_leftover(const struct leftover *leftover);

#endif
