/* A deadline that the clock's thread moves by itself, and the engine's own view of its workers. */
#include "app/health.h"

#include "base/container.h"
#include "base/value.h"
#include "engine/engine.h"

#define BEAT_NS (1 * NS_PER_S)
#define BEAT_LATE_NS (10 * NS_PER_S)
/* Work that no worker has taken for so long: none of them lives. */
#define STALLED_NS (10 * NS_PER_S)

static void on_beat(struct deadline *deadline)
{
    struct health *health = container_of(deadline, struct health, beat);
    uint64_t now = clock_now_ns();
    atomic_store(&health->beat_ns, now);
    clock_arm(health->clock, deadline, now + BEAT_NS);
}

void health_begin(struct health *health, struct clock *clock)
{
    health->clock = clock;
    health->beat.on_due = on_beat;
    atomic_init(&health->beat_ns, clock_now_ns());
    clock_arm(clock, &health->beat, clock_now_ns());
}

void health_end(struct health *health)
{
    if (health->clock)
        clock_cancel(health->clock, &health->beat);
}

static bool clock_lives(const struct health *health)
{
    uint64_t beat_ns = atomic_load(&((struct health *)health)->beat_ns);
    return !health->clock || clock_now_ns() - beat_ns < BEAT_LATE_NS;
}

int health_look(const struct health *health, struct engine *engine,
                const char *troubles[HEALTH_TROUBLES_MOST])
{
    int count = 0;
    if (!clock_lives(health))
        troubles[count++] = "the clock's thread does not run";
    if (engine && engine_stalled_ns(engine) > STALLED_NS)
        troubles[count++] = "no worker takes work: all are stuck";
    return count;
}
