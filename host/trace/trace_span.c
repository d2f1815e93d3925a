/* trace_span - a block that is filled. */
#include "trace/trace_span.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"

_Static_assert(sizeof((struct trace_span *)0)->text == TRACE_TEXT_BYTES, "as it says");
_Static_assert(sizeof((struct trace_span *)0)->attributes / sizeof(struct trace_attribute) ==
                   TRACE_ATTRIBUTES_MOST,
               "as it says");

/* A copy in the span's text, cut where there is no more room. */
static const char *keep(struct trace_span *span, const char *text, size_t most)
{
    size_t room = TRACE_TEXT_BYTES - span->text_len, len = strnlen(text, most + 1);
    if (room <= 1)
        return "";
    if (most >= room)
        most = room - 1;
    if (len > most)
        len = utf8_cut(text, len, most);
    char *copy = span->text + span->text_len;
    memcpy(copy, text, len);
    copy[len] = '\0';
    span->text_len += (unsigned)len + 1;
    return copy;
}

static const char *join_name(struct trace_span *span, const char *verb, const char *what)
{
    if (!what)
        return keep(span, verb, TRACE_TEXT_MOST);
    const char *name = keep(span, verb, TRACE_TEXT_MOST);
    span->text[span->text_len - 1] = ' ';
    keep(span, what, TRACE_TEXT_MOST);
    return name;
}

struct trace_span *trace_span_new(const struct trace_context *context,
                                  const struct trace_context *parent, enum trace_kind kind,
                                  const char *verb, const char *what)
{
    struct trace_span *span = malloc(sizeof *span);
    if (!span)
        return NULL;
    memset(span, 0, offsetof(struct trace_span, attributes));
    span->links = NULL;
    span->link_count = span->links_left_out = 0;
    span->text_len = 0;
    span->context = *context;
    if (parent)
        span->parent = *parent;
    span->kind = kind;
    span->name = join_name(span, verb, what);
    span->state = "";
    span->start_ns = clock_wall_ns();
    return span;
}

void trace_span_free(struct trace_span *span)
{
    if (!span)
        return;
    free(span->links);
    free(span);
}

static struct trace_attribute *add(struct trace_span *span, const char *key)
{
    if (span->attribute_count == TRACE_ATTRIBUTES_MOST)
        return NULL;
    struct trace_attribute *attribute = &span->attributes[span->attribute_count++];
    *attribute = (struct trace_attribute){.key = key};
    return attribute;
}

bool trace_span_has(const struct trace_span *span, const char *key)
{
    for (unsigned i = 0; i < span->attribute_count; i++) {
        if (strcmp(span->attributes[i].key, key) == 0)
            return true;
    }
    return false;
}

void trace_span_text(struct trace_span *span, const char *key, const char *text)
{
    struct trace_attribute *attribute = text && *text ? add(span, key) : NULL;
    if (attribute)
        attribute->text = keep(span, text, TRACE_TEXT_MOST);
}

void trace_span_number(struct trace_span *span, const char *key, int64_t number)
{
    struct trace_attribute *attribute = add(span, key);
    if (attribute)
        attribute->number = number;
}

/* Not cut: half of one would be none. */
void trace_span_state(struct trace_span *span, const char *state)
{
    size_t len = strlen(state);
    if (len > 0 && len < TRACE_TEXT_BYTES - span->text_len)
        span->state = keep(span, state, len);
}

void trace_span_link(struct trace_span *span, const struct trace_context *to, unsigned most)
{
    if (most > TRACE_LINKS_MOST)
        most = TRACE_LINKS_MOST;
    if (!span->links)
        span->links = malloc(most * sizeof *span->links);
    if (!span->links || span->link_count >= most)
        span->links_left_out++;
    else
        span->links[span->link_count++] = *to;
}

void trace_span_fail(struct trace_span *span, const char *code, const char *message)
{
    trace_span_text(span, "error.type", code);
    span->error = keep(span, message ? message : "", TRACE_TEXT_MOST);
}

void trace_span_stop(struct trace_span *span)
{
    if (!span->end_ns)
        span->end_ns = clock_wall_ns();
}
