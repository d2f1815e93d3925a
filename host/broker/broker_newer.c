/* What newer servers do with a message that is stored: a time to live (2.11), counters (2.12). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/value.h"
#include "broker/broker_private.h"

#define TTL "Nats-TTL"
#define INCREMENT "Nats-Incr"

/* --- time to live --- */

/* In nanoseconds, NEVER for "never"; 0: it is none. A number alone counts seconds. */
static uint64_t read_ttl(struct span value)
{
    unsigned long long seconds;
    int64_t ns = 0;
    if (span_is(value, "never"))
        return NEVER;
    if (span_number(value, &seconds))
        return seconds < NEVER / (uint64_t)NS_PER_S ? seconds * (uint64_t)NS_PER_S : NEVER;
    bool has_unit = value.len && strchr("smh", value.at[value.len - 1]);
    return has_unit && value_duration(value.at, value.len, &ns, NULL) == 0 && ns >= NS_PER_S
               ? (uint64_t)ns
               : 0;
}

/* No key lives for less than a marker does. */
uint64_t broker_newer_ttl_ns(const struct broker_stream *stream, const struct header_block *block)
{
    struct span value = header_block_find(block, TTL);
    uint64_t ttl_ns = value.at && value.len ? read_ttl(value) : 0,
             least = stream->settings.marker_ns;
    return ttl_ns && ttl_ns < least ? least : ttl_ns;
}

/* The last of its subject has gone: who looks at that is told (subject_delete_marker_ttl). A marker
 * has none in its turn. */
static void mark(struct broker_stream *stream, const char *subject)
{
    char headers[200], ttl[64];
    value_format_duration((int64_t)stream->settings.marker_ns, ttl, sizeof ttl);
    int len = snprintf(headers, sizeof headers,
                       "NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\n" TTL ": %s\r\n"
                       "Nats-Rollup: sub\r\n\r\n",
                       ttl);
    const struct broker_message marker = {
        .subject = subject, .headers = headers, .headers_len = (size_t)len};
    broker_stream_store(stream, &marker);
}

static void expire(struct broker_stream *stream, const struct broker_stored *stored)
{
    const struct header_block block = {.at = stored->headers, .len = stored->headers_len};
    bool is_marker = header_block_find(&block, "Nats-Marker-Reason").at;
    char *subject = stream->settings.marker_ns && !is_marker ? strdup(stored->subject) : NULL;
    broker_stream_remove(stream, stored->sequence);
    if (subject && !broker_stream_newest(stream, subject, NEVER))
        mark(stream, subject);
    free(subject);
}

uint64_t broker_newer_age(struct broker_stream *stream)
{
    struct broker *broker = stream->broker;
    uint64_t next_ns = NEVER, age_ns = stream->settings.max_age_ns;
    if (!age_ns && !stream->has_ttls)
        return NEVER;
    for (uint64_t at = stream->first; at <= stream->last; at++) {
        const struct broker_stored *stored = broker_stream_at(stream, at);
        if (!stored)
            continue;
        uint64_t gone_ns = stored->gone_ns;
        uint64_t old_ns =
            age_ns ? (uint64_t)(stored->timestamp_ns - broker->wall_ns) + age_ns : NEVER;
        if (!gone_ns || (gone_ns != NEVER && old_ns < gone_ns))
            gone_ns = old_ns;
        if (gone_ns <= broker->now_ns)
            expire(stream, stored);
        else if (gone_ns < next_ns)
            next_ns = gone_ns;
        if (next_ns != NEVER && !stream->has_ttls)
            break; /* those that follow are younger */
    }
    return next_ns;
}

/* --- counters: whole numbers of any length, in decimal --- */

static bool is_whole(const char *text)
{
    text += *text == '-' || *text == '+';
    return *text && text[strspn(text, "0123456789")] == '\0';
}

static const char *digits_of(const char *number)
{
    number += *number == '-' || *number == '+';
    while (*number == '0' && number[1])
        number++;
    return number;
}

/* Compares two rows of digits without zeroes before them. */
static int compare(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    return a_len == b_len ? strcmp(a, b) : a_len < b_len ? -1 : 1;
}

