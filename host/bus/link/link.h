/* link - one supervised NATS connection with the one thread that writes to it.
 *
 *   any thread ── link_send ──▶ lane (urgent, bulk) ──▶ writer thread ── transport ──▶ nats-server
 *   nats-server ──▶ transport ──▶ its one delivery thread ── on_message ──▶ whoever subscribed
 *
 * The writer is the only caller of the transport's connect, flush, subscribe, drain and close: each
 * of those can block for as long as a write deadline or a reconnect takes, and nobody else may wait
 * for that. It is the only one that publishes, too, but for threads that have a burst (burst.h):
 * while it sleeps, they write what they send in its place, where the transport lets them do so
 * without blocking. So everything here returns at once, but for the functions that say `blocks`.
 *
 * A link never gives up: a server that is not there yet is waited for, and a connection that was
 * lost is made anew with all its subscriptions (or goes on at another server of the cluster). Files
 * of credentials and TLS are read for each one. Each change of state, and each reason why there is
 * no connection, is logged once here; a connect that takes longer than connect_timeout is ended.
 *
 * What is handed over while disconnected waits in its lane, up to the lane's bound.
 *
 * Senders that shall not disturb each other have a flow each. Frames of one flow are written in the
 * order in which they were handed over; the flows of a lane take turns, and what waits of one is
 * bounded by what is left of the lane's bound. So a sender that sends more than the connection
 * takes waits behind itself alone, is the first to get an error, and leaves room to the others. */
#ifndef MOONBUS_BUS_LINK_LINK_H
#define MOONBUS_BUS_LINK_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "bus/link/link_frame.h"
#include "bus/link/link_options.h"
#include "bus/packet.h"
#include "bus/wire.h"

struct link;
struct link_sub;
struct transport_maker;

enum link_lane {
    LANE_URGENT, /* acks, heartbeats, pulls: written before anything that is bulk */
    LANE_BULK,   /* publishes, requests, replies */
};

enum link_state { LINK_CONNECTING, LINK_CONNECTED, LINK_DISCONNECTED, LINK_CLOSED };

/* Calls up, from the transport's threads or the writer, without any lock of the link held. Must not
 * block. Any may be NULL. */
struct link_events {
    void *owner;
    void (*on_state)(void *owner, struct link *link, enum link_state state);
    /* The server refused a publish or a subscription of this user ("Permissions Violation"). */
    void (*on_permission)(void *owner, struct link *link, const char *operation,
                          const char *subject);
};

/* Hears of connects and disconnects. Embedded in whatever listens; it may come and go while the
 * link is there. */
struct link_listener {
    struct link_listener *prev, *next; /* the link's */
    /* In the order of the states, as link_events has it, with a lock held that guards the list: it
     * must not block, and must not call link_listen or link_unlisten. */
    void (*on_state)(struct link_listener *listener, enum link_state state);
};

/* Gathers what one read of the connection brings, so as to hand a burst on at once: in its
 * on_message it keeps what has come, and asks to be called when there is no more. Embedded in
 * whoever gathers; all zero but for on_read_end. */
struct link_gatherer {
    struct link_gatherer *next; /* the link's */
    bool asked;                 /* the same */
    /* On the thread of on_message, before that waits; and before on_drained of a subscription whose
     * on_message has asked for it. Must not block. */
    void (*on_read_end)(struct link_gatherer *gatherer);
};

/* label: "consume" or "publish", for the log and the thread's name. maker: of what it connects with
 * (transport.h). Both, the options and the clock outlive the link. Nothing starts yet. */
struct link *link_new(const char *label, const struct link_options *options,
                      const struct transport_maker *maker, struct clock *clock,
                      const struct link_events *events, struct err *err);

/* Before link_start, for a few subjects: if the server refuses a publish to this one (copied), only
 * the caller of that request hears of it, and nothing is logged. */
void link_tolerate(struct link *link, const char *subject);

/* Starts the writer, which connects. Errors that no waiting can mend (an unreadable creds file, a
 * bad URL) are returned here, before anything is connected. */
int link_start(struct link *link, struct err *err);

/* A sender of its own; lives as long as the link. NULL: out of memory. */
struct link_flow *link_flow_new(struct link *link, enum link_lane lane);

/* Hands a frame over. ERR_TOO_LARGE above max_payload (headers count), ERR_DISCONNECTED when the
 * lane, or the flow's share of it, is full while there is no connection, ERR_FULL when it is full
 * though there is one, ERR_CLOSED after link_stop. On an error the gate is not called. */
