/* watchdog - its tick, and the threads that it looks at. */
#include "engine/sched/watchdog.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/value.h"
#include "engine/sched/dispatch.h"

/* How fine limits are kept: a run ends up to two ticks late. */
#define TICK_NS ((uint64_t)10 * NS_PER_MS)

struct watchdog {
    struct clock *clock;       /* not owned */
    struct dispatch *dispatch; /* not owned; its lock guards the rest */
    struct watchdog_events events;
    struct watched *all; /* utlist */
    int count;           /* those that are not lost */
    int lost;
    bool ticking;
    uint64_t last_ns; /* the last tick */
    struct deadline tick;
    struct watchdog_counts counts;
};

static void ask_to_end(struct watchdog *watchdog, struct watched *watched, uint64_t step)
{
    bool escape = watched->asked_ns >= GUARD_ESCAPE_AFTER_NS;
    enum guard_stage stage = escape ? GUARD_ESCAPE : GUARD_RAISE;
    if (watched->asked_ns == 0 || escape != watched->escaping)
        stat_add(&watchdog->counts.stages[escape ? WATCHDOG_ESCAPE : WATCHDOG_RAISE], 1);
    watched->escaping = escape;
    watched->asked_ns += step;
    guard_ask(&watched->guard, watched->number, stage);
    thread_signal(watched->thread, SIGURG);
}

/* A handler that has not waited yet has no deadline of its own with the clock. */
static bool is_due(struct guard *guard, uint64_t number, uint64_t now_ns)
{
    uint64_t due_ns = atomic_load(&guard->due_ns);
    return (number & 1) && due_ns && now_ns >= due_ns && atomic_load(&guard->number) == number;
}

/* True: it has been lost now. */
static bool look_at(struct watchdog *watchdog, struct watched *watched, uint64_t step,
                    uint64_t now_ns)
{
    uint64_t number = atomic_load_explicit(&watched->guard.number, memory_order_acquire);
    if (is_due(&watched->guard, number, now_ns))
        watched->overdue = number;
    if (!(number & 1) || number != watched->number) {
        watched->number = number;
        watched->ran_ns = watched->asked_ns = 0;
        if (watched->overdue != number || !(number & 1))
            return false;
    } else {
        watched->ran_ns += step;
    }
    int64_t limit = atomic_load_explicit(&watched->guard.limit_ns, memory_order_relaxed);
    bool over = limit > 0 && watched->ran_ns > (uint64_t)limit;
    if (!over && watched->overdue != number)
        return false;
    if (watched->asked_ns <= GUARD_LOST_AFTER_NS) {
        ask_to_end(watchdog, watched, step);
        return false;
    }
    watched->lost = true;
    stat_add(&watchdog->counts.stages[WATCHDOG_LOSE], 1);
    if (watched->on_lost)
        watched->on_lost(watched);
    return true;
}

/* One that is lost may come back to its script, and send. */
static bool anybody_awake(const struct watchdog *watchdog)
{
    must_hold(&watchdog->dispatch->lock);
    return watchdog->dispatch->sleeping < watchdog->count || watchdog->lost > 0;
}

static void on_tick(struct deadline *deadline)
{
    struct watchdog *watchdog = container_of(deadline, struct watchdog, tick);
    struct watched *watched;
    dispatch_lock(watchdog->dispatch);
    uint64_t now = clock_now_ns(), step = now - watchdog->last_ns;
    watchdog->last_ns = now;
    if (step > 2 * TICK_NS)
        step = 2 * TICK_NS;
    int before = watchdog->lost;
    DL_FOREACH(watchdog->all, watched) {
        if (!watched->lost && look_at(watchdog, watched, step, now)) {
            watchdog->lost += !watched->spare;
            watchdog->count--;
        }
    }
    int lost = watchdog->lost;
    watchdog->ticking = anybody_awake(watchdog);
    if (watchdog->ticking)
        clock_arm(watchdog->clock, &watchdog->tick, now + TICK_NS);
    dispatch_unlock(watchdog->dispatch);
    if (lost > before)
        watchdog->events.on_lost(watchdog->events.owner, lost);
    watchdog->events.on_tick(watchdog->events.owner);
}

struct watchdog *watchdog_new(struct clock *clock, struct dispatch *dispatch,
                              const struct watchdog_events *events)
{
    struct watchdog *watchdog = calloc(1, sizeof *watchdog);
    if (!watchdog)
        return NULL;
    watchdog->clock = clock;
    watchdog->dispatch = dispatch;
    watchdog->events = *events;
    dispatch->watchdog = watchdog;
    watchdog->tick.on_due = on_tick;
    guard_install();
    return watchdog;
}

void watchdog_free(struct watchdog *watchdog)
{
    if (!watchdog)
        return;
    clock_cancel(watchdog->clock, &watchdog->tick);
    free(watchdog);
}

void watchdog_wake(struct watchdog *watchdog)
{
    must_hold(&watchdog->dispatch->lock);
    if (watchdog->ticking)
        return;
    watchdog->ticking = true;
    watchdog->last_ns = clock_now_ns();
    clock_arm(watchdog->clock, &watchdog->tick, watchdog->last_ns + TICK_NS);
}

void watchdog_add(struct watchdog *watchdog, struct watched *watched,
                  void (*on_lost)(struct watched *))
{
    watched->thread = thread_self();
    watched->on_lost = on_lost;
    guard_attach(&watched->guard);
    dispatch_lock(watchdog->dispatch);
    DL_APPEND(watchdog->all, watched);
    watchdog->count++;
    watchdog_wake(watchdog);
    dispatch_unlock(watchdog->dispatch);
}

void watchdog_remove(struct watchdog *watchdog, struct watched *watched)
{
    dispatch_lock(watchdog->dispatch);
    DL_DELETE(watchdog->all, watched);
    if (watched->lost)
        watchdog->lost -= !watched->spare;
    else
        watchdog->count--;
    dispatch_unlock(watchdog->dispatch);
    guard_detach(&watched->guard);
}

const struct watchdog_counts *watchdog_counts(const struct watchdog *watchdog)
{
    return &watchdog->counts;
}
