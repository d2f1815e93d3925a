/* publish - the outbox: JetStream publishes that are stored once.
 *
 * A publish keeps one Nats-Msg-Id over all its tries; it is tried again with backoff on a status
 * 503 (no responders, where a stream does take the subject), a timeout, a reconnect, and on the
 * errors of JetStream that can pass. What cannot pass (no stream takes the subject, wrong stream,
 * too large, permission, an expectation not met) fails at once. After a retry, "wrong last
 * sequence" may be our own first send: then the message at that place is read and its id compared
 * before it fails. A stream that confirms nothing (no_ack) makes it fail with ERR_NO_ACK, after its
 * first timeout: it was sent, and nobody can say more. A stream that says "duplicate", but not of
 * what, is asked until it forgets the id (its duplicate_window).
 *
 * Bounded: at most `window` publishes are on their way; further ones wait here in order, up to
 * `capacity`, after which outbox_publish says ERR_FULL.
 *
 * Any thread. on_result runs exactly once, unless outbox_cancel returned true, on nats.c's
 * delivery thread or the clock, without locks held. */
#ifndef MOONBUS_BUS_OUTBOX_PUBLISH_H
#define MOONBUS_BUS_OUTBOX_PUBLISH_H

#include "base/stat.h"
#include "bus/request/inbox.h"
#include "bus/request/jsapi.h"
#include "bus/retry.h"

struct cJSON;

struct outbox;

struct outbox_options {
    int64_t timeout_ns; /* of one try */
    int attempts;
    struct backoff backoff;
    int window, capacity;
};

/* What is counted of one sender's publishes: by how they ended (by code; [0]: stored), and for how
 * long their sender waited. What was not taken, as the outbox is full, has not ended: its sender
 * tries again. The outbox writes it, under its lock; any thread reads. */
struct outbox_account {
    struct outbox_account *next;               /* the outbox's */
    struct stat_counter results[1 - ERR_LAST]; /* [-ERR_TIMEOUT] */
    struct stat_counter duplicates;            /* of those that are stored: they had been before */
    struct stat_counter retries;               /* tries after the first */
    struct stat_histogram duration;
};

/* Borrowed for the call. */
struct outbox_message {
    const char *subject;
    const void *data;
    size_t len;
    const struct headers *headers;  /* without Nats-Msg-Id; may hold Nats-Expected-*; or NULL */
    const char *id;                 /* Nats-Msg-Id; NULL: a random one */
    int64_t timeout_ns;             /* 0: the outbox's */
    int attempts;                   /* 0: the outbox's */
    bool again;                     /* it may have been stored before under its id */
    bool wary;                      /* a duplicate is told of after a retry, too */
    struct link_flow *flow;         /* whose it is; NULL: the host's own */
    struct outbox_account *account; /* where it is counted; NULL: nowhere */
};

/* receipt when stored, else NULL and err (never NULL then). Borrowed for the call. A duplicate is
 * one at the first try: one that answers our own retry is our own first send, unless it is wary. */
typedef void (*outbox_fn)(void *owner, const struct receipt *receipt, const struct err *err);

struct outbox *outbox_new(struct inbox *inbox, struct jsapi *jsapi, struct link *link,
                          struct clock *clock, const struct outbox_options *options,
                          struct err *err);
/* For publishes from now on that state nothing else; their backoff, at once. window and capacity
 * stay. */
void outbox_tune(struct outbox *outbox, const struct outbox_options *options);

/* What is pending ends with ERR_CLOSED; from now on outbox_publish says so. */
void outbox_close(struct outbox *outbox);

/* What is pending ends with ERR_CLOSED. Before inbox_free. */
void outbox_free(struct outbox *outbox);

/* Lives as long as the outbox. NULL: no memory. */
struct outbox_account *outbox_account_new(struct outbox *outbox);

/* How many publishes have not ended yet. */
int outbox_pending(struct outbox *outbox);

/* Returns an id, never 0; or 0 with err (ERR_TOO_LARGE, ERR_FULL, ERR_CLOSED, ERR_INVALID): then
 * on_result is not called. */
uint64_t outbox_publish(struct outbox *outbox, const struct outbox_message *message,
                        outbox_fn on_result, void *owner, struct err *err);

/* True: on_result will not be called; the message may have been stored all the same. */
bool outbox_cancel(struct outbox *outbox, uint64_t id);

/* What STREAM.INFO says of a stream that may be published to, to be kept. */
void outbox_learn(struct outbox *outbox, const struct cJSON *info);

/* The state of its link has changed: on a new connection what waits for an answer is sent again. */
void outbox_on_link(struct outbox *outbox, enum link_state state);

/* Blocks until no publish is pending, there is no connection, or deadline_ns. */
void outbox_wait(struct outbox *outbox, uint64_t deadline_ns);

/* How large a message may be at most, with its headers: the server's bound. */
size_t outbox_max_payload(const struct outbox *outbox);

#endif
