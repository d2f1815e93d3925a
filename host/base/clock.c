/* A thread, a wheel and a mutex; virtual time is the world's. */
#include "base/clock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/strand.h"
#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"
#include "base/world.h"

#define TICK_NS ((uint64_t)NS_PER_MS)

struct clock {
    struct thread thread;
    struct mutex lock;     /* all below; a leaf: nothing is called with it held */
    struct cond sooner;    /* a deadline before `sleeps_until`, or stopping */
    struct wheel *wheel;   /* owned; a tick is a millisecond of CLOCK_MONOTONIC */
    uint64_t sleeps_until; /* tick; 0 while the thread is awake, and will look by itself */
    bool stopping;
};

static int64_t read_clock(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

uint64_t clock_now_ns(void)
{
    return world_active() ? world_now_ns(world_here) : (uint64_t)read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_lately_ns(void)
{
    return world_active() ? world_now_ns(world_here) : (uint64_t)read_clock(CLOCK_MONOTONIC_COARSE);
}

bool clock_is_simulated(void)
{
    return world_active();
}

int64_t clock_wall_ns(void)
{
    return world_active() ? world_wall_ns() : read_clock(CLOCK_REALTIME);
}

int64_t clock_wall_at(uint64_t now_ns)
{
    static _Atomic uint64_t read_ns;      /* when the two clocks were last compared, */
    static _Atomic int64_t difference_ns; /* and by how much they differ */
    if (world_active())
        return world_wall_ns();
    if (now_ns - atomic_load_explicit(&read_ns, memory_order_acquire) > WALL_LATE_NS) {
        atomic_store_explicit(&difference_ns, clock_wall_ns() - read_clock(CLOCK_MONOTONIC),
                              memory_order_relaxed);
        atomic_store_explicit(&read_ns, now_ns, memory_order_release);
    }
    return (int64_t)now_ns + atomic_load_explicit(&difference_ns, memory_order_relaxed);
}

/* The first tick that is not before at_ns: rounding up is what never fires early. */
static uint64_t tick_after(uint64_t at_ns)
{
    return at_ns / TICK_NS + (at_ns % TICK_NS != 0);
}

/* Returns when `tick` has come, or something changed. */
static void sleep_until(struct clock *clock, uint64_t tick)
{
    must_hold(&clock->lock);
    clock->sleeps_until = tick;
    /* A tick that time_t cannot hold in nanoseconds is as good as never. */
    if (tick > INT64_MAX / TICK_NS) {
        cond_wait(&clock->sooner, &clock->lock);
    } else {
        cond_wait_until(&clock->sooner, &clock->lock, tick * TICK_NS);
    }
    clock->sleeps_until = 0;
}

static void *run_clock(void *arg)
{
    struct clock *clock = arg;
    mutex_lock(&clock->lock);
    while (!clock->stopping) {
        wheel_advance(clock->wheel, clock_now_ns() / TICK_NS);
        struct deadline *deadline = (struct deadline *)wheel_take(clock->wheel);
        if (!deadline) {
            sleep_until(clock, wheel_next(clock->wheel));
            continue;
        }
        void (*on_due)(struct deadline *) = deadline->on_due;
        mutex_unlock(&clock->lock);
        on_due(deadline);
        mutex_lock(&clock->lock);
    }
    mutex_unlock(&clock->lock);
    return NULL;
}

struct clock *clock_new(struct err *err)
{
    struct clock *clock = calloc(1, sizeof *clock);
    if (clock)
        clock->wheel = wheel_new(clock_now_ns() / TICK_NS);
    if (!clock || !clock->wheel) {
        free(clock);
        err_set(err, ERR_SYSTEM, "out of memory");
        return NULL;
    }
    mutex_init_spinning(&clock->lock);
    cond_init(&clock->sooner);
    if (thread_start(&clock->thread, "clock", run_clock, clock, err) == 0)
        return clock;
    cond_destroy(&clock->sooner);
    mutex_destroy(&clock->lock);
    wheel_free(clock->wheel);
    free(clock);
    return NULL;
}

void clock_stop(struct clock *clock)
{
    mutex_lock(&clock->lock);
    bool stopped = clock->stopping;
    clock->stopping = true;
    cond_signal(&clock->sooner);
    mutex_unlock(&clock->lock);
    if (!stopped)
        thread_join(clock->thread);
}

void clock_free(struct clock *clock)
{
    if (!clock)
        return;
    clock_stop(clock);
    cond_destroy(&clock->sooner);
    mutex_destroy(&clock->lock);
    wheel_free(clock->wheel);
    free(clock);
}

bool clock_arm(struct clock *clock, struct deadline *deadline, uint64_t at_ns)
{
    uint64_t tick = tick_after(at_ns);
    mutex_lock(&clock->lock);
    bool was_armed = wheel_remove(clock->wheel, &deadline->timer);
    wheel_add(clock->wheel, &deadline->timer, tick);
    if (tick < clock->sleeps_until)
        cond_signal(&clock->sooner);
    mutex_unlock(&clock->lock);
    return !was_armed;
}

bool clock_cancel(struct clock *clock, struct deadline *deadline)
{
    mutex_lock(&clock->lock);
    bool was_armed = wheel_remove(clock->wheel, &deadline->timer);
    mutex_unlock(&clock->lock);
    return was_armed;
}