int link_send(struct link *link, enum link_lane which, const struct link_frame *from,
              struct err *err);

/* Wakes the writer, if frames wait and it sleeps: a thread that wanted to write them (burst.h) has
 * not come to it yet. Any thread. */
void link_wake(struct link *link);

/* Subscribes now or when connected, and again on each new connection. queue may be NULL. No frame
 * that is handed over afterwards is written before its SUB: servers drop a request that arrives
 * before the subscription for its replies. on_message: on the delivery thread, in order; the packet
 * is the link's, unless it is taken (packet_take). It must not block. The link owns the returned
 * handle. NULL, with ERR_MEMORY or, after link_stop, ERR_CLOSED. */
struct link_sub *link_subscribe(struct link *link, const char *subject, const char *queue,
                                void (*on_msg)(void *owner, struct packet *packet), void *owner,
                                struct err *err);

/* The same for what works without it, only not as well: when the server refuses the subscription,
 * that is a warning, once, with `without` (static) behind it, and link_each_refused leaves it out.
 */
struct link_sub *link_subscribe_optional(struct link *link, const char *subject,
                                         const char *without,
                                         void (*on_msg)(void *owner, struct packet *packet),
                                         void *owner, struct err *err);

/* Drains: UNSUB, what is in flight still arrives, then on_drained once, after which on_message is
 * never called again and the handle is gone. on_drained: on a thread of the transport's or the
 * writer; may be NULL. Without a connection it is drained at once. */
void link_unsubscribe(struct link_sub *sub, void (*on_drained)(void *owner));

/* In an on_message of this link alone: on_read_end is called once when the read has ended, however
 * often that is asked for meanwhile; in the order of the first time. */
void link_at_read_end(struct link *link, struct link_gatherer *gatherer);

/* In an on_message of this link alone: about when the read of this message came (clock_now_ns). All
 * that one read brings has the same time. */
uint64_t link_read_ns(struct link *link);

/* From now on the listener hears of each change; look at link_state after it, for what was before.
 * Any thread. */
void link_listen(struct link *link, struct link_listener *listener);
/* Waits for a call that is under way; when it returns, there will be none. Any thread but one that
 * calls the listener. */
void link_unlisten(struct link *link, struct link_listener *listener);

/* The subscriptions that the server refuses to this user ("Permissions Violation"), one after the
 * other; queue may be NULL. They are tried again on the next connection, and by
 * link_retry_refused; once the server takes one it is none of these. */
void link_each_refused(struct link *link,
                       void (*each)(void *closure, const char *subject, const char *queue),
                       void *closure);
void link_retry_refused(struct link *link);

/* Blocks until connected (true) or until deadline_ns (monotonic; false). */
bool link_wait_connected(struct link *link, uint64_t deadline_ns);

/* Blocks until every frame and every subscription that was handed over before is written and the
 * server has answered a PING after them, or until deadline_ns (false). */
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

/* What went over it, and how it is; messages and bytes are those of payloads and headers. */
struct link_stat {
    bool up;
    const char *wire;  /* which way its messages go: "own", "nats.c", "broker"; "" before the first
                          connection. Static */
    uint64_t connects; /* so far */
    uint64_t disconnected_ns; /* for how long there was no connection, since the first one */
    uint64_t rtt_ns;          /* the last PONG's, or the network's alone; 0: not known */
    uint64_t sent, sent_bytes, received, received_bytes;
    uint64_t waiting; /* frames to be written */
};
void link_stat(struct link *link, struct link_stat *stat);
/* Somebody looks at how long the server takes to answer: the writer finds out soon, but not more
 * often than every LINK_RTT_AGAIN_NS. No frame waits for that: a PONG is waited for no longer than
 * at each flush, 2 ms; behind a slower network it is the network's time, which the kernel knows. */
#define LINK_RTT_AGAIN_NS (10 * NS_PER_S)
void link_ask_rtt(struct link *link);

/* Why there is no connection, with the servers: "nats://a:4222: nobody answers there". False: there
 * is one, or it is not known yet. */
bool link_trouble(struct link *link, char *buf, size_t size);
/* "host:port" of the server that it is or was connected to last. False: there was none yet. */
bool link_server(struct link *link, char *buf, size_t size);
/* The server's limit, in bytes; 1 MB before the first connection. */
size_t link_max_payload(const struct link *link);
/* How many frames wait to be written. */
size_t link_pending(struct link *link);

#endif
