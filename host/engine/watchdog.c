#include "engine/watchdog.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/log.h"
#include "base/value.h"
#include "engine/internal.h"

/* How fine limits are kept: a run ends up to two ticks late. */
#define TICK_NS ((uint64_t)10 * NS_PER_MS)

struct watchdog {
    struct engine *engine; /* not owned */
    struct watched *all;   /* utlist; as the rest: the dispatch lock */
    int count;             /* those that are not lost */
    int lost;
    bool ticking;
    uint64_t last_ns; /* the last tick */
    struct deadline tick;
};

#define WATCHDOG_OF_TICK(d) ((struct watchdog *)((char *)(d)-offsetof(struct watchdog, tick)))

static void ask(struct watched *watched, uint64_t step)
{
    enum guard_stage stage =
        watched->asked_ns >= GUARD_ESCAPE_AFTER_NS ? GUARD_ESCAPE : GUARD_RAISE;
    watched->asked_ns += step;
    guard_ask(&watched->guard, watched->number, stage);
    pthread_kill(watched->thread, SIGURG);
}

/* A handler that has not waited yet has no deadline of its own with the clock. */
static bool is_due(struct guard *guard, uint64_t number, uint64_t now_ns)
{
    uint64_t due_ns = atomic_load(&guard->due_ns);
    return (number & 1) && due_ns && now_ns >= due_ns && atomic_load(&guard->number) == number;
}

/* True: it has been lost now. */
static bool look(struct watched *watched, uint64_t step, uint64_t now_ns)
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
        ask(watched, step);
        return false;
    }
    watched->lost = true;
    if (watched->on_lost)
        watched->on_lost(watched);
    return true;
}

/* With the dispatch lock held. */
static bool anybody_awake(const struct watchdog *watchdog)
{
    return watchdog->engine->dispatch.sleeping < watchdog->count;
}

static void on_tick(struct deadline *deadline)
{
    struct watchdog *watchdog = WATCHDOG_OF_TICK(deadline);
    struct engine *engine = watchdog->engine;
    struct watched *watched;
    dispatch_lock(&engine->dispatch);
    uint64_t now = clock_now_ns(), step = now - watchdog->last_ns;
    watchdog->last_ns = now;
    if (step > 2 * TICK_NS)
        step = 2 * TICK_NS;
    int before = watchdog->lost;
    DL_FOREACH(watchdog->all, watched) {
        if (!watched->lost && look(watched, step, now)) {
            watchdog->lost += !watched->spare;
            watchdog->count--;
        }
    }
    int lost = watchdog->lost;
    watchdog->ticking = anybody_awake(watchdog);
    if (watchdog->ticking)
        clock_arm(engine->clock, &watchdog->tick, now + TICK_NS);
    dispatch_unlock(&engine->dispatch);
    if (lost > before)
        engine_lost(engine, lost);
}

struct watchdog *watchdog_new(struct engine *engine)
{
    struct watchdog *watchdog = calloc(1, sizeof *watchdog);
    if (!watchdog)
        return NULL;
    watchdog->engine = engine;
    watchdog->tick.on_due = on_tick;
    guard_install();
    return watchdog;
}

void watchdog_free(struct watchdog *watchdog)
{
    if (!watchdog)
        return;
    clock_cancel(watchdog->engine->clock, &watchdog->tick);
    free(watchdog);
}

void watchdog_wake(struct watchdog *watchdog)
{
    if (watchdog->ticking)
        return;
    watchdog->ticking = true;
    watchdog->last_ns = clock_now_ns();
    clock_arm(watchdog->engine->clock, &watchdog->tick, watchdog->last_ns + TICK_NS);
}

void watchdog_add(struct watchdog *watchdog, struct watched *watched,
                  void (*on_lost)(struct watched *))
{
    watched->thread = pthread_self();
    watched->on_lost = on_lost;
    guard_attach(&watched->guard);
    dispatch_lock(&watchdog->engine->dispatch);
    DL_APPEND(watchdog->all, watched);
    watchdog->count++;
    watchdog_wake(watchdog);
    dispatch_unlock(&watchdog->engine->dispatch);
}

void watchdog_remove(struct watchdog *watchdog, struct watched *watched)
{
    dispatch_lock(&watchdog->engine->dispatch);
    DL_DELETE(watchdog->all, watched);
    if (watched->lost)
        watchdog->lost -= !watched->spare;
    else
        watchdog->count--;
    dispatch_unlock(&watchdog->engine->dispatch);
    guard_detach(&watched->guard);
}

void watchdog_overdue(struct watchdog *watchdog, const void *whom)
{
    struct watched *watched;
    dispatch_lock(&watchdog->engine->dispatch);
    DL_FOREACH(watchdog->all, watched) {
        struct guard *guard = &watched->guard;
        uint64_t number = atomic_load(&guard->number);
        if ((number & 1) && atomic_load(&guard->whom) == whom &&
            atomic_load(&guard->number) == number)
            watched->overdue = number;
    }
    dispatch_unlock(&watchdog->engine->dispatch);
}
