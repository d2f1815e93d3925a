/* child - the private nats-server of `moonbus dev`: JetStream on, loopback only.
 *
 * It runs in a process group of its own, so that Ctrl-C reaches us and not it: handlers finish
 * while their server is still there. It dies with us, whatever ends us; when it ends by itself, it
 * is started again. Its store is locked: two hosts never share one. The main thread's. */
#ifndef MOONBUS_APP_CHILD_H
#define MOONBUS_APP_CHILD_H

#include <uv.h>

#include "base/err.h"

struct child;

struct child_options {
    const char *binary; /* NULL: nats-server in PATH, /usr/sbin or /usr/local/sbin */
    int port;           /* 0: 4222 if it is free, else a free one */
    const char *folder; /* ".moonbus": for its log, its lock and the file `url`; made if absent */
    const char *store;  /* for JetStream's data; NULL: folder */
};

/* Starts it; does not wait until it serves. NULL with err. */
struct child *child_start(uv_loop_t *loop, const struct child_options *options, struct err *err);

/* Blocks until it accepts connections, then writes the file `url`. An error tells what it said. */
int child_wait_ready(struct child *child, uint64_t deadline_ns, struct err *err);

/* "nats://127.0.0.1:4222" */
const char *child_url(const struct child *child);

/* Blocks until it has ended: SIGTERM, and SIGKILL at deadline_ns. Its handles are closed; it is
 * freed by the loop. NULL is allowed. */
void child_stop(struct child *child, uint64_t deadline_ns);

#endif
