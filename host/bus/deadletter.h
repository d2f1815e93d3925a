/* deadletter - the last station of a message that cannot be processed.
 *
 * The safe order: publish it to the dead-letter subject under an id of its own, wait for the
 * PubAck, then +TERM (+ACK when the lease is lost by then). When it cannot be stored, the message
 * is nak'd: never lost. From its beginning to its end nobody else can settle the message. Headers
 * tell where it came from and why; those of the original that JetStream would act upon travel as
 * Moonbus-Orig-*. Too large with its headers: the error is shortened; still too large: a reference
 * only (stream and sequence), counted.
 *
 *   Moonbus-Stream, -Consumer, -Sequence, -Subject, -Attempt, -Timestamp, -Code, -Error
 *
 * Any thread. */
#ifndef MOONBUS_BUS_DEADLETTER_H
#define MOONBUS_BUS_DEADLETTER_H

#include "bus/bus.h"
#include "bus/delivery.h"

/* 0, or ERR_SETTLED: the message has its verdict, and nothing is sent.
 * subject: NULL: there is none, then terminated at once. nak_delay_ns: for when it cannot be
 * stored; then the log says so, and the consumer remembers that the message has had its runs: when
 * it comes again, it goes straight to the dead letter. */
int deadletter_send(struct bus *bus, struct delivery *delivery, const char *subject,
                    const struct err *reason, int64_t nak_delay_ns, struct err *err);

#endif
