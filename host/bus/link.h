/* link - one supervised NATS connection with the one thread that writes to it.
 *
 *   any thread ── link_send ──▶ lane (urgent, bulk) ──▶ writer thread ── nats.c ──▶ nats-server
 *   nats-server ──▶ nats.c's reader ──▶ its delivery thread ── on_message ──▶ whoever subscribed
 *
 * The writer is the only caller of the connection's connect, publish, flush, subscribe, drain and
 * close: each of those can block for as long as a write deadline or a reconnect takes, and nobody
 * else may wait for that. So everything here returns at once, but for the functions that say
 * `blocks`.
 *
 * A link never gives up: a server that is not there yet is waited for, nats.c reconnects for
 * ever, and a connection that nats.c has closed (the same auth error twice, an unknown -ERR) is
 * made anew with all its subscriptions. Each change of state is logged once here.
 *
 * What is handed over while disconnected waits in its lane, up to the lane's bound.
 *
 * Senders that shall not disturb each other have a flow each. Frames of one flow are written in the
 * order in which they were handed over; the flows of a lane take turns, and what waits of one is
 * bounded by what is left of the lane's bound. So who sends more than the connection takes waits
 * behind itself alone, is the first to hear of it, and leaves room to the others. */
#ifndef MOONBUS_BUS_LINK_H
#define MOONBUS_BUS_LINK_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "bus/wire.h"

struct link;
struct link_sub;
struct link_flow;

enum link_lane {
    LANE_URGENT, /* acks, heartbeats, pulls: written before anything that is bulk */
    LANE_BULK,   /* publishes, requests, replies */
};

enum link_state { LINK_CONNECTING, LINK_CONNECTED, LINK_DISCONNECTED, LINK_CLOSED };

/* How to reach the servers. All borrowed for as long as the link lives (it is the process's
 * config); NULL and 0 mean "not set". */
struct link_options {
    const char *const *servers;
    int server_count;
    const char *name;
    const char *creds_file, *user, *password, *token, *nkey_seed_file;
    const char *tls_ca, *tls_cert, *tls_key;
    bool tls, tls_skip_verify;
    const char *inbox_prefix; /* default "_INBOX" */
    int64_t connect_timeout_ns, ping_interval_ns;
    int max_pings_out;
    int64_t reconnect_wait_ns, reconnect_max_wait_ns, reconnect_jitter_ns;
    int64_t write_deadline_ns;
};

/* Calls up, from nats.c's threads or the writer, without any lock of the link held. Must not
 * block. Any may be NULL. */
struct link_events {
    void *owner;
    void (*on_state)(void *owner, struct link *link, enum link_state state);
    /* The server refused a publish or a subscription of this user ("Permissions Violation"). */
    void (*on_permission)(void *owner, struct link *link, const char *operation,
                          const char *subject);
};

/* Decides, on the writer's thread, whether a frame is still wanted when its turn has come: a
 * heartbeat of a settled delivery is not. This is what orders settlements and heartbeats. */
struct link_gate {
    /* False: the frame is dropped. */
    bool (*open)(struct link_gate *gate);
    /* Exactly once for each frame, last: `sent` when it was handed to a live connection. */
    void (*done)(struct link_gate *gate, bool sent);
};

/* A frame to send. Everything is borrowed for the call: link_send copies. */
struct link_frame {
    const char *subject;
    const char *reply; /* or NULL */
    const void *data;
    size_t len;
    const struct headers *headers; /* or NULL */
    struct link_gate *gate;        /* or NULL */
    struct link_flow *flow;        /* whose it is, of this lane; NULL: the host's own */
    bool owed; /* for something that is bounded elsewhere, as one answer for each request: may use
                  room that the other frames of its flow leave */
};

/* label: "consume" or "publish", for the log and the thread's name. Nothing starts yet. */
struct link *link_new(const char *label, const struct link_options *options,
                      const struct link_events *events, struct err *err);

/* Starts the writer, which connects. Errors that no waiting can mend (an unreadable creds file, a
 * bad URL) are returned here, before anything is connected. */
int link_start(struct link *link, struct err *err);

/* A sender of its own; lives as long as the link. NULL: out of memory. */
struct link_flow *link_flow_new(struct link *link, enum link_lane lane);

/* Hands a frame over. ERR_TOO_LARGE above max_payload (headers count), ERR_DISCONNECTED when the
 * lane, or the flow's share of it, is full while there is no connection, ERR_FULL when it is full
 * though there is one, ERR_CLOSED after link_stop. On an error the gate is not called. */
int link_send(struct link *link, enum link_lane lane, const struct link_frame *frame,
              struct err *err);

/* Subscribes now or when connected, and again on a connection made anew. queue may be NULL.
 * on_message: on nats.c's delivery thread, in order; owns msg (reap). It must not
 * block. The link owns the returned handle. NULL only when out of memory or after link_stop. */
struct link_sub *link_subscribe(struct link *link, const char *subject, const char *queue,
                                void (*on_message)(void *owner, natsMsg *msg), void *owner);

/* Drains: UNSUB, what is in flight still arrives, then on_drained once, after which on_message is
 * never called again and the handle is gone. on_drained: on a thread of nats.c or the writer; may
 * be NULL. Without a connection it is drained at once. */
void link_unsubscribe(struct link_sub *sub, void (*on_drained)(void *owner));

/* Blocks until connected (true) or until deadline_ns (monotonic; false). */
bool link_wait_connected(struct link *link, uint64_t deadline_ns);

/* Blocks until every frame that was handed over before is written and the server has answered a
 * PING after them, or until deadline_ns (false). */
bool link_flush(struct link *link, uint64_t deadline_ns);

/* Blocks, until deadline_ns at most: ends the writer, closes the connection. Subscriptions end
 * without draining. Frames still waiting are dropped, their gates called. */
void link_stop(struct link *link, uint64_t deadline_ns);

/* Does not block: what link_stop begins with. For a process that stops several links under one
 * deadline. */
void link_stop_begin(struct link *link);

/* After link_stop: it did not end in time. Then its callbacks may still run, and whatever they
 * reach must not be freed. */
bool link_stuck(struct link *link);

/* After link_stop. When the writer would not end in time (stuck in a connect), the link leaks on
 * purpose: the process is about to exit. */
void link_free(struct link *link);

enum link_state link_state(const struct link *link);
/* The server's limit, in bytes; 1 MB before the first connection. */
size_t link_max_payload(const struct link *link);
/* How many frames wait to be written. */
size_t link_pending(struct link *link);

#endif
