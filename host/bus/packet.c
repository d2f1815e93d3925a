/* A received message, moved and freed. */
#include "bus/packet.h"

#include <stdlib.h>
#include <string.h>

/* What is larger than this is at least a quarter of the memory that it shares. */
#define OWN_BYTES 4096

struct packet packet_take(struct packet *from)
{
    struct packet packet = *from;
    *from = (struct packet){0};
    return packet;
}

static const char *append(char **at, const char *text, size_t len)
{
    char *copy = *at;
    memcpy(copy, text, len);
    copy[len] = '\0';
    *at += len + 1;
    return copy;
}

void packet_own(struct packet *packet)
{
    if (!packet->shared)
        return;
    size_t subject_len = strlen(packet->subject);
    size_t reply_len = packet->reply ? strlen(packet->reply) : 0;
    size_t size = subject_len + reply_len + packet->headers.len + packet->len + 4;
    char *memory = size <= OWN_BYTES ? malloc(size) : NULL, *at = memory;
    if (!memory)
        return;
    struct packet own = {.memory = memory, .free_memory = free, .len = packet->len};
    own.subject = append(&at, packet->subject, subject_len);
    own.reply = packet->reply ? append(&at, packet->reply, reply_len) : NULL;
    if (packet->headers.at)
        own.headers.at = append(&at, packet->headers.at, packet->headers.len);
    own.headers.len = packet->headers.len;
    own.data = append(&at, packet->data, packet->len);
    packet_clear(packet);
    *packet = own;
}

void packet_clear(struct packet *packet)
{
    if (packet->headers.owned) /* of hardly any */
        header_block_clear(&packet->headers);
    if (packet->free_memory)
        packet->free_memory(packet->memory);
    *packet = (struct packet){0};
}
