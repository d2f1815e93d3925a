/* What is asked of a delivery: the id of its message, and what has become of it. */
#include "base/join.h"
#include "bus/consume/delivery.h"

static void join_id(struct join *id, const char *stream, int64_t timestamp_ns, const char *durable,
                    uint64_t sequence)
{
    join_text(id, stream);
    join_char(id, ':');
    join_number(id, (uint64_t)timestamp_ns);
    join_char(id, ':');
    join_text(id, durable);
    join_char(id, ':');
    join_number(id, sequence);
}

char *delivery_make_id(const char *stream, int64_t timestamp_ns, const char *durable,
                       uint64_t sequence, char *buf, size_t size)
{
    struct join id = join_in(buf, size);
    join_id(&id, stream, timestamp_ns, durable, sequence);
    return buf;
}

void delivery_join_id(const struct delivery *delivery, struct join *id)
{
    if (delivery->leases)
        join_id(id, delivery->stream, delivery->timestamp_ns, delivery->durable,
                delivery->stream_sequence);
}

char *delivery_id(const struct delivery *delivery, char *buf, size_t size)
{
    struct join id = join_in(buf, size);
    delivery_join_id(delivery, &id);
    return buf;
}

/* --- what has become of it --- */

enum verdict delivery_verdict(const struct delivery *delivery)
{
    return delivery_state_verdict(&delivery->state);
}

bool delivery_settled(const struct delivery *delivery)
{
    return delivery_state_is_taken(&delivery->state);
}

bool delivery_is_letters(const struct delivery *delivery)
{
    return delivery_state_is_letters(&delivery->state);
}

bool delivery_is_copied(const struct delivery *delivery)
{
    return delivery_state_is_copied(&delivery->state);
}

bool delivery_was_joined(const struct delivery *delivery)
{
    return delivery_state_joined(&delivery->state) > 0;
}