/* The larger one and the smaller one, added or subtracted, into buf of BROKER_COUNT_MOST bytes. */
static void combine(const char *large, const char *small, int sign, char *buf)
{
    char reversed[BROKER_COUNT_MOST];
    size_t large_len = strlen(large), small_len = strlen(small), len = 0;
    int carry = 0;
    for (size_t i = 0; i < large_len || carry; i++) {
        int digit = carry + (i < large_len ? large[large_len - 1 - i] - '0' : 0);
        if (i < small_len)
            digit += sign * (small[small_len - 1 - i] - '0');
        carry = digit > 9 ? 1 : digit < 0 ? -1 : 0;
        reversed[len++] = (char)('0' + digit - 10 * carry);
    }
    while (len > 1 && reversed[len - 1] == '0')
        len--;
    for (size_t i = 0; i < len; i++)
        buf[i] = reversed[len - 1 - i];
    buf[len] = '\0';
}

static void add(const char *a, const char *b, char *buf)
{
    bool a_below = *a == '-', b_below = *b == '-';
    const char *a_digits = digits_of(a), *b_digits = digits_of(b);
    bool a_larger = compare(a_digits, b_digits) >= 0;
    char digits[BROKER_COUNT_MOST];
    combine(a_larger ? a_digits : b_digits, a_larger ? b_digits : a_digits,
            a_below == b_below ? 1 : -1, digits);
    bool below = (a_larger ? a_below : b_below) && strcmp(digits, "0") != 0;
    snprintf(buf, BROKER_COUNT_MOST, "%s%.*s", below ? "-" : "", BROKER_COUNT_MOST - 2, digits);
}

/* What the newest message of the subject says, into buf. */
static void read_sum(const struct broker_stream *stream, const char *subject, char *buf,
                     size_t size)
{
    const struct broker_stored *newest = broker_stream_newest(stream, subject, NEVER);
    static const char begin[] = "{\"val\":\"";
    snprintf(buf, size, "0");
    if (!newest || newest->len < sizeof begin || memcmp(newest->data, begin, sizeof begin - 1) != 0)
        return;
    const char *at = newest->data + sizeof begin - 1, *end = newest->data + newest->len;
    size_t len = 0;
    while (at + len < end && at[len] != '"' && len + 1 < size)
        len++;
    memcpy(buf, at, len);
    buf[len] = '\0';
    if (!is_whole(buf))
        snprintf(buf, size, "0");
}

/* --- a message that is to be stored --- */

static bool has_condition(const struct header_block *block)
{
    static const char *const names[] = {
        "Nats-Expected-Last-Sequence", "Nats-Expected-Last-Subject-Sequence",
        "Nats-Expected-Stream", "Nats-Expected-Last-Msg-Id", "Nats-Rollup"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (header_block_find(block, names[i]).at)
            return true;
    }
    return false;
}

const struct broker_error *broker_newer_refuses(const struct broker_stream *stream,
                                                const struct broker_message *message,
                                                const struct header_block *block)
{
    static const struct broker_error no_ttl = {400, 10166, "per-message TTL is disabled"},
                                     bad_ttl = {400, 10165, "invalid per-message TTL"},
                                     no_counters = {400, 10168, "message counters is disabled"},
                                     missing = {400, 10169, "message counter increment is missing"},
                                     payload = {400, 10170, "message counter has payload"},
                                     invalid = {400, 10171, "message counter increment is invalid"};
    struct span ttl = header_block_find(block, TTL), by = header_block_find(block, INCREMENT);
    char text[BROKER_COUNT_MOST];
    const struct broker_error *schedule = broker_schedule_refuses(stream, message->subject, block);
    if (schedule)
        return schedule;
    if (ttl.at && ttl.len && !stream->settings.ttls)
        return &no_ttl;
    if (ttl.at && ttl.len && !read_ttl(ttl))
        return &bad_ttl;
    if (!stream->settings.counters)
        return by.len ? &no_counters : NULL;
    if (!by.len)
        return &missing;
    if (message->len > 0)
        return &payload;
    span_text(by, text, sizeof text);
    return by.len > BROKER_COUNT_MOST / 4 || !is_whole(text) || has_condition(block) ? &invalid
                                                                                     : NULL;
}

bool broker_newer_count(const struct broker_stream *stream, const char *subject,
                        const struct header_block *block, char *sum)
{
    char by[BROKER_COUNT_MOST], before[BROKER_COUNT_MOST - 8];
    if (!stream->settings.counters)
        return false;
    span_text(header_block_find(block, INCREMENT), by, sizeof by);
    read_sum(stream, subject, before, sizeof before);
    add(before, by, sum);
    return true;
}
