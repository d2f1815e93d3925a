/* ack_subject - what the reply subject of a JetStream message says:
 *
 *   $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<timestamp>.<pending>
 *
 * or with <domain>.<account hash> after ACK, and whatever may follow <pending>. The server counts
 * deliveries and sequences from 1; 0 is none of its subjects.
 *
 * All that comes to a consumer has the same names before its numbers. So whoever reads many of them
 * keeps the names of the last one (struct ack_names): where they are the same again, what is left
 * to do is to compare them, and to read the numbers. Other names, a stranger's say, are looked at
 * one by one, as if nothing had come before.
 *
 * Pure functions over borrowed bytes; any thread. Sources: ADR-15, and server/consumer.go. */
#ifndef MOONBUS_BUS_ACK_SUBJECT_H
#define MOONBUS_BUS_ACK_SUBJECT_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/header_block.h"

struct ack_subject {
    struct span stream, consumer, domain; /* borrowed from it; domain: {NULL, 0} for none */
    uint64_t delivered, stream_sequence, consumer_sequence, pending;
    int64_t timestamp_ns;
};

/* False: it is none, or not as a server writes it. reply may be NULL. */
bool ack_subject_read(const char *reply, struct ack_subject *out);

enum { ACK_NAMES_MAX = 512 };

/* What the last one began with; all zero: there was none. Of whoever reads, one thread at a time.
 */
struct ack_names {
    char text[ACK_NAMES_MAX];             /* "$JS.ACK.ORDERS.billing." */
    size_t len;                           /* 0: not known */
    struct span stream, consumer, domain; /* in `text` */
    bool is_long;                         /* a domain and an account hash are among them */
};

/* The same. Where the names are as they were the last time, those in *out are borrowed from
 * `names`, else from reply. */
bool ack_subject_read_next(struct ack_names *names, const char *reply, struct ack_subject *out);

#endif
