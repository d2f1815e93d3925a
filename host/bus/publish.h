/* publish - the outbox: JetStream publishes that are stored once.
 *
 * A publish keeps one Nats-Msg-Id over all its tries; it is tried again with backoff on a status
 * 503 (no responders, where a stream does take the subject), a timeout, a reconnect, and on the
 * errors of JetStream that can pass. What cannot pass (no stream takes the subject, wrong stream,
 * too large, permission, an expectation not met) fails at once. After a retry, "wrong last
 * sequence" may be our own first send: then the message at that place is read and its id compared
 * before it fails.
 *
 * Bounded: at most `window` publishes are on their way; further ones wait here in order, up to
 * `capacity`, after which outbox_publish says ERR_FULL.
 *
 * Any thread. on_result runs exactly once, unless outbox_cancel returned true, on nats.c's
 * delivery thread or the clock, without locks held. */
#ifndef MOONBUS_BUS_PUBLISH_H
#define MOONBUS_BUS_PUBLISH_H

#include "bus/inbox.h"
#include "bus/jsapi.h"
#include "bus/retry.h"

struct outbox;

struct outbox_options {
    int64_t timeout_ns; /* of one try */
    int attempts;
    struct backoff backoff;
    int window, capacity;
};

/* Borrowed for the call. */
struct outbox_message {
    const char *subject;
    const void *data;
    size_t len;
    const struct headers *headers; /* without Nats-Msg-Id; may hold Nats-Expected-*; or NULL */
    const char *id;                /* Nats-Msg-Id; NULL: a random one */
    int64_t timeout_ns;            /* 0: the outbox's */
    int attempts;                  /* 0: the outbox's */
    /* A duplicate on the first try is logged as a warning: an input's first delivery can have no
     * duplicates, so the id is not unique. */
    bool warn_duplicate;
    struct link_flow *flow; /* whose it is; NULL: the host's own */
};

/* receipt when stored, else NULL and err (never NULL then). Borrowed for the call. */
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

/* Returns an id, never 0; or 0 with err (ERR_TOO_LARGE, ERR_FULL, ERR_CLOSED, ERR_INVALID): then
 * on_result is not called. */
uint64_t outbox_publish(struct outbox *outbox, const struct outbox_message *message,
                        outbox_fn on_result, void *owner, struct err *err);

/* True: on_result will not be called; the message may have been stored all the same. */
bool outbox_cancel(struct outbox *outbox, uint64_t id);

/* A reconnect: what waits for an answer is sent again now. Called by bus on the link's state. */
void outbox_reconnected(struct outbox *outbox);

/* How many publishes are pending, those that wait included. */
int outbox_pending(struct outbox *outbox);

#endif
