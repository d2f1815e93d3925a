/* Streams: what is stored, limits, duplicates, PubAcks. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/text.h"
#include "base/value.h"
#include "broker/broker_private.h"

/* --- finding --- */

struct broker_stream *broker_stream_find(const struct broker *broker, const char *name)
{
    struct broker_stream *stream;
    LL_FOREACH(broker->streams, stream) {
        if (strcmp(stream->name, name) == 0)
            return stream;
    }
    return NULL;
}

static bool takes(const struct broker_stream *stream, const char *subject)
{
    for (char **pattern = stream->settings.subjects; *pattern; pattern++) {
        if (subject_matches(*pattern, subject))
            return true;
    }
    return false;
}

struct broker_stream *broker_stream_for(const struct broker *broker, const char *subject)
{
    struct broker_stream *stream;
    LL_FOREACH(broker->streams, stream) {
        if (takes(stream, subject))
            return stream;
    }
    return NULL;
}

struct broker_stored *broker_stream_at(const struct broker_stream *stream, uint64_t sequence)
{
    if (sequence < stream->first || sequence - stream->first >= stream->slots)
        return NULL;
    return stream->messages[sequence - stream->first];
}

struct broker_stored *broker_stream_newest(const struct broker_stream *stream, const char *subject,
                                           uint64_t before)
{
    for (size_t i = stream->slots; i-- > 0;) {
        struct broker_stored *stored = stream->messages[i];
        if (stored && stored->sequence < before && subject_matches(subject, stored->subject))
            return stored;
    }
    return NULL;
}

/* --- life --- */

struct broker_stream *broker_stream_make(struct broker *broker, cJSON *config)
{
    struct broker_stream *stream = calloc(1, sizeof *stream);
    if (!stream) {
        cJSON_Delete(config);
        return NULL;
    }
    stream->broker = broker;
    stream->config = config;
    stream->name = strdup(broker_json_text(config, "name"));
    stream->created_ns = broker_wall_ns(broker);
    stream->first = 1;
    if (!stream->name || !broker_settings_read_stream(config, &stream->settings)) {
        broker_stream_free(stream);
        return NULL;
    }
    LL_APPEND(broker->streams, stream);
    return stream;
}

void broker_stream_free(struct broker_stream *stream)
{
    while (stream->consumers)
        broker_consumer_delete(stream->consumers);
    for (size_t i = 0; i < stream->slots; i++)
        free(stream->messages[i]);
    free(stream->messages);
    broker_ids_free(stream);
    broker_settings_clear_stream(&stream->settings);
    cJSON_Delete(stream->config);
    free(stream->name);
    free(stream);
}

void broker_stream_delete(struct broker_stream *stream)
{
    LL_DELETE(stream->broker->streams, stream);
    broker_stream_free(stream);
}

/* --- removing --- */

/* What one takes in the store, as servers count it: in a file a record has a head of 22 bytes, a
 * checksum of 8, and 4 for the length of headers. */
static size_t size_of(const struct broker_stream *stream, size_t subject, size_t headers,
                      size_t data)
{
    size_t content = subject + headers + data;
    return content + (stream->settings.memory ? 16 : headers ? 34 : 30);
}

static size_t stored_size(const struct broker_stream *stream, const struct broker_stored *stored)
{
    return size_of(stream, strlen(stored->subject), stored->headers_len, stored->len);
}

void broker_stream_remove(struct broker_stream *stream, uint64_t sequence)
{
    struct broker_stored *stored = broker_stream_at(stream, sequence);
    if (!stored)
        return;
    stream->messages[sequence - stream->first] = NULL;
    stream->count--;
    stream->bytes -= stored_size(stream, stored);
    free(stored);
    size_t gone = 0;
    while (gone < stream->slots && !stream->messages[gone])
        gone++;
    memmove(stream->messages, stream->messages + gone,
            (stream->slots - gone) * sizeof *stream->messages);
    stream->slots -= gone;
    stream->first += gone;
}

uint64_t broker_stream_purge(struct broker_stream *stream, const char *filter, uint64_t below,
                             uint64_t keep)
{
    uint64_t purged = 0, kept = 0;
    for (uint64_t sequence = stream->last; sequence >= stream->first && sequence > 0; sequence--) {
        struct broker_stored *stored = broker_stream_at(stream, sequence);
        if (!stored || (below && sequence >= below) ||
            (filter && !subject_matches(filter, stored->subject)) || kept++ < keep)
            continue;
        broker_stream_remove(stream, sequence);
        purged++;
    }
    return purged;
}

