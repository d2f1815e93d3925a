/* print - a message on standard output: for people, as one line of JSON, or its data alone.
 *
 * One thread. Nothing is flushed here. */
#ifndef MOONBUS_CLI_PRINT_H
#define MOONBUS_CLI_PRINT_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/letter.h"

/* A message, whatever brought it. All of it borrowed. */
struct printed {
    const char *subject;
    const char *reply; /* or NULL */
    const struct header_field *fields;
    size_t field_count;
    const char *data;
    size_t len;
    int64_t time_ns;             /* since 1970: when it was stored, else when it came */
    long number;                 /* of those that came; 0: it has a sequence */
    const char *stream;          /* or NULL: it was not stored */
    uint64_t sequence;           /* in that stream */
    const struct letter *letter; /* or NULL: it is no dead letter */
};

/* A heading, the headers, the data. times: the heading says when; what was stored always does. */
void print_plain(const struct printed *message, bool times);

/* One object, one line. */
void print_json(const struct printed *message);

/* The data alone. sole: nothing follows it, so that a file or a pipe gets exactly these bytes; else
 * it ends with a line break, of its own or ours. */
void print_data(const char *data, size_t len, bool sole);

/* The data and a line break. On a terminal control characters are escaped, as in the log. */
void print_shown(const char *data, size_t len);

/* The fields of a block; or of headers. The caller's to free; NULL: there are none. */
struct header_field *print_block_fields(const struct header_block *block, size_t *count);
struct header_field *print_header_fields(const struct headers *headers, size_t *count);

/* "no_responders: nobody serves ..., attempt 5 of ORDERS/billing" */
struct text;
void print_reason(struct text *line, const struct letter *letter);

#endif
