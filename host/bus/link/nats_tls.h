/* nats_tls - TLS of a connection of nats.c: its files, the name that is asked for (SNI, which
 * nats.c leaves out), and why a handshake failed, in words that say what to do.
 *
 * What is noted of a handshake is the thread's: connecting runs on one thread, from nats_tls_begin
 * to nats_tls_trouble. */
#ifndef MOONBUS_BUS_LINK_NATS_TLS_H
#define MOONBUS_BUS_LINK_NATS_TLS_H

#include <nats/nats.h>

#include "base/err.h"
#include "bus/link/link_options.h"

/* Reads the files that options name into nats, if they ask for TLS or it is `required`. 0, or an
 * error that names the option. */
int nats_tls_apply(natsOptions *nats, const struct link_options *options, bool required,
                   struct err *err);

/* This thread is about to connect to host, a name or an address; "" for any. */
void nats_tls_begin(const char *host);

/* The server wanted TLS, though the options did not ask for it: nats.c went along, but without what
 * is added here. So the next try should ask. */
bool nats_tls_wanted(void);

/* Why the last handshake on this thread failed, as far as TLS knows. NULL: TLS is not why.
 * Borrowed until nats_tls_begin. */
const char *nats_tls_trouble(void);

/* Why the server would close the connection after the handshake without a word; NULL: TLS knows no
 * reason. */
const char *nats_tls_guess(void);

#endif
