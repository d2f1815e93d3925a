/* A queue between nats.c's callbacks and a command that waits. */
#include "cli/receive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/link/nats_fields.h"
#include "bus/link/nats_received.h"
#include "bus/request/inbox.h"

#define LOOK_MS 50 /* how often it is looked whether the connection is still there, or refuses */

struct arrived {
    natsMsg *msg; /* owned */
    struct arrived *next;
};

struct receiver {
    natsConnection *nc;     /* the client's */
    natsSubscription *sub;  /* owned */
    struct receiver *older; /* owned */
    struct mutex lock;
    struct cond any;
    struct arrived *first, *last; /* owned; under the lock */
    bool closed;                  /* under the lock: nobody takes anything any more */
};

/* --- one after the other --- */

static bool append(struct receiver *receiver, struct arrived *arrived)
{
    mutex_lock(&receiver->lock);
    bool open = !receiver->closed;
    if (open && receiver->first)
        receiver->last->next = arrived;
    else if (open)
        receiver->first = arrived;
    if (open)
        receiver->last = arrived;
    cond_signal(&receiver->any);
    mutex_unlock(&receiver->lock);
    return open;
}

static void on_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    struct arrived *arrived = calloc(1, sizeof *arrived);
    (void)nc;
    (void)sub;
    if (arrived)
        arrived->msg = msg;
    if (arrived && append(closure, arrived))
        return;
    natsMsg_Destroy(msg);
    free(arrived);
}

static struct receiver *receiver_new(struct client *client)
{
    struct receiver *receiver = calloc(1, sizeof *receiver);
    if (!receiver)
        return NULL;
    receiver->nc = client->nc;
    mutex_init(&receiver->lock);
    cond_init(&receiver->any);
    receiver->older = client->receivers;
    client->receivers = receiver;
    return receiver;
}

natsStatus receiver_open(struct client *client, const char *subject, const char *queue,
                         struct receiver **out)
{
    struct receiver *receiver = receiver_new(client);
    if (!receiver)
        return NATS_NO_MEMORY;
    natsStatus status =
        queue ? natsConnection_QueueSubscribe(&receiver->sub, client->nc, subject, queue,
                                              on_message, receiver)
              : natsConnection_Subscribe(&receiver->sub, client->nc, subject, on_message, receiver);
    if (status == NATS_OK)
        status = natsSubscription_SetPendingLimits(receiver->sub, -1, -1);
    *out = receiver;
    return status;
}

static natsMsg *take(struct receiver *receiver)
{
    struct arrived *arrived = receiver->first;
    if (!arrived)
        return NULL;
    natsMsg *msg = arrived->msg;
    receiver->first = arrived->next;
    free(arrived);
    return msg;
}

static void wait_until(struct receiver *receiver, uint64_t until_ns)
{
    must_hold(&receiver->lock);
    cond_wait_until(&receiver->any, &receiver->lock, until_ns);
}

natsStatus receiver_next(struct receiver *receiver, int64_t timeout_ms, natsMsg **msg)
{
    uint64_t now_ns = clock_now_ns(), deadline_ns = now_ns + (uint64_t)(timeout_ms * NS_PER_MS);
    bool closed = false;
    mutex_lock(&receiver->lock);
    while (!(*msg = take(receiver)) && now_ns < deadline_ns && !closed) {
        uint64_t look_ns = now_ns + (uint64_t)(LOOK_MS * NS_PER_MS);
        wait_until(receiver, look_ns < deadline_ns ? look_ns : deadline_ns);
        mutex_unlock(&receiver->lock);
        closed = natsConnection_IsClosed(receiver->nc); /* takes locks of nats.c's */
        mutex_lock(&receiver->lock);
        now_ns = clock_now_ns();
    }
    mutex_unlock(&receiver->lock);
    return *msg ? NATS_OK : closed ? NATS_CONNECTION_CLOSED : NATS_TIMEOUT;
}

/* Messages have to go before nats.c ends: to destroy one takes a lock of the library's. */
static void close_one(struct receiver *receiver)
{
    natsMsg *msg;
    natsSubscription_Destroy(receiver->sub);
    mutex_lock(&receiver->lock);
    receiver->closed = true;
    while ((msg = take(receiver)) != NULL)
        natsMsg_Destroy(msg);
    mutex_unlock(&receiver->lock);
}

void receiver_close(struct receiver *receiver)
{
    for (; receiver; receiver = receiver->older)
        close_one(receiver);
}