void broker_stream_settled(struct broker_stream *stream, uint64_t sequence)
{
    struct broker_stored *stored = broker_stream_at(stream, sequence);
    struct broker_consumer *consumer;
    if (!stored || stream->settings.retention == RETENTION_LIMITS)
        return;
    if (stream->settings.retention == RETENTION_INTEREST) {
        LL_FOREACH(stream->consumers, consumer) {
            if (broker_consumer_needs(consumer, sequence, stored->subject))
                return;
        }
    }
    broker_stream_remove(stream, sequence);
}

/* Of its subject alone: the oldest ones above the bound go. */
static void keep_subject_bound(struct broker_stream *stream, const char *subject)
{
    int64_t bound = stream->settings.max_msgs_per_subject;
    if (bound > 0)
        broker_stream_purge(stream, subject, 0, (uint64_t)bound);
}

static bool is_over(const struct broker_stream *stream)
{
    const struct stream_settings *settings = &stream->settings;
    return (settings->max_msgs && stream->count > (uint64_t)settings->max_msgs) ||
           (settings->max_bytes && stream->bytes > (uint64_t)settings->max_bytes);
}

static void keep_bounds(struct broker_stream *stream)
{
    while (is_over(stream) && stream->count > 0)
        broker_stream_remove(stream, stream->messages[0]->sequence);
}

bool broker_stream_change(struct broker_stream *stream, cJSON *config)
{
    struct stream_settings settings;
    if (!broker_settings_read_stream(config, &settings)) {
        cJSON_Delete(config);
        return false;
    }
    broker_settings_clear_stream(&stream->settings);
    cJSON_Delete(stream->config);
    stream->settings = settings;
    stream->config = config;
    for (uint64_t at = stream->last; at >= stream->first && at > 0; at--) {
        struct broker_stored *stored = broker_stream_at(stream, at);
        if (stored) {
            char *subject = strdup(stored->subject);
            if (subject)
                keep_subject_bound(stream, subject);
            free(subject);
        }
    }
    keep_bounds(stream);
    return true;
}

/* --- storing --- */

static void refuse_publish(struct broker_stream *stream, const char *reply, int code, int err_code,
                           const char *description)
{
    char text[512];
    int len = snprintf(text, sizeof text,
                       "{\"error\":{\"code\":%d,\"err_code\":%d,\"description\":\"%s\"},"
                       "\"stream\":\"%s\",\"seq\":0}",
                       code, err_code, description, stream->name);
    if (!stream->settings.no_ack)
        broker_answer(stream->broker, reply, text, (size_t)len);
}

static void confirm(struct broker_stream *stream, const char *reply, uint64_t sequence,
                    bool duplicate, const char *sum)
{
    char text[400 + BROKER_COUNT_MOST];
    int len = snprintf(text, sizeof text, "{\"stream\":\"%s\",\"seq\":%" PRIu64 "%s%s%s%s}",
                       stream->name, sequence, duplicate ? ",\"duplicate\":true" : "",
                       sum ? ",\"val\":\"" : "", sum ? sum : "", sum ? "\"" : "");
    if (!stream->settings.no_ack)
        broker_answer(stream->broker, reply, text, (size_t)len);
}

/* The header's value as a number; NEVER: there is none. */
static uint64_t number_of(const struct header_block *block, const char *name)
{
    unsigned long long number;
    struct span value = header_block_find(block, name);
    return value.at && span_number(value, &number) ? number : NEVER;
}

/* Conditions of the publisher. False: refused, and said. */
static bool meets_expectations(struct broker_stream *stream, const struct broker_message *message,
                               const struct header_block *block)
{
    char text[300];
    uint64_t expected = number_of(block, "Nats-Expected-Last-Sequence");
    if (expected != NEVER && expected != stream->last) {
        snprintf(text, sizeof text, "wrong last sequence: %" PRIu64, stream->last);
        refuse_publish(stream, message->reply, 400, 10071, text);
        return false;
    }
    struct span last_id = header_block_find(block, "Nats-Expected-Last-Msg-Id");
    const char *known = stream->last_id;
    if (last_id.at &&
        (last_id.len != strlen(known) || memcmp(last_id.at, known, last_id.len) != 0)) {
        snprintf(text, sizeof text, "wrong last msg ID: %.200s", known);
        refuse_publish(stream, message->reply, 400, 10070, text);
        return false;
    }
    uint64_t of_subject = number_of(block, "Nats-Expected-Last-Subject-Sequence");
    struct span whose = header_block_find(block, "Nats-Expected-Last-Subject-Sequence-Subject");
    span_text(whose, text, sizeof text);
    const struct broker_stored *newest =
        of_subject == NEVER
            ? NULL
            : broker_stream_newest(stream, whose.at ? text : message->subject, NEVER);
    if (of_subject != NEVER && of_subject != (newest ? newest->sequence : 0)) {
        snprintf(text, sizeof text, "wrong last sequence: %" PRIu64, newest ? newest->sequence : 0);
        refuse_publish(stream, message->reply, 400, 10071, text);
        return false;
    }
    return true;
}

