/* letter - a message as JetStream's API hands it out of a stream, and how a dead letter becomes the
 * message again that it was: the way back of bus/deadletter.h.
 *
 * Pure functions, any thread. */
#ifndef MOONBUS_BUS_LETTER_H
#define MOONBUS_BUS_LETTER_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "bus/wire.h"

/* What lies in a stream. All of it is owned: stored_clear. */
struct stored {
    char *subject;
    uint64_t sequence;
    int64_t timestamp_ns; /* since 1970; 0 when the server's time was not understood */
    struct headers headers;
    char *data;
    size_t len;
};

/* Reads the reply to STREAM.MSG.GET. After an error, what could be read is there (the sequence, so
 * that one can go on behind it; else 0); stored_clear in any case. */
int stored_parse(const cJSON *reply, struct stored *out, struct err *err);
void stored_clear(struct stored *stored);

/* Would JetStream act upon this header of a message that is published? Then copying it is wrong:
 * the message is refused, or swallowed, or others are removed. */
bool letter_acted_upon(const char *name);

/* What a dead letter tells of its original. Borrowed from the stored message. */
struct letter {
    const char *subject, *stream;
    uint64_t sequence;
    int64_t timestamp_ns;
    bool reference; /* the original was too large to be copied */
};

/* 1: it is a dead letter. 0: it is none. ERR_INVALID: it is one, but does not tell where it came
 * from. Of a letter that died once more, the last journey counts. */
int letter_read(const struct stored *stored, struct letter *out, struct err *err);

/* Appends the headers that the original had, to be published again: without those of the letter,
 * and without those of the original that had their effect when it was stored (Nats-Msg-Id,
 * Nats-Expected-*, Nats-Rollup...). Nats-TTL is back. */
int letter_restore(const struct stored *stored, struct headers *out, struct err *err);

/* The same for the original itself, where the letter is a reference only. ERR_NOT_FOUND: what lies
 * there is another message, because the stream was made anew. */
int letter_restore_original(const struct letter *letter, const struct stored *original,
                            struct headers *out, struct err *err);

#endif
