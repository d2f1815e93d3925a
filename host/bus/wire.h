/* wire - the small formats around a NATS message: fields to be sent, status replies, the PubAck.
 *
 * Pure functions over borrowed bytes; any thread. Sources: NATS client protocol, ADR-4 (headers),
 * ADR-1 (JetStream JSON API). What reads headers as they came: header_block; the reply subject of a
 * JetStream message: ack_subject. */
#ifndef MOONBUS_BUS_WIRE_H
#define MOONBUS_BUS_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "bus/header_block.h"

/* Header fields to be sent, as the text that goes over the wire: "Name: value\r\n" for each, in
 * order, several of one name allowed. What is checked is checked when a field is added, so that no
 * field becomes two, and nobody has to look at them again on their way. */
struct headers {
    char *bytes; /* owned, unless it is `fixed`; may be NULL when empty */
    size_t len, capacity;
    unsigned count;
    char *fixed; /* borrowed, or NULL: of the first `capacity` bytes, which cost no allocation */
};

#define HEADERS_ROOM 256 /* enough for what most messages have */

/* What stands around the fields in the block that is sent. */
#define HEADERS_BEGIN "NATS/1.0\r\n"
#define HEADERS_END "\r\n"

/* Empty ones, whose first bytes are written to buf; that must live as long as they are used. */
static inline struct headers headers_in(char *buf, size_t size)
{
    return (struct headers){.bytes = buf, .capacity = size, .fixed = buf};
}

/* Appends a field. Refuses (ERR_INVALID, naming the field) an empty name, a name with ':' or
 * anything but printable ASCII without spaces, CR, LF or NUL in a value, and the 4097th field. */
int headers_add(struct headers *headers, const char *name, const char *value, size_t value_len,
                struct err *err);
/* The same under a name of the host's own, which nobody has to look at. */
int headers_add_own(struct headers *headers, struct span name, struct span value, struct err *err);
/* The same for one that comes from other headers: it has been looked at. */
int headers_copy(struct headers *headers, struct span name, struct span value, struct err *err);
/* Appends a field that was received. A CR or LF alone in its value goes as a space, as nats.c would
 * send it; a NUL is refused, and so is a name as above. */
int headers_add_received(struct headers *headers, struct span name, struct span value,
                         struct err *err);
/* The first value of a field, compared without case; {NULL, 0} when absent. Borrowed, and whole: no
 * spaces are taken off. */
struct span headers_get(const struct headers *headers, const char *name);
/* Walks: *position starts at 0; false at the end. */
bool headers_next(const struct headers *headers, size_t *position, struct header_field *field);
/* How many bytes the fields take on the wire, HEADERS_BEGIN and HEADERS_END included; 0 when there
 * are none. */
size_t headers_wire_size(const struct headers *headers);
/* Writes the block that is sent: headers_wire_size bytes, of which there must be some. Returns its
 * end. */
char *headers_write(const struct headers *headers, char *to);
/* The fields of a block that headers_write has written, to be walked. Borrowed. */
struct headers headers_of_block(const char *block, size_t len);
void headers_clear(struct headers *headers);

/* A status: an answer of the server's that is no message. It has no data, and three digits in its
 * version line, or in the field `Status`, which is how some clients hand the line on. */
struct wire_status {
    int code;    /* 100, 404, 408, 409, 503... */
    int pending; /* Nats-Pending-Messages: how many messages of a pull request will not come. -1: it
                    does not say */
    char description[128]; /* "" when absent; cut when it is longer */
};

/* Reads one. False: it is none. A publisher can write all of this, too: call it only where no
 * publisher can have sent the message (one with an ack subject is a delivery, whatever it says). */
bool wire_status(const struct header_block *headers, size_t data_len, struct wire_status *out);

/* Does nobody serve the subject of a request? The server's answer has the status 503, and beside it
 * at most the subject (2.11 and newer). With any other field, or data, it is the reply of a service
 * that says 503. */
bool wire_no_responders(const struct header_block *headers, size_t data_len);

/* How many bytes of data were left out, because its consumer delivers headers only; 0: it has all
 * of them. */
unsigned long long wire_left_out(const struct header_block *headers, size_t data_len);

/* What JetStream stored. */
struct receipt {
    char stream[256];
    uint64_t sequence;
    bool duplicate;
    bool retried;    /* the outbox: it was sent more than once */
    char value[128]; /* of a counter, in decimal: the sum with this; "": none, or it is longer */
    const char *subject; /* borrowed: of what was published, from the outbox; else NULL */
    struct span id;      /* the same */
};

/* Parses the reply to a JetStream publish. 0, or the error it tells: ERR_API, ERR_WRONG_SEQUENCE
 * (an expectation that is not met), ERR_TOO_LARGE...; *api_code gets JetStream's err_code (0 for
 * none), *transient whether trying again can help. ERR_UNAVAILABLE: the stream, whose
 * name out has, says that it knows the id, but not where the message is. */
int wire_parse_puback(const char *data, size_t len, struct receipt *out, int *api_code,
                      bool *transient, struct err *err);

#endif
