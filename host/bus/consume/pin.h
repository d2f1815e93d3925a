/* pin - one client of several is given all messages of a priority group (ADR-42, pinned_client):
 * which of our requests name the server's pin, until when it is kept, and whether it was lost.
 *
 *                      a message with another Nats-Pin-Id
 *   not pinned ──────────────────────────────────────────────▶ pinned ─┐ half of the timeout
 * without ▲  one request at a time, without an id                  │ ▲    │ a request: one that
 * keeps it └────────── 423 for a request that names it ─────────────┘ └────┘
 *
 * The server takes a pin away when no request names it for the consumer's priority_timeout: its
 * client may be dead. One whose handlers are all busy asks for nothing, and is not dead.
 *
 * Pure, a part of the pull machine. */
#ifndef MOONBUS_BUS_CONSUME_PIN_H
#define MOONBUS_BUS_CONSUME_PIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PIN_ID_BYTES = 64 };

struct pin {
    bool on; /* the consumer pins its clients */
    char
        id[PIN_ID_BYTES]; /* ""; the server gives the messages to somebody else, or to nobody yet */
    uint64_t from;        /* the request that was pinned: those with lower numbers do not name it */
    uint64_t kept_ns;     /* when a request last named it */
    int64_t timeout_ns;   /* the consumer's */
};

/* The consumer pins its clients, or does not; timeout_ns: 0 for the server's own. */
void pin_set(struct pin *pin, bool on, int64_t timeout_ns);

/* A message of that request came with this pin. True: it is a new one. */
bool pin_taken(struct pin *pin, uint64_t request, const char *id, size_t len, uint64_t now_ns);

/* The request with that number was refused for the pin that it names. True: it is lost, else it was
 * lost before. */
bool pin_refused(struct pin *pin, uint64_t request);

/* A request that names it has been made. */
void pin_kept(struct pin *pin, uint64_t now_ns);

/* When a request has to name it at the latest; UINT64_MAX: there is none. */
uint64_t pin_due_ns(const struct pin *pin);

/* Does the server still have it, and will when a message of now arrives there? Else it may have
 * pinned somebody else. */
bool pin_is_ours(const struct pin *pin, uint64_t now_ns);

#endif
