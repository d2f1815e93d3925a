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
 * Bounded: at most `window` publishes are on their way; further ones wait here in order, whoever
 * has waited longest first. Above `capacity` of them (or of bytes) a publish is ERR_FULL, unless
 * its sender waits for it: then it waits, too. Such a sender asks outbox_has_room before it gives
 * it memory, and else stands in line (outbox_enter).
 *
 * Any thread. on_result runs exactly once, unless outbox_cancel returned true, on the
 * link's delivery thread or the clock, without locks held. */
#ifndef MOONBUS_BUS_OUTBOX_PUBLISH_H
#define MOONBUS_BUS_OUTBOX_PUBLISH_H

#include "base/stat.h"
#include "bus/request/inbox.h"
#include "bus/request/jsapi.h"
#include "bus/retry.h"

struct cJSON;

struct outbox;
struct outbox_account;
struct publish_place;
struct receipt;

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
    const struct headers *headers;  /* may hold Nats-Expected-*; Nats-Msg-Id is left out; or NULL */
    struct span id;                 /* Nats-Msg-Id; {NULL, 0}: a random one */
    int64_t timeout_ns;             /* 0: the outbox's */
    int attempts;                   /* 0: the outbox's */
    bool again;                     /* it may have been stored before under its id */
    bool wary;                      /* a duplicate is told of after a retry, too */
    bool waits;                     /* its sender waits for it: it is never ERR_FULL; see
                                       outbox_has_room */
    bool at_once;                   /* in its order or not at all: a connection that takes no more
                                       ends it, with ERR_FULL */
    struct link_flow *flow;         /* whose it is; NULL: the host's own */
    struct outbox_account *account; /* where it is counted; NULL: nowhere */
};

/* receipt when stored, else NULL and err (never NULL then). Borrowed for the call. A duplicate is
 * one at the first try: one that answers our own retry is our own first send, unless it is wary. */
typedef void (*outbox_fn)(void *owner, const struct receipt *receipt, const struct err *err);

/* What a publish waits for. Every change is made under the outbox's lock. */
enum stage {
    STAGE_QUEUED,   /* for a place in the window */
    STAGE_SENT,     /* for the PubAck: `call` is the inbox's request */
    STAGE_BACKOFF,  /* for its deadline, then it is tried again */
    STAGE_ASKING,   /* nobody answered: for STREAM.NAMES; `call` is the request */
    STAGE_LOCATING, /* "wrong last sequence" after a retry: for the stream's name */
    STAGE_READING,  /* ... and for the message at that place */
    STAGE_DOUBTING, /* no PubAck at the last try: does the stream confirm at all? */
    STAGE_OVER,
};

/* A publish, in memory of whoever makes it; all of it is the outbox's.
 *
 *      QUEUED ─▶ SENT ─▶ stored
 *                 │ ▲ └─ 503 ─▶ ASKING ─▶ no_stream
 *   error, timeout▼ │ due, reconnect │
 *               BACKOFF ◀────────────┘         retried, wrong sequence: LOCATING ─▶ READING
 *
 * Without a PubAck it is asked, beside the tries, whether the stream confirms at all; after the
 * last try its answer is waited for (DOUBTING).
 *
 * References: the outbox's list; each call, until nothing of it is left; each armed deadline; each
 * frame in the link's lane. With the last one on_gone is called. */
struct publish {
    struct inbox_request first; /* the call of the first try */
    struct deadline deadline;
    struct link_gate gate;
    struct publish *prev, *next; /* outbox->window or ->queue, in order of arrival */
    struct outbox *outbox;       /* a reference */
    atomic_int references;
    atomic_int frames; /* in the link's lane */
    atomic_bool over;

