/* reader - what lies in a stream, from one message to the last one that was there when it began,
 * for somebody who takes one message at a time.
 *
 *   reader_open ─▶ pool: the ordered consumer is made ─▶ reader_await
 *   delivery thread ─▶ queue ── reader_take ─▶ who reads
 *
 * It reads on over reconnects, restarts and new leaders (ordered). It fails when the stream is
 * gone, or was made anew: then nobody can say what is missing. What waits here is bounded, as it
 * costs the credit of the ordered consumer until it is taken.
 *
 * Any thread; one waits at a time. on_more runs on the delivery thread, or a pool thread, without a
 * lock, and must not block. */
#ifndef MOONBUS_BUS_CONSUME_READER_H
#define MOONBUS_BUS_CONSUME_READER_H

#include "bus/consume/ordered.h"
#include "bus/packet.h"

struct reader;

struct reader_options {
    struct ordered_spec from; /* borrowed; its credit and bytes are set here */
    uint64_t to_sequence;     /* the last one that is read; 0: the last that is there */
    int64_t to_ns;            /* nothing that was stored later is read; 0: whenever it was */
    uint64_t most;            /* so many are read; 0: all */
    int64_t timeout_ns;       /* of opening */
};

/* One of them. */
struct reader_message {
    struct packet packet; /* owned by whoever has taken it */
    uint64_t sequence;
    int64_t timestamp_ns;
};

/* Begins to open it. One reference, the caller's; reader_close before the last reference ends.
 * NULL: ERR_MEMORY.
 */
struct reader *reader_open(const struct intake *intake, const struct reader_options *options,
                           struct err *err);
struct reader *reader_retain(struct reader *reader);
void reader_release(struct reader *reader);

enum reader_taken {
    READER_TAKEN,  /* or, of reader_await: it is open */
    READER_OVER,   /* that was all */
    READER_FAILED, /* err says why */
    READER_WAITS,
    READER_BUSY /* somebody waits already */
};

/* The next message. */
enum reader_taken reader_take(struct reader *reader, struct reader_message *message,
                              struct err *err);
/* True: on_more(owner) runs once, when there may be something to take. False: there is now. */
bool reader_wait(struct reader *reader, void (*on_more)(void *owner), void *owner);

/* Is it open? As of reader_take; on_more(owner) runs once after READER_WAITS, when it may be. */
enum reader_taken reader_await(struct reader *reader, void (*on_more)(void *owner), void *owner,
                               struct err *err);

/* Its stream's name, as long as it lives. */
const char *reader_stream(const struct reader *reader);

/* That one waits no more. True: its on_more will not be called; false: it was, or is being, called,
 * or somebody else waits now. */
bool reader_stop_waiting(struct reader *reader, const void *owner);

/* Nothing more is read; what waits is freed. Again: no effect. */
void reader_close(struct reader *reader);

#endif
