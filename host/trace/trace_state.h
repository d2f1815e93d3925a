/* trace_state - what vendors of tracing hand on beside the traceparent, as W3C Trace Context has
 * it: a list of members, "name=value,other@vendor=value", which may come in several header fields.
 *
 *   struct trace_state state = {0};
 *   for each field: trace_state_add(&state, value, len);
 *   trace_state_end(&state);
 *
 * Nobody here reads it; it is passed on, as far as it is well formed, and no longer than W3C wants
 * it passed on: the first members stay, which are the newest; one above 128 bytes is left out where
 * it does not fit, and from the first smaller one that does not fit on, all are. One malformed
 * member spoils all of it. Pure, any thread. */
#ifndef MOONBUS_TRACE_TRACE_STATE_H
#define MOONBUS_TRACE_TRACE_STATE_H

#include <stdbool.h>
#include <stddef.h>

#define TRACE_STATE_MOST 512 /* bytes */

/* All zero: empty. */
struct trace_state {
    char text[513]; /* TRACE_STATE_MOST and a NUL */
    size_t len;
    unsigned members;
    bool bad;  /* something of it is malformed, or there are too many members */
    bool full; /* what did not fit was left out, so all that comes after it is, too */
};

/* Adds the members of one field. */
void trace_state_add(struct trace_state *state, const char *value, size_t len);
/* What is to be passed on: state->text, "" for nothing. */
const char *trace_state_end(struct trace_state *state);

#endif
