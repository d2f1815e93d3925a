/* words - what the text of a script tells of what it does: of a script that never says a word, that
 * it does not do it; of a stream, that it is only read; of locks, what bucket they are kept in.
 *
 * Guesses, for judgements alone: a subject may be made of pieces. Pure functions, any thread. */
#ifndef MOONBUS_APP_WORDS_H
#define MOONBUS_APP_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cJSON;

bool words_has(const char *text, size_t len, const char *word);

/* Does the word stand there for a call that says nothing of `option`, or for none that can be seen
 * (`local ask = bus.request`)? Not in a text, in a comment of a line, within another word, nor
 * before a table: `bus.http.request { ... }` is another function. */
bool words_calls_without(const char *text, size_t len, const char *word, const char *option);

/* Of one stream, over all files of a script: zero at first. */
struct words_use {
    bool reads;  /* js.messages("NAME"...), js.get("NAME"...) */
    int subject; /* literals that could be a subject of the stream, or its beginning, */
    int stated;  /* and those of its own statement, which are among them */
};

void words_look(const char *text, size_t len, const char *name, const struct cJSON *subjects,
                struct words_use *use);

/* It is read, and no literal but those of the statement could be one of its subjects. */
bool words_only_reads(const struct words_use *use);

/* A lock, a semaphore or a limit that says `cluster`: zero before the first. */
struct words_cluster {
    size_t at; /* where the next one is looked for */
    int line;
    char bucket[256]; /* "": true, moonbus' own */
    bool limits;      /* a limit of a rate */
    int64_t ttl_ns;   /* 0: it is not stated, or no literal */
};

/* The next `cluster = true` or `cluster = "name"` in the text; false: there are no more. */
bool words_next_cluster(const char *text, size_t len, struct words_cluster *words);

#endif
