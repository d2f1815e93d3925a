/* lookup - are the names of servers resolved in time? nats.c waits for a resolver for as long as
 * that likes, and nothing ends such a wait; so each name is asked for here first, all at once, on
 * threads that are left to themselves when the time is over.
 *
 *   lookup_servers ── a thread for each name ──▶ getaddrinfo ──▶ answered, or too late
 *
 * nats.c asks again when it connects: a resolver that has just answered does so once more. */
#ifndef MOONBUS_CLI_LOOKUP_H
#define MOONBUS_CLI_LOOKUP_H

#include <stdint.h>

/* Of the URLs those whose host is an address, or a name that the resolver has answered for within
 * timeout_ns, whatever it said: into kept, which has room for count, in their order. How many; all
 * of them when there is no memory or thread to find out. Blocks. */
int lookup_servers(const char *const *urls, int count, int64_t timeout_ns, const char **kept);

#endif
