/* The id of a delivery's message. */
#include "base/join.h"
#include "bus/consume/delivery.h"

char *delivery_make_id(const char *stream, int64_t timestamp_ns, const char *durable,
                       uint64_t sequence, char *buf, size_t size)
{
    struct join id = join_in(buf, size);
    join_text(&id, stream);
    join_text(&id, ":");
    join_number(&id, (uint64_t)timestamp_ns);
    join_text(&id, ":");
    join_text(&id, durable);
    join_text(&id, ":");
    join_number(&id, sequence);
    return buf;
}

char *delivery_id(const struct delivery *delivery, char *buf, size_t size)
{
    buf[0] = '\0';
    if (delivery->leases)
        delivery_make_id(delivery->stream, delivery->timestamp_ns, delivery->durable,
                         delivery->stream_sequence, buf, size);
    return buf;
}
