/* pull - the state machine of a pull consumer: when to ask for how much, and what each answer
 * means. Pure: no clock, no I/O, no lock; fed with events and the time, it says what to do.
 *
 *            ┌────────────── disconnected ──────────────┐
 *            ▼                                          │
 *   PAUSED ─ connected ─▶ PULLING ─ 409 "Exceeded", "Leadership Change",
 *                          │    ▲           503, 429 ─▶ BACKING_OFF ─ due ─▶ PULLING
 *              gone, silent│    │ pull_found
 *                          ▼    │
 *                         LOOKING (the owner asks CONSUMER.INFO, recreates)
 *
 * Credit. held + asked never exceed limit, which is what the handlers run at a time, plus what they
 * start within the next 20 ms at the pace of the last 50. So slow handlers prefetch nothing that
 * another process could run meanwhile, and fast ones never wait for the server.
 *
 * A request is made when the free credit is at least what is already asked for ("at half"), and
 * never while the one before still waits to be written: what is released meanwhile goes into the
 * next one. Few requests are so under way at a time (a server keeps 512), of any limit from 1 on.
 *
 * Numbers. Each request has a number, which the owner puts into its reply subject. A server of a
 * cluster tells the others which replies wait for messages, as a set: of two requests with one
 * reply, the end of the first hides the second, and the next leader says nothing about it. The
 * number also tells which request a status answers: what is said of one that is no longer counted
 * on gives no credit back, but news about the consumer is news, whichever request it answers.
 *
 * Pinned. Of a consumer that pins its clients (pin.h) a request names the pin; while there is none,
 * one request is under way at a time: the server pins one, and would leave the others unanswered.
 *
 * Rules and their sources: ADR-37, ADR-42; measured on nats-server 2.9, 2.10 and 2.15.
 * Owner: puller, under its lock. */
#ifndef MOONBUS_BUS_CONSUME_PULL_H
#define MOONBUS_BUS_CONSUME_PULL_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/consume/pin.h"

enum pull_state { PULL_PAUSED, PULL_PULLING, PULL_BACKING_OFF, PULL_LOOKING, PULL_STOPPED };

struct pull {
    enum pull_state state;
    int base;          /* handlers at a time */
    int most;          /* prefetch never exceeds it */
    int limit;         /* base + prefetch: messages held + asked for never exceed it */
    int64_t max_bytes; /* of one request; 0: no bound */
    int64_t expires_ns, heartbeat_ns;

    int64_t bytes_held, bytes_limit; /* the owner's: of what it holds; no requests from the limit
                                        on. 0: no limit */
    int held;                        /* messages that the process holds */
    int asked;                       /* messages that are still owed by requests under way */
    int ceiling;                     /* clamp after "Exceeded MaxRequestBatch"; 0: none */
    uint64_t heard_ns;               /* last sign of life: message, heartbeat, status */
    uint64_t retry_ns;               /* BACKING_OFF, LOOKING: until when */
    uint64_t lapses_at_ns;           /* from then on the last request owes nothing */
    unsigned silences;               /* in a row */
    unsigned failures;               /* refused requests in a row, for the backoff */
    unsigned looks;                  /* in vain, in a row, for the backoff */
    unsigned delivered;              /* messages since the last request */
    bool one_without_bound;          /* the next request: batch 1, no max_bytes */

    uint64_t requests;     /* how many were made: the number of the last one */
    uint64_t counted_from; /* requests with lower numbers are not counted on any more */
    unsigned epoch;        /* counts up whenever credit is forgotten */
    bool making;           /* a request waits to be written: pull_sent ends it */
    int made_batch;        /* of the last request */
    uint64_t made_ns;
    bool connected_before;
    bool missing;  /* known to be gone: after a reconnect look, do not pull */
    uint64_t born; /* requests with lower numbers went to another consumer */
    struct pin pin;

    uint64_t window_ns; /* the pace: since when, and how many were released since */
    unsigned released;
};

/* What the owner shall do now. Zero is nothing. */
struct pull_action {
    int batch;         /* > 0: send a request for that many, then pull_sent */
    int64_t max_bytes; /* 0: none */
    int64_t expires_ns, heartbeat_ns;
    uint64_t request; /* its number, from 1 */
    bool keep;        /* send a request that gets no message, with the number 0, to keep the pin */
    bool look;        /* ask whether the consumer exists, then pull_found or pull_gone */
    const char *warn; /* static text to log once, or NULL */
    uint64_t wake_ns; /* call pull_tick by then; UINT64_MAX: no need */
};

/* base: at least 1. most: 0 for a credit that stays as it is. expires 30 s and heartbeat 2 s (at
 * most half of it) unless changed. */
void pull_init(struct pull *pull, int base, int most, int64_t max_bytes);
/* After it: requests live, and the server is silent, so many times longer. */
void pull_calm(struct pull *pull, int times);

/* The number of handlers has changed. What is held or asked for stays. */
void pull_resize(struct pull *pull, int base, int most);

/* Each takes the present time and returns what to do. */
struct pull_action pull_connected(struct pull *pull, uint64_t now_ns);
struct pull_action pull_disconnected(struct pull *pull, uint64_t now_ns);
/* The request of the last action was written to the connection, or (false) dropped. */
struct pull_action pull_sent(struct pull *pull, bool sent, uint64_t now_ns);
struct pull_action pull_joined(struct pull *pull, uint64_t now_ns); /* held already */
/* A message has arrived (held + 1), or was settled (held - 1). True: there is nothing to do until
 * the tick, which is armed for tick_ns (UINT64_MAX: for never), as it is with nearly each message.
 * False: pull_tick says what. */
bool pull_message(struct pull *pull, uint64_t tick_ns, uint64_t now_ns);
bool pull_released(struct pull *pull, uint64_t tick_ns, uint64_t now_ns);
/* request: the number of the one that it answers; code, description and pending as of struct
 * wire_status. */
struct pull_action pull_status(struct pull *pull, uint64_t request, int code,
                               const char *description, int pending, uint64_t now_ns);
struct pull_action pull_tick(struct pull *pull, uint64_t now_ns);
struct pull_action pull_found(struct pull *pull, uint64_t now_ns); /* it is there, or again */
struct pull_action pull_gone(struct pull *pull, uint64_t now_ns);  /* not now: look later */
/* Requests go to another consumer from now on, which is there: those of before owe nothing, and
 * what is still said of them is no news. */
struct pull_action pull_moved(struct pull *pull, uint64_t now_ns);
struct pull_action pull_stop(struct pull *pull); /* ask for nothing more */

/* Is the last request still counted on? One that is not need not be written. */
bool pull_wants_last(const struct pull *pull);

#endif