static bool has_room(struct broker_stream *stream, const struct broker_message *message)
{
    const struct stream_settings *settings = &stream->settings;
    size_t size = size_of(stream, strlen(message->subject), message->headers_len, message->len);
    const char *full = NULL;
    if (!settings->discard_new)
        return true;
    if (settings->discard_new_per_subject && settings->max_msgs_per_subject) {
        int64_t count = 0;
        for (size_t i = 0; i < stream->slots; i++)
            count += stream->messages[i] && !strcmp(stream->messages[i]->subject, message->subject);
        if (count >= settings->max_msgs_per_subject)
            full = "maximum messages per subject exceeded";
    }
    if (settings->max_msgs && stream->count >= (uint64_t)settings->max_msgs)
        full = "maximum messages exceeded";
    else if (settings->max_bytes && stream->bytes + size > (uint64_t)settings->max_bytes)
        full = "maximum bytes exceeded";
    if (full)
        refuse_publish(stream, message->reply, 503, 10077, full);
    return !full;
}

/* ttl_ns: of broker_newer_ttl_ns. */
static bool append(struct broker_stream *stream, const struct broker_message *message,
                   uint64_t ttl_ns)
{
    size_t subject_len = strlen(message->subject) + 1;
    struct broker_stored *stored =
        calloc(1, sizeof *stored + subject_len + message->headers_len + message->len + 2);
    if (stream->slots == stream->capacity) {
        size_t capacity = stream->capacity ? stream->capacity * 2 : 64;
        struct broker_stored **grown = realloc(stream->messages, capacity * sizeof *grown);
        if (grown) {
            stream->messages = grown;
            stream->capacity = capacity;
        }
    }
    if (!stored || stream->slots == stream->capacity) {
        free(stored);
        return false;
    }
    char *at = (char *)(stored + 1);
    stored->subject = memcpy(at, message->subject, subject_len);
    stored->headers_len = message->headers_len;
    stored->headers = memcpy(at + subject_len, message->headers_len ? message->headers : "",
                             message->headers_len);
    stored->len = message->len;
    stored->data = memcpy(at + subject_len + message->headers_len + 1,
                          message->len ? message->data : "", message->len);
    stored->sequence = ++stream->last;
    stored->timestamp_ns = broker_wall_ns(stream->broker);
    stored->gone_ns = ttl_ns == 0 || ttl_ns == NEVER ? ttl_ns : stream->broker->now_ns + ttl_ns;
    stream->has_ttls = stream->has_ttls || ttl_ns > 0;
    if (stream->slots == 0)
        stream->first = stored->sequence;
    stream->messages[stream->slots++] = stored;
    stream->count++;
    stream->bytes += stored_size(stream, stored);
    broker_schedule_note(stream, stored);
    return true;
}

bool broker_stream_put(struct broker_stream *stream, const struct broker_message *message,
                       uint64_t sequence, int64_t timestamp_ns)
{
    broker_stream_purge(stream, NULL, 0, 0);
    stream->last = sequence - 1;
    if (!append(stream, message, NEVER))
        return false;
    broker_stream_at(stream, sequence)->timestamp_ns = timestamp_ns;
    return true;
}

static bool anyone_wants(const struct broker_stream *stream, const char *subject)
{
    const struct broker_consumer *consumer;
    LL_FOREACH(stream->consumers, consumer) {
        if (broker_consumer_wants(consumer, subject))
            return true;
    }
    return false;
}

/* A rollup takes what was there before in its place. */
static void roll_up(struct broker_stream *stream, const struct broker_message *message,
                    struct span how)
{
    if (span_is(how, "sub"))
        broker_stream_purge(stream, message->subject, 0, 1);
    else if (span_is(how, "all"))
        broker_stream_purge(stream, NULL, 0, 1);
}

