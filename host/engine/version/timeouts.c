/* One deadline, moved only when something is due before it. */
#include "engine/version/timeouts.h"

#include "base/container.h"
#include "engine/version/instance.h"
#include "engine/version/script.h"

static struct clock *clock_of(const struct instance *instance)
{
    return instance->scripts->clock;
}

/* The clock. The deadline's reference goes with the event. */
static void on_due(struct deadline *deadline)
{
    struct timeouts *timeouts = container_of(deadline, struct timeouts, deadline);
    timeouts->posted_ns = clock_now_ns();
    instance_post(container_of(timeouts, struct instance, timeouts), &timeouts->expiry);
}

void timeouts_init(struct timeouts *timeouts)
{
    dues_init(&timeouts->dues, clock_now_ns());
    timeouts->deadline.on_due = on_due;
    timeouts->armed_ns = UINT64_MAX;
}

void timeouts_clear(struct timeouts *timeouts)
{
    dues_clear(&timeouts->dues);
}

/* Before what it is armed for, if it is. While the event is on its way nothing is armed: it will
 * be, by the next one's time, when the event has come. */
static void arm_sooner(struct instance *instance, uint64_t at_ns)
{
    struct timeouts *timeouts = &instance->timeouts;
    if (timeouts->armed_ns == UINT64_MAX)
        instance_retain(instance);
    else if (!clock_cancel(clock_of(instance), &timeouts->deadline))
        return;
    timeouts->armed_ns = at_ns;
    clock_arm(clock_of(instance), &timeouts->deadline, at_ns);
}

void timeouts_add(struct instance *instance, struct due *due, uint64_t at_ns,
                  void (*on_expiry)(struct event *event, struct instance *instance))
{
    instance->timeouts.expiry.run = on_expiry;
    dues_add(&instance->timeouts.dues, due, at_ns);
    if (at_ns < instance->timeouts.armed_ns)
        arm_sooner(instance, at_ns);
}

void timeouts_remove(struct instance *instance, struct due *due)
{
    dues_remove(&instance->timeouts.dues, due);
}

struct due *timeouts_take(struct instance *instance)
{
    struct timeouts *timeouts = &instance->timeouts;
    struct due *due = dues_take(&timeouts->dues, timeouts->posted_ns);
    if (due)
        return due;
    timeouts->armed_ns = dues_next_ns(&timeouts->dues);
    if (timeouts->armed_ns == UINT64_MAX)
        instance_release(instance);
    else
        clock_arm(clock_of(instance), &timeouts->deadline, timeouts->armed_ns);
    return NULL;
}

void timeouts_end(struct instance *instance)
{
    struct timeouts *timeouts = &instance->timeouts;
    if (timeouts->armed_ns == UINT64_MAX || !clock_cancel(clock_of(instance), &timeouts->deadline))
        return;
    timeouts->armed_ns = UINT64_MAX;
    instance_release(instance);
}
