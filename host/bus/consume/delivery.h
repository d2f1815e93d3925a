/* delivery - one message that this process holds, from its arrival to its verdict.
 *
 * A JetStream delivery has a lease: from the arrival on, the clock has +WPI sent at about a third
 * of the consumer's ack_wait, while it waits in our queues as well as while its handler runs.
 * The lease ends with the verdict.
 *
 * A machine of its own, delivery_state, says who may settle it and what may be sent for it.
 * Settling is one step of it: the second caller gets ERR_SETTLED. A dead letter takes the verdict
 * for itself when it begins: while it is under way nobody else can settle. Settling closes the gate
 * of the delivery's heartbeats before the verdict is handed to the consume connection's one writer,
 * so no +WPI follows a nak (it would cancel the nak's delay, on every server).
 *
 * A lease that could not be renewed for ack_wait is lost: somebody else may have the message. From
 * then on only an ack may be sent for it. It is found again when the server redelivers the message
 * to this very process while it is still held: the redelivery is joined, and runs nothing.
 *
 *   link ─▶ consumer ── delivery_new ─▶ sink (dispatch: queued) ─▶ task (running) ─▶ settle
 *               ▲ joins a redelivery              clock: heartbeats ─▶ link (gate)
 *
 * Owner: who was handed it last (queue, then task); the consumer's table, the gate's frame, Lua's
 * message objects and a dead letter under way hold references. Functions are for any
 * thread that holds a reference, unless they say otherwise. */
#ifndef MOONBUS_BUS_CONSUME_DELIVERY_H
#define MOONBUS_BUS_CONSUME_DELIVERY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "bus/consume/beats.h"
#include "bus/consume/delivery_state.h"
#include "bus/link/link.h"
#include "bus/packet.h"

struct ack_subject;
struct consumer;
struct inbox;
struct join;
struct leases;
struct ordered;

/* What whoever the sink is may keep of a message, in the delivery. */
enum { DELIVERY_ROOM = 40 };

struct delivery {
    /* What every message has, and is read for each: side by side, as one thread writes it and
     * another reads it, and each line of the cache has its way to go. */
    struct delivery *prev, *next; /* list of its present owner */

    struct packet packet; /* owned; whoever has the delivery may read it */
    size_t bytes;         /* as it counts against bounds: packet_bytes of what came */
    const char *reply_to; /* borrowed from the packet: of a core request; else NULL */
    atomic_int references;
    unsigned pardons;                     /* of the leases, when it came */
    uint64_t arrived_ns;                  /* here, by the monotonic clock */
    _Alignas(8) char room[DELIVERY_ROOM]; /* of whoever the sink is: zero at first */
    struct delivery_state state;
    int64_t timestamp_ns;         /* stored at, by the server; arrival for core */
    struct consumer *consumer;    /* whose it is; NULL: a core message */
    struct leases *leases;        /* its consumer's; NULL for core; a reference of the puller's */
    struct ordered *ordered;      /* whose credit it costs, a reference; NULL: of none of these */
    const char *stream, *durable; /* borrowed from the consumer; NULL for core; an ordered one's has
                                   * no durable */
    uint64_t stream_sequence, pending;
    _Atomic uint64_t attempt; /* counted from 1; 1 for core; a joined redelivery raises it */

    /* What only a message with a lease has; of any other it is not even cleared. */
    uint64_t attempts_before; /* of a copy (retry_copy): those of what was copied; else 0 */
    uint64_t key_sequence;    /* what its lease goes by: sequence and time of what came, */
    int64_t key_timestamp_ns; /* which for a copy are not those of the message */

    /* Guarded by the consumer's lock. */
    const char *ack_subject;       /* borrowed from the packet, or `rejoined` */
    char *rejoined;                /* owned: the last redelivery's, when one was joined; or NULL */
    struct delivery *held_next;    /* leases' table */
    struct beat beat;              /* leases' beats: until it is settled, or its lease is lost */
    struct link_gate beat_gate;    /* of the heartbeat that waits to be written */
    struct link_gate verdict_gate; /* of a nak or term */
};

/* A core message, which has come at now_ns; takes the packet. NULL when out of memory: then the
 * packet is still there. One reference. */
