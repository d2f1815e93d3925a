/* transport - what a link connects with: the seam between the host and a server.
 *
 *   link's writer ── connect, publish, ping, subscribe ──▶ transport ──▶ server
 *   link          ◀── on_message, on_lost, on_back ... ── its own threads ◀── server
 *
 * There are three: a socket of our own, over which nats.c has made a session (socket_transport.h);
 * nats.c alone (nats_transport.h); and a broker in this process, for specs and simulations
 * (broker/broker_transport.h). A transport belongs to one link, and has one connection at a time:
 *
 *            connect                on_lost               on_gone
 *   (none) ──────────▶ connected ──────────▶ lost, tries ────────▶ gone ──┐
 *      ▲                   │  ▲                  │  by itself             │ disconnect
 *      │ disconnect        │  └───── on_back ────┘                        │
 *      └───── on_closed ◀──┴──────────────────────────────────────────────┘
 *
 * All calls are the writer's, one at a time, unless they say otherwise (or somebody writes in its
 * place, link.h); those that may block say so. Calls up come from the transport's threads, without
 * a lock of its own held, and must not block. Each connection has exactly one on_closed, the last
 * call up for it but for those of subscriptions that end; it may come by itself, where the
 * transport has lost it for good. */
#ifndef MOONBUS_BUS_LINK_TRANSPORT_H
#define MOONBUS_BUS_LINK_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "bus/link/link_options.h"
#include "bus/packet.h"

struct transport;

struct transport_kind;

/* What each subscription of a transport begins with. */
struct transport_sub {
    struct transport *transport;
    const struct transport_kind *kind; /* whose drain, unsubscribe, await and sub_free it is for */
};

/* Where it is connected. */
struct transport_place {
    char url[1024];
    size_t max_payload; /* the server's bound on a message */
    const char *wire;   /* static: which way its messages go, for people */
    bool any_thread;    /* publish without `waits`, and push, do not block: they need not be the
                           writer's own, as long as there is one call at a time */
};

/* One that may be connected to. The link's; what has no other owner here is the transport's. */
struct transport_server {
    char *url;        /* owned by the link */
    bool found;       /* it was not configured: the cluster told of it */
    bool tls;         /* it is to be asked for TLS: the link says so, or it did the last time */
    char reason[256]; /* why the last try failed */
};

/* What the server refuses: "Permissions Violation for Subscription to "a.b" using queue "c"". */
struct transport_refusal {
    const char *text;    /* the sentence */
    bool publish;        /* else a subscription */
    const char *subject; /* NULL: it does not say of what */
    const char *queue;   /* or NULL */
    bool cut;            /* the subject is only the beginning of one */
};

/* Calls up. */
struct transport_events {
    void *owner;
    /* There is no connection. It may come back by itself (on_back), or not (on_gone). */
    void (*on_lost)(void *owner);
    /* It goes on, perhaps at another server, and every SUB was sent again. */
    void (*on_back)(void *owner);
    /* It will not by itself: it is to be disconnected, and another one made. */
    void (*on_gone)(void *owner);
    /* The last call; the transport may be freed in it, or afterwards. */
    void (*on_closed)(void *owner);
    /* The server does not let this user do it. */
    void (*on_refused)(void *owner, const struct transport_refusal *refusal);
    /* The server has another bound on a message than `describe` has told. */
    void (*on_max_payload)(void *owner, size_t max_payload);
    /* Whatever else is wrong with the connection: perhaps why it will be lost. */
    void (*on_error)(void *owner, const char *text);
    /* All messages that one read has brought are handed up: after one on_message or several, on
     * their thread, before it waits and before it calls up anything else. */
    void (*on_read_end)(void *owner);
};

/* Of a subscription. on_message: in order, and one at a time of all subscriptions of a transport
 * (two transports may call at the same time); what is not taken out of the packet is freed. on_end:
 * once, the last, and before on_closed of its connection or soon after it. */
struct transport_handler {
    void *owner;
    void (*on_message)(void *owner, struct packet *packet);
    void (*on_end)(void *owner);
};

/* Everything is borrowed. */
struct transport_message {
    struct span wire; /* all of it, as a client writes it (encode); the others are parts of it */
    struct span subject, reply; /* reply.at NULL: none */
    struct span headers; /* the block: "NATS/1.0\r\n", each field as "Name: value\r\n", "\r\n"
                            (headers_write); len 0: there is none, and it is sent by PUB */
    struct span data;
    bool waits; /* else it is HELD where it would have to wait; see any_thread */
};

