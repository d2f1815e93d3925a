/* retries - long retries of a durable, where the server has schedules: a message that is to be
 * tried again much later leaves the durable, and comes again as a copy.
 *
 *   nak of more than after_ns ─▶ a schedule in MOONBUS_RETRIES ─ PubAck ─▶ ack
 *        at its time the server puts it on ....due ─▶ the durable of copies ─▶ the same handler
 *
 * Two steps, between which a host may end:
 *
 *   the copy is stored, the ack is not sent    The message comes again. Whoever gets a message
 *                                              again looks for its copy first (retries_look), and
 *                                              acks it where there is one.
 *   the copy comes first, as ack_wait is long  A copy that comes acks what it was made of, by the
 *                                              ack subject that it carries.
 *   the lease was lost while it was stored     Somebody else has the message: the schedule is
 *                                              removed, and nothing is sent for the message.
 *
 * What cannot be copied (large, headers only, a stream that does not answer) is nak'd with its
 * delay, as without all this. docs/internals/retries.md has the reasons.
 *
 * Any thread, unless it says otherwise. */
#ifndef MOONBUS_BUS_CONSUME_RETRIES_H
#define MOONBUS_BUS_CONSUME_RETRIES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "bus/consume/intake.h"

struct delivery;

/* Of a consumer: set before it starts, and read from then on. */
struct retries {
    int64_t after_ns;       /* a nak of more than that becomes a copy; 0: none does */
    char *stream, *durable; /* owned: whose messages are copied; NULL: nobody's */
    char *copies;           /* owned: the durable that they come by */
    bool brings;            /* the consumer is that one */
};

/* Of zeroed memory. 0, ERR_MEMORY, or ERR_INVALID: the names are too long together. */
int retries_init(struct retries *retries, const char *stream, const char *durable, bool brings,
                 int64_t after_ns, struct err *err);
void retries_clear(struct retries *retries);

/* Makes sure of MOONBUS_RETRIES: makes it, with as many replicas as that stream has, or looks
 * whether it serves. The server has schedules. Blocks. */
int retries_ensure(const struct intake *intake, const char *stream, uint64_t deadline_ns,
                   struct err *err);

/* Would retries_nak store a copy? */
bool retries_copies(const struct delivery *delivery, int64_t delay_ns);

/* delivery_settle with VERDICT_NAK, or a copy. */
int retries_nak(struct delivery *delivery, int64_t delay_ns, struct err *err);

/* On the delivery thread: a delivery of the durable of copies, which becomes that of the message.
 * False: it was none, and is settled and released. */
bool retries_open(const struct retries *retries, struct delivery *delivery);

/* Has this message, which has come again, a copy? Then it is acked. on_end gets the delivery back,
 * on any thread. False: nobody is asked. */
bool retries_look(struct delivery *delivery,
                  void (*on_end)(struct delivery *delivery, bool copied));

#endif
