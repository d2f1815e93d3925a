/* Listeners to the state of a link, besides its owner. */
#include <utlist.h>

#include "base/sync.h"
#include "bus/link/link_private.h"

void link_listen(struct link *link, struct link_listener *listener)
{
    mutex_lock(&link->listeners_lock);
    DL_APPEND(link->listeners, listener);
    mutex_unlock(&link->listeners_lock);
}

void link_unlisten(struct link *link, struct link_listener *listener)
{
    mutex_lock(&link->listeners_lock);
    DL_DELETE(link->listeners, listener);
    mutex_unlock(&link->listeners_lock);
}

void link_call_listeners(struct link *link, enum link_state state)
{
    struct link_listener *listener;
    must_not_hold(&link->lock);
    if (link->events.on_state)
        link->events.on_state(link->events.owner, link, state);
    mutex_lock(&link->listeners_lock);
    DL_FOREACH(link->listeners, listener)
        listener->on_state(listener, state);
    mutex_unlock(&link->listeners_lock);
}
