/* nats_watch - the sockets of nats.c while they are being connected. They are those without
 * FD_CLOEXEC: all other descriptors of the process have it from the start, and
 * nats_watch_close_on_exec sets it on each socket as soon as that is connected.
 *
 * Why they have to be watched: nats.c before 3.8 does not end a connect by its own deadline once
 * the server has said INFO. It waits for the PONG without sleeping and for ever, with the
 * connection's lock held (and in a TLS handshake it sleeps, for ever); 30 to 60 MB are gone after
 * some seconds. When its socket is shut down, it ends.
 *
 * Not locked, but for `ended`: one thread at a time. Never blocks for long: it reads /proc/self/fd.
 */
#ifndef MOONBUS_BUS_LINK_NATS_WATCH_H
#define MOONBUS_BUS_LINK_NATS_WATCH_H

#include <nats/nats.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NATS_WATCH_SEEN 16
#define NATS_WATCH_PORTS 64

struct nats_watch {
    /* A socket was shut down. Any thread may ask; cleared before each connect. */
    atomic_bool ended;
    uint16_t ports[NATS_WATCH_PORTS]; /* of the servers; 0 ends them */
    struct {
        uint64_t inode; /* 0: free */
        uint64_t since_ns;
        bool here; /* seen this time */
    } seen[NATS_WATCH_SEEN];
};

/* Adds a server's port; one too many is left out. */
void nats_watch_port(struct nats_watch *watch, unsigned port);

/* Looks at the sockets that are being connected to one of the ports, and shuts down those that were
 * there most_ns ago. */
void nats_watch_look(struct nats_watch *watch, uint64_t now_ns, uint64_t most_ns);

/* How often to look, so that none gets much older than most_ns. */
uint64_t nats_watch_period_ns(uint64_t most_ns);

/* The connection is made: programs that a script starts do not inherit its socket, which is found
 * by its address, and it is watched no more. */
void nats_watch_close_on_exec(natsConnection *nc);
/* How long the network takes to its server and back, as the kernel's TCP knows it; 0: it does not
 * say. Sends nothing, and waits for nothing. */
uint64_t nats_watch_rtt_ns(natsConnection *nc);

#endif
