/* nats_received - the headers of a message that nats.c has received: the one place that knows how
 * the library lays a message out, and the only one that may ask it for headers.
 *
 * Before 3.11 the library takes an empty value for the beginning of the next line, so that
 * `tracestate:` swallows the `traceparent:` behind it, and when it is the last one all headers are
 * lost. It also writes into the block while it reads. So the block is read where it lies, by
 * header_block:
 *
 *   subject NUL [reply NUL] [block NUL] data NUL
 *
 * That this is the layout is seen once, at a message of our own; that a block is there, at each
 * one. Where something does not fit, the library is asked, and what it tells is written down as a
 * block. That holds for a message of natsSubscription_NextMsg or a request of the library, too,
 * when it has no data: it was read there already. So whoever wants headers takes messages by a
 * callback. */
#ifndef MOONBUS_BUS_LINK_NATS_RECEIVED_H
#define MOONBUS_BUS_LINK_NATS_RECEIVED_H

#include <nats/nats.h>

#include "bus/packet.h"

/* The headers, borrowed from the message, unless the library had to be asked: header_block_clear in
 * any case. Any thread; the first one that has the message, before others can see it. */
struct header_block nats_received_headers(natsMsg *msg);

/* The whole message; takes msg, and the packet gives it to reap. In nats.c's callback. */
struct packet nats_received_packet(natsMsg *msg);

#endif
