/* connect - a plain connection of nats.c for commands that live for a moment: no writer thread, no
 * lanes; servers, authentication and TLS as the host itself has them. */
#ifndef MOONBUS_CLI_CONNECT_H
#define MOONBUS_CLI_CONNECT_H

#include <nats/nats.h>

#include "cli/cli.h"

struct client {
    const struct cli *cli; /* borrowed */
    struct config *config; /* owned */
    natsConnection *nc;    /* owned */
    sigset_t unblocked;    /* the signal mask before */
};

/* Loads the settings and connects. CLI_OK, or the exit status after it said why. lasting:
 * reconnects, and leaves signals blocked in the calling thread. Call client_close in any case. */
int client_open(struct client *client, const struct cli *cli, bool lasting);
void client_close(struct client *client);

/* "moonbus pub: text" to standard error. Returns CLI_FAILED. */
int client_failed(const struct client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Says what a status of nats.c means for this subject, as the host's own codes do. Returns
 * CLI_FAILED. */
int client_failed_status(const struct client *client, natsStatus status, const char *subject,
                         size_t len);

/* Flushes: everything is written, and the server has complained of what it refuses. CLI_OK, or
 * CLI_FAILED, said. */
int client_flush(const struct client *client, const char *subject);

#endif
