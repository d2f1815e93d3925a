/* delivery - one message that this process holds, from its arrival to its verdict.
 *
 * A JetStream delivery has a lease: from the arrival on, the clock has +WPI sent at about a third
 * of the consumer's ack_wait, while it waits in our queues as well as while its handler runs.
 * The lease ends with the verdict.
 *
 * Settling is one compare-and-swap: whoever comes second gets ERR_SETTLED. A dead letter takes the
 * verdict for itself when it begins: while it is under way nobody else settles. Settling closes the
 * gate of the delivery's heartbeats before the verdict is handed to the consume connection's one
 * writer, so no +WPI follows a nak (it would cancel the nak's delay, on every server).
 *
 * A lease that could not be renewed for ack_wait is lost: someone else may have the message. From
 * then on only an ack may be sent for it. It is found again when the server redelivers the message
 * to this very process while it is still held: the redelivery is joined, and runs nothing.
 *
 *   nats.c ─▶ consumer ── delivery_new ─▶ sink (dispatch: queued) ─▶ task (running) ─▶ settle
 *                 ▲ joins a redelivery            clock: heartbeats ─▶ link (gate)
 *
 * Owner: who was handed it last (queue, then task); the consumer's table, the clock, the gate's
 * frame, Lua's message objects and a dead letter under way hold references. Functions are for any
 * thread that holds a reference, unless they say otherwise. */
#ifndef MOONBUS_BUS_DELIVERY_H
#define MOONBUS_BUS_DELIVERY_H

#include <nats/nats.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "bus/link.h"

struct ack_subject;
struct consumer;
struct inbox;

enum verdict { VERDICT_NONE, VERDICT_ACK, VERDICT_NAK, VERDICT_TERM };

struct delivery {
    struct delivery *prev, *next; /* list of its present owner */

    natsMsg *msg; /* owned; only the present owner reads headers (parsed lazily) */
    const char *subject, *reply_to; /* borrowed from msg; reply_to: core requests, else NULL */
    const char *data;               /* borrowed from msg */
    size_t len;

    struct consumer *consumer;    /* NULL: a core message; holds a reference */
    const char *stream, *durable; /* borrowed from the consumer; NULL for core */
    uint64_t stream_sequence, pending;
    _Atomic uint64_t attempt; /* counted from 1; 1 for core; a joined redelivery raises it */
    int64_t timestamp_ns;     /* stored at, by the server; arrival for core */

    atomic_int references;
    atomic_int verdict; /* enum verdict; leaves VERDICT_NONE once, under the consumer's lock */
    atomic_bool lost;   /* the lease is lost */
    atomic_bool dead;   /* its dead letter has begun; set once, under the consumer's lock */
    bool stored;        /* its dead letter's: it lies in the stream */
    unsigned pardons;   /* the consumer's, when it came */

    /* Lease; guarded by the consumer's lock. */
    const char *ack_subject; /* borrowed from msg, or `rejoined` */
    char *rejoined;          /* owned: the last redelivery's, when one was joined; or NULL */
    uint64_t renewed_ns;     /* when the server last heard of us: arrival, join or sent heartbeat */
    atomic_uint joined;      /* how many redeliveries were joined */
    struct deadline beat;
    struct link_gate gate;
    bool beating;                  /* a heartbeat waits in the lane */
    unsigned beat_joined;          /* `joined` when it was handed over: its ack subject */
    struct delivery *held_next;    /* consumer's table of what it holds, by stream sequence */
    struct link_gate verdict_gate; /* of a nak or term */
    bool parked;                   /* it waits without costing the consumer's credit */

    /* The engine's. */
    void *lane;          /* under its lock */
    uint64_t started_ns; /* under its lock: when its handler began */
    bool rebound;        /* under the engine's lock: it is to be run again */
    void *runs_on;       /* under its lock: the instance, while it is active */
    bool follows;        /* under its lock: in its batch it is not the first */
    bool unreadable;     /* the task's: msg:json failed on it */
};

/* A core message; takes msg. NULL when out of memory (msg is destroyed). One reference. */
struct delivery *delivery_new_core(natsMsg *msg);

/* A JetStream message, not held yet; takes msg, and on failure (NULL: out of memory) destroys it.
 * One reference. With the consumer's lock held, for consumer. */
struct delivery *delivery_new(struct consumer *consumer, natsMsg *msg,
                              const struct ack_subject *ack, uint64_t now_ns);

/* Both with the consumer's lock held, for consumer. Begins the lease: heartbeats come from the
 * clock from now on. Joins a redelivery: the lease goes on under its ack subject (copied). */
void delivery_hold(struct delivery *delivery, uint64_t now_ns);
void delivery_join(struct delivery *delivery, const char *ack_subject,
                   const struct ack_subject *ack, uint64_t now_ns);

struct delivery *delivery_retain(struct delivery *delivery);
/* The last reference destroys the message. A JetStream delivery must have been settled (its lease
 * holds a reference of its own until then). */
void delivery_release(struct delivery *delivery);

/* Gives the verdict. delay_ns: for VERDICT_NAK, how long the server shall wait. 0, ERR_SETTLED when
 * it has its verdict, ERR_LOST when the lease is lost and the verdict is not an ack (it counts as
 * settled then, nothing is sent), or an error of link_send (it counts as settled; the server will
 * redeliver). A core message has no verdict to send, but is settled once all the same. */
int delivery_settle(struct delivery *delivery, enum verdict verdict, int64_t delay_ns,
                    struct err *err);

/* Its dead letter begins. 0: only delivery_end_letter settles it from now on. ERR_SETTLED: it has
 * its verdict, or a letter under way. A JetStream delivery's. */
int delivery_begin_letter(struct delivery *delivery, struct err *err);

/* And has ended: the verdict. stored: in a stream; then the message is done with, and where a term
 * may not be sent because the lease is lost, an ack is. */
void delivery_end_letter(struct delivery *delivery, enum verdict verdict, bool stored,
                         int64_t delay_ns);

/* Acks and waits for the server's confirmation: on_reply as of inbox_request. 0, or an error as of
 * delivery_settle and inbox_request (then on_reply is not called; a plain ack was sent instead of
 * the latter). *id: for inbox_cancel. */
int delivery_ack_sync(struct delivery *delivery, struct inbox *inbox, uint64_t deadline_ns,
                      void (*on_reply)(void *owner, natsMsg *reply, enum err_code code),
                      void *owner, uint64_t *id, struct err *err);

/* Sends a heartbeat now. ERR_SETTLED, ERR_LOST. */
int delivery_progress(struct delivery *delivery, struct err *err);

/* It has its verdict, or is the dead letter's. */
bool delivery_settled(const struct delivery *delivery);

/* The message's id, stable over redeliveries: "<stream>:<timestamp>:<consumer>:<sequence>"; "" for
 * core. Returns buf. And made of its parts, where the delivery is gone. */
char *delivery_id(const struct delivery *delivery, char *buf, size_t size);
char *delivery_make_id(const char *stream, int64_t timestamp_ns, const char *durable,
                       uint64_t sequence, char *buf, size_t size);

#endif
