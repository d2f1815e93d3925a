/* retry_copy - the copy of a message that is to be tried again much later: where it lies, what its
 * headers say, and how it becomes the message again that it was. The step itself: retries.h.
 *
 *   MOONBUS_RETRIES, a work queue, with schedules (nats-server 2.12)
 *     moonbus.retries.<stream>.<durable>.<sequence>-<timestamp>.at    waits for its time,
 *     moonbus.retries.<stream>.<durable>.<sequence>-<timestamp>.due   when the server puts it here
 *
 * Stream, durable, sequence and timestamp are those of the message that was copied. Whoever may
 * publish there may write all of it.
 *
 * Pure but for retry_copy_open, which writes to its delivery. Any thread. */
#ifndef MOONBUS_BUS_CONSUME_RETRY_COPY_H
#define MOONBUS_BUS_CONSUME_RETRY_COPY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "bus/consume/delivery.h"
#include "bus/wire.h"

#define RETRIES_STREAM "MOONBUS_RETRIES"
#define RETRIES_SUBJECTS "moonbus.retries.>"

/* A name of a consumer, as a server takes it, is no longer. */
#define RETRY_DURABLE_BYTES 256

/* The durable that the copies of a durable's messages come by: "ORDERS=billing". False: there is no
 * such name, as the two are too long. */
bool retry_copy_durable(const char *stream, const char *durable, char *buf, size_t size);
/* And its filter. Returns buf. */
char *retry_copy_filter(const char *stream, const char *durable, char *buf, size_t size);
/* Where the copy of a delivery's message lies; end: "at", "due", or "*". Returns buf. */
char *retry_copy_subject(const struct delivery *delivery, const char *end, char *buf, size_t size);

/* The headers of the schedule by which the server makes it come at that time. ERR_INVALID: of the
 * message's own some cannot be sent again, so that it cannot be copied. ERR_MEMORY. */
int retry_copy_write(const struct delivery *delivery, int64_t at_ns, struct headers *headers,
                     struct err *err);

/* How often the message had been tried when the copy was made. 0: it does not say. */
uint64_t retry_copy_attempts(const struct header_block *headers);

/* The ack subject of what the copy was made of, the durable's message or an earlier copy of one of
 * its messages, or NULL: it says none, or another one. copies: the durable of copies. Returns buf.
 */
const char *retry_copy_origin(const struct packet *packet, const char *stream, const char *durable,
                              const char *copies, char *buf, size_t size);

/* A copy has come: its delivery becomes that of the message that was copied, of that stream and
 * durable, which must outlive it. Subject, headers, sequence, time and attempts are the message's,
 * its lease stays the copy's. ERR_INVALID: it is none. ERR_MEMORY. For the delivery's owner, before
 * it is handed on. */
int retry_copy_open(struct delivery *delivery, const char *stream, const char *durable);

#endif
