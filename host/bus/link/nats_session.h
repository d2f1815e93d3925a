/* nats_session - a connection of nats.c: how it is made, watched and used. Shared by the transport
 * over nats.c alone, and the one that lays a wire of its own through it (socket_transport.h). The
 * writer's, where nothing else is said.
 *
 *   nats_transport.c   making it, connecting, the watch over connects
 *   nats_connection.c  what is done with a connection: messages, subscriptions
 *   nats_events.c      what nats.c tells of it
 *
 * and with headers of their own, as commands use them, too:
 *
 *   nats_options.c   natsOptions from link_options: servers, TLS, authentication
 *   nats_fields.c    header fields to be sent
 *   nats_nkey.c, nats_tls.c  a user's key, TLS
 *   nats_reason.c    why nats.c could not do something
 *   nats_watch.c     the sockets of connects that take too long
 *   nats_received.c  a packet of what was received; nats_reap.c where that ends */
#ifndef MOONBUS_BUS_LINK_NATS_SESSION_H
#define MOONBUS_BUS_LINK_NATS_SESSION_H

#include <nats/nats.h>

#include "base/clock.h"
#include "base/sync.h"
#include "bus/link/nats_watch.h"
#include "bus/link/transport.h"

struct nats_transport {
    struct transport transport;         /* first: the calls cast back */
    const struct link_options *options; /* borrowed */
    struct clock *clock;                /* not owned */
    struct transport_events events;

    natsConnection *nc; /* owned; the writer's. NULL: there is none */

    struct mutex watch_lock; /* guards the watch; held while descriptors are looked at */
    struct nats_watch watch;

    /* Guards what is below; a leaf but for the clock's. */
    struct mutex lock;
    int references;      /* the link's, and one while `due` is armed or on its way */
    struct deadline due; /* of the next look */
    bool watching;       /* a look will come */
    bool connecting;     /* the writer's connect is under way */
    bool returning;      /* nats.c tries to come back by itself */
    bool interrupted;    /* no server is waited for any more */
    bool freed;          /* by the link: nothing is looked at any more */
    char url[1024];      /* of the present or last connection */
    size_t max_payload;
};

static inline struct nats_transport *nats_of(struct transport *transport)
{
    return (struct nats_transport *)transport;
}

/* nats_transport.c */

/* What no waiting can mend is found here. kind: NULL, its own. */
int nats_init(struct nats_transport *nats, const struct transport_kind *kind,
              const struct link_options *options, struct clock *clock,
              const struct transport_events *events, struct err *err);
/* Under the watch. prepare, or NULL: changes the options. False: server->reason says why, and there
 * is no nats->nc. */
bool nats_connect(struct nats_transport *nats, struct transport_server *server,
                  natsStatus (*prepare)(struct nats_transport *nats, natsOptions *options));
/* Notes where nc is connected. */
void nats_note_connected(struct nats_transport *nats, natsConnection *nc);
/* nats.c tries to come back by itself, or does so no more: then connects are watched. */
void nats_set_returning(struct nats_transport *nats, bool returning);
/* For whoever makes a transport of its own of this one. */
void nats_describe(struct transport *transport, struct transport_place *place);
bool nats_find_servers(struct transport *transport, char ***urls, int *count);
void nats_interrupt(struct transport *transport);
void nats_end_thread(struct transport *transport);
void nats_free(struct transport *transport);

/* nats.c waits so long for the writer to take over, which ends its waiting. */
#define NATS_UNTIL_TAKEN_OVER_MS ((int64_t)24 * 3600 * 1000)

/* nats_events.c */
natsStatus nats_set_callbacks(struct nats_transport *nats, natsOptions *options);
/* "Permissions Violation for ...", taken apart. cut: the text is not whole. */
void nats_tell_refusal(const struct transport_events *events, const char *text);

/* nats_connection.c */
void nats_disconnect(struct transport *transport);
enum transport_sent nats_publish(struct transport *transport,
                                 const struct transport_message *message, const char **why);
bool nats_push(struct transport *transport);
enum transport_pong nats_ping(struct transport *transport, int64_t wait_ns);
uint64_t nats_network_rtt_ns(struct transport *transport);
enum transport_subscribed nats_subscribe(struct transport *transport, const char *subject,
                                         const char *queue, const struct transport_handler *handler,
                                         struct transport_sub **out, const char **why);
void nats_drain(struct transport_sub *sub);
void nats_unsubscribe(struct transport_sub *sub);
void nats_await(struct transport_sub *sub);
void nats_sub_free(struct transport_sub *sub);

extern const struct transport_kind nats_transport_kind;

#endif
