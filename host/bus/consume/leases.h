/* leases - the deliveries of a consumer that have no verdict yet, with their heartbeats; and what
 * is remembered of those that had one: by stream sequence.
 *
 *   held       in their leases; a redelivery of one is joined. One deadline is for all of them: of
 *              the heartbeat that is due next (beats)
 *   settled    acked or terminated lately: a redelivery is answered again, and runs nothing
 *   condemned  their dead letter could not be stored: a redelivery goes there at once
 *
 * Owner: the consumer. Guarded by its puller's lock, which is held by the caller unless a function
 * says that it takes it. */
#ifndef MOONBUS_BUS_CONSUME_LEASES_H
#define MOONBUS_BUS_CONSUME_LEASES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "bus/consume/beats.h"

struct ack_subject;
struct delivery;
struct puller;

/* What was acked or terminated lately (direct-mapped). The server may not know: one that was frozen
 * redelivers before it reads the verdicts that wait in its socket, one that was killed had not
 * written them to disk, and a consumer that was created again starts at an older ack floor. */
#define SETTLED_SLOTS 4096

struct settled_message {
    uint64_t stream_sequence; /* 0: empty */
    int64_t timestamp_ns;     /* of the message: tells a stream that was made anew */
    uint64_t at_ns;           /* when it was settled */
};

/* A message whose dead letter could not be stored: where that was to go, and why. When the message
 * comes again it is sent there, and to no handler. */
struct condemned {
    uint64_t stream_sequence;
    int64_t timestamp_ns;
    int64_t nak_delay_ns;
    struct err reason;
    char subject[];
};

#define CONDEMNED_SLOTS 256

struct leases {
    struct puller *puller; /* whose lock it is; its references keep the leases, too */
    struct delivery **table;
    size_t table_mask;
    struct beats beats;              /* of those whose lease is not lost */
    struct deadline due;             /* holds a reference of the puller's while armed */
    uint64_t due_ns;                 /* when it is armed for; 0: it is not */
    bool ending;                     /* leases_end */
    struct settled_message *settled; /* owned; SETTLED_SLOTS */
    struct condemned *condemned[CONDEMNED_SLOTS]; /* owned; direct-mapped as `settled`, or NULL */
    struct delivery *blocks;       /* memory of deliveries that are over, by `next`, for those to
                                    * come; owned */
    struct delivery *_Atomic over; /* the same: those that were put there without the lock */
    atomic_int kept;               /* how many there are in both */
    unsigned pardons;              /* how often all of them were pardoned */
    uint64_t lost_told_ns;         /* a lost lease was last logged */
};

/* Of zeroed memory. False: out of memory; leases_clear in any case. most: about how many are held.
 */
bool leases_init(struct leases *leases, struct puller *puller, int most);
void leases_clear(struct leases *leases);

/* Puts it into the table, with a reference: its lease begins. Heartbeats come from the clock from
 * now on. */
void leases_hold(struct leases *leases, struct delivery *delivery, uint64_t now_ns);
/* Of one that is held: it has come here again. */
void leases_joined(struct leases *leases, struct delivery *delivery, uint64_t now_ns);
/* It has its verdict: takes it out (the reference goes to the caller), and remembers it. */
void leases_remove(struct leases *leases, struct delivery *delivery, uint64_t now_ns);
/* The delivery of the same message that is held; NULL. */
struct delivery *leases_find(const struct leases *leases, const struct ack_subject *ack);
/* Was it settled for good, and the server does not know? */
bool leases_was_settled(const struct leases *leases, const struct ack_subject *ack,
                        uint64_t now_ns);
/* What is held is renewed now, and then by the present ack_wait: the server's has become shorter.
 */
void leases_renew(struct leases *leases, uint64_t now_ns);
/* Takes the lock. No more messages come, but for a few: the deadline goes with the last lease. */
void leases_end(struct leases *leases);
/* One was found lost. True: say so in the log (once an outage), by leases_tell_lost. */
bool leases_note_lost(struct leases *leases, uint64_t now_ns);
/* Without the lock. */
void leases_tell_lost(const struct leases *leases);

/* Memory for a delivery, all zero; NULL: there is none. */
struct delivery *leases_block(struct leases *leases);
/* Any thread, without the lock, but with a reference of the puller's: the delivery is over. True:
 * its memory is the leases' now. False: the caller's still. */
bool leases_keep_block(struct leases *leases, struct delivery *delivery);

/* What is remembered of a message that comes again; the caller's to free. NULL: nothing. */
struct condemned *leases_take_condemned(struct leases *leases, const struct ack_subject *ack);
/* Takes why, and the lock. Remembers as many as it has room for. pardons: the delivery's; if there
 * was a pardon since it came, it is for this one, too. */
void leases_condemn(struct leases *leases, struct condemned *why, unsigned pardons);
/* Takes the lock. Removes all of them. */
void leases_pardon(struct leases *leases);

#endif
