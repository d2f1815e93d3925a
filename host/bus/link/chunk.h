/* chunk - memory that is read into, and lives for as long as one of the messages in it.
 *
 *   reader ── recv ──▶ [ MSG ... | MSG ... | MS   ]        one chunk, several packets that borrow
 *                         ▲ packet     ▲ packet  └─ goes on in the next one: the piece is copied
 *
 * What a chunk may cost: a packet that is kept keeps its whole chunk. So a chunk is small (16 KB: a
 * hundred messages of 150 bytes, and no more than four times what a handler that waits takes
 * anyway), and a message that does not fit into one gets a block of its own length, with nothing
 * else in it: what is kept takes at most one chunk more than itself. That is for what waits in a
 * queue or for its handler, whose number is bounded. Who keeps messages for as long as a script
 * wants has them copied: small ones lie in their Lua object, and replies get memory of their own
 * (packet_own).
 *
 * A chunk begins with many references, which the reader hands out with its packets and gives back
 * at the end what is left: so a message costs one atomic operation, when it is freed. */
#ifndef MOONBUS_BUS_LINK_CHUNK_H
#define MOONBUS_BUS_LINK_CHUNK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define CHUNK_BYTES ((size_t)16 * 1024)

struct chunk {
    atomic_size_t references;
    size_t capacity;
    char bytes[];
};

/* The reader's view of the chunk that it reads into, of one thread. All zero: none yet. */
struct chunk_input {
    struct chunk *chunk;
    size_t from, to; /* what is there, and is not taken yet */
    size_t stock;    /* references that are not handed out */
};

/* Makes room for `more` bytes behind what is there, at least; to be read to chunk->bytes + to, up
 * to its capacity. False: out of memory. */
bool chunk_make_room(struct chunk_input *input, size_t more);

/* A reference for a packet, which frees it by chunk_release; chunk_take_back: it was not needed
 * after all. */
struct chunk *chunk_hand_out(struct chunk_input *input);
void chunk_take_back(struct chunk_input *input);

/* Any thread. chunk: a struct chunk. */
void chunk_release(void *chunk);

/* What is there is forgotten. */
void chunk_input_clear(struct chunk_input *input);

#endif
