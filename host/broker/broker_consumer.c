/* Consumers: what is delivered, verdicts, redeliveries. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/value.h"
#include "broker/broker_private.h"

#define ACK_PREFIX "$JS.ACK."

/* --- life --- */

struct broker_consumer *broker_consumer_find(const struct broker_stream *stream, const char *name)
{
    struct broker_consumer *consumer;
    LL_FOREACH(stream->consumers, consumer) {
        if (strcmp(consumer->name, name) == 0)
            return consumer;
    }
    return NULL;
}

static void clear_filters(struct broker_consumer *consumer)
{
    for (char **filter = consumer->filters; filter && *filter; filter++)
        free(*filter);
    free(consumer->filters);
    consumer->filters = NULL;
}

static bool read_filters(struct broker_consumer *consumer)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(consumer->config, "filter_subjects");
    const char *one = broker_json_text(consumer->config, "filter_subject");
    int count = 0;
    clear_filters(consumer);
    consumer->filters = calloc((size_t)cJSON_GetArraySize(list) + 2, sizeof *consumer->filters);
    if (!consumer->filters)
        return false;
    if (*one && !(consumer->filters[count++] = strdup(one)))
        return false;
    const cJSON *filter;
    cJSON_ArrayForEach(filter, list) {
        if (cJSON_IsString(filter) && !(consumer->filters[count++] = strdup(filter->valuestring)))
            return false;
    }
    return true;
}

static void read_backoff(struct broker_consumer *consumer)
{
    const cJSON *wait;
    consumer->backoffs = 0;
    cJSON_ArrayForEach(wait, cJSON_GetObjectItemCaseSensitive(consumer->config, "backoff")) {
        if (consumer->backoffs < BROKER_BACKOFFS)
            consumer->backoff_ns[consumer->backoffs++] = (uint64_t)wait->valuedouble;
    }
}

static bool read_config(struct broker_consumer *consumer)
{
    const cJSON *config = consumer->config;
    consumer->ack_wait_ns = (uint64_t)broker_json_integer(config, "ack_wait", 0);
    consumer->inactive_ns = (uint64_t)broker_json_integer(config, "inactive_threshold", 0);
    consumer->max_deliver = broker_json_integer(config, "max_deliver", -1);
    consumer->max_ack_pending = broker_json_integer(config, "max_ack_pending", -1);
    consumer->max_waiting = broker_json_integer(config, "max_waiting", 0);
    consumer->max_batch = broker_json_integer(config, "max_batch", 0);
    consumer->ack_none = strcmp(broker_json_text(config, "ack_policy"), "none") == 0;
    consumer->headers_only = broker_json_true(config, "headers_only");
    read_backoff(consumer);
    return read_filters(consumer);
}

/* The newest message of each subject, in their order; then what is new. */
static bool collect_last_ones(struct broker_consumer *consumer)
{
    const struct broker_stream *stream = consumer->stream;
    consumer->first_ones = calloc(stream->slots + 1, sizeof *consumer->first_ones);
    if (!consumer->first_ones)
        return false;
    for (size_t i = 0; i < stream->slots; i++) {
        const struct broker_stored *stored = stream->messages[i];
        if (stored && broker_consumer_wants(consumer, stored->subject) &&
            broker_stream_newest(stream, stored->subject, NEVER) == stored)
            consumer->first_ones[consumer->first_count++] = stored->sequence;
    }
    return true;
}

static uint64_t newest_wanted(const struct broker_consumer *consumer)
{
    const struct broker_stream *stream = consumer->stream;
    for (size_t i = stream->slots; i-- > 0;) {
        if (stream->messages[i] && broker_consumer_wants(consumer, stream->messages[i]->subject))
            return stream->messages[i]->sequence;
    }
    return stream->last + 1;
}

/* Which sequence is the first to be looked at. */
static uint64_t begin_at(struct broker_consumer *consumer)
{
    const struct broker_stream *stream = consumer->stream;
    const char *policy = broker_json_text(consumer->config, "deliver_policy");
    if (strcmp(policy, "new") == 0 || strcmp(policy, "last_per_subject") == 0)
        return stream->last + 1;
    if (strcmp(policy, "last") == 0)
        return newest_wanted(consumer);
    if (strcmp(policy, "by_start_sequence") == 0)
        return (uint64_t)broker_json_integer(consumer->config, "opt_start_seq", 1);
    int64_t start_ns;
    if (strcmp(policy, "by_start_time") == 0 &&
        broker_json_time(consumer->config, "opt_start_time", &start_ns)) {
        for (size_t i = 0; i < stream->slots; i++) {
            if (stream->messages[i] && stream->messages[i]->timestamp_ns >= start_ns)
                return stream->messages[i]->sequence;
        }
        return stream->last + 1;
    }
    return stream->first;
}

