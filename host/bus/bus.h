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

#include "base/clock.h"
#include "base/pool.h"
#include "bus/consume/intake.h"
#include "bus/consume/later.h"
#include "bus/link/link.h"
#include "bus/outbox/publish.h"
#include "bus/request/inbox.h"
#include "bus/request/jsapi.h"
#include "bus/request/jslevel.h"

struct bus_options {
    const struct transport_maker *transport; /* what it connects with; NULL: nats.c */
    struct link_options link;
    const char *domain, *api_prefix;
    int64_t request_timeout_ns;
    struct outbox_options outbox;
    int calm; /* 0; or how many times longer idle pull requests live and are silent, in a world in
                 which nothing is lost */
};

struct bus {
    struct clock *clock; /* not owned */
    struct pool *pool;   /* not owned */
    struct pool_share reads;
    struct link *consume, *publish;
    struct inbox *inbox; /* on publish */
    struct jsapi *jsapi;
    struct jslevel *jslevel; /* what the server's JetStream can do */
    struct outbox *outbox;
    struct bus_options options;
    struct later *later;  /* what is published at a later time */
    struct intake intake; /* what consumers and subscriptions are made with */
};

/* Makes and starts everything; does not wait for a server. options' strings are borrowed for the
 * bus's life. */
struct bus *bus_new(struct clock *clock, struct pool *pool, const struct bus_options *options,
                    struct sink sink, struct err *err);

/* Blocks until both are connected, or deadline_ns. */
bool bus_wait_connected(struct bus *bus, uint64_t deadline_ns);

/* Blocks: serves nothing any more that is to be published later, and waits for the publishes that
 * are still under way when nobody waits for them any more (dead letters), until deadline_ns; what
 * has no answer by then ends with ERR_CLOSED. */
void bus_wait_for_publishes(struct bus *bus, uint64_t deadline_ns);

/* link_wake of both connections. Any thread. */
void bus_wake_writers(struct bus *bus);

/* Subscribes again to what the server refused. */
void bus_retry_refused(struct bus *bus);

/* Blocks: flushes what was handed over (deadline_ns at most; at once when the server is down).
 * False: something could not be written. */
bool bus_flush(struct bus *bus, uint64_t deadline_ns);

/* Blocks, until deadline_ns at most: closes the connections, ends what is pending. */
void bus_stop(struct bus *bus, uint64_t deadline_ns);
void bus_free(struct bus *bus);

#endif
