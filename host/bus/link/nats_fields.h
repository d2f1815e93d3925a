/* nats_fields - header fields to be sent, handed to a message of nats.c.
 *
 * The library has no way to take a block as it is: it wants each name and each value as a text of
 * its own, keeps them in a hash, and writes the same block of them again. Any thread that has the
 * message. */
#ifndef MOONBUS_BUS_LINK_NATS_FIELDS_H
#define MOONBUS_BUS_LINK_NATS_FIELDS_H

#include <nats/nats.h>

#include "bus/wire.h"

/* Copies the fields. An error of the library's; then some of them may be there. */
natsStatus nats_fields_add(natsMsg *msg, const struct headers *fields);

#endif
