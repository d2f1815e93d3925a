/* wire - the small formats around a NATS message: header fields, status replies, the reply
 * subject of a JetStream message, the PubAck.
 *
 * Pure functions over borrowed bytes; any thread. Sources: NATS client protocol, ADR-4 (headers),
 * ADR-15 and server/consumer.go (reply subject), ADR-1 (JetStream JSON API). */
#ifndef MOONBUS_BUS_WIRE_H
#define MOONBUS_BUS_WIRE_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Header fields to be sent: "Key\0value\0Key\0value\0", in order, several of one name allowed. */
struct headers {
    char *bytes; /* owned, unless it is `fixed`; may be NULL when empty */
    size_t len, capacity;
    unsigned count;
    char *fixed; /* borrowed, or NULL: of the first `capacity` bytes, which cost no allocation */
};

#define HEADERS_ROOM 256 /* enough for what most messages have */

/* Empty ones, whose first bytes are written to buf; that must live as long as they are used. */
static inline struct headers headers_in(char *buf, size_t size)
{
    return (struct headers){.bytes = buf, .capacity = size, .fixed = buf};
}

/* Appends a field. Refuses (ERR_INVALID, naming the field) an empty name, a name with ':' or
 * anything but printable ASCII without spaces, and CR, LF or NUL in a value. */
int headers_add(struct headers *headers, const char *name, const char *value, size_t value_len,
                struct err *err);
/* The same for one that comes from other headers: it has been looked at. */
int headers_copy(struct headers *headers, const char *name, const char *value, struct err *err);
/* The first value of a field, compared without case; NULL when absent. Borrowed. */
const char *headers_get(const struct headers *headers, const char *name);
/* Walks: *position starts at 0; false at the end. */
bool headers_next(const struct headers *headers, size_t *position, const char **name,
                  const char **value);
/* How many bytes the fields take on the wire, "NATS/1.0\r\n" and the last "\r\n" included; 0
 * when there are none. */
size_t headers_wire_size(const struct headers *headers);
void headers_clear(struct headers *headers);

/* The first value of a header of a received message, compared without case; NULL when absent.
 * Borrowed from the message. nats.c parses lazily: only the message's present owner may call. */
const char *wire_header(natsMsg *msg, const char *name);

/* A received message with no data and a Status header is a status. Returns its code (100, 404,
 * 408, 409, 503...), or 0 for an ordinary message. *description is "" when absent; borrowed. */
int wire_status(natsMsg *msg, const char **description);

/* How many messages of a pull request will not come: the Nats-Pending-Messages of a status. -1:
 * it does not say. */
int wire_pending(natsMsg *msg);

/* What the reply subject of a JetStream message tells:
 *   $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<timestamp>.<pending>
 * or with <domain>.<account hash> after ACK, and whatever may follow <pending>. The server counts
 * deliveries and sequences from 1; 0 is none of its subjects. */
struct ack_subject {
    char stream[256], consumer[256], domain[256]; /* domain: "" for none */
    uint64_t delivered, stream_sequence, consumer_sequence, pending;
    int64_t timestamp_ns;
};
bool wire_parse_ack_subject(const char *reply, struct ack_subject *out);

/* What JetStream stored. */
struct receipt {
    char stream[256];
    uint64_t sequence;
    bool duplicate;
};

/* Parses the reply to a JetStream publish. 0, or the error it tells: ERR_API, ERR_WRONG_SEQUENCE
 * (10071, 10164), ERR_TOO_LARGE (10054)...; *api_code gets JetStream's err_code (0 for none),
 * *transient whether trying again can help. */
int wire_parse_puback(const char *data, size_t len, struct receipt *out, int *api_code,
                      bool *transient, struct err *err);

#endif
