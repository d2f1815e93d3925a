/* Consumer sequences that were skipped, and how long they are waited for. */
#include "bus/consume/gap.h"

#include "base/value.h"

/* For how long a durable is taken for shared. Longer than any pause in the traffic of a busy one;
 * short enough that a rolling restart, where two processes share for a moment, is forgotten. */
#define SHARED_NS (60 * NS_PER_S)

static bool is_shared(const struct gap *gap, uint64_t now_ns)
{
    return gap->shared_ns != 0 && now_ns < gap->shared_ns + (uint64_t)SHARED_NS;
}

static void note_shared(struct gap *gap, uint64_t now_ns)
{
    if (now_ns > gap->shared_ns)
        gap->shared_ns = now_ns;
}

static enum gap_event close_gap(struct gap *gap, enum gap_event event)
{
    gap->missing = 0;
    gap->upto = 0;
    return event;
}

void gap_broken(struct gap *gap, uint64_t until_ns)
{
    if (gap->last != 0)
        gap->broken_ns = until_ns;
}

/* Returns how many deliveries are missing now that were not before. */
static uint64_t left_out(struct gap *gap, uint64_t sequence, uint64_t now_ns)
{
    uint64_t last = gap->last;
    gap->last = sequence;
    /* The consumer was made anew, or its server has forgotten what it sent. What did not arrive is
     * sent again then, in its order. */
    if (sequence <= last)
        gap->newest = 0;
    if (last == 0 || sequence <= last + 1)
        return 0;
    if (now_ns >= gap->broken_ns || is_shared(gap, now_ns)) {
        note_shared(gap, now_ns);
        return 0;
    }
    return sequence - last - 1;
}

/* One that was not sent here before the break comes again, too: of a process that died, say. */
static bool was_missing(const struct gap *gap, const struct gap_delivery *delivery)
{
    uint64_t sequence = delivery->stream_sequence;
    return delivery->again && !delivery->known && sequence > gap->above &&
           (gap->upto == 0 || sequence <= gap->upto);
}

enum gap_event gap_arrived(struct gap *gap, const struct gap_delivery *delivery, int64_t wait_ns,
                           uint64_t now_ns)
{
    bool was_open = gap->missing > 0;
    uint64_t more = left_out(gap, delivery->consumer_sequence, now_ns);
    if (more > 0) {
        if (!was_open)
            gap->above = gap->newest;
        gap->missing += more;
        gap->upto = 0;
        gap->until_ns = now_ns + (uint64_t)wait_ns;
    }
    if (gap->missing > 0 && was_missing(gap, delivery))
        gap->missing--;
    /* First deliveries come in the order of the stream. */
    if (gap->missing > 0 && gap->upto == 0 && !delivery->again)
        gap->upto = delivery->stream_sequence - 1;
    if (!delivery->again && delivery->stream_sequence > gap->newest)
        gap->newest = delivery->stream_sequence;
    if (gap->missing > 0)
        return was_open ? GAP_NOTHING : GAP_OPENED;
    return close_gap(gap, was_open ? GAP_CLOSED : GAP_NOTHING);
}

enum gap_event gap_floor(struct gap *gap, uint64_t floor, uint64_t now_ns)
{
    if (gap->missing == 0 || gap->upto == 0 || floor < gap->upto)
        return GAP_NOTHING;
    note_shared(gap, now_ns); /* not by us: then it would have come again */
    return close_gap(gap, GAP_CLOSED);
}

enum gap_event gap_outstanding(struct gap *gap, uint64_t most)
{
    if (gap->missing <= most)
        return GAP_NOTHING;
    gap->missing = most;
    return most > 0 ? GAP_NOTHING : close_gap(gap, GAP_CLOSED);
}

enum gap_event gap_tick(struct gap *gap, uint64_t now_ns)
{
    if (gap->missing == 0 || now_ns < gap->until_ns)
        return GAP_NOTHING;
    note_shared(gap, now_ns);
    return close_gap(gap, GAP_GIVEN_UP);
}
