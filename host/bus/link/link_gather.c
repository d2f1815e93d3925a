/* Who gathers what one read brings, and is called when it ends. On the delivery thread. */
#include "bus/link/link_private.h"

void link_at_read_end(struct link *link, struct link_gatherer *gatherer)
{
    if (gatherer->asked)
        return;
    gatherer->asked = true;
    gatherer->next = NULL;
    if (link->last_gatherer)
        link->last_gatherer->next = gatherer;
    else
        link->gatherers = gatherer;
    link->last_gatherer = gatherer;
}

void link_read_end(void *owner)
{
    struct link *link = owner;
    struct link_gatherer *gatherer = link->gatherers;
    link->gatherers = link->last_gatherer = NULL;
    while (gatherer) {
        struct link_gatherer *next = gatherer->next;
        gatherer->asked = false;
        gatherer->on_read_end(gatherer); /* it may be gone then */
        gatherer = next;
    }
}
