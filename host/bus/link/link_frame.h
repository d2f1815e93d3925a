/* link_frame - a message to be sent, as whoever sends it has it. */
#ifndef MOONBUS_BUS_LINK_LINK_FRAME_H
#define MOONBUS_BUS_LINK_LINK_FRAME_H

#include <stdbool.h>
#include <stddef.h>

struct headers;
struct link_flow;

/* Decides, on the thread that writes, whether a frame is still wanted when its turn has come: a
 * heartbeat of a settled delivery is not. This is what orders settlements and heartbeats. */
struct link_gate {
    /* False: the frame is dropped. */
    bool (*open)(struct link_gate *gate);
    /* Exactly once for each frame, last: `sent` when it was handed to a live connection. */
    void (*done)(struct link_gate *gate, bool sent);
};

/* A frame to send. Everything is borrowed for the call: link_send copies. */
struct link_frame {
    const char *subject;
    const char *reply; /* or NULL, or "": none */
    const void *data;
    size_t len;
    const struct headers *headers; /* or NULL */
    struct link_gate *gate;        /* or NULL */
    struct link_flow *flow;        /* whose it is, of this lane; NULL: the host's own */
    bool owed; /* for something that is bounded elsewhere, as one answer for each request: may use
                  room that the other frames of its flow leave */
};

#endif
