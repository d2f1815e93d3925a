/* Core messages. */
#include "bus/consume/subscription.h"

#include <stdlib.h>

#include "bus/consume/delivery.h"
#include "bus/consume/gather.h"

struct subscription {
    const struct intake *intake; /* not owned */
    void *source;                /* not owned */
    struct gather gather;        /* the delivery thread's */
    struct link_sub *sub;        /* the link's */
    void (*on_stopped)(void *source);
};

static void on_message(void *owner, struct packet *packet)
{
    struct subscription *subscription = owner;
    const struct sink *sink = &subscription->intake->sink;
    uint64_t now_ns = link_read_ns(subscription->intake->link);
    struct delivery *delivery = delivery_new_core(packet, now_ns);
    if (delivery)
        gather_add(&subscription->gather, delivery);
    else
        sink->on_unread(sink->owner, subscription->source);
}

struct subscription *subscription_new(const struct intake *intake, const char *subject,
                                      const char *queue, void *source, struct err *err)
{
    struct subscription *subscription = calloc(1, sizeof *subscription);
    if (!subscription) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    subscription->intake = intake;
    subscription->source = source;
    gather_init(&subscription->gather, intake, source);
    subscription->sub = link_subscribe(intake->link, subject, queue, on_message, subscription, err);
    if (!subscription->sub) {
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
    if (on_stopped)
        on_stopped(source);
}

void subscription_stop(struct subscription *subscription, void (*on_stopped)(void *source))
{
    subscription->on_stopped = on_stopped;
    link_unsubscribe(subscription->sub, on_drained);
}
