#include "bus/bus.h"

#include <stdlib.h>
#include <string.h>

#include "bus/consumer.h"
#include "bus/reap.h"

/* --- what the links tell --- */

static void on_consume_state(void *owner, struct link *link, enum link_state state)
{
    struct bus *bus = owner;
    (void)link;
    pthread_mutex_lock(&bus->consumers_lock);
    for (int i = 0; i < bus->consumer_count; i++)
        consumer_on_link(bus->consumers[i], state);
    pthread_mutex_unlock(&bus->consumers_lock);
}

static void on_publish_state(void *owner, struct link *link, enum link_state state)
{
    struct bus *bus = owner;
    (void)link;
    if (state == LINK_CONNECTED)
        outbox_reconnected(bus->outbox);
}

static void on_publish_permission(void *owner, struct link *link, const char *operation,
                                  const char *subject)
{
    struct bus *bus = owner;
    (void)link;
    if (strcmp(operation, "publish") == 0)
        inbox_refuse(bus->inbox, subject);
}

/* --- coming and going --- */

static int make(struct bus *bus, struct err *err)
{
    const struct bus_options *options = &bus->options;
    struct link_events consume = {.owner = bus, .on_state = on_consume_state};
    struct link_events publish = {
        .owner = bus, .on_state = on_publish_state, .on_permission = on_publish_permission};
    bus->consume = link_new("consume", &options->link, &consume, err);
    bus->publish = bus->consume ? link_new("publish", &options->link, &publish, err) : NULL;
    if (bus->publish)
        bus->inbox = inbox_new(bus->publish, bus->clock, options->link.inbox_prefix, err);
    if (bus->inbox)
        bus->jsapi = jsapi_new(bus->inbox, options->api_prefix, options->domain,
                               options->request_timeout_ns, err);
    if (bus->jsapi)
        bus->outbox =
            outbox_new(bus->inbox, bus->jsapi, bus->publish, bus->clock, &options->outbox, err);
    return bus->outbox ? 0 : ERR_MEMORY;
}

struct bus *bus_new(struct clock *clock, struct pool *pool, const struct bus_options *options,
                    struct bus_sink sink, struct err *err)
{
    struct bus *bus = calloc(1, sizeof *bus);
    if (!bus) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    bus->clock = clock;
    bus->pool = pool;
    bus->options = *options;
    bus->sink = sink;
    pthread_mutex_init(&bus->consumers_lock, NULL);
    if (make(bus, err) == 0 && link_start(bus->consume, err) == 0 &&
        link_start(bus->publish, err) == 0)
        return bus;
    bus_stop(bus, clock_now_ns() + UINT64_C(1000000000));
    bus_free(bus);
    return NULL;
}

bool bus_wait_connected(struct bus *bus, uint64_t deadline_ns)
{
    return link_wait_connected(bus->consume, deadline_ns) &&
           link_wait_connected(bus->publish, deadline_ns);
}

void bus_end_publishes(struct bus *bus, uint64_t deadline_ns)
{
    while (outbox_pending(bus->outbox) > 0 && clock_now_ns() < deadline_ns &&
           link_state(bus->publish) == LINK_CONNECTED)
        nats_Sleep(1);
    outbox_close(bus->outbox);
}

static bool flush_link(struct link *link, uint64_t deadline_ns)
{
    if (link_state(link) == LINK_CONNECTED)
        return link_flush(link, deadline_ns);
    return link_pending(link) == 0;
}

bool bus_flush(struct bus *bus, uint64_t deadline_ns)
{
    bool consumed = flush_link(bus->consume, deadline_ns);
    return flush_link(bus->publish, deadline_ns) && consumed;
}

void bus_stop(struct bus *bus, uint64_t deadline_ns)
{
    struct link *links[] = {bus->consume, bus->publish};
    if (bus->outbox)
        outbox_close(bus->outbox);
    if (bus->inbox)
        inbox_close(bus->inbox);
    /* Both begin before either is waited for: a server that is frozen would take the whole of the
     * deadline for the first. */
    for (int i = 0; i < 2; i++) {
        if (links[i])
            link_stop_begin(links[i]);
    }
    for (int i = 0; i < 2; i++) {
        if (links[i])
            link_stop(links[i], deadline_ns);
    }
}

void bus_free(struct bus *bus)
{
    if (!bus)
        return;
    reap_all();
    /* A link that is stuck may still call here: then all of it stays, as the process ends. */
    if ((bus->consume && link_stuck(bus->consume)) || (bus->publish && link_stuck(bus->publish)))
        return;
    link_free(bus->consume);
    link_free(bus->publish);
    outbox_free(bus->outbox);
    jsapi_free(bus->jsapi);
    inbox_free(bus->inbox);
    pthread_mutex_destroy(&bus->consumers_lock);
    free(bus->consumers);
    free(bus);
}

/* --- consumers --- */

void bus_add_consumer(struct bus *bus, struct consumer *consumer)
{
    pthread_mutex_lock(&bus->consumers_lock);
    if (bus->consumer_count == bus->consumer_capacity) {
        int capacity = bus->consumer_capacity ? bus->consumer_capacity * 2 : 16;
        struct consumer **grown = realloc(bus->consumers, (size_t)capacity * sizeof *grown);
        if (grown) {
            bus->consumers = grown;
            bus->consumer_capacity = capacity;
        }
    }
    if (bus->consumer_count < bus->consumer_capacity)
        bus->consumers[bus->consumer_count++] = consumer;
    pthread_mutex_unlock(&bus->consumers_lock);
}

void bus_remove_consumer(struct bus *bus, struct consumer *consumer)
{
    pthread_mutex_lock(&bus->consumers_lock);
    for (int i = 0; i < bus->consumer_count; i++) {
        if (bus->consumers[i] == consumer) {
            bus->consumers[i] = bus->consumers[--bus->consumer_count];
            break;
        }
    }
    pthread_mutex_unlock(&bus->consumers_lock);
}
