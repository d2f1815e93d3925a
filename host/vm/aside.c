#include "vm/aside.h"

#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "base/value.h"

/* How fine its time is kept. */
#define TICK_NS ((uint64_t)10 * NS_PER_MS)

static void destroy(struct aside *aside)
{
    pthread_cond_destroy(&aside->changed);
    pthread_mutex_destroy(&aside->lock);
}

static void *thread_main(void *arg)
{
    struct aside *aside = arg;
    pthread_mutex_lock(&aside->lock);
    aside->tid = gettid();
    pthread_mutex_unlock(&aside->lock);
    guard_attach(&aside->guard);
    aside->run(aside);
    guard_detach(&aside->guard);
    pthread_mutex_lock(&aside->lock);
    aside->ended = true;
    bool left = aside->left;
    pthread_cond_signal(&aside->changed);
    pthread_mutex_unlock(&aside->lock);
    if (left) {
        destroy(aside);
        aside->late(aside);
    }
    return NULL;
}

/* When the time of the run that goes on just now is over; 0: never, or there is none. */
static uint64_t due_of(struct aside *aside, uint64_t *number)
{
    *number = atomic_load(&aside->guard.number);
    uint64_t due_ns = atomic_load(&aside->guard.due_ns);
    return (*number & 1) && atomic_load(&aside->guard.number) == *number ? due_ns : 0;
}

/* With the lock held, and the thread not ended: asks for its end when its time is over. *over_ns:
 * since when, counted in ticks; a process that was stopped for a while has not tried for so long.
 * True: enough has been asked. */
static bool press(struct aside *aside, uint64_t *over_ns)
{
    uint64_t number, due_ns = due_of(aside, &number);
    bool hurry = aside->hurry && atomic_load(aside->hurry);
    if (!due_ns || (!hurry && clock_now_ns() < due_ns)) {
        *over_ns = 0;
        return false;
    }
    if (*over_ns > GUARD_LOST_AFTER_NS)
        return true;
    guard_ask(&aside->guard, number,
              *over_ns >= GUARD_ESCAPE_AFTER_NS ? GUARD_ESCAPE : GUARD_RAISE);
    pthread_kill(aside->thread, SIGURG);
    *over_ns += TICK_NS;
    return false;
}

/* With the lock held. */
static void wait_a_tick(struct aside *aside)
{
    uint64_t at_ns = clock_now_ns() + TICK_NS;
    const struct timespec at = {.tv_sec = (time_t)(at_ns / NS_PER_S),
                                .tv_nsec = (long)(at_ns % NS_PER_S)};
    pthread_cond_timedwait(&aside->changed, &aside->lock, &at);
}

/* With the lock held. True: it has ended. */
static bool wait_for_end(struct aside *aside)
{
    uint64_t over_ns = 0;
    while (!aside->ended) {
        wait_a_tick(aside);
        if (!aside->ended && press(aside, &over_ns))
            return false;
    }
    return true;
}

enum aside_end aside_run(struct aside *aside, struct err *err)
{
    pthread_condattr_t monotonic;
    guard_install();
    pthread_mutex_init(&aside->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&aside->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (thread_start(&aside->thread, "load", thread_main, aside, err) != 0) {
        destroy(aside);
        return ASIDE_REFUSED;
    }
    const struct sched_param none = {0};
    pthread_t thread = aside->thread;
    pthread_mutex_lock(&aside->lock);
    bool ended = wait_for_end(aside);
    if (!ended) {
        aside->left = true;
        sched_setscheduler(aside->tid, SCHED_IDLE, &none);
    }
    pthread_mutex_unlock(&aside->lock);
    if (!ended) {
        pthread_detach(thread);
        return ASIDE_LEFT;
    }
    pthread_join(thread, NULL);
    destroy(aside);
    return ASIDE_ENDED;
}