void receiver_free(struct receiver *receiver)
{
    while (receiver) {
        struct receiver *older = receiver->older;
        cond_destroy(&receiver->any);
        mutex_destroy(&receiver->lock);
        free(receiver);
        receiver = older;
    }
}

/* --- what is sent --- */

static natsStatus make(const struct outgoing *message, const char *reply, natsMsg **msg)
{
    natsStatus status =
        natsMsg_Create(msg, message->subject, reply, message->data, (int)message->len);
    if (status == NATS_OK && message->headers)
        status = nats_fields_add(*msg, message->headers);
    return status;
}

static natsStatus publish(struct client *client, const struct outgoing *message, const char *reply)
{
    natsMsg *msg = NULL;
    natsStatus status = make(message, reply, &msg);
    if (status == NATS_OK)
        status = natsConnection_PublishMsg(client->nc, msg);
    natsMsg_Destroy(msg);
    return status;
}

natsStatus client_publish(struct client *client, const struct outgoing *message)
{
    return publish(client, message, message->reply);
}

/* --- requests --- */

/* One subscription for all replies, as soon as there is a request. */
static natsStatus open_inbox(struct client *client)
{
    char unique[23], pattern[300];
    const char *prefix = client->config->inbox_prefix;
    if (client->inbox)
        return NATS_OK;
    inbox_random(unique, 22);
    int len = snprintf(client->inbox_prefix, sizeof client->inbox_prefix, "%s.%s.",
                       prefix ? prefix : "_INBOX", unique);
    if (len >= (int)sizeof client->inbox_prefix)
        return NATS_INVALID_SUBJECT;
    snprintf(pattern, sizeof pattern, "%s*", client->inbox_prefix);
    return receiver_open(client, pattern, NULL, &client->inbox);
}

static bool nobody_serves(natsMsg *reply)
{
    struct header_block headers = nats_received_headers(reply);
    bool nobody = wire_no_responders(&headers, (size_t)natsMsg_GetDataLength(reply));
    header_block_clear(&headers);
    return nobody;
}

/* NATS tells a refusal apart from its request, and names the subject. */
static bool is_refused(natsConnection *nc, const char *subject)
{
    const char *text = NULL;
    char quoted[300];
    snprintf(quoted, sizeof quoted, "\"%s\"", subject);
    return natsConnection_GetLastError(nc, &text) == NATS_NOT_PERMITTED && text &&
           strcasestr(text, "publish") && strstr(text, quoted);
}

/* What answers an earlier request comes too late. */
static natsStatus next_on(struct receiver *inbox, const struct outgoing *message,
                          const char *subject, uint64_t deadline_ns, natsMsg **reply)
{
    for (;;) {
        int64_t left_ns = (int64_t)(deadline_ns - clock_now_ns());
        int64_t left_ms = left_ns > 0 ? (left_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
        natsStatus status = receiver_next(inbox, left_ms < LOOK_MS ? left_ms : LOOK_MS, reply);
        if (status == NATS_TIMEOUT && is_refused(inbox->nc, message->subject))
            return NATS_NOT_PERMITTED;
        if (status == NATS_TIMEOUT && left_ms > LOOK_MS)
            continue;
        if (status != NATS_OK || strcmp(natsMsg_GetSubject(*reply), subject) == 0)
            return status;
        natsMsg_Destroy(*reply);
    }
}

/* Of the last request. */
static void reply_subject(const struct client *client, char *subject, size_t size)
{
    snprintf(subject, size, "%s%u", client->inbox_prefix, client->requests);
}

natsStatus client_request(struct client *client, const struct outgoing *message, int64_t timeout_ns,
                          natsMsg **reply)
{
    char subject[320];
    uint64_t deadline_ns = clock_now_ns() + (uint64_t)timeout_ns;
    natsStatus status = open_inbox(client);
    *reply = NULL;
    if (status != NATS_OK)
        return status;
    client->requests++;
    reply_subject(client, subject, sizeof subject);
    status = publish(client, message, subject);
    if (status == NATS_OK)
        status = next_on(client->inbox, message, subject, deadline_ns, reply);
    if (status != NATS_OK || !nobody_serves(*reply))
        return status;
    natsMsg_Destroy(*reply);
    *reply = NULL;
    return NATS_NO_RESPONDERS;
}

natsStatus client_next_reply(struct client *client, const struct outgoing *message,
                             int64_t timeout_ns, natsMsg **reply)
{
    char subject[320];
    *reply = NULL;
    reply_subject(client, subject, sizeof subject);
    return next_on(client->inbox, message, subject, clock_now_ns() + (uint64_t)timeout_ns, reply);
}