/* Refused before anything else is looked at. */
static bool is_refused(struct broker_stream *stream, const struct broker_message *message,
                       const struct header_block *block)
{
    const struct stream_settings *settings = &stream->settings;
    struct span expected = header_block_find(block, "Nats-Expected-Stream");
    const struct broker_error *newer = broker_newer_refuses(stream, message, block);
    if (newer)
        refuse_publish(stream, message->reply, newer->code, newer->err_code, newer->description);
    else if (settings->sealed)
        refuse_publish(stream, message->reply, 400, 10109, "invalid operation on sealed stream");
    else if (expected.at && (expected.len != strlen(stream->name) ||
                             memcmp(expected.at, stream->name, expected.len) != 0))
        refuse_publish(stream, message->reply, 400, 10060, "expected stream does not match");
    else if (settings->max_msg_size &&
             message->headers_len + message->len > (size_t)settings->max_msg_size)
        refuse_publish(stream, message->reply, 400, 10054, "message size exceeds maximum allowed");
    else if (header_block_find(block, "Nats-Rollup").at && !settings->rollup)
        refuse_publish(stream, message->reply, 500, 10111, "rollup not permitted");
    else
        return false;
    return true;
}

/* As it lies in a stream of counters: its data is the sum. */
static const char *counted(struct broker_stream *stream, const struct header_block *block,
                           struct broker_message *message, char *sum, char *data, size_t size)
{
    if (!broker_newer_count(stream, message->subject, block, sum))
        return NULL;
    message->len = (size_t)snprintf(data, size, "{\"val\":\"%s\"}", sum);
    message->data = data;
    return sum;
}

void broker_stream_store(struct broker_stream *stream, const struct broker_message *message)
{
    char data[BROKER_COUNT_MOST + 16], counter[BROKER_COUNT_MOST];
    struct header_block block = {.at = message->headers, .len = message->headers_len};
    struct span id = header_block_find(&block, "Nats-Msg-Id");
    char id_text[512] = "";
    if (id.at)
        span_text(id, id_text, sizeof id_text);
    if (is_refused(stream, message, &block))
        return;
    const struct known_id *known = *id_text ? broker_ids_find(stream, id_text) : NULL;
    if (known) {
        confirm(stream, message->reply, known->sequence, true, NULL);
        return;
    }
    if (!meets_expectations(stream, message, &block) || !has_room(stream, message))
        return;
    bool wanted =
        stream->settings.retention != RETENTION_INTEREST || anyone_wants(stream, message->subject);
    struct broker_message kept = *message;
    const char *sum = counted(stream, &block, &kept, counter, data, sizeof data);
    struct text headers;
    text_init(&headers);
    if (broker_schedule_rolls_up(&block, &headers)) {
        kept.headers = headers.bytes;
        kept.headers_len = headers.len;
    }
    bool stored = append(stream, &kept, broker_newer_ttl_ns(stream, &block));
    bool replaces = headers.len > 0;
    text_clear(&headers);
    if (!stored) {
        refuse_publish(stream, message->reply, 500, 10023, "insufficient resources");
        return;
    }
    if (*id_text)
        broker_ids_note(stream, id_text);
    snprintf(stream->last_id, sizeof stream->last_id, "%s", id_text);
    uint64_t sequence = stream->last;
    if (replaces)
        broker_stream_purge(stream, message->subject, 0, 1);
    else
        roll_up(stream, message, header_block_find(&block, "Nats-Rollup"));
    if (!wanted)
        broker_stream_remove(stream, sequence);
    keep_subject_bound(stream, message->subject);
    keep_bounds(stream);
    confirm(stream, message->reply, sequence, false, sum);
    struct broker_consumer *consumer;
    LL_FOREACH(stream->consumers, consumer)
        broker_consumer_serve(consumer);
}

uint64_t broker_stream_tick(struct broker_stream *stream)
{
    uint64_t next_ns = broker_newer_age(stream), fires_ns = broker_schedule_tick(stream);
    next_ns = fires_ns < next_ns ? fires_ns : next_ns;
    struct broker_consumer *consumer, *next;
    LL_FOREACH_SAFE(stream->consumers, consumer, next) {
        uint64_t due_ns = broker_consumer_tick(consumer);
        next_ns = due_ns < next_ns ? due_ns : next_ns;
    }
    return next_ns;
}
