/* trace_span - something that was done, and how long it took, as OpenTelemetry records it.
 *
 * One block of memory, with all of its text, so that it can be handed from the thread that did it
 * to the one that exports it. What does not fit is cut or left out: a span is never worth more
 * memory than that. For one thread at a time. */
#ifndef MOONBUS_TRACE_TRACE_SPAN_H
#define MOONBUS_TRACE_TRACE_SPAN_H

#include <stdbool.h>
#include <stdint.h>

#include "trace/trace_context.h"

/* OTLP's numbers. */
enum trace_kind {
    TRACE_INTERNAL = 1,
    TRACE_SERVER = 2,
    TRACE_CLIENT = 3,
    TRACE_PRODUCER = 4,
    TRACE_CONSUMER = 5
};

/* text: NULL: it is a number. */
struct trace_attribute {
    const char *key;  /* static */
    const char *text; /* in the span's text */
    int64_t number;
};

struct trace_span {
    struct trace_span *next; /* of its present owner */
    struct trace_context context;
    struct trace_context parent; /* all zero: it begins its trace */
    bool remote;                 /* the parent is somebody else's */
    enum trace_kind kind;
    int64_t start_ns, end_ns; /* since 1970; end_ns: 0: it has not ended */
    const char *name, *state; /* in its text; state: the tracestate, or "" */
    const char *error;        /* likewise: why it failed; NULL: it did not */
    unsigned attribute_count;
    struct trace_attribute attributes[16]; /* TRACE_ATTRIBUTES_MOST */
    struct trace_context *links;           /* owned; NULL: none */
    unsigned link_count, links_left_out;
    unsigned text_len;
    char text[1280]; /* TRACE_TEXT_BYTES */
};

#define TRACE_ATTRIBUTES_MOST 16
#define TRACE_TEXT_BYTES 1280
#define TRACE_TEXT_MOST 256 /* of one attribute */
#define TRACE_LINKS_MOST 128

/* Begun now; named "<verb> <what>", or only verb when what is NULL. parent: NULL: none. NULL: no
 * memory. */
struct trace_span *trace_span_new(const struct trace_context *context,
                                  const struct trace_context *parent, enum trace_kind kind,
                                  const char *verb, const char *what);
void trace_span_free(struct trace_span *span);

/* key: static. text: NULL: left out. */
void trace_span_text(struct trace_span *span, const char *key, const char *text);
bool trace_span_has(const struct trace_span *span, const char *key);
void trace_span_number(struct trace_span *span, const char *key, int64_t number);
void trace_span_state(struct trace_span *span, const char *state);
/* The first room for links is made for `most`. */
void trace_span_link(struct trace_span *span, const struct trace_context *to, unsigned most);
/* It failed: error.type is the code. message: what is to be read. */
void trace_span_fail(struct trace_span *span, const char *code, const char *message);
/* It has ended now, unless it had before. */
void trace_span_stop(struct trace_span *span);

#endif
