/* private_server - a nats-server of a command's own: JetStream on, loopback only, at a port that
 * nobody knows, its data in a temporary folder, which goes with it. The main thread's. */
#ifndef MOONBUS_CLI_PRIVATE_SERVER_H
#define MOONBUS_CLI_PRIVATE_SERVER_H

#include <stdbool.h>
#include <uv.h>

#include "base/err.h"

struct private_server {
    const char *command; /* "tune": whose it is; static */
    bool begun;          /* there is something to stop */
    uv_loop_t loop;
    struct child *child; /* owned */
    char folder[256];    /* "": none; goes with the server */
};

/* binary: NULL: as `moonbus dev` finds it. config: what it reads besides, as text; NULL: nothing.
 * Blocks until it serves. private_server_stop in any case. */
int private_server_start(struct private_server *server, const char *command, const char *binary,
                         const char *config, struct err *err);
/* Ends it, and removes the folder. One that has not begun is allowed. */
void private_server_stop(struct private_server *server);

const char *private_server_url(const struct private_server *server);

/* It is started again when it has ended: to be called now and then. */
void private_server_look(struct private_server *server);

#endif
