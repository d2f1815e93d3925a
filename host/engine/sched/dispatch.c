/* dispatch - the ready queue, and waking workers for it. */
#include "engine/sched/dispatch.h"

#include <utlist.h>

#include "engine/sched/watchdog.h"

void dispatch_init(struct dispatch *dispatch)
{
    mutex_init_spinning(&dispatch->lock);
    cond_init(&dispatch->idle);
}

void dispatch_clear(struct dispatch *dispatch)
{
    cond_destroy(&dispatch->idle);
    mutex_destroy(&dispatch->lock);
}

static void post_all(struct sleeper *woken)
{
    while (woken) {
        struct sleeper *next = woken->next; /* one that is posted may be gone at once */
        semaphore_post(&woken->posted);
        woken = next;
    }
}

void dispatch_lock(struct dispatch *dispatch)
{
    mutex_lock(&dispatch->lock);
}

void dispatch_unlock(struct dispatch *dispatch)
{
    struct sleeper *woken = dispatch->woken;
    dispatch->woken = NULL;
    mutex_unlock(&dispatch->lock);
    post_all(woken);
}

bool dispatch_wait(struct dispatch *dispatch, struct cond *cond, uint64_t until_ns)
{
    must_hold(&dispatch->lock);
    post_all(dispatch->woken);
    dispatch->woken = NULL;
    return cond_wait_until(cond, &dispatch->lock, until_ns);
}

bool dispatch_wake(struct dispatch *dispatch)
{
    struct sleeper *sleeper = dispatch->sleepers;
    must_hold(&dispatch->lock);
    if (!sleeper)
        return false;
    dispatch->sleepers = sleeper->next;
    dispatch->sleeping--;
    sleeper->next = dispatch->woken;
    dispatch->woken = sleeper;
    return true;
}

void dispatch_sleep(struct dispatch *dispatch, struct sleeper *sleeper)
{
    must_hold(&dispatch->lock);
    sleeper->next = dispatch->sleepers;
    dispatch->sleepers = sleeper;
    dispatch->sleeping++;
    dispatch_unlock(dispatch);
    semaphore_wait(&sleeper->posted);
    dispatch_lock(dispatch);
}

static void call_on_crowded(struct dispatch *dispatch)
{
    if (dispatch->on_crowded)
        dispatch->on_crowded(dispatch->workers);
}

void dispatch_ready(struct dispatch *dispatch, struct ready *ready)
{
    must_hold(&dispatch->lock);
    ready->queued = true;
    DL_APPEND(dispatch->queue, ready);
    if (dispatch->looking)
        dispatch->unwoken++;
    else if (!dispatch_wake(dispatch))
        call_on_crowded(dispatch);
}

void dispatch_look(struct dispatch *dispatch)
{
    must_hold(&dispatch->lock);
    dispatch->looking = true;
    dispatch->unwoken = 0;
}

void dispatch_looked(struct dispatch *dispatch, bool took)
{
    must_hold(&dispatch->lock);
    dispatch->looking = false;
    for (int left = dispatch->unwoken - took; left > 0 && dispatch->queue; left--) {
        if (!dispatch_wake(dispatch)) {
            call_on_crowded(dispatch);
            return;
        }
    }
}

struct ready *dispatch_first(struct dispatch *dispatch)
{
    struct ready *ready = dispatch->queue;
    must_hold(&dispatch->lock);
    if (ready) {
        DL_DELETE(dispatch->queue, ready);
        ready->queued = false;
    }
    return ready;
}

/* Two that became ready while the last worker slept have both woken that one: nobody comes for what
 * it leaves behind, so the watch is set here. */
void dispatch_taken(struct dispatch *dispatch)
{
    must_hold(&dispatch->lock);
    dispatch->takes++;
    watchdog_wake(dispatch->watchdog);
    if (dispatch->queue && !dispatch->sleepers)
        call_on_crowded(dispatch);
}

void dispatch_signal_idle(struct dispatch *dispatch)
{
    must_hold(&dispatch->lock);
    if (dispatch->running == 0 && dispatch->queued == 0)
        cond_broadcast(&dispatch->idle);
}
