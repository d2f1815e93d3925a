/* deadletter - the last station of a message that cannot be processed.
 *
 * The safe order: publish it to the dead-letter subject under an id of its own, wait for the
 * PubAck, then +TERM (+ACK when the lease is lost by then). When it cannot be stored, the message
 * is nak'd: never lost. From its beginning to its end nobody else can settle the message. Headers
 * tell where it came from and why; those of the original that JetStream would act upon, or that
 * would speak for the letter, travel as Moonbus-Orig-*. Too large with its headers: the error is
 * shortened. Still too large, or more than 1000 headers: a reference only (stream and sequence).
 * What a headers_only consumer delivered has no data: its original is fetched first; when it cannot
 * be, a reference.
 *
 *   Moonbus-Stream, -Consumer, -Sequence, -Subject, -Attempt, -Timestamp, -Code, -Error, -Hops
 *
 * Dead letters may be consumed, and die again. When they come back to where they began, by way of
 * other streams and other hosts, of which no host sees the whole, only the letters tell: each
 * counts how often it has been one (-Hops). After DEADLETTER_HOPS_MOST in a row the next is stored
 * where nobody consumes it: in DEADLETTER_CIRCLES, which is made when it is needed. So it goes
 * round no more, and is there: anybody may write the header.
 *
 * Any thread. */
#ifndef MOONBUS_BUS_CONSUME_DEADLETTER_H
#define MOONBUS_BUS_CONSUME_DEADLETTER_H

#include "base/log.h"
#include "bus/consume/delivery.h"

#define DEADLETTER_HOPS_MOST 8

#define DEADLETTER_CIRCLES "MOONBUS_DEAD"
#define DEADLETTER_CIRCLES_SUBJECTS "moonbus.dead.>"
#define DEADLETTER_SUBJECT_BYTES 800

/* Where its dead letter goes, if subject is stated for it (NULL: none is): there; or, when it has
 * been one so often, to DEADLETTER_CIRCLES, by a subject in buf; NULL: nowhere, as it comes from
 * there. The log says what is not as stated, with reason's sentence. context: what the log knows of
 * the message. buf: of DEADLETTER_SUBJECT_BYTES. */
const char *deadletter_target(const struct delivery *delivery, const char *subject,
                              const struct log_context *context, const struct err *reason,
                              char *buf);

/* What goes along with a letter, and hears how it ended. */
struct letter_escort {
    char traceparent[64]; /* in the place of the original's; "": that goes along */
    /* Once; the escort is its owner's again. err: NULL: it is stored. Any thread. */
    void (*on_end)(struct letter_escort *escort, const struct err *err);
};

/* 0, or ERR_SETTLED: the message has its verdict, and nothing is sent. escort: NULL, or called in
 * any case.
 * subject: NULL: there is none, then terminated at once. nak_delay_ns: for when it cannot be
 * stored; then the log says so, and the consumer remembers that the message has had its runs: when
 * it comes again, it goes straight to the dead letter. */
int deadletter_send(struct delivery *delivery, const char *subject, const struct err *reason,
                    int64_t nak_delay_ns, struct letter_escort *escort, struct err *err);

#endif
