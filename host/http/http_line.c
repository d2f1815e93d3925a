/* http_line - see http_line.h. */
#include "http/http_line.h"

#include <utlist.h>

static struct http_place *first_of(const struct http_line *line, const void *flow)
{
    struct http_place *first;
    DL_FOREACH(line->firsts, first) {
        if (first->flow == flow)
            return first;
    }
    return NULL;
}

void http_line_add(struct http_line *line, struct http_place *place)
{
    struct http_place *first = first_of(line, place->flow);
    place->behind = NULL;
    place->waits = true;
    if (first)
        DL_APPEND(first->behind, place);
    else
        DL_APPEND(line->firsts, place);
    line->count++;
}

/* Takes a first out. Who stood behind it is returned, as the first of those that are left. */
static struct http_place *succeed(struct http_line *line, struct http_place *first)
{
    struct http_place *next = first->behind;
    struct http_place *rest = next;
    DL_DELETE(line->firsts, first);
    if (next) {
        DL_DELETE(rest, next);
        next->behind = rest;
    }
    return next;
}

static void left(struct http_line *line, struct http_place *place)
{
    place->next = place->prev = place->behind = NULL;
    place->waits = false;
    line->count--;
}

struct http_place *http_line_take(struct http_line *line)
{
    struct http_place *first = line->firsts;
    if (!first)
        return NULL;
    struct http_place *next = succeed(line, first);
    if (next)
        DL_APPEND(line->firsts, next);
    left(line, first);
    return first;
}

void http_line_remove(struct http_line *line, struct http_place *place)
{
    if (!place->waits)
        return;
    struct http_place *first = first_of(line, place->flow);
    if (first == place) {
        /* Its flow's turn stays where it is. */
        struct http_place *after = place->next;
        struct http_place *next = succeed(line, place);
        if (next && after)
            DL_PREPEND_ELEM(line->firsts, after, next);
        else if (next)
            DL_APPEND(line->firsts, next);
    } else {
        DL_DELETE(first->behind, place);
    }
    left(line, place);
}
