/* Schedules at a time (2.12): what a stream is to publish into itself then. Repeated ones (2.14)
 * are refused. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "base/value.h"
#include "broker/broker_private.h"

#define SCHEDULE "Nats-Schedule"
#define TARGET "Nats-Schedule-Target"
#define LIFE "Nats-Schedule-TTL"

/* False: the header is none, or says no time. */
static bool read_time(const struct header_block *block, int64_t *wall_ns)
{
    char text[100];
    span_text(header_block_find(block, SCHEDULE), text, sizeof text);
    return strncmp(text, "@at ", 4) == 0 && broker_read_time(text + 4, wall_ns);
}

/* An empty one is none. */
static bool is_schedule(const struct header_block *block)
{
    return header_block_find(block, SCHEDULE).len > 0;
}

const struct broker_error *broker_schedule_refuses(const struct broker_stream *stream,
                                                   const char *subject,
                                                   const struct header_block *block)
{
    static const struct broker_error none = {400, 10188, "message schedules is disabled"},
                                     pattern = {400, 10189, "message schedules pattern is invalid"},
                                     target = {400, 10190, "message schedules target is invalid"};
    int64_t wall_ns;
    char to[512];
    if (!is_schedule(block))
        return NULL;
    if (!stream->settings.schedules)
        return &none;
    if (!read_time(block, &wall_ns))
        return &pattern;
    span_text(header_block_find(block, TARGET), to, sizeof to);
    bool takes = subject_check(to, strlen(to), SUBJECT_PUBLISH, NULL) == 0 &&
                 strcmp(to, subject) != 0 && broker_stream_for(stream->broker, to) == stream;
    return takes ? NULL : &target;
}

bool broker_schedule_rolls_up(const struct header_block *block, struct text *headers)
{
    static const char end[] = "\r\n";
    if (!is_schedule(block) || header_block_find(block, "Nats-Rollup").at)
        return false;
    text_add(headers, block->at, block->len - strlen(end));
    text_printf(headers, "Nats-Rollup: sub\r\n%s", end);
    return true;
}

void broker_schedule_note(struct broker_stream *stream, struct broker_stored *stored)
{
    const struct header_block block = {.at = stored->headers, .len = stored->headers_len};
    int64_t wall_ns;
    if (!stream->settings.schedules || !stored->headers_len || !read_time(&block, &wall_ns))
        return;
    int64_t due_ns = wall_ns - stream->broker->wall_ns;
    stored->fires_ns = due_ns > 0 ? (uint64_t)due_ns : 1; /* 0: it is no schedule */
    stream->has_schedules = true;
}

/* What was for the schedule alone does not go on. */
static bool is_kept(struct span name)
{
    static const char *const begins[] = {SCHEDULE, "Nats-Expected-", "Nats-Msg-Id", "Nats-Rollup"};
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
        size_t len = strlen(begins[i]);
        if (name.len >= len && strncasecmp(name.at, begins[i], len) == 0)
            return false;
    }
    return true;
}

static void add_headers(struct text *text, const struct broker_stored *stored)
{
    const struct header_block block = {.at = stored->headers, .len = stored->headers_len};
    struct header_field field;
    size_t position = 0;
    text_printf(text, "NATS/1.0\r\n");
    while (header_block_next(&block, &position, &field)) {
        if (is_kept(field.name))
            text_printf(text, "%.*s: %.*s\r\n", (int)field.name.len, field.name.at,
                        (int)field.value.len, field.value.at);
    }
    struct span life = header_block_find(&block, LIFE);
    text_printf(text, "Nats-Scheduler: %s\r\nNats-Schedule-Next: purge\r\n", stored->subject);
    if (life.at)
        text_printf(text, "Nats-TTL: %.*s\r\n", (int)life.len, life.at);
    text_printf(text, "\r\n");
}

/* It is a message like another from then on; the schedule has gone. */
static void fire(struct broker_stream *stream, const struct broker_stored *stored)
{
    const struct header_block block = {.at = stored->headers, .len = stored->headers_len};
    uint64_t sequence = stored->sequence;
    char target[512];
    struct text headers, data; /* copies: what is stored may make it go */
    text_init(&headers);
    text_init(&data);
    add_headers(&headers, stored);
    text_add(&data, stored->data, stored->len);
    span_text(header_block_find(&block, TARGET), target, sizeof target);
    const struct broker_message message = {.subject = target,
                                           .headers = headers.bytes,
                                           .headers_len = headers.len,
                                           .data = data.bytes,
                                           .len = data.len};
    broker_stream_remove(stream, sequence);
    broker_stream_store(stream, &message);
    text_clear(&headers);
    text_clear(&data);
}

uint64_t broker_schedule_tick(struct broker_stream *stream)
{
    uint64_t next_ns = NEVER;
    for (uint64_t at = stream->first; stream->has_schedules && at <= stream->last; at++) {
        const struct broker_stored *stored = broker_stream_at(stream, at);
        if (!stored || !stored->fires_ns)
            continue;
        if (stored->fires_ns <= stream->broker->now_ns)
            fire(stream, stored);
        else if (stored->fires_ns < next_ns)
            next_ns = stored->fires_ns;
    }
    return next_ns;
}
