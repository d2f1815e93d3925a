/* What is done with a connection of nats.c: messages and subscriptions, on the writer's thread. */
#include <stdlib.h>
#include <string.h>

#include "base/value.h"
#include "bus/link/nats_fields.h"
#include "bus/link/nats_reap.h"
#include "bus/link/nats_received.h"
#include "bus/link/nats_session.h"

/* How long a drain without a connection waits for what has been received already. */
#define LOCAL_DRAIN_MS 200

struct nats_sub {
    struct transport_sub sub; /* first: the calls cast back */
    natsSubscription *handle; /* owned */
    struct transport_handler handler;
};

/* --- messages --- */

static natsStatus publish_with_headers(natsConnection *nc, const struct transport_message *message,
                                       const char *subject, const char *reply)
{
    natsMsg *msg = NULL;
    const struct headers fields = headers_of_block(message->headers.at, message->headers.len);
    natsStatus status =
        natsMsg_Create(&msg, subject, reply, message->data.at, (int)message->data.len);
    if (status == NATS_OK)
        status = nats_fields_add(msg, &fields);
    if (status == NATS_OK)
        status = natsConnection_PublishMsg(nc, msg);
    nats_reap_later(msg);
    return status;
}

static natsStatus publish(natsConnection *nc, const struct transport_message *message)
{
    char room[2][TRANSPORT_LINE_MAX];
    const char *subject = transport_text(message->subject, room[0]);
    const char *reply = transport_text(message->reply, room[1]);
    const void *data = message->data.at;
    int len = (int)message->data.len;
    if (message->headers.len)
        return publish_with_headers(nc, message, subject, reply);
    if (reply)
        return natsConnection_PublishRequest(nc, subject, reply, data, len);
    return natsConnection_Publish(nc, subject, data, len);
}

enum transport_sent nats_publish(struct transport *transport,
                                 const struct transport_message *message, const char **why)
{
    natsStatus status = publish(nats_of(transport)->nc, message);
    switch (status) {
    case NATS_OK:
        return TRANSPORT_SENT;
    case NATS_INVALID_ARG:
    case NATS_INVALID_SUBJECT:
    case NATS_MAX_PAYLOAD:
    case NATS_NO_SERVER_SUPPORT:
    case NATS_NO_MEMORY:
        *why = natsStatus_GetText(status);
        return TRANSPORT_REFUSED;
    default:
        /* The connection: nats.c shuts the socket down when a write fails, so a message of which a
         * part was written is none for the server, and may be written again. */
        return TRANSPORT_HELD;
    }
}

/* What is gathered while a PONG is waited for costs less than what goes at once. */
bool nats_push(struct transport *transport)
{
    (void)transport;
    return false;
}

enum transport_pong nats_ping(struct transport *transport, int64_t wait_ns)
{
    natsConnection *nc = nats_of(transport)->nc;
    int64_t wait_ms = wait_ns / NS_PER_MS;
    natsStatus status = natsConnection_FlushTimeout(nc, wait_ms > 0 ? wait_ms : 1);
    if (status == NATS_TIMEOUT)
        return TRANSPORT_NO_PONG;
    return status == NATS_OK && natsConnection_Status(nc) == NATS_CONN_STATUS_CONNECTED
               ? TRANSPORT_PONG
               : TRANSPORT_NO_PING;
}

uint64_t nats_network_rtt_ns(struct transport *transport)
{
    return nats_watch_rtt_ns(nats_of(transport)->nc);
}

void nats_disconnect(struct transport *transport)
{
    struct nats_transport *nats = nats_of(transport);
    natsConnection_Destroy(nats->nc);
    nats->nc = NULL;
}

/* --- subscriptions --- */

/* On nats.c's delivery thread. What else its reader has read is not known here: each message is a
 * read of its own. */
static void on_message(natsConnection *nc, natsSubscription *handle, natsMsg *msg, void *closure)
{
    const struct nats_sub *sub = closure;
    const struct transport_events *events = &nats_of(sub->sub.transport)->events;
    struct packet packet = nats_received_packet(msg);
    (void)nc;
    (void)handle;
    sub->handler.on_message(sub->handler.owner, &packet);
    if (packet.subject) /* it was not taken */
        packet_clear(&packet);
    events->on_read_end(events->owner);
}

static void on_complete(void *closure)
{
    const struct nats_sub *sub = closure;
    sub->handler.on_end(sub->handler.owner);
}

static natsStatus subscribe(natsConnection *nc, struct nats_sub *sub, const char *subject,
                            const char *queue)
{
    if (queue)
        return natsConnection_QueueSubscribe(&sub->handle, nc, subject, queue, on_message, sub);
    return natsConnection_Subscribe(&sub->handle, nc, subject, on_message, sub);
}

enum transport_subscribed nats_subscribe(struct transport *transport, const char *subject,
                                         const char *queue, const struct transport_handler *handler,
                                         struct transport_sub **out, const char **why)
{
    struct nats_sub *sub = calloc(1, sizeof *sub);
    if (!sub) {
        *why = "out of memory";
        return TRANSPORT_UNSUBSCRIBED;
    }
    sub->sub = (struct transport_sub){transport, &nats_transport_kind};
    sub->handler = *handler;
    natsStatus status = subscribe(nats_of(transport)->nc, sub, subject, queue);
    if (status != NATS_OK) {
        free(sub);
        *why = status == NATS_CONNECTION_CLOSED ? NULL : natsStatus_GetText(status);
        return TRANSPORT_UNSUBSCRIBED;
    }
    *out = &sub->sub;
    natsSubscription_SetPendingLimits(sub->handle, -1, -1);
    /* It was closed in between, with its connection: the few bytes that a last call may read are
     * left. */
    if (natsSubscription_SetOnCompleteCB(sub->handle, on_complete, sub) != NATS_OK)
        return TRANSPORT_ASTRAY;
    return TRANSPORT_SUBSCRIBED;
}

void nats_drain(struct transport_sub *sub)
{
    /* 0: no deadline after which what is queued here would be dropped. When the connection goes,
     * nats.c ends the drain by itself. */
    natsSubscription_DrainTimeout(((struct nats_sub *)sub)->handle, 0);
}

void nats_unsubscribe(struct transport_sub *sub)
{
    natsSubscription_Unsubscribe(((struct nats_sub *)sub)->handle);
}

/* What nats.c has received, and not delivered yet, it would throw away with the subscription; and a
 * drain would wait for a PONG. */
void nats_await(struct transport_sub *sub)
{
    natsSubscription *handle = ((struct nats_sub *)sub)->handle;
    for (int i = 0; i < LOCAL_DRAIN_MS; i++) {
        int waiting = 0;
        if (natsSubscription_GetPending(handle, &waiting, NULL) != NATS_OK || waiting == 0)
            return;
        nats_Sleep(1);
    }
}

void nats_sub_free(struct transport_sub *sub)
{
    natsSubscription_Destroy(((struct nats_sub *)sub)->handle);
    free(sub);
}
