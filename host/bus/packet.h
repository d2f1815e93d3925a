/* packet - a message that was received: where its parts lie, and how their memory is freed.
 *
 * It is passed by value, and has one owner: packet_take moves it out of another packet and leaves
 * that one empty, so that nothing is freed twice. Its parts stay where they are while it moves.
 *
 *   transport ── on_message(packet) ─▶ inbox, consumer, subscription ── packet_take ─▶ delivery, op
 *
 * Any thread that has it; many may read it at a time. */
#ifndef MOONBUS_BUS_PACKET_H
#define MOONBUS_BUS_PACKET_H

#include <stdbool.h>
#include <stddef.h>

#include "bus/header_block.h"

/* All zero: empty. A NUL stands behind subject, reply and data. */
struct packet {
    const char *subject; /* NULL: the packet is empty */
    const char *reply;   /* or NULL */
    const char *data;    /* "" when there is none */
    size_t len;
    struct header_block headers; /* a status of the server's stands in its first line */
    void *memory;                /* owned: what holds all of these */
    /* Never blocks. NULL: nothing is to be freed. */
    void (*free_memory)(void *memory);
    bool shared; /* other packets have a part of the memory, which lives as long as one of them */
};

/* What it counts against a bound: whoever has published it wrote its headers, too. */
static inline size_t packet_bytes(const struct packet *packet)
{
    return packet->len + packet->headers.len;
}

/* Moves the packet out of `from`, which is empty then. */
struct packet packet_take(struct packet *from);

/* For whoever keeps it, who knows how long: gives it memory of its own, when it shares some that is
 * much larger. Its parts move. Out of memory: it goes on to share. */
void packet_own(struct packet *packet);

/* Frees what it holds; it is empty then. */
void packet_clear(struct packet *packet);

#endif
