/* The pull requests of a consumer, and how each of them ends (ADR-13). */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/value.h"
#include "broker/broker_private.h"

/* A status has no data: "NATS/1.0 404 No Messages", and headers. */
static void say(const struct broker_consumer *consumer, const char *to, const char *status,
                const char *fields)
{
    char block[512];
    int len = snprintf(block, sizeof block, "NATS/1.0 %s\r\n%s\r\n", status, fields);
    struct broker_message message = {
        .subject = to, .headers = block, .headers_len = (size_t)len, .data = ""};
    broker_deliver(consumer->stream->broker, to, &message);
}

/* Says how many of the request's messages will not come, as servers do unless there was none. */
static void end(struct broker_consumer *consumer, struct broker_request *request,
                const char *status)
{
    char fields[128] = "";
    if (strncmp(status, "404", 3) != 0)
        snprintf(fields, sizeof fields,
                 "Nats-Pending-Messages: %" PRId64 "\r\nNats-Pending-Bytes: %" PRId64 "\r\n",
                 request->batch, request->max_bytes ? request->max_bytes - request->bytes : 0);
    say(consumer, request->reply, status, fields);
    LL_DELETE(consumer->waiting, request);
    free(request->reply);
    free(request);
}

static void drop(struct broker_consumer *consumer, struct broker_request *request)
{
    LL_DELETE(consumer->waiting, request);
    free(request->reply);
    free(request);
}

void broker_pull_end(struct broker_consumer *consumer, const char *status)
{
    while (consumer->waiting) {
        struct broker_request *request = consumer->waiting;
        say(consumer, request->reply, status, "");
        drop(consumer, request);
    }
}

/* A request whose requester has gone is nobody's. */
static struct broker_request *first_waiting(struct broker_consumer *consumer)
{
    while (consumer->waiting &&
           !broker_has_interest(consumer->stream->broker, consumer->waiting->reply))
        drop(consumer, consumer->waiting);
    return consumer->waiting;
}

/* Requests take turns: one that got a message goes to the end of the line. */
static void take_turn(struct broker_consumer *consumer, struct broker_request *request)
{
    if (--request->batch == 0) {
        drop(consumer, request);
    } else if (request->next) {
        LL_DELETE(consumer->waiting, request);
        request->next = NULL;
        LL_APPEND(consumer->waiting, request);
    }
}

void broker_pull_serve(struct broker_consumer *consumer)
{
    struct broker_request *request;
    struct broker_pending *again;
    struct broker_stored *stored;
    while ((request = first_waiting(consumer)) &&
           (stored = broker_consumer_next(consumer, &again))) {
        int64_t size = broker_consumer_size(consumer, stored, again);
        if (request->max_bytes && request->bytes + size > request->max_bytes) {
            end(consumer, request, "409 Message Size Exceeds MaxBytes");
            continue;
        }
        request->bytes += size;
        if (request->heartbeat_ns)
            request->beat_at_ns = consumer->stream->broker->now_ns + request->heartbeat_ns;
        if (!broker_consumer_send(consumer, request->reply, stored, again))
            return;
        take_turn(consumer, request);
    }
    struct broker_request *next;
    LL_FOREACH_SAFE(consumer->waiting, request, next) {
        if (request->no_wait)
            end(consumer, request, request->bytes ? "408 Request Timeout" : "404 No Messages");
    }
}

/* {"batch": 10, "expires": ns, ...}, a bare number, or nothing. */
static bool read_request(const struct broker_message *message, struct broker_request *request,
                         uint64_t now_ns)
{
    char text[1024];
    size_t len = message->len < sizeof text - 1 ? message->len : sizeof text - 1;
    memcpy(text, message->len ? message->data : "", len);
    text[len] = '\0';
    request->batch = 1;
    request->expires_ns = request->beat_at_ns = NEVER;
    if (*text != '{') {
        if (*text >= '0' && *text <= '9')
            request->batch = strtoll(text, NULL, 10);
        return request->batch > 0;
    }
    cJSON *options = cJSON_Parse(text);
    if (!options)
        return false;
    int64_t expires_ns = broker_json_integer(options, "expires", 0);
    request->batch = broker_json_integer(options, "batch", 1);
    request->max_bytes = broker_json_integer(options, "max_bytes", 0);
    request->no_wait = broker_json_true(options, "no_wait");
    request->heartbeat_ns = (uint64_t)broker_json_integer(options, "idle_heartbeat", 0);
    if (expires_ns > 0)
        request->expires_ns = now_ns + (uint64_t)expires_ns;
    if (request->heartbeat_ns)
        request->beat_at_ns = now_ns + request->heartbeat_ns;
    cJSON_Delete(options);
    request->batch = request->batch > 0 ? request->batch : 1;
    return request->heartbeat_ns == 0 || 2 * request->heartbeat_ns <= (uint64_t)expires_ns;
}

void broker_pull_came(struct broker_consumer *consumer, const struct broker_message *message)
{
    struct broker_request parsed = {0}, *request;
    int count = 0;
    char refusal[64];
    if (!read_request(message, &parsed, consumer->stream->broker->now_ns)) {
        say(consumer, message->reply, "400 Bad Request", "");
        return;
    }
    LL_COUNT(consumer->waiting, request, count);
    if (consumer->max_waiting > 0 && count >= consumer->max_waiting) {
        say(consumer, message->reply, "409 Exceeded MaxWaiting", "");
        return;
    }
    if (consumer->max_batch > 0 && parsed.batch > consumer->max_batch) {
        snprintf(refusal, sizeof refusal, "409 Exceeded MaxRequestBatch of %" PRId64,
                 consumer->max_batch);
        say(consumer, message->reply, refusal, "");
        return;
    }
    request = malloc(sizeof *request);
    if (!request)
        return;
    *request = parsed;
    request->next = NULL;
    request->reply = strdup(message->reply);
    if (!request->reply) {
        free(request);
        return;
    }
    LL_APPEND(consumer->waiting, request);
    broker_pull_serve(consumer);
}

uint64_t broker_pull_tick(struct broker_consumer *consumer)
{
    uint64_t now_ns = consumer->stream->broker->now_ns, next_ns = NEVER;
    struct broker_request *request, *next;
    LL_FOREACH_SAFE(consumer->waiting, request, next) {
        if (request->expires_ns <= now_ns) {
            end(consumer, request, "408 Request Timeout");
            continue;
        }
        if (request->beat_at_ns <= now_ns) {
            char fields[128];
            snprintf(fields, sizeof fields,
                     "Nats-Last-Consumer: %" PRIu64 "\r\nNats-Last-Stream: %" PRIu64 "\r\n",
                     consumer->delivered_consumer, consumer->delivered);
            say(consumer, request->reply, "100 Idle Heartbeat", fields);
            request->beat_at_ns = now_ns + request->heartbeat_ns;
        }
        next_ns = request->expires_ns < next_ns ? request->expires_ns : next_ns;
        next_ns = request->beat_at_ns < next_ns ? request->beat_at_ns : next_ns;
    }
    return next_ns;
}
