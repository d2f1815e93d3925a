/* The headers of a trace, which whoever may publish can write, and what a collector answers: as
 * host/trace and engine/run/run_trace.h read them.
 *
 *   p TRACEPARENT
 *   s STATE\nSTATE...    the fields of a tracestate
 *   h BLOCK              the header block of a message, and what goes along of it
 *   a BODY               the answer to an export */
#include "trace/trace_context.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "bus/consume/delivery.h"
#include "engine/run/run_trace.h"
#include "fuzz.h"
#include "trace/otlp.h"
#include "trace/trace_state.h"

static void check_context(const struct trace_context *context)
{
    char text[TRACE_PARENT_SIZE];
    struct trace_context again;
    trace_context_format(context, text);
    MUST(strlen(text) == TRACE_PARENT_SIZE - 1 && strncmp(text, "00-", 3) == 0);
    MUST(trace_context_parse(text, strlen(text), &again));
    MUST(memcmp(&again, context, sizeof again) == 0);
}

static void parent(struct input *input)
{
    size_t len;
    char *text = input_rest(input, &len);
    struct trace_context context;
    if (trace_context_parse(text, len, &context)) {
        MUST(len >= TRACE_PARENT_SIZE - 1);
        check_context(&context);
    }
    free(text);
}

/* What is passed on can be read again, and is passed on as it is. */
static void check_state(const char *text)
{
    struct trace_state again = {0};
    MUST(strlen(text) <= TRACE_STATE_MOST);
    for (const char *at = text; *at; at++)
        MUST(isprint((unsigned char)*at));
    trace_state_add(&again, text, strlen(text));
    MUST(strcmp(trace_state_end(&again), text) == 0);
}

static void state(struct input *input)
{
    struct trace_state state = {0};
    while (input_left(input) > 0) {
        size_t len;
        char *line = input_line(input, &len);
        trace_state_add(&state, line, len);
        free(line);
    }
    check_state(trace_state_end(&state));
}

/* Whatever came, what goes along is small, and no field of it can become two. */
static void check_carried(const struct headers *headers)
{
    size_t position = 0;
    struct header_field field;
    char value[1100];
    MUST(headers_wire_size(headers) < 1100 && headers->count <= 3);
    while (headers_next(headers, &position, &field)) {
        span_text(field.value, value, sizeof value);
        MUST(strlen(value) == field.value.len && !strpbrk(value, "\r\n"));
        if (span_equals(field.name, "traceparent"))
            MUST(field.value.len == TRACE_PARENT_SIZE - 1);
        else if (span_equals(field.name, "tracestate"))
            check_state(value);
        else
            MUST(span_equals(field.name, "correlation_id") && field.value.len <= 256);
    }
    MUST(!headers_get(headers, "tracestate").at || headers_get(headers, "traceparent").at);
}

static void block(struct input *input)
{
    size_t len;
    char *bytes = input_rest(input, &len);
    struct packet packet = {.subject = "s", .data = "", .headers = {bytes, len, NULL}};
    struct delivery *delivery = delivery_new_core(&packet, 1);
    struct run_trace *kept = NULL;
    struct headers headers = {0}, none = {0};
    struct trace_context context;
    MUST(delivery != NULL);
    const struct run_trace *trace = run_trace_of(&kept, delivery);
    MUST(trace == kept && (!trace || trace->known == run_trace_read(delivery, &context)));
    run_trace_carry(trace, NULL, SIZE_MAX, &headers);
    run_trace_carry(trace, NULL, 0, &none);
    check_carried(&headers);
    MUST(none.count == 0);
    headers_clear(&headers);
    free(kept);
    delivery_release(delivery);
    free(bytes);
}

static void answer(struct input *input)
{
    size_t len;
    char *body = input_rest(input, &len), why[32];
    unsigned refused = otlp_refused(body, len, why, sizeof why);
    MUST(refused < 1000000000 && strlen(why) < sizeof why);
    free(body);
}

void fuzz_trace(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    uint8_t kind = input_byte(&input);
    if (kind == 'p')
        parent(&input);
    else if (kind == 's')
        state(&input);
    else if (kind == 'h')
        block(&input);
    else if (kind == 'a')
        answer(&input);
}