static void broker_consumer_free(struct broker_consumer *consumer)
{
    clear_filters(consumer);
    cJSON_Delete(consumer->config);
    free(consumer->first_ones);
    free(consumer->pending);
    free(consumer->name);
    free(consumer);
}

struct broker_consumer *broker_consumer_make(struct broker_stream *stream, const char *name,
                                             cJSON *config)
{
    struct broker_consumer *consumer = calloc(1, sizeof *consumer);
    if (!consumer) {
        cJSON_Delete(config);
        return NULL;
    }
    consumer->stream = stream;
    consumer->config = config;
    consumer->name = strdup(name);
    consumer->created_ns = broker_wall_ns(stream->broker);
    consumer->idle_since_ns = stream->broker->now_ns;
    bool last_ones = strcmp(broker_json_text(config, "deliver_policy"), "last_per_subject") == 0;
    if (!consumer->name || !read_config(consumer) || (last_ones && !collect_last_ones(consumer))) {
        broker_consumer_free(consumer);
        return NULL;
    }
    uint64_t begin = begin_at(consumer);
    consumer->delivered = consumer->floor = begin > 0 ? begin - 1 : 0;
    LL_APPEND(stream->consumers, consumer);
    return consumer;
}

bool broker_consumer_change(struct broker_consumer *consumer, cJSON *config)
{
    cJSON_Delete(consumer->config);
    consumer->config = config;
    bool read = read_config(consumer);
    broker_consumer_serve(consumer);
    return read;
}

void broker_consumer_delete(struct broker_consumer *consumer)
{
    broker_pull_end(consumer, "409 Consumer Deleted");
    LL_DELETE(consumer->stream->consumers, consumer);
    broker_consumer_free(consumer);
}

bool broker_consumer_wants(const struct broker_consumer *consumer, const char *subject)
{
    if (!consumer->filters || !*consumer->filters)
        return true;
    for (char **filter = consumer->filters; *filter; filter++) {
        if (subject_matches(*filter, subject))
            return true;
    }
    return false;
}

/* --- what waits for its verdict --- */

static struct broker_pending *find_pending(const struct broker_consumer *consumer,
                                           uint64_t sequence)
{
    for (size_t i = 0; i < consumer->pending_count; i++) {
        if (consumer->pending[i].sequence == sequence)
            return &consumer->pending[i];
    }
    return NULL;
}

static struct broker_pending *add_pending(struct broker_consumer *consumer, uint64_t sequence)
{
    if (consumer->pending_count == consumer->pending_capacity) {
        size_t capacity = consumer->pending_capacity ? consumer->pending_capacity * 2 : 16;
        struct broker_pending *grown = realloc(consumer->pending, capacity * sizeof *grown);
        if (!grown)
            return NULL;
        consumer->pending = grown;
        consumer->pending_capacity = capacity;
    }
    struct broker_pending *added = &consumer->pending[consumer->pending_count++];
    *added = (struct broker_pending){.sequence = sequence, .attempts = consumer->count_from};
    consumer->count_from = 0;
    return added;
}

/* Where everything up to `floor` is settled. It moves only with a verdict, as a server's does. */
static void move_floor(struct broker_consumer *consumer, const struct broker_pending *settled)
{
    if (consumer->pending_count == 0) {
        consumer->floor = consumer->delivered;
        consumer->floor_consumer = consumer->delivered_consumer;
    } else if (settled->consumer_sequence == consumer->floor_consumer + 1) {
        const struct broker_pending *oldest = &consumer->pending[0];
        bool between = oldest->sequence > settled->sequence;
        consumer->floor = between ? oldest->sequence - 1 : settled->sequence;
        consumer->floor_consumer =
            between ? oldest->consumer_sequence - 1 : settled->consumer_sequence;
    }
}

static void remove_pending(struct broker_consumer *consumer, struct broker_pending *pending)
{
    struct broker_pending removed = *pending;
    size_t at = (size_t)(pending - consumer->pending);
    memmove(pending, pending + 1, (--consumer->pending_count - at) * sizeof *pending);
    move_floor(consumer, &removed);
}

bool broker_consumer_needs(const struct broker_consumer *consumer, uint64_t sequence,
                           const char *subject)
{
    return broker_consumer_wants(consumer, subject) &&
           (sequence > consumer->delivered || find_pending(consumer, sequence));
}

uint64_t broker_consumer_unseen(const struct broker_consumer *consumer)
{
    const struct broker_stream *stream = consumer->stream;
    uint64_t count = consumer->first_count - consumer->first_at;
    size_t first = consumer->delivered >= stream->first
                       ? (size_t)(consumer->delivered - stream->first) + 1
                       : 0;
    for (size_t i = first; i < stream->slots; i++) {
        const struct broker_stored *stored = stream->messages[i];
        count += stored && broker_consumer_wants(consumer, stored->subject);
    }
    return count;
}

