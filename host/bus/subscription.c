#include "bus/subscription.h"

#include <stdlib.h>

#include "bus/delivery.h"

struct subscription {
    struct bus *bus;      /* not owned */
    void *source;         /* not owned */
    struct link_sub *sub; /* the link's */
    void (*on_stopped)(void *source);
};

static void on_message(void *owner, natsMsg *msg)
{
    struct subscription *subscription = owner;
    struct bus_sink *sink = &subscription->bus->sink;
    struct delivery *delivery = delivery_new_core(msg);

    if (delivery != NULL)
        sink->on_delivery(sink->owner, subscription->source, delivery);
}

struct subscription *subscription_new(struct bus *bus, const char *subject, const char *queue,
                                      void *source, struct err *err)
{
    struct subscription *subscription = calloc(1, sizeof(*subscription));

    if (subscription == NULL) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    subscription->bus = bus;
    subscription->source = source;
    subscription->sub = link_subscribe(bus->consume, subject, queue, on_message, subscription);
    if (subscription->sub == NULL) {
        err_set(err, ERR_CLOSED, "cannot subscribe to \"%s\": the connection is closed", subject);
        free(subscription);
        return NULL;
    }
    return subscription;
}

static void on_drained(void *owner)
{
    struct subscription *subscription = owner;
    void (*on_stopped)(void *) = subscription->on_stopped;
    void *source = subscription->source;

    free(subscription);
    if (on_stopped != NULL)
        on_stopped(source);
}

void subscription_stop(struct subscription *subscription, void (*on_stopped)(void *source))
{
    subscription->on_stopped = on_stopped;
    link_unsubscribe(subscription->sub, on_drained);
}
