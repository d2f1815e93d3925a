/* parse - what a NATS server sends, one operation after the other: MSG, HMSG, INFO, -ERR, +OK, PING
 * and PONG.
 *
 * The bytes are read where they lie, however the network has cut them: nothing is copied, nothing
 * is written, nothing is read past their end. A server is not trusted either: lines, payloads and
 * numbers are bounded, and what a length has promised must end with CR and LF, so that a stream
 * that is out of step is noticed at once.
 *
 * Pure; any thread. */
#ifndef MOONBUS_BUS_LINK_PARSE_H
#define MOONBUS_BUS_LINK_PARSE_H

#include <stddef.h>
#include <stdint.h>

#include "bus/header_block.h"

/* An INFO names each server of a cluster. */
#define PARSE_LINE_MAX ((size_t)1 << 20)
/* A server takes at most 64 MB, and adds header fields of its own. */
#define PARSE_PAYLOAD_MAX ((size_t)128 << 20)

enum parse_kind {
    PARSE_MORE,    /* the operation is not whole yet */
    PARSE_MESSAGE, /* MSG or HMSG */
    PARSE_INFO,
    PARSE_ERR,
    PARSE_OK,
    PARSE_PING,
    PARSE_PONG,
    PARSE_BROKEN, /* it is not NATS */
};

struct parsed {
    enum parse_kind kind;
    size_t len; /* of the whole operation; PARSE_MORE: of which at least so many bytes are needed */
    size_t seen;     /* PARSE_MORE: so many bytes are no end of a line */
    const char *why; /* PARSE_BROKEN; static */

    /* PARSE_MESSAGE; a byte that is no part of any of them stands behind each. */
    uint64_t sid;
    struct span subject;
    struct span reply;   /* {NULL, 0}: there is none */
    struct span headers; /* the same */
    struct span data;
};

/* The operation that begins at `at`. seen: 0, or that of the last time, when these are the same
 * bytes and more behind them: they are not looked at again. */
void parse_next(const char *at, size_t len, size_t seen, struct parsed *out);

#endif
