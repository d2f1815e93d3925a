/* letter - a message as JetStream's API hands it out of a stream, and how a dead letter becomes the
 * message again that it was: the way back of bus/consume/deadletter.h.
 *
 * Pure functions, any thread. */
#ifndef MOONBUS_BUS_LETTER_H
#define MOONBUS_BUS_LETTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "bus/wire.h"

struct cJSON;

/* What lies in a stream. All of it is owned: stored_clear. */
struct stored_message {
    char *subject;
    uint64_t sequence;
    int64_t timestamp_ns; /* since 1970; 0 when the server's time was not understood */
    struct headers headers;
    struct header_block block; /* the same as they came */
    char *data;
    size_t len;
};

/* Reads the reply to STREAM.MSG.GET. After an error, what could be read is there (the sequence, so
 * that one can go on behind it, else 0; of an ERR_INVALID also the headers, but for those that
 * cannot be sent); stored_clear in any case. */
int stored_parse(const struct cJSON *reply, struct stored_message *out, struct err *err);
void stored_clear(struct stored_message *stored);

/* "2026-01-02T03:04:05.678901234Z", always UTC from a server, since 1970. 0: something else, or a
 * time that nanoseconds in 64 bits do not reach. */
int64_t stored_time(const char *text);

/* Would JetStream act upon this header of a message that is published? Then copying it is wrong:
 * the message is refused, or swallowed, or others are removed. */
bool letter_acted_upon(struct span name);

/* Does it travel in a letter under a name of its own, behind LETTER_ORIGINAL? What JetStream acts
 * upon does; and what a letter says itself: a publisher may have written a field of that name, and
 * so has a letter that dies once more. */
#define LETTER_ORIGINAL "Moonbus-Orig-"
bool letter_renames(struct span name);

/* How often what has these headers has been a dead letter, in a row: what LETTER_HOPS says, or as
 * many letters as are in each other, of hosts that do not write it. 0: it is none. A redrive takes
 * back one of them. */
#define LETTER_HOPS "Moonbus-Hops"
unsigned letter_hops(const struct header_block *headers);

/* What a dead letter says of its original. */
struct letter {
    const char *subject, *stream;
    const char *consumer, *code, *error; /* why it died, and on whom; NULL: it does not say */
    uint64_t attempt;                    /* how often it had been delivered; 0: it does not say */
    uint64_t sequence;
    int64_t timestamp_ns;
    bool reference; /* the original is not in it: it was too large, or could not be fetched */
    char *texts;    /* owned: what the texts above are in */
};

/* 1: it is a dead letter. 0: it is none. ERR_INVALID: it is one, but does not say where it came
 * from. ERR_MEMORY. If a redriven message failed again, its last journey counts. letter_clear in
 * any case. */
int letter_read(const struct stored_message *stored, struct letter *out, struct err *err);
void letter_clear(struct letter *letter);

/* Appends the headers that the original had, to be published again: without those of the letter,
 * and without those of the original that had their effect when it was stored (Nats-Msg-Id,
 * Nats-Expected-*, Nats-Rollup...). Nats-TTL is back. */
int letter_restore(const struct stored_message *stored, struct headers *out, struct err *err);

/* The same for the original itself, if the letter is only a reference. ERR_NOT_FOUND: another
 * message lies there, because the stream was deleted and created again. */
int letter_restore_original(const struct letter *letter, const struct stored_message *original,
                            struct headers *out, struct err *err);

#endif
