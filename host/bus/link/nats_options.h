/* nats_options - natsOptions from the settings of a link: servers, authentication, TLS, times. In
 * one place, for the host's own connections and for commands that connect for a moment.
 *
 * Any thread; reads the files that are named. */
#ifndef MOONBUS_BUS_LINK_NATS_OPTIONS_H
#define MOONBUS_BUS_LINK_NATS_OPTIONS_H

#include <nats/nats.h>

#include "base/err.h"
#include "bus/link/link_options.h"

/* *nats: the caller's (natsOptions_Destroy), without callbacks. An error is what no waiting can
 * mend, such as an unreadable file or a bad URL; then it is NULL. */
int nats_options_make(const struct link_options *options, natsOptions **nats, struct err *err);

#endif
