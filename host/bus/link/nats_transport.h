/* nats_transport - a server by way of nats.c alone.
 *
 * Its calls up come from threads of nats.c: one delivers the messages of all connections of the
 * process, another one tells what becomes of them. */
#ifndef MOONBUS_BUS_LINK_NATS_TRANSPORT_H
#define MOONBUS_BUS_LINK_NATS_TRANSPORT_H

#include "bus/link/transport.h"

extern const struct transport_maker nats_transport_maker;

#endif
