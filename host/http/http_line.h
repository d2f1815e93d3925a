/* http_line - who waits for a turn: a queue for each flow, and the flows take turns, so that one
 * that asks for thousands does not have the others wait for all of them.
 *
 *   first ─▶ a1 ─▶ b1 ─▶ c1        taken: a1 b1 c1 a2 c2 a3
 *            └ a2 a3    └ c2
 *
 * Pure, it allocates nothing; for one thread at a time. A place is part of who waits. */
#ifndef MOONBUS_HTTP_HTTP_LINE_H
#define MOONBUS_HTTP_HTTP_LINE_H

#include <stdbool.h>
#include <stddef.h>

struct http_place {
    struct http_place *next, *prev; /* among the firsts of their flows, or behind one of them */
    struct http_place *behind;      /* of a first: the others of its flow */
    const void *flow;               /* only compared */
    bool waits;
};

/* All zero: empty. */
struct http_line {
    struct http_place *firsts;
    size_t count;
};

/* At the end of its flow. place->flow is set, the rest is the line's. */
void http_line_add(struct http_line *line, struct http_place *place);

/* Whose turn it is; NULL: nobody waits. */
struct http_place *http_line_take(struct http_line *line);

/* Does not wait any more; nothing when it did not. */
void http_line_remove(struct http_line *line, struct http_place *place);

#endif