struct delivery *delivery_new_core(struct packet *packet, uint64_t now_ns);

/* A message of an ordered consumer: it has no lease, and no verdict is sent for it. Takes the
 * packet, but not on failure (NULL: out of memory), and a reference of ordered. One reference. */
struct delivery *delivery_new_ordered(struct ordered *ordered, struct packet *packet,
                                      const struct ack_subject *ack);

/* A JetStream message, not held yet; takes the packet, but not on failure (NULL: out of memory).
 * One reference. With the consumer's lock held, for consumer, whose leases they are. */
struct delivery *delivery_new(struct consumer *consumer, struct leases *leases,
                              struct packet *packet, const struct ack_subject *ack,
                              uint64_t now_ns);

/* With the consumer's lock held, for consumer: a redelivery of it has come, and its lease goes on
 * under that one's ack subject (copied). */
void delivery_join(struct delivery *delivery, const char *ack_subject,
                   const struct ack_subject *ack, uint64_t now_ns);

/* With the consumer's lock held, for leases: its heartbeat is due. True: it was handed over, or one
 * waits still. False: the lease is lost; *tell: say so in the log. */
bool delivery_beat(struct delivery *delivery, uint64_t now_ns, bool *tell);

/* Nobody else has it yet: a core message gets memory of its own, for it may wait for long. */
void delivery_own(struct delivery *delivery);

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

/* And has ended, as delivery_state has it: DELIVERY_STORED, DELIVERY_UNSTORED (a nak, with this
 * delay) or DELIVERY_DROPPED. */
void delivery_end_letter(struct delivery *delivery, enum delivery_phase end, int64_t delay_ns);

/* A copy of it is to be stored, to be tried again much later (retries). 0: only delivery_end_copy
 * settles it from now on, with an ack, or with a nak of that delay. ERR_SETTLED. A JetStream
 * delivery's. */
int delivery_begin_copy(struct delivery *delivery, struct err *err);
void delivery_end_copy(struct delivery *delivery, bool stored, int64_t delay_ns);

/* Its lease is lost by now: somebody else may have the message. A JetStream delivery's. */
bool delivery_is_lost(struct delivery *delivery);

/* Acks and waits for the server's confirmation: on_reply as of inbox_request. 0, or an error as of
 * delivery_settle and inbox_request (then on_reply is not called; a plain ack was sent instead of
 * the latter). *id: for inbox_cancel. */
int delivery_ack_sync(struct delivery *delivery, struct inbox *inbox, uint64_t deadline_ns,
                      void (*on_reply)(void *owner, struct packet *reply, enum err_code code),
                      void *owner, uint64_t *id, struct err *err);

/* Sends a heartbeat now. ERR_SETTLED, ERR_LOST. */
int delivery_progress(struct delivery *delivery, struct err *err);

/* It waits for something other than a free handler, and shall cost no credit meanwhile; its lease
 * goes on (or: no longer). Returns whether this changed anything. A JetStream delivery's. */
bool delivery_park(struct delivery *delivery, bool parked);

/* It has its verdict, or is the dead letter's. */
bool delivery_settled(const struct delivery *delivery);
/* Its dead letter has begun; it may have ended. */
bool delivery_is_letters(const struct delivery *delivery);
/* A copy of it is under way, or stored. */
bool delivery_is_copied(const struct delivery *delivery);
/* VERDICT_NONE: it has none yet. */
enum verdict delivery_verdict(const struct delivery *delivery);
/* It has come here more than once while it is held. */
bool delivery_was_joined(const struct delivery *delivery);

/* The message's id, stable over redeliveries: "<stream>:<timestamp>:<consumer>:<sequence>"; "" for
 * core. Returns buf. */
char *delivery_id(const struct delivery *delivery, char *buf, size_t size);
/* The same, behind what is joined already. */
void delivery_join_id(const struct delivery *delivery, struct join *id);
/* The same of its parts, where the delivery is gone. */
char *delivery_make_id(const char *stream, int64_t timestamp_ns, const char *durable,
                       uint64_t sequence, char *buf, size_t size);

#endif