/* --- delivering --- */

/* A pending message that is due; those that are gone from the stream, or have had all their
 * deliveries, are nobody's any more. */
static struct broker_pending *due_again(struct broker_consumer *consumer)
{
    for (size_t i = 0; i < consumer->pending_count;) {
        struct broker_pending *pending = &consumer->pending[i];
        bool spent =
            consumer->max_deliver > 0 && (int64_t)pending->attempts >= consumer->max_deliver;
        if (pending->again && (spent || !broker_stream_at(consumer->stream, pending->sequence)))
            remove_pending(consumer, pending);
        else if (pending->again)
            return pending;
        else
            i++;
    }
    return NULL;
}

struct broker_stored *broker_consumer_next(struct broker_consumer *consumer,
                                           struct broker_pending **again)
{
    struct broker_stream *stream = consumer->stream;
    *again = due_again(consumer);
    if (*again)
        return broker_stream_at(stream, (*again)->sequence);
    if (consumer->max_ack_pending > 0 &&
        consumer->pending_count >= (size_t)consumer->max_ack_pending)
        return NULL;
    for (size_t i = consumer->first_at; i < consumer->first_count; i++) {
        if (broker_stream_at(stream, consumer->first_ones[i]))
            return broker_stream_at(stream, consumer->first_ones[i]);
        consumer->first_at = i + 1;
    }
    uint64_t from =
        consumer->delivered + 1 > stream->first ? consumer->delivered + 1 : stream->first;
    for (uint64_t sequence = from; sequence <= stream->last; sequence++) {
        struct broker_stored *stored = broker_stream_at(stream, sequence);
        if (stored && broker_consumer_wants(consumer, stored->subject))
            return stored;
    }
    if (stream->last > consumer->delivered)
        consumer->delivered = stream->last; /* what its filter passes over counts as seen */
    return NULL;
}

/* Only the headers, and how long the data is. NULL: out of memory. */
static char *headers_alone(const struct broker_stored *stored, size_t *len)
{
    size_t head = stored->headers_len ? stored->headers_len - 2 : strlen("NATS/1.0\r\n");
    char *text = malloc(head + 64);
    if (!text)
        return NULL;
    memcpy(text, stored->headers_len ? stored->headers : "NATS/1.0\r\n", head);
    *len = head + (size_t)sprintf(text + head, "Nats-Msg-Size: %zu\r\n\r\n", stored->len);
    return text;
}

/* How long the verdict of an attempt is waited for. */
static uint64_t patience_ns(const struct broker_consumer *consumer, uint64_t attempts)
{
    if (consumer->backoffs == 0)
        return consumer->ack_wait_ns;
    int at = attempts < (uint64_t)consumer->backoffs ? (int)attempts - 1 : consumer->backoffs - 1;
    return consumer->backoff_ns[at];
}

static bool note_delivery(struct broker_consumer *consumer, const struct broker_stored *stored,
                          struct broker_pending *again, uint64_t *attempts)
{
    struct broker_pending *pending = again;
    if (!again && !consumer->ack_none && !(pending = add_pending(consumer, stored->sequence)))
        return false;
    consumer->delivered_consumer++;
    if (consumer->first_at < consumer->first_count &&
        consumer->first_ones[consumer->first_at] == stored->sequence)
        consumer->first_at++;
    if (stored->sequence > consumer->delivered)
        consumer->delivered = stored->sequence;
    *attempts = 1;
    if (pending) {
        *attempts = ++pending->attempts;
        pending->consumer_sequence = consumer->delivered_consumer;
        pending->due_ns = consumer->stream->broker->now_ns + patience_ns(consumer, *attempts);
        pending->again = false;
    }
    return true;
}

/* The reply subject of a delivery. */
static void write_reply(const struct broker_consumer *consumer, const struct broker_stored *stored,
                        uint64_t attempts, uint64_t consumer_sequence, char *buf, size_t size)
{
    snprintf(buf, size, ACK_PREFIX "%s.%s.%" PRIu64 ".%" PRIu64 ".%" PRIu64 ".%" PRId64 ".%" PRIu64,
             consumer->stream->name, consumer->name, attempts, stored->sequence, consumer_sequence,
             stored->timestamp_ns, broker_consumer_unseen(consumer));
}

int64_t broker_consumer_size(const struct broker_consumer *consumer,
                             const struct broker_stored *stored, const struct broker_pending *again)
{
    char reply[1024];
    write_reply(consumer, stored, again ? again->attempts + 1 : 1, consumer->delivered_consumer + 1,
                reply, sizeof reply);
    size_t size = strlen(stored->subject) + strlen(reply) + stored->headers_len;
    return (int64_t)(size + (consumer->headers_only ? 0 : stored->len));
}

