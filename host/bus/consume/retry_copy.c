/* Names, subjects and headers of a copy. */
#include "bus/consume/retry_copy.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/value.h"
#include "bus/ack_subject.h"

#define PREFIX "moonbus.retries."

/* What the host says of a copy. What its publisher wrote and would be taken for that, or JetStream
 * would act upon, travels behind HEADER_ORIGINAL. */
#define HEADER "Moonbus-Retry-"
#define HEADER_SUBJECT HEADER "Subject"
#define HEADER_ATTEMPTS HEADER "Attempts"
#define HEADER_ACK HEADER "Ack"
#define HEADER_ORIGINAL HEADER "Orig-"

/* --- names --- */

bool retry_copy_durable(const char *stream, const char *durable, char *buf, size_t size)
{
    int len = snprintf(buf, size, "%s=%s", stream, durable);
    return len > 0 && (size_t)len < size && len < RETRY_DURABLE_BYTES;
}

char *retry_copy_filter(const char *stream, const char *durable, char *buf, size_t size)
{
    snprintf(buf, size, PREFIX "%s.%s.*.due", stream, durable);
    return buf;
}

char *retry_copy_subject(const struct delivery *delivery, const char *end, char *buf, size_t size)
{
    snprintf(buf, size, PREFIX "%s.%s.%" PRIu64 "-%" PRId64 ".%s", delivery->stream,
             delivery->durable, delivery->stream_sequence, delivery->timestamp_ns, end);
    return buf;
}

/* --- writing --- */

static int copy_headers(const struct header_block *block, struct headers *headers, struct err *err)
{
    enum { PREFIX_LEN = sizeof HEADER_ORIGINAL - 1 };
    char renamed[PREFIX_LEN + 512] = HEADER_ORIGINAL, *bare = renamed + PREFIX_LEN;
    struct header_field field;
    size_t position = 0;
    int code = 0;
    while (!code && header_block_next(block, &position, &field)) {
        bool moved = span_begins(field.name, "Nats-") || span_begins(field.name, HEADER);
        span_text(field.name, bare, sizeof renamed - PREFIX_LEN);
        if (strlen(bare) != field.name.len)
            return err_set(err, ERR_INVALID, "a header of it has a name that cannot be sent again");
        code = headers_add_received(headers, span_of(moved ? renamed : bare), field.value, err);
    }
    return code;
}

static int add(struct headers *headers, const char *name, const char *value, struct err *err)
{
    return headers_add(headers, name, value, strlen(value), err);
}

static int add_schedule(const struct delivery *delivery, int64_t at_ns, struct headers *headers,
                        struct err *err)
{
    char at[8 + VALUE_TIME_BYTES] = "@at ", target[800];
    value_format_time(at_ns, 3, at + strlen(at), VALUE_TIME_BYTES);
    int code = add(headers, "Nats-Schedule", at, err);
    if (!code)
        code = add(headers, "Nats-Schedule-Target",
                   retry_copy_subject(delivery, "due", target, sizeof target), err);
    if (!code)
        code = add(headers, "Nats-Expected-Stream", RETRIES_STREAM, err);
    return code;
}

int retry_copy_write(const struct delivery *delivery, int64_t at_ns, struct headers *headers,
                     struct err *err)
{
    char attempts[32];
    int code = copy_headers(&delivery->packet.headers, headers, err);
    snprintf(attempts, sizeof attempts, "%" PRIu64, (uint64_t)delivery->attempt);
    if (!code)
        code = add_schedule(delivery, at_ns, headers, err);
    if (!code)
        code = add(headers, HEADER_SUBJECT, delivery->packet.subject, err);
    if (!code)
        code = add(headers, HEADER_ATTEMPTS, attempts, err);
    if (!code)
        code = add(headers, HEADER_ACK, delivery->packet.reply, err);
    return code;
}

/* --- reading --- */

/* The host's own stands behind what a publisher may have written. */
uint64_t retry_copy_attempts(const struct header_block *headers)
{
    unsigned long long attempts;
    if (!span_number(header_block_last(headers, HEADER_ATTEMPTS), &attempts) ||
        attempts > UINT32_MAX)
        return 0;
    return attempts;
}

