/* delivery_state - the state machine of a delivery: who may settle it, what its lease allows, and
 * what of it may be sent. Pure: no clock, no I/O, no lock; fed with events and the time, it says
 * what to do.
 *
 *          ┌─ settle ─▶ ACKED, NAKED, TERMED          what holds
 *   OPEN ──┤
 *          ├─ begin_letter ─▶ LETTER ─ end_letter ─▶ STORED, UNSTORED, DROPPED
 *          └─ begin_copy ─▶ COPYING ─ end_copy ─▶ COPIED, NAKED
 *
 *   OPEN                    no verdict: whoever comes first gives it. Heartbeats go out.
 *   LETTER                  its dead letter is under way: only the end of that settles it.
 *                           Heartbeats go out, since the letter may take its time.
 *   ACKED, NAKED, TERMED    settled. Nothing more is sent but the one frame of the verdict.
 *   STORED                  settled: the letter lies in a stream. TERM; and an ack where a term
 *                           may not be sent, for the message is done with.
 *   UNSTORED                settled: the letter could not be stored. NAK: the message comes again.
 *   DROPPED                 settled: there is no dead letter for it. TERM.
 *   COPYING                 a copy that comes again much later (retries) is under way: only the end
 *                           of that settles it. Heartbeats go out.
 *   COPIED                  settled: the copy is stored. ACK. If it is not: NAKED.
 *
 * Beside that, as long as there is no verdict, the lease is kept or lost:
 *
 *   KEPT ─ ack_wait has passed since the server last heard of us ─▶ LOST
 *     ▲                                                               │
 *     └────── the message came here once more, and was joined ────────┘
 *
 * Lost: somebody else may have the message. Only an ack may be sent for it: a nak, a term or a
 * heartbeat would act on whoever has it. A nak or term that had to wait in the lane until the lease
 * was over is not sent either.
 *
 * Heartbeats. One waits to be written at a time. It is of the ack subject that it was handed over
 * with: one from before a join is not written, and renews nothing.
 *
 * Owner: its delivery; under the consumer's lock, but for what says so. A core message has no
 * lease: of the machine it has OPEN and settle, without a lock. */
#ifndef MOONBUS_BUS_CONSUME_DELIVERY_STATE_H
#define MOONBUS_BUS_CONSUME_DELIVERY_STATE_H

#include <stdbool.h>
#include <stdint.h>

/* What is sent for a message. NONE: nothing, or nothing yet. */
enum verdict { VERDICT_NONE, VERDICT_ACK, VERDICT_NAK, VERDICT_TERM };

enum delivery_phase {
    DELIVERY_OPEN,
    DELIVERY_LETTER,
    DELIVERY_ACKED,
    DELIVERY_NAKED,
    DELIVERY_TERMED,
    DELIVERY_STORED,
    DELIVERY_UNSTORED,
    DELIVERY_DROPPED,
    DELIVERY_COPYING,
    DELIVERY_COPIED
};

struct delivery_state {
    int phase;           /* enum delivery_phase; changed by compare-and-swap, read on any thread */
    unsigned joined;     /* how many redeliveries were joined; read on any thread */
    bool lost;           /* the lease is */
    bool parked;         /* it waits without costing the credit; stays as it is once settled */
    bool beating;        /* a heartbeat waits to be written */
    unsigned beat_of;    /* `joined` when it was handed over */
    uint64_t renewed_ns; /* when the server last heard of us: arrival, join or sent heartbeat */
};

/* Of zeroed memory. now_ns: of its arrival. */
void delivery_state_init(struct delivery_state *state, uint64_t now_ns);

/* Any thread, without the lock for a core message. False: somebody was faster. */
bool delivery_state_settle(struct delivery_state *state, enum verdict verdict);
bool delivery_state_begin_letter(struct delivery_state *state);
/* end: STORED, UNSTORED or DROPPED. False: no letter is under way. */
bool delivery_state_end_letter(struct delivery_state *state, enum delivery_phase end);

bool delivery_state_begin_copy(struct delivery_state *state);
/* end: COPIED or NAKED. False: no copy is under way. */
bool delivery_state_end_copy(struct delivery_state *state, enum delivery_phase end);

/* Any thread, without the lock. */
enum delivery_phase delivery_state_phase(const struct delivery_state *state);
unsigned delivery_state_joined(const struct delivery_state *state);
/* It has its verdict, or is its letter's. */
bool delivery_state_is_taken(const struct delivery_state *state);
/* Its letter is under way, or has ended. */
bool delivery_state_is_letters(const struct delivery_state *state);
/* A copy of it is under way, or stored. */
bool delivery_state_is_copied(const struct delivery_state *state);
/* It has its verdict, and must not be run here again: also when nobody could be told of it. */
bool delivery_state_is_done(const struct delivery_state *state);
/* NONE: it has none yet. */
enum verdict delivery_state_verdict(const struct delivery_state *state);

/* Is the lease lost by now? *news: it was not before. */
bool delivery_state_lapse(struct delivery_state *state, uint64_t ack_wait_ns, uint64_t now_ns,
                          bool *news);

/* The message came here once more. known: its new ack subject is kept, so the lease is of it. */
void delivery_state_join(struct delivery_state *state, bool known, uint64_t now_ns);

/* Settled: the frame to be sent. */
enum verdict delivery_state_frame(const struct delivery_state *state);
/* A nak or term at its turn: may it still be written? */
bool delivery_state_in_time(const struct delivery_state *state, uint64_t ack_wait_ns,
                            uint64_t now_ns);
/* It was not written: what is sent instead. */
enum verdict delivery_state_instead(const struct delivery_state *state);

/* True: hand a heartbeat over; then beat_wanted at its turn, and beat_ended. False: one waits. */
bool delivery_state_beat(struct delivery_state *state);
/* *news: as of lapse. */
bool delivery_state_beat_wanted(struct delivery_state *state, uint64_t ack_wait_ns, uint64_t now_ns,
                                bool *news);
void delivery_state_beat_ended(struct delivery_state *state, bool sent, uint64_t now_ns);

/* It waits for something other than a handler, or does so no longer. True: that is news, and counts
 * for the credit. Never for a settled one. */
bool delivery_state_park(struct delivery_state *state, bool parked);

#endif
