/* ordered - the messages of a stream, in their order, each once, and none left out (ADR-17): a
 * puller on a consumer of our own, without acks, which the server removes when nobody pulls.
 *
 *   ordered_ensure (pool) ─▶ ordered_start ─▶ the puller pulls
 *      take (delivery thread): the next number? ─▶ calls.take, calls.hand_on
 *                              one was left out ─▶ look
 *      look (pool): after a connect, when it is gone, or when a number was left out: another
 *                   consumer, from the message after the last one that was taken
 *
 *   what it begins with       (deliver)                   what a consumer made again begins with
 *   ALL, NEW, SEQUENCE, TIME                              the message after the last one taken
 *   LAST_PER_SUBJECT          until that has been seen:   the same, without what was taken; then
 *                                                         the message after the last one taken
 *
 * The server counts what it sends to a consumer. A number that is left out, or counted without
 * having come, was lost on its way. Each consumer has a name of its own, so that what is still
 * under way from the one before is known by it, and dropped.
 *
 * A stream that was deleted and made again begins anew (on_anew). One that has lost its last
 * messages (a server that was killed before it had written them) gives their numbers again: what is
 * new from there on is taken.
 *
 * It knows no Lua and no key of a bucket. Messages that it hands on cost credit until
 * ordered_released, so a slow reader holds a bounded number of them.
 *
 * It is kept by its owner (until ordered_free), by the messages that it has handed on, and by what
 * of its own is under way. The intake, and what it points to, must outlive all of these. */
#ifndef MOONBUS_BUS_CONSUME_ORDERED_H
#define MOONBUS_BUS_CONSUME_ORDERED_H

#include "bus/consume/deliver.h"
#include "bus/consume/intake.h"
#include "bus/consume/puller.h"

struct ack_subject;
struct cJSON;
struct ordered;
struct packet;

/* Its reader's part. */
struct ordered_calls {
    /* On the delivery thread, with the puller's lock held: the next message. Takes the packet (then
     * PULLER_HELD; *taken is for hand_on), or copies what it needs of it (PULLER_DONE).
     * PULLER_UNSEEN: there was no memory, so that it will be asked for again. */
    enum puller_taken (*take)(void *owner, struct packet *packet, const struct ack_subject *ack,
                              void **taken);
    /* On the delivery thread, without the lock. May be NULL. */
    void (*hand_on)(void *owner, void *taken);
    /* Once: what was there when it began has been handed on, or is not there any more. On the
     * delivery thread, or on that of ordered_start or of a look. May be NULL. */
    void (*on_caught_up)(void *owner);
    /* Of a stream that has lost its end all is read again, as of one that was made anew: its reader
     * keeps what it has read, and must not keep what is gone. */
    bool rereads;
    /* With the lock held, on a pool thread: the stream was made anew, so that nothing of what was
     * taken is there any more. May be NULL. */
    void (*on_anew)(void *owner);
    /* On a pool thread, without the lock: it cannot be read, and that does not pass by itself. It
     * is tried again all the same. May be NULL. */
    void (*on_lost)(void *owner, const struct err *err);
    /* With the lock held, on a pool thread: what the server says of the stream (STREAM.INFO), on
     * each connect, and each half minute. May be NULL: then it is asked less often. */
    void (*on_stream)(void *owner, const struct cJSON *info);
};

/* Borrowed: ordered_new copies. */
struct ordered_spec {
    const char *stream;
    const char *what; /* for people, in the log: "watch" */
    const char *const *filters;
    int filter_count;          /* 0: all; several: nats-server 2.10 and newer */
    enum deliver_from deliver; /* but DELIVER_LAST */
    uint64_t sequence;
    const char *time; /* RFC 3339 */
    bool headers_only;
    int credit;    /* messages that may be held, besides what is prefetched */
    int64_t bytes; /* that may be held before nothing is asked for */
};

/* What is known of it. */
struct ordered_stat {
    bool gone;         /* it is looked for, or known not to be there */
    bool missing;      /* the second of these */
    bool silent;       /* its pulls are not answered */
    bool broken;       /* a message was left out, and is being asked for again */
    bool caught_up;    /* what was there at the beginning has come */
    uint64_t last;     /* the stream sequence of the last message that was taken */
    uint64_t behind;   /* messages that were still to come, as of that one */
    uint64_t made;     /* how many consumers were made */
    uint64_t heard_ns; /* when the server was last heard of */
};

/* Nothing is sent yet. NULL: ERR_MEMORY. */
struct ordered *ordered_new(const struct intake *intake, const struct ordered_spec *spec,
                            const struct ordered_calls *calls_up, void *owner, struct err *err);

/* Makes the consumer, the first time. Blocks until deadline_ns: pool threads only. ERR_NOT_FOUND:
 * there is no such stream. */
int ordered_ensure(struct ordered *ordered, uint64_t deadline_ns, struct err *err);

/* Begins to pull. After ordered_ensure. */
int ordered_start(struct ordered *ordered, struct err *err);

/* Any thread. Stops pulling, drains the inbox, deletes the consumer, then on_stopped(owner), once,
 * on any thread (on the caller's when it was not started). What arrives while draining is still
 * handed on. */
void ordered_stop(struct ordered *ordered, void (*on_stopped)(void *owner));

/* After on_stopped, or without a start: releases the owner's reference. */
void ordered_free(struct ordered *ordered);

/* For messages that it has handed on. Any thread: one of them, with so many bytes of data, is over,
 * which ends its reference. */
struct ordered *ordered_retain(struct ordered *ordered);
void ordered_released(struct ordered *ordered, size_t len);

/* Its stream's name, as long as it lives. */
const char *ordered_stream(const struct ordered *ordered);

void ordered_stat(struct ordered *ordered, struct ordered_stat *stat);

/* At the beginning: the last sequence of the stream. What had come by then is "what was there". */
uint64_t ordered_target(const struct ordered *ordered);

#endif