/* "...<sequence>-<timestamp>.due" */
static bool read_place(const char *subject, uint64_t *sequence, int64_t *timestamp_ns)
{
    const char *end = strrchr(subject, '.'), *dash = end;
    unsigned long long number, time;
    while (dash > subject && *dash != '-')
        dash--;
    const char *dot = dash;
    while (dot > subject && *dot != '.')
        dot--;
    if (!end || *dash != '-' || *dot != '.' || strcmp(end, ".due") != 0 ||
        !span_number((struct span){dot + 1, (size_t)(dash - dot - 1)}, &number) ||
        !span_number((struct span){dash + 1, (size_t)(end - dash - 1)}, &time) ||
        time > INT64_MAX || number == 0 || number == ULLONG_MAX)
        return false;
    *sequence = number;
    *timestamp_ns = (int64_t)time;
    return true;
}

const char *retry_copy_origin(const struct packet *packet, const char *stream, const char *durable,
                              const char *copies, char *buf, size_t size)
{
    struct span ack = header_block_last(&packet->headers, HEADER_ACK);
    struct ack_subject parts;
    uint64_t sequence;
    int64_t timestamp_ns;
    if (!ack.at || ack.len >= size || !read_place(packet->subject, &sequence, &timestamp_ns) ||
        subject_check(ack.at, ack.len, SUBJECT_PUBLISH, NULL) != 0 ||
        !ack_subject_read(span_text(ack, buf, size), &parts))
        return NULL;
    bool first = span_equals(parts.stream, stream) && span_equals(parts.consumer, durable) &&
                 parts.stream_sequence == sequence && parts.timestamp_ns == timestamp_ns;
    bool again = span_equals(parts.stream, RETRIES_STREAM) && span_equals(parts.consumer, copies);
    return first || again ? buf : NULL;
}

/* As what of the message a header of its copy goes on; {NULL, 0}: it does not. */
static struct span original_name(struct span name)
{
    const size_t prefix = strlen(HEADER_ORIGINAL);
    if (span_begins(name, HEADER_ORIGINAL) && name.len > prefix)
        return (struct span){name.at + prefix, name.len - prefix};
    if (span_begins(name, HEADER) || span_begins(name, "Nats-"))
        return (struct span){NULL, 0};
    return name;
}

static char *append(char *to, const char *bytes, size_t len)
{
    memcpy(to, bytes, len);
    return to + len;
}

/* What append_headers writes at most. A publisher may have left out the space behind the colon, and
 * the end of the last line, so it may be longer than the copy's block. */
static size_t most_headers(const struct header_block *block)
{
    struct header_field field;
    size_t position = 0, most = strlen(HEADERS_BEGIN) + strlen(HEADERS_END);
    while (header_block_next(block, &position, &field))
        most += field.name.len + strlen(": ") + field.value.len + strlen("\r\n");
    return most;
}

/* The header block of the message, behind `to`. Returns its end. */
static char *append_headers(char *to, const struct header_block *block)
{
    struct header_field field;
    size_t position = 0;
    char *start = to;
    while (header_block_next(block, &position, &field)) {
        struct span name = original_name(field.name);
        if (!name.at)
            continue;
        if (to == start)
            to = append(to, HEADERS_BEGIN, strlen(HEADERS_BEGIN));
        to = append(append(to, name.at, name.len), ": ", 2);
        to = append(append(to, field.value.at, field.value.len), "\r\n", 2);
    }
    return to == start ? to : append(to, HEADERS_END, strlen(HEADERS_END));
}

/* Both lie in one piece, which is the headers' own. False: out of memory. */
static bool replace(struct packet *packet, struct span subject)
{
    char *bytes = malloc(subject.len + 1 + most_headers(&packet->headers));
    if (!bytes)
        return false;
    char *start = append(bytes, subject.at, subject.len);
    *start++ = '\0';
    char *end = append_headers(start, &packet->headers);
    free(packet->headers.owned);
    packet->subject = bytes;
    packet->headers =
        (struct header_block){end > start ? start : NULL, (size_t)(end - start), bytes};
    return true;
}

int retry_copy_open(struct delivery *delivery, const char *stream, const char *durable)
{
    struct packet *packet = &delivery->packet;
    struct span subject = header_block_last(&packet->headers, HEADER_SUBJECT);
    uint64_t attempts = retry_copy_attempts(&packet->headers), sequence = 0;
    int64_t timestamp_ns = 0;
    if (!subject.at || subject_check(subject.at, subject.len, SUBJECT_PUBLISH, NULL) != 0 ||
        !attempts || !read_place(packet->subject, &sequence, &timestamp_ns))
        return ERR_INVALID;
    if (!replace(packet, subject))
        return ERR_MEMORY;
    delivery->stream = stream;
    delivery->durable = durable;
    delivery->stream_sequence = sequence;
    delivery->timestamp_ns = timestamp_ns;
    delivery->attempts_before = attempts;
    delivery->attempt += attempts;
    return 0;
}
