/* Clients, subscriptions, the way of a message, and time. */
#include "broker/broker.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/value.h"
#include "broker/broker_private.h"

#define MAX_PAYLOAD (1024 * 1024)
#define NO_RESPONDERS "NATS/1.0 503\r\n\r\n"

struct broker *broker_new(const struct broker_options *options)
{
    struct broker *broker = calloc(1, sizeof *broker);
    if (!broker)
        return NULL;
    broker->max_payload = options->max_payload ? options->max_payload : MAX_PAYLOAD;
    broker->wall_ns = options->wall_ns;
    broker->random = options->seed * 2 + 1; /* a xorshift must not start at 0 */
    return broker;
}

static void entry_free(struct broker *broker, struct broker_interest *entry)
{
    DL_DELETE(broker->subscriptions, entry);
    free(entry->subject);
    free(entry->queue);
    free(entry);
}

void broker_disconnect(struct broker_client *client)
{
    struct broker *broker = client->broker;
    struct broker_interest *entry, *next;
    DL_FOREACH_SAFE(broker->subscriptions, entry, next) {
        if (entry->client == client)
            entry_free(broker, entry);
    }
    struct broker_packet *packet;
    while ((packet = broker_take(client)))
        free(packet);
    DL_DELETE(broker->clients, client);
    free(client);
}

void broker_free(struct broker *broker)
{
    if (!broker)
        return;
    while (broker->clients)
        broker_disconnect(broker->clients);
    struct broker_stream *stream, *next;
    LL_FOREACH_SAFE(broker->streams, stream, next)
        broker_stream_free(stream);
    free(broker);
}

int64_t broker_wall_ns(const struct broker *broker)
{
    return broker->wall_ns + (int64_t)broker->now_ns;
}

uint64_t broker_advance(struct broker *broker, uint64_t now_ns)
{
    if (now_ns > broker->now_ns)
        broker->now_ns = now_ns;
    uint64_t next_ns = NEVER;
    struct broker_stream *stream;
    LL_FOREACH(broker->streams, stream) {
        uint64_t due_ns = broker_stream_tick(stream);
        next_ns = due_ns < next_ns ? due_ns : next_ns;
    }
    return next_ns;
}

struct broker_client *broker_connect(struct broker *broker)
{
    struct broker_client *client = calloc(1, sizeof *client);
    if (!client)
        return NULL;
    client->broker = broker;
    DL_APPEND(broker->clients, client);
    return client;
}

int broker_subscribe(struct broker_client *client, uint64_t sid, const char *subject,
                     const char *queue, struct err *err)
{
    int code = subject_check(subject, strlen(subject), SUBJECT_SUBSCRIBE, err);
    if (code)
        return code;
    struct broker_interest *entry = calloc(1, sizeof *entry);
    if (entry) {
        entry->client = client;
        entry->sid = sid;
        entry->subject = strdup(subject);
        entry->queue = queue ? strdup(queue) : NULL;
        DL_APPEND(client->broker->subscriptions, entry);
        if (entry->subject && (!queue || entry->queue))
            return 0;
        entry_free(client->broker, entry);
    }
    return err_set(err, ERR_MEMORY, "out of memory");
}

void broker_unsubscribe(struct broker_client *client, uint64_t sid)
{
    struct broker_interest *entry, *next;
    DL_FOREACH_SAFE(client->broker->subscriptions, entry, next) {
        if (entry->client == client && entry->sid == sid)
            entry_free(client->broker, entry);
    }
}

/* --- the way of a message --- */

static char *put(char **at, const void *bytes, size_t len)
{
    char *start = *at;
    if (len)
        memcpy(start, bytes, len);
    start[len] = '\0';
    *at += len + 1;
    return start;
}

/* Puts a copy into the client's queue. Where memory is short it is lost, as on a slow network. */
static void hand_to(const struct broker_interest *entry, const struct broker_message *message)
{
    size_t subject_len = strlen(message->subject);
    size_t reply_len = message->reply ? strlen(message->reply) : 0;
    struct broker_packet *packet =
        malloc(sizeof *packet + subject_len + reply_len + message->headers_len + message->len + 4);
    if (!packet)
        return;
    char *at = packet->bytes;
    packet->next = NULL;
    packet->sid = entry->sid;
    packet->message = (struct broker_message){
        .headers_len = message->headers_len,
        .len = message->len,
    };
    packet->message.subject = put(&at, message->subject, subject_len);
    const char *reply = put(&at, message->reply, reply_len);
    packet->message.reply = message->reply ? reply : NULL;
    const char *headers = put(&at, message->headers, message->headers_len);
    packet->message.headers = message->headers_len ? headers : NULL;
    packet->message.data = put(&at, message->data, message->len);

    struct broker_client *client = entry->client;
    if (client->tail)
        client->tail->next = packet;
    else
        client->head = packet;
    client->tail = packet;
}