/* The server closes the connection if a line ("HPUB subject reply 40 1000") is longer: the link
 * hands none over. */
#define TRANSPORT_LINE_MAX 4096

/* A subject of a message as a text, in buf (TRANSPORT_LINE_MAX bytes); NULL: there is none. */
const char *transport_text(struct span subject, char *buf);

enum transport_sent {
    TRANSPORT_SENT,    /* handed to a live connection; whether it arrives is another matter */
    TRANSPORT_REFUSED, /* this message cannot be sent, now or later */
    TRANSPORT_HELD,    /* there is no connection that takes it: try again when there is; or it
                          would have to wait */
};

enum transport_pong {
    TRANSPORT_PONG,    /* the server has answered: all that was sent before has arrived */
    TRANSPORT_NO_PONG, /* not in time */
    TRANSPORT_LATE,    /* the same, and the next call waits for that one, and asks for no other. By
                          itself it loses a server that does not answer, and says so (on_error) */
    TRANSPORT_NO_PING, /* it could not be asked: the connection is about to be lost */
};

enum transport_subscribed {
    TRANSPORT_SUBSCRIBED,
    TRANSPORT_UNSUBSCRIBED, /* it was not, and no call up comes */
    /* The connection has closed in between: on_message may run still, and nobody will tell when it
     * does no more, so that what it reaches must stay. */
    TRANSPORT_ASTRAY,
};

/* The calls of one kind of transport. */
struct transport_kind {
    /* Blocks, for the connect timeout at most. False: server->reason says why. */
    bool (*connect)(struct transport *transport, struct transport_server *server);
    /* Ends the connection that there is; what was sent is still written if possible. May block for
     * as long as a write deadline. */
    void (*disconnect)(struct transport *transport);

    /* May block for as long as a write deadline, if it waits. *why: of a refusal; static. */
    enum transport_sent (*publish)(struct transport *transport,
                                   const struct transport_message *message, const char **why);
    /* Has what was published written, as far as the network takes it now; the rest follows by
     * itself. Does not block. False: here only a ping does that. */
    bool (*push)(struct transport *transport);
    /* Writes everything and asks the server for a PONG. Blocks, for wait_ns at most. */
    enum transport_pong (*ping)(struct transport *transport, int64_t wait_ns);

    /* How long the network takes there and back, without asking anybody; 0: not known. */
    uint64_t (*network_rtt_ns)(struct transport *transport);

    /* subject and queue (or NULL) are borrowed. *sub: the caller's, until sub_free. *why: why it
     * was not; NULL: the connection has closed, and another one is to be made. */
    enum transport_subscribed (*subscribe)(struct transport *transport, const char *subject,
                                           const char *queue,
                                           const struct transport_handler *handler,
                                           struct transport_sub **sub, const char **why);
    /* UNSUB; what is in flight still arrives, then on_end. Without a connection: what has come. */
    void (*drain)(struct transport_sub *sub);
    /* UNSUB; nothing more arrives, then on_end. Any thread. */
    void (*unsubscribe)(struct transport_sub *sub);
    /* Blocks, for a moment at most, until what has come to it is handed up. Any thread. */
    void (*await)(struct transport_sub *sub);
    /* In or after its on_end, which the end of its connection brings about, too. Any thread. */
    void (*sub_free)(struct transport_sub *sub);

    /* Where it is connected. In on_back, too. */
    void (*describe)(struct transport *transport, struct transport_place *place);
    /* Servers of the cluster that are not configured: their URLs, the caller's (free each, and the
     * list). False: not known. */
    bool (*find_servers)(struct transport *transport, char ***urls, int *count);

    /* Any thread: the link stops, and waits for no server any more. A connect that is under way
     * ends, and so does each later one. */
    void (*interrupt)(struct transport *transport);
    /* The writer's last call: what is kept for its thread is freed. */
    void (*end_thread)(struct transport *transport);
    /* Any thread, after the last on_closed and the last on_end, when no call is under way. */
    void (*free)(struct transport *transport);
};

/* What each transport begins with. */
struct transport {
    const struct transport_kind *kind;
};

/* Makes transports of one kind; static, or part of what they connect to. */
struct transport_maker {
    /* options, and what events reaches, outlive the transport. Starts nothing. NULL, with err: what
     * no waiting can mend, such as an unreadable file. */
    struct transport *(*make)(const struct transport_maker *maker,
                              const struct link_options *options, struct clock *clock,
                              const struct transport_events *events, struct err *err);
};

#endif
