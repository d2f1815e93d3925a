/* Both connections, and what stands on them: how it is made, hears of states, and ends. */
#include "bus/bus.h"

#include <stdlib.h>
#include <string.h>

#include "bus/link/nats_transport.h"
#include "bus/link/socket_transport.h"

/* Threads of the pool that wait for what a script reads: half of those that there are. */
#define READS_MOST 2

/* --- calls of the links --- */

static void on_publish_state(void *owner, struct link *link, enum link_state state)
{
    struct bus *bus = owner;
    (void)link;
    inbox_on_link(bus->inbox, state);
    jslevel_on_link(bus->jslevel, state);
    outbox_on_link(bus->outbox, state);
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
    const struct transport_maker *transport = options->transport         ? options->transport
                                              : options->link.nats_alone ? &nats_transport_maker
                                                                         : &socket_transport_maker;
    struct link_events publish = {
        .owner = bus, .on_state = on_publish_state, .on_permission = on_publish_permission};
    bus->consume = link_new("consume", &options->link, transport, bus->clock, NULL, err);
    bus->publish = bus->consume
                       ? link_new("publish", &options->link, transport, bus->clock, &publish, err)
                       : NULL;
    if (bus->publish)
        bus->inbox = inbox_new(bus->publish, bus->clock, options->link.inbox_prefix, err);
    if (bus->inbox)
        bus->jsapi = jsapi_new(bus->inbox, options->api_prefix, options->domain,
                               options->request_timeout_ns, err);
    /* Users who may not ask for these can do without. */
    char subject[256];
    if (bus->jsapi) {
        link_tolerate(bus->publish,
                      jsapi_subject(bus->jsapi, "STREAM.NAMES", subject, sizeof subject));
        link_tolerate(bus->publish, jsapi_subject(bus->jsapi, "INFO", subject, sizeof subject));
        link_tolerate(bus->publish, jsapi_subject(bus->jsapi, "STREAM.INFO." LATER_STREAM, subject,
                                                  sizeof subject));
        bus->jslevel = jslevel_new(bus->jsapi, err);
    }
    if (bus->jslevel)
        bus->outbox =
            outbox_new(bus->inbox, bus->jsapi, bus->publish, bus->clock, &options->outbox, err);
    return bus->outbox ? 0 : ERR_MEMORY;
}

static void fill_intake(struct bus *bus, struct sink sink)
{
    bus->reads.most = READS_MOST;
    bus->intake = (struct intake){.clock = bus->clock,
                                  .calm = bus->options.calm,
                                  .pool = bus->pool,
                                  .reads = &bus->reads,
                                  .link = bus->consume,
                                  .jsapi = bus->jsapi,
                                  .outbox = bus->outbox,
                                  .inbox_prefix = bus->options.link.inbox_prefix,
                                  .sink = sink};
}

struct bus *bus_new(struct clock *clock, struct pool *pool, const struct bus_options *options,
                    struct sink sink, struct err *err)
{
    struct bus *bus = calloc(1, sizeof *bus);
    if (!bus) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    bus->clock = clock;
    bus->pool = pool;
    bus->options = *options;
    bool made = make(bus, err) == 0;
    fill_intake(bus, sink);
    if (made)
        bus->later = later_new(&bus->intake, err);
    if (bus->later && link_start(bus->consume, err) == 0 && link_start(bus->publish, err) == 0)
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

void bus_wait_for_publishes(struct bus *bus, uint64_t deadline_ns)
{
    later_stop(bus->later, deadline_ns);
    outbox_wait(bus->outbox, deadline_ns);
    outbox_close(bus->outbox);
}

void bus_wake_writers(struct bus *bus)
{
    link_wake(bus->consume);
    link_wake(bus->publish);
}

void bus_retry_refused(struct bus *bus)
{
    link_retry_refused(bus->consume);
    link_retry_refused(bus->publish);
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
    if (bus->later)
        later_stop(bus->later, clock_now_ns());
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
    /* A link that is stuck may still call here: then all of it stays, as the process ends. */
    if ((bus->consume && link_stuck(bus->consume)) || (bus->publish && link_stuck(bus->publish)))
        return;
    later_free(bus->later);
    link_free(bus->consume);
    link_free(bus->publish);
    outbox_free(bus->outbox);
    jslevel_free(bus->jslevel);
    jsapi_free(bus->jsapi);
    inbox_free(bus->inbox);
    free(bus);
}
