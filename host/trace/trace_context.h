/* trace_context - where in a trace something happens, as W3C Trace Context writes it (level 2):
 *
 *   traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
 *                |  id of the trace                  id of a span     flags
 *
 * Whoever may publish may write one, so what is read is judged, and what is sent is written anew
 * from what was read: no byte of a stranger's goes on. Pure functions, but for the ids, which are
 * chance. Any thread. */
#ifndef MOONBUS_TRACE_TRACE_CONTEXT_H
#define MOONBUS_TRACE_TRACE_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_ID_BYTES 16
#define TRACE_SPAN_ID_BYTES 8

/* What is kept of the flags. */
#define TRACE_SAMPLED 1 /* whoever sent it has recorded its span */
#define TRACE_RANDOM 2  /* the id of the trace is random in its last seven bytes */

/* All zero: none. */
struct trace_context {
    uint8_t trace_id[16]; /* TRACE_ID_BYTES; never all zero once it is read or made */
    uint8_t span_id[8];   /* TRACE_SPAN_ID_BYTES; likewise */
    uint8_t flags;
};

/* Reads a traceparent. False: it is none (another version than 00 may be longer). */
bool trace_context_parse(const char *text, size_t len, struct trace_context *out);

/* Writes one, of version 00, and a NUL: out has TRACE_PARENT_SIZE. Returns out. */
#define TRACE_PARENT_SIZE 56
char *trace_context_format(const struct trace_context *context, char *out);

/* A trace of its own: new ids, and TRACE_RANDOM. */
void trace_context_begin(struct trace_context *out);
/* A span within the trace of `parent`: a new id of its own. */
void trace_context_child(const struct trace_context *parent, struct trace_context *out);

/* Bytes as hex digits, and a NUL: out has 2 * len + 1. Returns out. */
char *trace_hex(const uint8_t *bytes, size_t len, char *out);

#endif
