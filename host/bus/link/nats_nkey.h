/* nats_nkey - the key of a user (ADR-14) as nats.c wants it: the public half beside the seed's
 * file. Pure. */
#ifndef MOONBUS_BUS_LINK_NATS_NKEY_H
#define MOONBUS_BUS_LINK_NATS_NKEY_H

#include <stdbool.h>

#define NATS_NKEY_PUBLIC 57 /* of a public key, with its NUL */

/* The first seed of a user ("SU...") in a text, as nats.c looks for it. NULL: there is none. */
const char *nats_nkey_seed(const char *text);

/* The public key ("U...") of such a seed. False: it is none. */
bool nats_nkey_public(const char *seed, char out[NATS_NKEY_PUBLIC]);

#endif
