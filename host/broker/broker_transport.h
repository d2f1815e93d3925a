/* broker_transport - a broker that the links of this process connect to, instead of a nats-server;
 * and the faults of a network and a server, each one call.
 *
 *   struct broker_server *server = broker_server_new(&(struct broker_options){.seed = 1}, &err);
 *   options.transport = broker_server_transport(server);          struct bus_options, or link_new
 *   bus = bus_new(clock, pool, &options, sink, &err);             servers: any URL, it is only
 * shown
 *   ...
 *   broker_server_cut(server, BROKER_ALL_LINKS, BROKER_LOSE_BOTH);
 *   ...
 *   bus_stop, bus_free; broker_server_free(server);
 *
 *   writer ── publish, SUB, PING ──▶ in ─▶┐                            ┌▶ out ──▶ on_message,
 * on_lost (delay, loss)    │  the server's one thread   │   (delay, loss) writer of another link
 * ─────────▶ in ─┴──────▶ broker ─────────────┴▶ out ──▶ ...
 *
 * The server has one thread, named mb-broker, which reads what has arrived, moves the broker's time
 * by clock_now_ns(), and makes all calls up, one at a time. It blocks in base/sync alone, so in a
 * simulated world it is a fiber, and all of this is deterministic: make the server, the clock and
 * the bus inside of world_call. Several hosts may use one server. Nothing is read from the options
 * of a link but its times: connect_timeout, ping_interval, max_pings_out.
 *
 * Everything here is for any thread, and blocks for no time, but where it says so. */
#ifndef MOONBUS_BROKER_BROKER_TRANSPORT_H
#define MOONBUS_BROKER_BROKER_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/broker.h"
#include "bus/link/transport.h"

struct broker_server;

/* Starts its thread. options->wall_ns 0: the time of day is the host's. NULL, with err. */
struct broker_server *broker_server_new(const struct broker_options *options, struct err *err);

/* Blocks: ends its thread. Every link has been freed. NULL is fine. */
void broker_server_free(struct broker_server *server);

/* What a link is made with; the server's. */
const struct transport_maker *broker_server_transport(struct broker_server *server);

/* The broker, for those that look into it, or are clients of their own, locked until
 * broker_server_unlock: nothing moves meanwhile. */
struct broker *broker_server_lock(struct broker_server *server);
void broker_server_unlock(struct broker_server *server);

/* --- faults --- */

/* Links are numbered from 0 in the order in which they were started: a bus has its consume, then
 * its publish connection. */
enum { BROKER_ALL_LINKS = -1 };

/* What is lost with a connection that is cut: it was in flight. */
enum broker_loss {
    BROKER_LOSE_NOTHING = 0,
    BROKER_LOSE_IN = 1,  /* what was sent, and has not been read by the server */
    BROKER_LOSE_OUT = 2, /* what the server has sent, and has not been read by the link */
    BROKER_LOSE_BOTH = 3,
};

/* The connection of a link is cut. Until it hears of that, what it sends is lost. The server
 * forgets it when it has read what was not lost. */
void broker_server_cut(struct broker_server *server, int link, enum broker_loss loss);

/* Frozen, the server reads nothing and answers nothing; connections stay, until links miss too many
 * PONGs, and connects end with their timeout. Thawed, it does at once what was due meanwhile, and
 * reads all that has arrived. */
void broker_server_freeze(struct broker_server *server, bool frozen);

/* Down, all connections are cut and all that is in flight is lost; connects fail at once. Up again,
 * it has all that it had, and does what was due meanwhile: a restart. */
void broker_server_down(struct broker_server *server, bool down);

/* Connects fail with this reason (copied). NULL: they are taken again. */
void broker_server_refuse(struct broker_server *server, const char *reason);

/* From now on a message takes so long to the server, and from it to a link; at first 0. */
void broker_server_delay(struct broker_server *server, uint64_t in_ns, uint64_t out_ns);

/* Of the messages to come, the first `count` to a link on this subject (a pattern, copied) are
 * lost, and the connection stays: an answer that never comes. Takes the place of the one before. */
void broker_server_lose(struct broker_server *server, const char *subject, int count);
/* The same of what is sent to the server, after the first `skip` of them. */
void broker_server_lose_in(struct broker_server *server, const char *subject, int skip, int count);
/* How many of them have not been lost yet. */
int broker_server_losses_left(struct broker_server *server);

/* How many links are connected, as the server sees it. */
int broker_server_connections(struct broker_server *server);

#endif