    enum stage stage;
    bool in_window;
    bool sent_first;        /* `first` is, or was, in use */
    bool asks_beside;       /* whether its stream confirms: that is under way, and not waited for */
    bool doubted;           /* it was asked that */
    bool again;             /* it may be stored under its id, by somebody else */
    bool wary;              /* a duplicate is told of after a retry, too */
    uint64_t call;          /* inbox request under way; 0: none */
    unsigned tries;         /* sent so often */
    bool at_once, was_full; /* the connection was, for one that ends by it */
    unsigned failures;      /* that count against `attempts` */
    int attempts;
    int64_t timeout_ns;
    unsigned unsure;        /* answers "duplicate" without a sequence; they are no failures */
    uint64_t unsure_ns;     /* the first one */
    uint64_t began_ns;      /* when it was to be sent first; 0: not yet */
    struct link_flow *flow; /* not owned; or NULL */
    struct outbox_account *account; /* the outbox's; or NULL */
    outbox_fn on_result;
    void (*on_gone)(struct publish *publish);
    void *owner;

    const char *subject, *data;  /* in the owner's memory, as all texts */
    size_t len, size;            /* size: as it counts against the capacity */
    struct headers headers;      /* with Nats-Msg-Id as the first */
    struct span id;              /* its value */
    struct publish_place *place; /* owned; while LOCATING, READING and DOUBTING, else NULL */
};

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

/* 0; or an error (ERR_TOO_LARGE, ERR_FULL, ERR_CLOSED, ERR_INVALID): then on_result is not called.
 */
int outbox_publish(struct outbox *outbox, const struct outbox_message *message, outbox_fn on_result,
                   void *owner, struct err *err);

/* The same, for an id that is known to have no line break and no NUL, in the owner's memory:
 * `publish`, and the outbox_bytes of the message at `bytes`. Both stay until on_gone. That is the
 * last call of all, on any thread, and comes however it ends, also after an error, within this
 * call. */
int outbox_publish_in(struct outbox *outbox, struct publish *publish, char *bytes,
                      const struct outbox_message *message, outbox_fn on_result,
                      void (*on_gone)(struct publish *publish), void *owner, struct err *err);
size_t outbox_bytes(const struct outbox_message *message);

/* Is there room for so many bytes (outbox_bytes), and nobody in line before the sender? Of a
 * message that `waits`, which takes it all the same: what is kept of those would have no bound
 * else. ticket: as of outbox_room. Any thread. */
bool outbox_has_room(const struct outbox *outbox, size_t bytes, uint64_t ticket);

/* Who waits for room. The caller's, who keeps it until on_room is called, or outbox_leave has
 * returned true. */
struct outbox_room {
    struct outbox_room *prev, *next; /* the line's */
    bool waits;                      /* the outbox's lock */
    size_t bytes;                    /* of what is to come; as of outbox_bytes */
    uint64_t ticket; /* 0, or, who was called and finds no room again, the one from then */
    void (*on_room)(struct outbox_room *room);
};

/* True: there is room, or nobody will be waited for any more. False: it stands in line, in the
 * order of tickets, and on_room is called once: then the caller comes again, with its ticket. On
 * any thread, without locks held. */
bool outbox_enter(struct outbox *outbox, struct outbox_room *room);
/* True: it stood in line, and does no more. False: on_room was called, or is being called. */
bool outbox_leave(struct outbox *outbox, struct outbox_room *room);

/* For one that is not gone. True: on_result will not be called; the message may have been stored
 * all the same. False: it was, or is being, called. */
bool outbox_cancel(struct outbox *outbox, struct publish *publish);

/* What STREAM.INFO says of a stream that may be published to, to be kept. */
void outbox_learn(struct outbox *outbox, const struct cJSON *info);

/* The state of its link has changed: on a new connection what waits for an answer is sent again. */
void outbox_on_link(struct outbox *outbox, enum link_state state);

/* Blocks until no publish is pending, there is no connection, or deadline_ns. */
void outbox_wait(struct outbox *outbox, uint64_t deadline_ns);

/* How large a message may be at most, with its headers: the server's bound. */
size_t outbox_max_payload(const struct outbox *outbox);

#endif