struct broker_packet *broker_take(struct broker_client *client)
{
    struct broker_packet *packet = client->head;
    if (!packet)
        return NULL;
    client->head = packet->next;
    if (!client->head)
        client->tail = NULL;
    packet->next = NULL;
    return packet;
}

static uint64_t draw(struct broker *broker)
{
    uint64_t x = broker->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return broker->random = x;
}

static bool same_group(const struct broker_interest *a, const struct broker_interest *b)
{
    return a->queue && b->queue && strcmp(a->queue, b->queue) == 0 &&
           strcmp(a->subject, b->subject) == 0;
}

/* Is it the first of its group that was made? That one stands for the group. */
static bool leads_group(const struct broker *broker, const struct broker_interest *entry)
{
    const struct broker_interest *other = broker->subscriptions;
    while (!same_group(other, entry))
        other = other->next;
    return other == entry;
}

static const struct broker_interest *choose(struct broker *broker,
                                            const struct broker_interest *leader)
{
    uint64_t members = 0;
    const struct broker_interest *entry;
    DL_FOREACH(broker->subscriptions, entry)
        members += same_group(entry, leader);
    uint64_t chosen = draw(broker) % members;
    DL_FOREACH(broker->subscriptions, entry) {
        if (same_group(entry, leader) && chosen-- == 0)
            return entry;
    }
    return leader;
}

int broker_deliver(struct broker *broker, const char *to, const struct broker_message *message)
{
    int receivers = 0;
    const struct broker_interest *entry;
    DL_FOREACH(broker->subscriptions, entry) {
        if (!subject_matches(entry->subject, to))
            continue;
        if (!entry->queue)
            hand_to(entry, message);
        else if (leads_group(broker, entry))
            hand_to(choose(broker, entry), message);
        else
            continue;
        receivers++;
    }
    return receivers;
}

bool broker_has_interest(const struct broker *broker, const char *subject)
{
    const struct broker_interest *entry;
    DL_FOREACH(broker->subscriptions, entry) {
        if (subject_matches(entry->subject, subject))
            return true;
    }
    return false;
}

static bool begins(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

int broker_route(struct broker *broker, const struct broker_message *message)
{
    int receivers = broker_deliver(broker, message->subject, message);
    if (begins(message->subject, "$JS.ACK.")) {
        broker_consumer_verdict(broker, message);
        return receivers + 1;
    }
    if (begins(message->subject, "$JS.API."))
        return receivers + broker_api_request(broker, message);
    struct broker_stream *stream = broker_stream_for(broker, message->subject);
    if (stream)
        broker_stream_store(stream, message);
    return receivers + (stream != NULL);
}

void broker_answer(struct broker *broker, const char *to, const char *data, size_t len)
{
    struct broker_message message = {.subject = to, .data = data, .len = len};
    if (to)
        broker_route(broker, &message);
}

/* Nobody serves what this client has asked for: its own subscriptions are told. */
static void answer_no_responders(struct broker_client *client, const char *reply)
{
    struct broker_message status = {
        .subject = reply,
        .headers = NO_RESPONDERS,
        .headers_len = strlen(NO_RESPONDERS),
        .data = "",
    };
    const struct broker_interest *entry;
    DL_FOREACH(client->broker->subscriptions, entry) {
        if (entry->client == client && subject_matches(entry->subject, reply)) {
            hand_to(entry, &status);
            return;
        }
    }
}

int broker_publish(struct broker_client *client, const struct broker_message *message,
                   struct err *err)
{
    struct broker *broker = client->broker;
    size_t size = message->headers_len + message->len;
    int code = subject_check(message->subject, strlen(message->subject), SUBJECT_PUBLISH, err);
    if (code)
        return code;
    if (size > broker->max_payload)
        return err_set(err, ERR_TOO_LARGE, "%zu bytes to \"%s\": at most %zu", size,
                       message->subject, broker->max_payload);
    if (broker_route(broker, message) == 0 && message->reply)
        answer_no_responders(client, message->reply);
    return 0;
}
