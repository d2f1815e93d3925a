/* broker - a NATS server inside the process: subjects, queue groups, "no responders", and a
 * JetStream that lives in memory. It is what handlers are tested on without a server, and what a
 * simulation of the host runs on, thousands of times faster than the real time.
 *
 *   client ── broker_publish ─▶ subjects ─▶ queue of each client that subscribed ── broker_take ─▶
 *                                  │
 *                                  ├─▶ broker_stream    stores, answers with a PubAck
 *                                  ├─▶ broker_api       $JS.API.>: streams, consumers, requests
 *                                  └─▶ broker_consumer  $JS.ACK.>: verdicts; pulls, redeliveries
 *
 * It has no thread, no socket and no clock: its time stands until broker_advance moves it, and
 * everything happens inside the call that causes it. One thread at a time may use a broker and its
 * clients. It says only what a nats-server says: a spec runs the same scenarios on both.
 *
 * Of newer servers it has counters, a message's time to live, schedules at a time, and expectations
 * of another subject. What it does not have: atomic batches, repeated schedules, priority groups,
 * accounts and permissions, clusters, mirrors and sources, push consumers, key-value and object
 * stores' direct reads. What asks for one of these gets no answer, or the error of a server that is
 * too old for it. */
#ifndef MOONBUS_BROKER_BROKER_H
#define MOONBUS_BROKER_BROKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct broker;
struct broker_client;

struct broker_options {
    size_t max_payload; /* bytes of headers and data; 0: 1 MB */
    int64_t wall_ns;    /* the time of day (Unix) at which its own time is 0 */
    bool any_thread;    /* of links to it: each thread may write, as over a socket of our own; else
                           the writer alone, as through nats.c (broker_transport) */
    uint64_t seed;      /* chooses the member of a queue group that gets a message */
};

/* A message as a publisher hands it over, or as a packet shows it. Everything is borrowed. */
struct broker_message {
    const char *subject;
    const char *reply;   /* NULL: none */
    const char *headers; /* the whole block, "NATS/1.0..." to its empty line; NULL: none */
    size_t headers_len;
    const char *data;
    size_t len;
};

/* A message that came to a client; one block of memory. Behind the subject, the reply, the headers
 * and the data there is a NUL each. */
struct broker_packet {
    struct broker_packet *next;
    uint64_t sid; /* of the subscription that it came to */
    struct broker_message message;
    char bytes[];
};

/* NULL: out of memory. */
struct broker *broker_new(const struct broker_options *options);

/* And all its clients, streams and consumers. NULL is fine. */
void broker_free(struct broker *broker);

/* Moves the time, never back, and does what is due at now_ns at the latest: redeliveries, ends of
 * pull requests, idle heartbeats, messages that are too old. Returns when something is due next, or
 * UINT64_MAX. */
uint64_t broker_advance(struct broker *broker, uint64_t now_ns);

/* NULL: out of memory. The broker owns it until broker_disconnect, which ends its subscriptions and
 * drops what it has not taken. */
struct broker_client *broker_connect(struct broker *broker);
void broker_disconnect(struct broker_client *client);

/* sid: the client's own number of the subscription, not 0. queue: NULL for none. 0, ERR_INVALID for
 * a subject that is none, ERR_MEMORY. */
int broker_subscribe(struct broker_client *client, uint64_t sid, const char *subject,
                     const char *queue, struct err *err);

/* Nothing comes to it any more; what has come can still be taken. An unknown one is fine. */
void broker_unsubscribe(struct broker_client *client, uint64_t sid);

/* Copies. 0, ERR_TOO_LARGE, ERR_INVALID for a subject with a wildcard or no subject, ERR_MEMORY. */
int broker_publish(struct broker_client *client, const struct broker_message *message,
                   struct err *err);

/* The next new message that this durable delivers counts as delivered so often before. False: there
 * is no such durable. */
bool broker_count_from(struct broker *broker, const char *stream, const char *durable,
                       uint64_t deliveries);

/* A message lies in a stream as it lay in another server's: with that sequence, stored then, in the
 * place of all that the stream held. The durable delivers it next, wherever it would have begun.
 * Copies. False: there is no such stream or durable, or no memory. */
struct broker_placed {
    const char *stream, *durable;
    struct broker_message message;
    uint64_t sequence;
    int64_t timestamp_ns; /* since 1970 */
};
bool broker_place(struct broker *broker, const struct broker_placed *placed);

/* How many messages durables have not settled: delivered and not acknowledged, or not delivered
 * yet. */
uint64_t broker_unsettled(const struct broker *broker);

/* The next packet for the client, in the order in which they came; the caller's to free(). NULL:
 * there is none. */
struct broker_packet *broker_take(struct broker_client *client);

#endif
