/* run_trace - read from the headers of a message, written to those of others. */
#include "engine/run/run_trace.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "bus/consume/delivery.h"
#include "trace/trace_state.h"

/* A longer one is its sender's alone: what a handler sends must not become too large by it. */
#define CORRELATION_MOST 256
/* What a field takes besides its name and value. */
#define FIELD_EXTRA (sizeof ": \r\n" - 1)

/* --- what came --- */

struct found {
    struct span parent, correlation_id;
    unsigned parents;
    struct trace_state state;
};

static void find_fields(const struct header_block *headers, struct found *found)
{
    struct header_field field;
    size_t position = 0;
    while (header_block_next(headers, &position, &field)) {
        if (span_is(field.name, "traceparent")) {
            found->parent = field.value;
            found->parents++;
        } else if (span_is(field.name, "tracestate")) {
            trace_state_add(&found->state, field.value.at, field.value.len);
        } else if (span_is(field.name, "correlation_id") && !found->correlation_id.at &&
                   field.value.len <= CORRELATION_MOST) {
            found->correlation_id = field.value;
        }
    }
}

/* Of two that claim to be its parent none is believed. */
static bool read_parent(const struct found *found, struct trace_context *out)
{
    return found->parents == 1 && trace_context_parse(found->parent.at, found->parent.len, out);
}

bool run_trace_read(const struct delivery *message, struct trace_context *out)
{
    struct found found = {0};
    if (!message->packet.headers.at)
        return false;
    find_fields(&message->packet.headers, &found);
    return read_parent(&found, out);
}

void run_trace_set(struct run_trace *trace, const struct trace_context *context)
{
    trace->context = *context;
    trace->known = true;
    trace_hex(context->trace_id, TRACE_ID_BYTES, trace->trace_id);
    trace_hex(context->span_id, TRACE_SPAN_ID_BYTES, trace->span_id);
}

/* message: NULL: there is none. NULL: no memory. */
static struct run_trace *trace_new(const struct delivery *message)
{
    struct found found = {0};
    struct trace_context context;
    if (message && message->packet.headers.at)
        find_fields(&message->packet.headers, &found);
    bool known = read_parent(&found, &context);
    const char *state = known ? trace_state_end(&found.state) : "";
    size_t len = strlen(state) + 1;
    struct run_trace *trace = calloc(1, sizeof *trace + len);
    if (!trace)
        return NULL;
    trace->correlation_id = found.correlation_id;
    memcpy(trace->state, state, len);
    if (known)
        run_trace_set(trace, &context);
    return trace;
}

struct run_trace *run_trace_make(struct run_trace **kept, const struct delivery *message)
{
    if (!*kept)
        *kept = trace_new(message);
    return *kept;
}

const struct run_trace *run_trace_of(struct run_trace **kept, const struct delivery *message)
{
    if (!*kept && message && message->packet.headers.at)
        *kept = trace_new(message);
    return *kept;
}

/* --- what goes along --- */

static size_t field_size(const char *name, size_t len)
{
    return strlen(name) + len + FIELD_EXTRA;
}

static void carry(const struct trace_context *context, const char *state, struct span id,
                  size_t room, struct headers *headers)
{
    char parent[TRACE_PARENT_SIZE];
    bool with_parent = context && !headers_get(headers, "traceparent").at;
    bool with_state = with_parent && *state && !headers_get(headers, "tracestate").at;
    bool with_id = id.at && !headers_get(headers, "correlation_id").at;
    size_t size = with_parent ? field_size("traceparent", TRACE_PARENT_SIZE - 1) : 0;
    size += with_state ? field_size("tracestate", strlen(state)) : 0;
    size += with_id ? field_size("correlation_id", id.len) : 0;
    if (size > room)
        return;
    /* What finds no memory does not go along. */
    if (with_parent)
        headers_add(headers, "traceparent", trace_context_format(context, parent),
                    TRACE_PARENT_SIZE - 1, NULL);
    if (with_state)
        headers_add(headers, "tracestate", state, strlen(state), NULL);
    if (with_id)
        headers_add_received(headers, span_of("correlation_id"), id, NULL);
}

void run_trace_carry(const struct run_trace *trace, const struct trace_context *as, size_t room,
                     struct headers *headers)
{
    const struct trace_context *own = trace && trace->known ? &trace->context : NULL;
    if (as || trace)
        carry(as ? as : own, trace ? trace->state : "",
              trace ? trace->correlation_id : (struct span){NULL, 0}, room, headers);
}

void run_trace_carry_from(const struct delivery *message, const struct trace_context *as,
                          size_t room, struct headers *headers)
{
    struct run_trace *trace = trace_new(message);
    if (trace && as) /* another trace than the message's */
        trace->state[0] = '\0';
    run_trace_carry(trace, as, room, headers);
    free(trace);
}

void run_trace_log(const struct run_trace *trace, struct log_context *context)
{
    if (!trace || !trace->known)
        return;
    context->trace_id = trace->trace_id;
    context->span_id = trace->span_id;
}
