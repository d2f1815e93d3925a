/* nats_reason - why nats.c could not do something, in words for people who run the host. Any
 * thread; it is about the last call of this thread. */
#ifndef MOONBUS_BUS_LINK_NATS_REASON_H
#define MOONBUS_BUS_LINK_NATS_REASON_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The last error text of nats.c on this thread, if it belongs to this status, without the place in
 * its source at the beginning. Borrowed until the next call of nats.c. */
const char *nats_reason(natsStatus status);

/* Why this thread's last natsConnection_Connect failed (nats_tls_begin came before it). url: of the
 * one server that was tried, or NULL. ended: nats_watch ended it, after took_ns. May ask the
 * resolver. Returns buf. */
char *nats_reason_connect(natsStatus status, const char *url, bool ended, int64_t took_ns,
                          char *buf, size_t size);

#endif
