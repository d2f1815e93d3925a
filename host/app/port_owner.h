/* port_owner - who listens at a port of this machine, as far as /proc shows it to this user: for an
 * error that would only say that it is taken. */
#ifndef MOONBUS_APP_PORT_OWNER_H
#define MOONBUS_APP_PORT_OWNER_H

#include <stddef.h>

/* " by nats-server, process 77 in /home/ada/shop", or "": it is not known. Reads all of
 * /proc/PID/fd: tens of ms. Returns buf. */
char *port_owner(int port, char *buf, size_t size);

#endif
