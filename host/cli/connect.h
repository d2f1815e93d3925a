/* connect - a plain connection of nats.c for short-lived commands: no writer thread, no lanes, but
 * the servers, authentication and TLS of the host itself. */
#ifndef MOONBUS_CLI_CONNECT_H
#define MOONBUS_CLI_CONNECT_H

#include <nats/nats.h>

#include "cli/cli.h"

struct client_guard;
struct receiver;

struct client {
    const struct cli *cli;      /* borrowed */
    struct config *config;      /* owned */
    natsConnection *nc;         /* owned */
    struct client_guard *guard; /* owned: ends connects that take too long */
    sigset_t unblocked;         /* the signal mask before */
    struct receiver *receivers; /* owned: all of them, the last one first */
    struct receiver *inbox;     /* of them: where replies come; NULL before the first request */
    char inbox_prefix[256];     /* of the subjects of replies */
    unsigned requests;          /* how many there were */
};

/* The settings, those of a `moonbus dev` that runs in this folder among them; says on standard
 * error where the server comes from, if nobody named it. *out: the caller's, in any case. path: of
 * the URL that dev wrote; "": it was not used. CLI_OK, or CLI_USAGE, after it has said why. */
int client_config(const struct cli *cli, struct config_sources *sources, char *path, size_t size,
                  struct config **out);

/* Loads the settings and connects. CLI_OK, or the exit status, after it has said why. lasting: it
 * reconnects, and leaves signals blocked in the calling thread. Call client_close in any case. */
int client_open(struct client *client, const struct cli *cli, bool lasting);
void client_close(struct client *client);

/* Where it is connected, without user and password. Returns buf, or what is in it. */
const char *client_server(const struct client *client, char *buf, size_t size);

/* "moonbus pub: text" to standard error. Returns CLI_FAILED. */
int client_failed(const struct client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Says what a status of nats.c means for this subject, as the host's own codes do. Returns
 * CLI_FAILED. */
int client_failed_status(const struct client *client, natsStatus status, const char *subject,
                         size_t len);

/* Flushes: afterwards everything is written, and the server has reported what it refuses. CLI_OK,
 * or CLI_FAILED, after it has said why. */
int client_flush(const struct client *client, const char *subject);

#endif
