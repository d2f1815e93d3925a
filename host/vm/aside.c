/* Two threads that wait for each other: one that runs Lua, and one that gives it up. */
#include "vm/aside.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"

/* How fine its time is kept. */
#define TICK_NS ((uint64_t)10 * NS_PER_MS)

static void destroy(struct aside *aside)
{
    cond_destroy(&aside->changed);
    mutex_destroy(&aside->lock);
}

static void *thread_main(void *arg)
{
    struct aside *aside = arg;
    mutex_lock(&aside->lock);
    aside->tid = gettid();
    mutex_unlock(&aside->lock);
    guard_attach(&aside->guard);
    aside->run(aside);
    guard_detach(&aside->guard);
    mutex_lock(&aside->lock);
    aside->ended = true;
    bool left = aside->left;
    cond_signal(&aside->changed);
    mutex_unlock(&aside->lock);
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

static bool hurries(const struct aside *aside)
{
    for (size_t i = 0; i < sizeof aside->hurry / sizeof *aside->hurry; i++) {
        if (aside->hurry[i] && atomic_load(aside->hurry[i]))
            return true;
    }
    return false;
}

/* With the lock held, and the thread not ended: asks for its end when its time is over. *over_ns:
 * since when, counted in ticks; a process that was stopped for a while has not tried for so long.
 * True: enough has been asked. */
static bool press(struct aside *aside, uint64_t *over_ns)
{
    uint64_t number, due_ns = due_of(aside, &number);
    if (!due_ns || (!hurries(aside) && clock_now_ns() < due_ns)) {
        *over_ns = 0;
        return false;
    }
    if (*over_ns > GUARD_LOST_AFTER_NS)
        return true;
    guard_ask(&aside->guard, number,
              *over_ns >= GUARD_ESCAPE_AFTER_NS ? GUARD_ESCAPE : GUARD_RAISE);
    thread_signal(aside->thread, SIGURG);
    *over_ns += TICK_NS;
    return false;
}

static void wait_a_tick(struct aside *aside)
{
    must_hold(&aside->lock);
    cond_wait_until(&aside->changed, &aside->lock, clock_now_ns() + TICK_NS);
}

/* True: it has ended. */
static bool wait_for_end(struct aside *aside)
{
    must_hold(&aside->lock);
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
    guard_install();
    mutex_init(&aside->lock);
    cond_init(&aside->changed);
    if (thread_start(&aside->thread, "load", thread_main, aside, err) != 0) {
        destroy(aside);
        return ASIDE_REFUSED;
    }
    struct thread thread = aside->thread;
    mutex_lock(&aside->lock);
    bool ended = wait_for_end(aside);
    if (!ended) {
        aside->left = true;
        thread_run_last(aside->tid);
    }
    mutex_unlock(&aside->lock);
    if (!ended) {
        thread_detach(thread);
        return ASIDE_LEFT;
    }
    thread_join(thread);
    destroy(aside);
    return ASIDE_ENDED;
}
