#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/thread.h"
#include "base/value.h"

#define TICK_NS ((uint64_t)NS_PER_MS)

struct clock {
    pthread_t thread;
    pthread_mutex_t lock;  /* all below; a leaf: nothing is called with it held */
    pthread_cond_t sooner; /* a deadline before `sleeps_until`, or stopping */
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
    return (uint64_t)read_clock(CLOCK_MONOTONIC);
}

int64_t clock_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

/* The first tick that is not before at_ns: rounding up is what never fires early. */
static uint64_t tick_after(uint64_t at_ns)
{
    return at_ns / TICK_NS + (at_ns % TICK_NS != 0);
}

/* With the lock held; returns when `tick` has come, or something changed. */
static void sleep_until(struct clock *clock, uint64_t tick)
{
    clock->sleeps_until = tick;
    /* A tick that time_t cannot hold in nanoseconds is as good as never. */
    if (tick > INT64_MAX / TICK_NS) {
        pthread_cond_wait(&clock->sooner, &clock->lock);
    } else {
        struct timespec until = {
            .tv_sec = (time_t)(tick * TICK_NS / (uint64_t)NS_PER_S),
            .tv_nsec = (long)(tick * TICK_NS % (uint64_t)NS_PER_S),
        };
        pthread_cond_timedwait(&clock->sooner, &clock->lock, &until);
    }
    clock->sleeps_until = 0;
}

static void *run(void *arg)
{
    struct clock *clock = arg;
    pthread_mutex_lock(&clock->lock);
    while (!clock->stopping) {
        wheel_advance(clock->wheel, clock_now_ns() / TICK_NS);
        struct deadline *deadline = (struct deadline *)wheel_take(clock->wheel);
        if (!deadline) {
            sleep_until(clock, wheel_next(clock->wheel));
            continue;
        }
        void (*on_due)(struct deadline *) = deadline->on_due;
        pthread_mutex_unlock(&clock->lock);
        on_due(deadline);
        pthread_mutex_lock(&clock->lock);
    }
    pthread_mutex_unlock(&clock->lock);
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
    thread_mutex_init(&clock->lock);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&clock->sooner, &attr);
    pthread_condattr_destroy(&attr);
    if (thread_start(&clock->thread, "clock", run, clock, err) == 0)
        return clock;
    pthread_cond_destroy(&clock->sooner);
    pthread_mutex_destroy(&clock->lock);
    wheel_free(clock->wheel);
    free(clock);
    return NULL;
}

void clock_stop(struct clock *clock)
{
    pthread_mutex_lock(&clock->lock);
    bool stopped = clock->stopping;
    clock->stopping = true;
    pthread_cond_signal(&clock->sooner);
    pthread_mutex_unlock(&clock->lock);
    if (!stopped)
        pthread_join(clock->thread, NULL);
}

void clock_free(struct clock *clock)
{
    if (!clock)
        return;
    clock_stop(clock);
    pthread_cond_destroy(&clock->sooner);
    pthread_mutex_destroy(&clock->lock);
    wheel_free(clock->wheel);
    free(clock);
}

bool clock_arm(struct clock *clock, struct deadline *deadline, uint64_t at_ns)
{
    uint64_t tick = tick_after(at_ns);
    pthread_mutex_lock(&clock->lock);
    bool was_armed = wheel_remove(clock->wheel, &deadline->timer);
    wheel_add(clock->wheel, &deadline->timer, tick);
    if (tick < clock->sleeps_until)
        pthread_cond_signal(&clock->sooner);
    pthread_mutex_unlock(&clock->lock);
    return !was_armed;
}

bool clock_cancel(struct clock *clock, struct deadline *deadline)
{
    pthread_mutex_lock(&clock->lock);
    bool was_armed = wheel_remove(clock->wheel, &deadline->timer);
    pthread_mutex_unlock(&clock->lock);
    return was_armed;
}
