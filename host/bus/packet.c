/* A received message, moved and freed. */
#include "bus/packet.h"

struct packet packet_take(struct packet *from)
{
    struct packet packet = *from;
    *from = (struct packet){0};
    return packet;
}

void packet_clear(struct packet *packet)
{
    if (packet->headers.owned) /* of hardly any */
        header_block_clear(&packet->headers);
    if (packet->free_memory)
        packet->free_memory(packet->memory);
    *packet = (struct packet){0};
}
