/* What is known of a read: when it came, and who gathers what it brings. On the delivery thread. */
#include "base/clock.h"
#include "bus/link/link_private.h"

uint64_t link_read_ns(struct link *link)
{
    if (!link->read_ns)
        link->read_ns = clock_now_ns();
    return link->read_ns;
}

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
    link->read_ns = 0;
    while (gatherer) {
        struct link_gatherer *next = gatherer->next;
        gatherer->asked = false;
        gatherer->on_read_end(gatherer); /* it may be gone then */
        gatherer = next;
    }
}
