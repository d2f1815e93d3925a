/* receive - messages and replies, one after the other, for short-lived commands.
 *
 * The waiting calls of nats.c (NextMsg, RequestMsg) look into the headers of a message without data
 * before they hand it out, and lose some (bus/link/nats_received.h); if such a message has a status
 * of 503, they return an error. So messages come through callbacks here, into a queue:
 *
 *   nats.c's thread ─▶ on_message ─▶ queue ─▶ receiver_next
 *
 * One thread opens and receives. A receiver lives until its client is closed. */
#ifndef MOONBUS_CLI_RECEIVE_H
#define MOONBUS_CLI_RECEIVE_H

#include "bus/wire.h"
#include "cli/connect.h"

/* Subscribes; *out is the client's. queue: NULL for none. */
natsStatus receiver_open(struct client *client, const char *subject, const char *queue,
                         struct receiver **out);

/* The next message, the caller's; or NATS_TIMEOUT, or NATS_CONNECTION_CLOSED. */
natsStatus receiver_next(struct receiver *receiver, int64_t timeout_ms, natsMsg **msg);

/* For client_close; both act on this one and all that were opened before. receiver_close: nothing
 * more comes, and what was not taken is destroyed. receiver_free: when no thread of nats.c is left
 * that could still call back. */
void receiver_close(struct receiver *receiver);
void receiver_free(struct receiver *receiver);

/* What is sent; all of it borrowed. headers may be NULL. */
struct outgoing {
    const char *subject;
    const char *reply; /* NULL: none; a request has one of its own */
    const struct headers *headers;
    const char *data;
    size_t len;
};

natsStatus client_publish(struct client *client, const struct outgoing *message);

/* *reply: the caller's. A message with data, or with headers of its own, is a reply, whatever
 * status it has. NATS_NO_RESPONDERS: nobody serves the subject. NATS_NOT_PERMITTED: this user may
 * not publish to it. Else as receiver_next, or as client_publish. */
natsStatus client_request(struct client *client, const struct outgoing *message, int64_t timeout_ns,
                          natsMsg **reply);

/* One more reply to the last request, as client_request; nobody who serves is no answer any more.
 */
natsStatus client_next_reply(struct client *client, const struct outgoing *message,
                             int64_t timeout_ns, natsMsg **reply);

#endif
