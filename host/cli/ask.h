/* ask - asks a running host, at its admin endpoint: for commands that talk to one. The main thread;
 * blocks. */
#ifndef MOONBUS_CLI_ASK_H
#define MOONBUS_CLI_ASK_H

#include <stdbool.h>

#include "base/text.h"

struct cJSON;
struct cli;

/* What the host said. */
struct answer {
    char from[300]; /* the address that was asked */
    long status;
    struct text text;   /* owned */
    struct cJSON *json; /* owned; NULL: it is none */
};

/* Asks for that path, as configured, by GET or POST. 0, or an exit status, after it has said why.
 * answer_clear in any case. */
int cli_ask(struct cli *cli, const char *path, bool post, struct answer *answer);
void answer_clear(struct answer *answer);

#endif
