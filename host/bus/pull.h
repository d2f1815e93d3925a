/* pull - the state machine of a pull consumer: when to ask for how much, and what each answer
 * means. Pure: no clock, no I/O, no lock; fed with events and the time, it says what to do.
 *
 *            ┌────────────── disconnected ──────────────┐
 *            ▼                                          │
 *   PAUSED ─ connected ─▶ PULLING ─ status 409 "Exceeded", 503, 429 ─▶ BACKING_OFF ─ due ─▶ PULLING
 *                          │    ▲
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
 * Rules and their sources: ADR-37; measured on nats-server 2.9, 2.10 and 2.15.
 * Owner: consumer, under its lock. */
#ifndef MOONBUS_BUS_PULL_H
#define MOONBUS_BUS_PULL_H

#include <stdbool.h>
#include <stdint.h>

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
    uint64_t expires_at_ns; /* of the last request: past it (and a grace) it owes nothing */
    unsigned silences;      /* in a row */
    unsigned failures;      /* refused requests in a row, for the backoff */
    unsigned looks;         /* in vain, in a row, for the backoff */
    unsigned delivered;     /* messages since the last request */
    bool one_without_bound; /* the next request: batch 1, no max_bytes */

    /* Counts up whenever credit is forgotten. Requests carry it (the owner puts it into the reply
     * subject), and a status of an earlier epoch must not be fed in: it would give back credit
     * that the present epoch never had. */
    unsigned epoch;
    bool making;         /* a request waits to be written: pull_sent ends it */
    unsigned made_epoch; /* of the last request */
    int made_batch;
    uint64_t made_ns;
    bool connected_before;
    bool missing; /* known to be gone: after a reconnect look, do not pull */

    uint64_t window_ns; /* the pace: since when, and how many were released since */
    unsigned released;
};

/* What the owner shall do now. Zero is nothing. */
struct pull_action {
    int batch;         /* > 0: send a request for that many, then pull_sent */
    int64_t max_bytes; /* 0: none */
    int64_t expires_ns, heartbeat_ns;
    unsigned epoch;   /* of the request */
    bool look;        /* ask whether the consumer exists, then pull_found or pull_gone */
    const char *warn; /* static text to log once, or NULL */
    uint64_t wake_ns; /* call pull_tick by then; UINT64_MAX: no need */
};

/* base: at least 1. most: 0 for a credit that stays as it is. expires 30 s and heartbeat 2 s (at
 * most half of it) unless changed. */
void pull_init(struct pull *pull, int base, int most, int64_t max_bytes);

/* The number of handlers has changed. What is held or asked for stays. */
void pull_resize(struct pull *pull, int base, int most);

/* Each takes the present time and returns what to do. */
struct pull_action pull_connected(struct pull *pull, uint64_t now_ns);
struct pull_action pull_disconnected(struct pull *pull, uint64_t now_ns);
/* The request of the last action was written to the connection, or (false) dropped. */
struct pull_action pull_sent(struct pull *pull, bool sent, uint64_t now_ns);
struct pull_action pull_message(struct pull *pull, uint64_t now_ns);  /* arrived: held + 1 */
struct pull_action pull_released(struct pull *pull, uint64_t now_ns); /* settled: held - 1 */
struct pull_action pull_joined(struct pull *pull, uint64_t now_ns);   /* held already */
/* code and description as of wire_status; pending: header Nats-Pending-Messages, -1 when absent:
 * how many messages of that request will not come. Only statuses of the present epoch. */
struct pull_action pull_status(struct pull *pull, int code, const char *description, int pending,
                               uint64_t now_ns);
struct pull_action pull_tick(struct pull *pull, uint64_t now_ns);
struct pull_action pull_found(struct pull *pull, uint64_t now_ns); /* it is there, or again */
struct pull_action pull_gone(struct pull *pull, uint64_t now_ns);  /* not now: look later */
struct pull_action pull_stop(struct pull *pull);                   /* ask for nothing more */

#endif
