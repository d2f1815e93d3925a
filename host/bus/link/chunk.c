/* Chunks, as they are filled and used up. */
#include "bus/link/chunk.h"

#include <stdlib.h>
#include <string.h>

/* The shortest message that the parser takes, "MSG a 1 0", LF, and CR and LF. */
#define SHORTEST 12

/* With less room than this a read is not worth its call. */
#define READ_LEAST ((size_t)1024)

static void release(struct chunk *chunk, size_t references)
{
    if (references && atomic_fetch_sub(&chunk->references, references) == references)
        free(chunk);
}

void chunk_release(void *chunk)
{
    release(chunk, 1);
}

/* A block of a message's, or line's, own is filled for that alone. */
static bool has_room(const struct chunk_input *input, size_t more)
{
    size_t behind = input->chunk->capacity - input->to;
    if (input->chunk->capacity > CHUNK_BYTES)
        return more <= behind && input->from < input->to;
    return more <= behind && behind >= READ_LEAST;
}

/* As many as messages can be in it, and one of the reader's. */
static size_t full_stock(size_t capacity)
{
    return capacity / SHORTEST + 1;
}

/* Nobody has any of it: it may be filled from its beginning again, with all its references. */
static void begin_again(struct chunk_input *input)
{
    struct chunk *chunk = input->chunk;
    if (input->from < input->to || chunk->capacity > CHUNK_BYTES ||
        atomic_load(&chunk->references) != input->stock)
        return;
    input->stock = full_stock(chunk->capacity);
    atomic_store(&chunk->references, input->stock);
    input->from = input->to = 0;
}

bool chunk_make_room(struct chunk_input *input, size_t more)
{
    size_t there = input->to - input->from;
    if (input->chunk) {
        begin_again(input);
        if (has_room(input, more))
            return true;
    }
    size_t capacity = there + more < CHUNK_BYTES ? CHUNK_BYTES : there + more;
    struct chunk *next = malloc(sizeof *next + capacity);
    if (!next)
        return false;
    size_t stock = full_stock(capacity);
    atomic_init(&next->references, stock);
    next->capacity = capacity;
    if (there)
        memcpy(next->bytes, input->chunk->bytes + input->from, there);
    if (input->chunk)
        release(input->chunk, input->stock);
    *input = (struct chunk_input){next, 0, there, stock};
    return true;
}

struct chunk *chunk_hand_out(struct chunk_input *input)
{
    input->stock--;
    return input->chunk;
}

void chunk_take_back(struct chunk_input *input)
{
    input->stock++;
}

void chunk_input_clear(struct chunk_input *input)
{
    if (input->chunk)
        release(input->chunk, input->stock);
    *input = (struct chunk_input){0};
}
