/* socket_transport - a server by way of nats.c and a socket of our own: nats.c makes each session,
 * what goes over it is ours.
 *
 *   nats.c ── its descriptor ──▶ [ pair of sockets ] ◀──▶ reader thread ◀── TCP ──▶ nats-server
 *                                                          │      ▲
 *   link's writer ── publish, subscribe ── bytes out ──────┼──────┘
 *   link  ◀── on_message, on_read_end, on_lost, on_back ───┘
 *
 * nats.c connects, authenticates, hears of other servers, and reconnects. When it has a session, we
 * keep the TCP socket, and put one end of a pair of sockets in the place of its descriptor. From
 * then on it talks to our reader, which answers its PINGs and hands the server's INFO and -ERR on
 * to it. Messages never pass through it.
 *
 * Each session proves itself: nats.c's next PING has to come to us, in clear. Where that does not
 * hold, this transport says so once, and goes by nats.c alone from then on, as nats_transport does.
 * So does each connection with TLS.
 *
 * One thread reads a connection and makes all its calls up, so those of one link come one at a
 * time. It is "mb-read" in `top -H` and gdb. */
#ifndef MOONBUS_BUS_LINK_SOCKET_TRANSPORT_H
#define MOONBUS_BUS_LINK_SOCKET_TRANSPORT_H

#include "bus/link/transport.h"

extern const struct transport_maker socket_transport_maker;

#endif
