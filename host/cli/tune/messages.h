/* messages - what a load test plays: lines of a file, messages of a real stream, or a template.
 *
 * Loaded once, by the main thread; then read by the player alone, one after the other, and from the
 * first again behind the last. Those that no handler of the stream takes are left out. */
#ifndef MOONBUS_CLI_TUNE_MESSAGES_H
#define MOONBUS_CLI_TUNE_MESSAGES_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/text.h"
#include "bus/wire.h"

struct cJSON;
struct cli;

/* A text with {{n}}, {{random}}, {{uuid}}, {{time}} in it, or without. */
struct tune_template {
    char *text; /* owned */
    bool varies;
};

/* For {{...}} that it does not know, ERR_INVALID, with those that there are. */
int tune_template_check(const char *text, struct err *err);
/* Appends the text, filled in. n: counts the messages from 1. */
void tune_template_fill(const struct tune_template *template, uint64_t n, struct text *out);

struct tune_message {
    struct tune_template subject, data;
    size_t len; /* of data.text, if that does not vary: it may have NULs */
    struct headers headers;
};

struct tune_messages {
    struct tune_message *list; /* owned */
    int count, capacity;
    int unwanted; /* were left out */
};

/* JSON lines, as `moonbus sub --json` prints them: {"subject", "data" or "data_base64", "headers"}.
 * Without a subject: that of `subjects` in turn. An error says file and line. */
int tune_messages_read(struct tune_messages *messages, const char *path,
                       const struct cJSON *subjects, struct err *err);

/* The last `count` messages of a stream of another server, which is only read: nothing is left
 * behind there. cli: how to authenticate. CLI_OK, or an exit status, after it has said why.
 * *settings: those of the stream, the caller's. */
int tune_messages_copy(struct tune_messages *messages, const struct cli *cli, const char *url,
                       const char *stream, long count, struct cJSON **settings);

/* One for each subject, by the template. */
int tune_messages_generate(struct tune_messages *messages, const char *data,
                           const struct cJSON *subjects, struct err *err);

/* Leaves out what none of the handlers takes (each with its filters); ERR_NOT_FOUND when nothing is
 * left. */
int tune_messages_sift(struct tune_messages *messages, const struct cJSON *handlers,
                       struct err *err);

/* The subjects that there are, without repetition; varying ones as patterns. The caller's. */
struct cJSON *tune_messages_subjects(const struct tune_messages *messages);

void tune_messages_clear(struct tune_messages *messages);

/* Does a handler ({"filters": [...]}) take the subject? */
bool tune_handler_takes(const struct cJSON *handler, const char *subject);

#endif
