/* publish_private - what the files of the outbox share; nobody else includes it.
 *
 *   publish.c         the list, the window, sending, the public functions
 *   publish_answer.c  what an answer, or its absence, means for a publish */
#ifndef MOONBUS_BUS_PUBLISH_PRIVATE_H
#define MOONBUS_BUS_PUBLISH_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "bus/publish.h"

/* What a publish waits for. Every change is made under the outbox's lock. */
enum stage {
    STAGE_QUEUED,   /* for a place in the window */
    STAGE_SENT,     /* for the PubAck: `call` is the inbox's request */
    STAGE_BACKOFF,  /* for its deadline, then it is tried again */
    STAGE_ASKING,   /* nobody answered: for STREAM.NAMES; `call` is the request */
    STAGE_LOCATING, /* "wrong last sequence" after a retry: for the stream's name */
    STAGE_READING,  /* ... and for the message at that place */
    STAGE_OVER,
};

/* Where a message that was refused for its sequence may be our own first send. */
struct place {
    char stream[256];
    struct err refused; /* what to say if it is not */
};

/*      QUEUED ─▶ SENT ─▶ stored
 *                 │ ▲ └─ 503 ─▶ ASKING ─▶ no_stream
 *   error, timeout▼ │ due, reconnect │
 *               BACKOFF ◀────────────┘         retried, wrong sequence: LOCATING ─▶ READING
 *
 * References: the outbox's list; each call and armed deadline; each frame in the link's lane. */
struct publish {
    struct deadline deadline; /* first: on_due casts back */
    struct link_gate gate;
    struct publish *prev, *next; /* outbox->window or ->queue, in order of arrival */
    struct publish *index_next;  /* its bucket */
    struct outbox *outbox;       /* a reference */
    uint64_t id;
    atomic_int references;
    atomic_int frames; /* in the link's lane */
    atomic_bool over;

    enum stage stage;
    bool in_window;
    uint64_t call;     /* inbox request under way; 0: none */
    unsigned tries;    /* sent so often */
    unsigned failures; /* that count against `attempts` */
    int attempts;
    int64_t timeout_ns;
    bool warn_duplicate;
    struct link_flow *flow; /* not owned; or NULL */
    outbox_fn on_result;
    void *owner;

    char *subject; /* owned, with data in the same block */
    const char *data;
    size_t len, size;       /* size: as it counts against the capacity */
    struct headers headers; /* owned; with Nats-Msg-Id */
    struct place *place;    /* owned; while LOCATING and READING, else NULL */
};

#define BUCKETS 4096

struct outbox {
    struct inbox *inbox; /* not owned */
    struct jsapi *jsapi; /* not owned */
    struct link *link;   /* not owned */
    struct clock *clock; /* not owned */
    struct outbox_options options;
    atomic_int references; /* the owner's, and one of each publish */

    /* Guards what is below and the stages. inbox_request, inbox_cancel, jsapi_call, clock and
     * link_send are called with it held; none of them calls back on the same thread. */
    pthread_mutex_t lock;
    struct publish *window, *queue;
    struct publish *buckets[BUCKETS];
    int in_window, pending;
    size_t bytes;
    uint64_t last_id;
    bool closed;
};

/* How a publish ended, to be told without the lock. */
struct outcome {
    struct publish *publish; /* with the list's reference; NULL: nothing ended */
    bool stored;
    struct receipt receipt;
    struct err err;
};

void publish_retain(struct publish *publish);
void publish_release(struct publish *publish);

/* With the outbox's lock held. The outcome must be told, once the lock is not held. */
void publish_end_stored(struct publish *publish, const struct receipt *receipt,
                        struct outcome *outcome);
void publish_end_failed(struct publish *publish, const struct err *err, struct outcome *outcome);
/* After a backoff, or the end if that was its last attempt. */
void publish_try_later(struct publish *publish, const struct err *err, struct outcome *outcome);
void publish_fill_window(struct outbox *outbox);

/* Without the lock. */
void publish_tell(struct outcome *outcome);

/* publish_answer.c: the inbox's callback of each try. */
void publish_on_puback(void *owner, natsMsg *reply, enum err_code code);

#endif