bool broker_consumer_send(struct broker_consumer *consumer, const char *to,
                          struct broker_stored *stored, struct broker_pending *again)
{
    uint64_t attempts;
    char reply[1024];
    if (!note_delivery(consumer, stored, again, &attempts))
        return false;
    write_reply(consumer, stored, attempts, consumer->delivered_consumer, reply, sizeof reply);
    struct broker_message message = {
        .subject = stored->subject,
        .reply = reply,
        .headers = stored->headers,
        .headers_len = stored->headers_len,
        .data = stored->data,
        .len = stored->len,
    };
    char *alone = NULL;
    if (consumer->headers_only && (alone = headers_alone(stored, &message.headers_len))) {
        message.headers = alone;
        message.len = 0;
    }
    broker_deliver(consumer->stream->broker, to, &message);
    free(alone);
    return true;
}

void broker_consumer_serve(struct broker_consumer *consumer)
{
    broker_pull_serve(consumer);
}

/* --- verdicts --- */

/* The delay of "-NAK {"delay": ns}"; 0: none. */
static uint64_t nak_delay(const char *text)
{
    const char *json = strchr(text, '{');
    cJSON *options = json ? cJSON_Parse(json) : NULL;
    int64_t delay_ns = broker_json_integer(options, "delay", 0);
    cJSON_Delete(options);
    return delay_ns > 0 ? (uint64_t)delay_ns : 0;
}

static void settle(struct broker_consumer *consumer, struct broker_pending *pending)
{
    uint64_t sequence = pending->sequence;
    remove_pending(consumer, pending);
    broker_stream_settled(consumer->stream, sequence);
}

/* What a verdict does is said of the message, not of the delivery: one that comes late acts on
 * whoever has the message now. */
static void decide(struct broker_consumer *consumer, uint64_t sequence, const char *text)
{
    struct broker_pending *pending = find_pending(consumer, sequence);
    uint64_t now_ns = consumer->stream->broker->now_ns;
    if (!pending)
        return;
    if (strncmp(text, "-NAK", 4) == 0) {
        uint64_t delay_ns = nak_delay(text);
        pending->due_ns = now_ns + delay_ns;
        pending->again = delay_ns == 0;
    } else if (strncmp(text, "+WPI", 4) == 0) {
        pending->due_ns = now_ns + patience_ns(consumer, pending->attempts);
    } else if (*text == '\0' || strncmp(text, "+ACK", 4) == 0 || strncmp(text, "+TERM", 5) == 0 ||
               strncmp(text, "+OK", 3) == 0) {
        settle(consumer, pending);
    }
}

void broker_consumer_verdict(struct broker *broker, const struct broker_message *message)
{
    char stream_name[256], name[256], text[512];
    uint64_t attempts, sequence;
    if (sscanf(message->subject, ACK_PREFIX "%255[^.].%255[^.].%" SCNu64 ".%" SCNu64, stream_name,
               name, &attempts, &sequence) != 4)
        return;
    struct broker_stream *stream = broker_stream_find(broker, stream_name);
    struct broker_consumer *consumer = stream ? broker_consumer_find(stream, name) : NULL;
    if (!consumer)
        return;
    size_t len = message->len < sizeof text - 1 ? message->len : sizeof text - 1;
    memcpy(text, message->len ? message->data : "", len);
    text[len] = '\0';
    decide(consumer, sequence, text);
    broker_answer(broker, message->reply, "", 0);
    broker_consumer_serve(consumer);
}

uint64_t broker_consumer_tick(struct broker_consumer *consumer)
{
    uint64_t now_ns = consumer->stream->broker->now_ns, next_ns = NEVER;
    for (size_t i = 0; i < consumer->pending_count; i++) {
        struct broker_pending *pending = &consumer->pending[i];
        if (pending->due_ns <= now_ns)
            pending->again = true;
        else if (!pending->again && pending->due_ns < next_ns)
            next_ns = pending->due_ns;
    }
    broker_consumer_serve(consumer);
    uint64_t pull_ns = broker_pull_tick(consumer);
    if (consumer->waiting)
        consumer->idle_since_ns = now_ns;
    if (consumer->inactive_ns && !consumer->waiting) {
        uint64_t gone_ns = consumer->idle_since_ns + consumer->inactive_ns;
        if (gone_ns <= now_ns) {
            broker_consumer_delete(consumer);
            return NEVER;
        }
        next_ns = gone_ns < next_ns ? gone_ns : next_ns;
    }
    /* What was served just now is due again some time. */
    for (size_t i = 0; i < consumer->pending_count; i++) {
        const struct broker_pending *pending = &consumer->pending[i];
        if (!pending->again && pending->due_ns < next_ns)
            next_ns = pending->due_ns;
    }
    return pull_ns < next_ns ? pull_ns : next_ns;
}
