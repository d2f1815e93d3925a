/* link_options - natsOptions from the settings of a link: servers, authentication, TLS, times. In
 * one place, for the host's own connections and for commands that connect for a moment.
 *
 * Any thread; reads the files that are named. */
#ifndef MOONBUS_BUS_LINK_OPTIONS_H
#define MOONBUS_BUS_LINK_OPTIONS_H

#include "bus/link.h"

/* *nats: the caller's (natsOptions_Destroy), without callbacks; it borrows options. *servers: the
 * caller's (free), the servers without credentials, for people. An error is what no waiting can
 * mend, such as an unreadable file or a bad URL; then both are NULL. */
int link_options_make(const struct link_options *options, natsOptions **nats, char **servers,
                      struct err *err);

/* The part of a URL that may be shown: "127.0.0.1:4222". Returns buf. */
char *link_shown_server(const char *url, char *buf, size_t size);

#endif
