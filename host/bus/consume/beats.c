/* Heartbeats, in the order in which they are due. */
#include "bus/consume/beats.h"

#include <stddef.h>
#include <utlist.h>

#include "base/container.h"
#include "base/value.h"

/* What is due by itself wakes the clock, the writer, and with its flush the reader (10,000 messages
 * held for long, ack_wait 6 s: 6.6-8.3 % of a CPU, and 1.0-1.2 % in steps). */
#define STEPS 32
#define STEP_MOST_NS ((uint64_t)(250 * NS_PER_MS))

#define TICK_NS ((uint64_t)NS_PER_MS)

bool beats_init(struct beats *beats, uint64_t now_ns)
{
    beats->wheel = wheel_new(now_ns / TICK_NS);
    return beats->wheel != NULL;
}

void beats_clear(struct beats *beats)
{
    wheel_free(beats->wheel);
    beats->wheel = NULL;
}

static void keep_to(struct beats *beats, uint64_t ack_wait_ns)
{
    beats->ack_wait_ns = ack_wait_ns;
    beats->third_ns = ack_wait_ns / 3;
    beats->step_ns = beats->third_ns / STEPS;
    if (beats->step_ns > STEP_MOST_NS)
        beats->step_ns = STEP_MOST_NS;
}

/* A heartbeat is due after 86 % of the third at the earliest: by chance, and in whole steps. */
static uint64_t ripe_ns(const struct beats *beats, const struct beat *beat)
{
    return beat->since_ns + beats->third_ns / 4 * 3;
}

static struct beat *beat_of(struct wheel_timer *timer)
{
    return container_of(timer, struct beat, timer);
}

/* False: it was not in the list. */
static bool take_out(struct beats *beats, struct beat *beat)
{
    if (!beat->is_young)
        return wheel_remove(beats->wheel, &beat->timer);
    DL_DELETE(beats->young, &beat->timer);
    beat->timer.next = beat->timer.prev = NULL;
    beat->is_young = false;
    return true;
}

uint64_t beats_begin(struct beats *beats, struct beat *beat, uint64_t ack_wait_ns, uint64_t now_ns)
{
    struct wheel_timer *timer = &beat->timer;
    if (ack_wait_ns != beats->ack_wait_ns)
        keep_to(beats, ack_wait_ns);
    beat->since_ns = now_ns;
    beat->is_young = true;
    DL_APPEND(beats->young, timer);
    return ripe_ns(beats, beat);
}

struct beat *beats_ripe(struct beats *beats, uint64_t now_ns)
{
    struct beat *beat = beats->young ? beat_of(beats->young) : NULL;
    if (!beat || ripe_ns(beats, beat) > now_ns)
        return NULL;
    take_out(beats, beat);
    return beat;
}

/* Rounding up is what never gives one early. */
static void put_at(struct beats *beats, struct beat *beat, uint64_t at_ns)
{
    wheel_add(beats->wheel, &beat->timer, at_ns / TICK_NS + (at_ns % TICK_NS != 0));
}

uint64_t beats_put(struct beats *beats, struct beat *beat, uint64_t ack_wait_ns,
                   uint64_t renewed_ns, double chance, uint64_t since_ns)
{
    if (ack_wait_ns != beats->ack_wait_ns)
        keep_to(beats, ack_wait_ns);
    uint64_t at_ns =
        since_ns + beats->third_ns - (uint64_t)((double)(beats->third_ns / 10) * chance);
    uint64_t end_ns = renewed_ns + ack_wait_ns;
    if (beats->step_ns > 0)
        at_ns -= at_ns % beats->step_ns;
    if (at_ns > end_ns)
        at_ns = end_ns;
    take_out(beats, beat);
    if (wheel_count(beats->wheel) == 0)
        wheel_advance(beats->wheel, since_ns / TICK_NS); /* nearer ones come down fewer levels */
    put_at(beats, beat, at_ns);
    return at_ns;
}

bool beats_put_now(struct beats *beats, struct beat *beat, uint64_t now_ns)
{
    if (!take_out(beats, beat))
        return false;
    put_at(beats, beat, now_ns);
    return true;
}

void beats_remove(struct beats *beats, struct beat *beat)
{
    take_out(beats, beat);
}

struct beat *beats_take(struct beats *beats, uint64_t now_ns)
{
    wheel_advance(beats->wheel, now_ns / TICK_NS);
    struct wheel_timer *timer = wheel_take(beats->wheel);
    return timer ? beat_of(timer) : NULL;
}

uint64_t beats_next_ns(const struct beats *beats)
{
    uint64_t tick = wheel_next(beats->wheel);
    uint64_t due_ns = tick > UINT64_MAX / TICK_NS ? UINT64_MAX : tick * TICK_NS;
    uint64_t young_ns = beats->young ? ripe_ns(beats, beat_of(beats->young)) : UINT64_MAX;
    return due_ns < young_ns ? due_ns : young_ns;
}

bool beats_empty(const struct beats *beats)
{
    return !beats->young && wheel_count(beats->wheel) == 0;
}
