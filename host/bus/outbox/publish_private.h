/* publish_private - what the files of the outbox share; nobody else includes it.
 *
 *   publish.c         the list, the ends, the public functions
 *   publish_room.c    the line of those who wait for room
 *   publish_try.c     the window, sending, backoff
 *   publish_answer.c  what an answer, or its absence, means for a publish
 *   publish_streams.c what is known of the streams that are published to */
#ifndef MOONBUS_BUS_OUTBOX_PUBLISH_PRIVATE_H
#define MOONBUS_BUS_OUTBOX_PUBLISH_PRIVATE_H

#include <cjson/cJSON.h>
#include <stdatomic.h>

#include "base/sync.h"
#include "bus/outbox/publish.h"

/* Where a message that was refused for its sequence may be our own first send; or whose stream may
 * be one that confirms nothing. */
struct publish_place {
    char stream[256];
    struct err refused; /* what to say if it is not */
};

/* What is known of a stream; direct-mapped by the hash of its name. */
#define KNOWN_STREAMS 256

struct outbox_stream {
    uint64_t name;     /* hash; 0: empty */
    bool no_ack;       /* it confirms nothing */
    bool forgets;      /* ids, when its server restarts */
    int64_t window_ns; /* within which it knows them; 0: not known */
    bool told_no_ack, told_forgets;
    uint64_t told_unsure_ns;
};

struct outbox {
    struct inbox *inbox; /* not owned */
    struct jsapi *jsapi; /* not owned */
    struct link *link;   /* not owned */
    struct clock *clock; /* not owned */
    struct outbox_options options;
    atomic_int references; /* the owner's, and one of each publish */

    /* Guards what is below and the stages. inbox_request, inbox_cancel, jsapi_call, clock and
     * link_send are called with it held; none of them calls back on the same thread. */
    struct mutex lock;
    struct cond changed; /* nothing is pending, or the link has changed: outbox_wait */
    struct publish *window, *queue;
    int in_window, pending;
    int doubts; /* questions beside the tries that are under way */
    struct outbox_stream known[KNOWN_STREAMS];
    bool knows_forgetful;
    atomic_size_t bytes;      /* written with the lock, read without it */
    struct outbox_room *line; /* not owned; by their tickets */
    uint64_t tickets;         /* so many were given out */
    atomic_bool has_line;     /* written with the lock */
    bool closed;
    struct outbox_account *accounts; /* owned */
};

/* How a publish ended, to be reported without the lock. */
struct publish_outcome {
    struct publish *publish; /* with the list's reference; NULL: nothing ended */
    bool stored;
    struct receipt receipt;
    struct err err;
};

void publish_retain(struct publish *publish);
void publish_release(struct publish *publish);

/* With the outbox's lock held. Report the outcome when the lock is not held. */
void publish_end_stored(struct publish *publish, const struct receipt *receipt,
                        struct publish_outcome *outcome);
void publish_end_failed(struct publish *publish, const struct err *err,
                        struct publish_outcome *outcome);
/* Ends its call. False: that is ending by itself. */
bool publish_cancel_call(struct publish *publish);
/* Ends what it waits for, as far as that has not begun to end by itself. */
void publish_disarm(struct publish *publish);
/* Calls JetStream's API for the publish, which waits in `stage` meanwhile. request: NULL for none
 * because of no memory. */
bool publish_ask(struct publish *publish, enum stage stage, const char *operation,
                 const cJSON *request, jsapi_fn on_reply);

/* publish_try.c, with the lock held. */

/* After a backoff, or the end if that was its last attempt. */
void publish_try_later(struct publish *publish, const struct err *err,
                       struct publish_outcome *outcome);
/* After a backoff that is no failure: the nth of its kind. */
void publish_back_off(struct publish *publish, unsigned nth);
/* Where a failure cannot be reported: the clock tries again at once, and reports it. */
void publish_try_or_arm(struct publish *publish);
/* Of the queue, as many as there is room for. */
void publish_fill_window(struct outbox *outbox);
/* The first one of the queue, when there is room. */
void publish_enter_window(struct publish *publish, struct publish_outcome *outcome);

/* Its deadline's, on the clock; its gate's: of a publish that waits in the lane more than once, the
 * last frame goes. */
void publish_on_due(struct deadline *deadline);
struct link_gate publish_gate(void);

/* Without the lock. */
void publish_tell(struct publish_outcome *outcome);

/* So many bytes more are no more than may be; without the lock it may be different at once. */
bool publish_fits(const struct outbox *outbox, size_t bytes);
/* publish_room.c. Without the lock, when one has ended: calls those in line whose turn has come. */
void publish_call_line(struct outbox *outbox);

/* publish_answer.c: the inbox's callback of each try. */
void publish_on_puback(void *owner, struct packet *reply, enum err_code code);

/* publish_streams.c, with the lock held. */

/* No PubAck in time: err, unless its stream is one that confirms nothing. */
void publish_unconfirmed(struct publish *publish, const struct err *err,
                         struct publish_outcome *outcome);
/* The stream of the receipt says "duplicate", but not of what. */
void publish_unsure(struct publish *publish, const struct receipt *receipt, const struct err *err,
                    struct publish_outcome *outcome);
/* It was stored: says once what its stream cannot promise. */
void publish_note_stored(struct publish *publish, const struct receipt *receipt);

const char *publish_first_name(const cJSON *reply);
cJSON *publish_names_request(const struct publish *publish);

#endif
