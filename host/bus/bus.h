/* bus - everything of NATS that a process has, in one place: two connections, the inbox, the
 * outbox, JetStream's API; and the sink, through which messages go up.
 *
 * Two connections: `consume` reads messages and carries acks, heartbeats and pulls; `publish`
 * carries publishes, requests, replies and API calls. An overloaded publish path so never delays
 * a heartbeat.
 *
 * bus knows no Lua. Lives as long as the process serves. */
#ifndef MOONBUS_BUS_BUS_H
#define MOONBUS_BUS_BUS_H

#include <pthread.h>

#include "base/clock.h"
#include "base/pool.h"
#include "bus/inbox.h"
#include "bus/jsapi.h"
#include "bus/link.h"
#include "bus/publish.h"

struct delivery;
struct consumer;

/* Calls up. on_delivery: on nats.c's delivery thread; takes the delivery's reference; must not
 * block. source: as given to consumer_new or subscription_new. */
struct bus_sink {
    void *owner;
    void (*on_delivery)(void *owner, void *source, struct delivery *delivery);
};

struct bus_options {
    struct link_options link;
    const char *domain, *api_prefix;
    int64_t request_timeout_ns;
    struct outbox_options outbox;
};

struct bus {
    struct clock *clock; /* not owned */
    struct pool *pool;   /* not owned */
    struct link *consume, *publish;
    struct inbox *inbox; /* on publish */
    struct jsapi *jsapi;
    struct outbox *outbox;
    struct bus_sink sink;
    struct bus_options options;

    pthread_mutex_t consumers_lock; /* the list below; a leaf but for each consumer's own lock */
    struct consumer **consumers;
    int consumer_count, consumer_capacity;
};

/* Makes and starts everything; does not wait for a server. options' strings are borrowed for the
 * bus's life. */
struct bus *bus_new(struct clock *clock, struct pool *pool, const struct bus_options *options,
                    struct bus_sink sink, struct err *err);

/* Blocks until both are connected, or deadline_ns. */
bool bus_wait_connected(struct bus *bus, uint64_t deadline_ns);

/* Blocks: ends the publishes that are still under way when nobody waits for them any more (dead
 * letters): with their answer when it comes by deadline_ns, then with ERR_CLOSED. */
void bus_end_publishes(struct bus *bus, uint64_t deadline_ns);

/* Blocks: flushes what was handed over (deadline_ns at most; at once when the server is down).
 * False: something could not be written. */
bool bus_flush(struct bus *bus, uint64_t deadline_ns);

/* Blocks, until deadline_ns at most: closes the connections, ends what is pending. */
void bus_stop(struct bus *bus, uint64_t deadline_ns);
void bus_free(struct bus *bus);

/* Consumers that want to know of connects and disconnects (consumer_on_link). */
void bus_add_consumer(struct bus *bus, struct consumer *consumer);
void bus_remove_consumer(struct bus *bus, struct consumer *consumer);

#endif
