/* child - the private nats-server of `moonbus dev`: JetStream on, loopback only.
 *
 * It runs in a process group of its own: Ctrl-C reaches us and not it, so handlers finish while
 * their server is still there. It dies with us, however we end. If it ends by itself, it is started
 * again. Its store is locked: two hosts never share one. Owner: the main thread. */
#ifndef MOONBUS_APP_CHILD_H
#define MOONBUS_APP_CHILD_H

#include <uv.h>

#include "base/err.h"

struct child;

struct child_options {
    const char *binary; /* NULL: nats-server in PATH, /usr/sbin or /usr/local/sbin */
    int port;           /* 0: 4222 if it is free, else a free one */
    bool apart;         /* 0 is any free port but that: nobody finds the server by chance */
    const char *folder; /* ".moonbus": for its log, its lock and the file `url`; made if absent */
    const char *store;  /* for JetStream's data; NULL: folder */
    const char *config; /* a file that it reads besides; NULL: none */
};

/* A port of 127.0.0.1 that nobody has at the moment; 0: there is none. */
int child_free_port(void);

/* Starts it; does not wait until it serves. NULL with err. */
struct child *child_start(uv_loop_t *loop, const struct child_options *options, struct err *err);

/* Blocks until it accepts connections, then writes the file `url`. An error has its own words. */
int child_wait_ready(struct child *child, uint64_t deadline_ns, struct err *err);

/* "nats://127.0.0.1:4222" */
const char *child_url(const struct child *child);

/* Blocks until it has ended: SIGTERM, then SIGKILL at deadline_ns. Closes its handles; the loop
 * frees it. NULL is allowed. */
void child_stop(struct child *child, uint64_t deadline_ns);

#endif
