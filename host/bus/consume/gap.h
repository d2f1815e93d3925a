/* gap - which deliveries did not arrive, told by the consumer sequences of those that did.
 *
 * A server numbers a consumer's deliveries one by one. When a connection is cut, or a leader dies,
 * those that were on their way are lost, and come again after ack_wait: after newer ones. Whoever
 * promises an order holds back what comes until they have.
 *
 *            a number is left out, soon after a break
 *   WHOLE ─────────────────────────────────────────────▶ MISSING
 *     ▲   as many have come again, or the ack floor has passed them │
 *     └────────────── or they are waited for no longer ─────────────┘
 *
 * A number that is left out at any other time was delivered to another process: then the durable is
 * shared, and for a while nothing is taken for missing, since nothing would come of it.
 *
 * Pure: no clock, no I/O, no lock. Callers may pass timestamps out of order. Owner: puller, under
 * its lock. */
#ifndef MOONBUS_BUS_CONSUME_GAP_H
#define MOONBUS_BUS_CONSUME_GAP_H

#include <stdbool.h>
#include <stdint.h>

/* All zero: nothing has arrived yet. */
struct gap {
    uint64_t last;      /* the consumer sequence that arrived last; 0: none */
    uint64_t newest;    /* of first deliveries that arrived: the highest stream sequence */
    uint64_t broken_ns; /* until then what is left out was lost in a break; 0: there was none */
    uint64_t missing;   /* deliveries that did not arrive */
    uint64_t above;     /* first deliveries that are missing have higher stream sequences */
    uint64_t upto;      /* no stream sequence above it is missing; 0: not known yet */
    uint64_t until_ns;  /* they are waited for until then */
    uint64_t shared_ns; /* when another process was last seen to be served; 0: never */
};

enum gap_event {
    GAP_NOTHING,
    GAP_OPENED,   /* something is missing */
    GAP_CLOSED,   /* it has come again, or was settled */
    GAP_GIVEN_UP, /* it is waited for no longer */
};

struct gap_delivery {
    uint64_t consumer_sequence, stream_sequence;
    bool again; /* not its first delivery */
    bool known; /* this process holds its message, or has settled it: it was not missing */
};

/* The connection, or the leader, has gone: what arrives next, until then, shows what was lost.
 * UINT64_MAX: it is not back yet. Before anything has arrived nothing was lost to us. */
void gap_broken(struct gap *gap, uint64_t until_ns);

/* A delivery has arrived. wait_ns: how long what is missing is waited for. */
enum gap_event gap_arrived(struct gap *gap, const struct gap_delivery *delivery, int64_t wait_ns,
                           uint64_t now_ns);
/* Everything up to that stream sequence is settled. */
enum gap_event gap_floor(struct gap *gap, uint64_t floor, uint64_t now_ns);
/* No more than that many deliveries can be missing: what the server has outstanding, less what this
 * process holds. A redelivery that is lost as well was counted twice. */
enum gap_event gap_outstanding(struct gap *gap, uint64_t most);
/* At until_ns, or at any time. */
enum gap_event gap_tick(struct gap *gap, uint64_t now_ns);

#endif
