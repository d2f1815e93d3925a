/* server - the private nats-server of a load test: JetStream on, loopback only, at a port that
 * nobody knows, its data in a temporary folder. Whatever streams a test needs are made anew for
 * each round. The main thread's. */
#ifndef MOONBUS_CLI_TUNE_SERVER_H
#define MOONBUS_CLI_TUNE_SERVER_H

#include <nats/nats.h>

#include "base/err.h"
#include "cli/private_server.h"

struct cJSON;

struct tune_server {
    struct private_server own;
    natsConnection *nc; /* owned; the player's, too */
};

/* binary: NULL: as `moonbus dev` finds it. Blocks until it serves. tune_server_stop in any case. */
int tune_server_start(struct tune_server *server, const char *binary, struct err *err);
/* Ours to it. */
int tune_server_connect(struct tune_server *server, struct err *err);
/* Ends it, and removes the folder. One that has not begun is allowed. */
void tune_server_stop(struct tune_server *server);

const char *tune_server_url(const struct tune_server *server);

/* It is started again when it has ended: to be called now and then. */
void tune_server_look(struct tune_server *server);

/* Deletes all streams that there are, and makes these: a list of NATS' own settings. */
int tune_server_renew(struct tune_server *server, const struct cJSON *streams, struct err *err);

#endif
