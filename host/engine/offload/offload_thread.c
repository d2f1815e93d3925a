/* offload_thread - the threads: started, at work, lost, stopped. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#include "base/container.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"
#include "engine/offload/offload_private.h"

/* What os.execute and io.popen start inherits the mask: a program that no signal ends would be a
 * nuisance. The host's own handlers of these may run on any thread; SIGPIPE is ignored. */
static void open_signals(void)
{
    static const int numbers[] = {SIGHUP, SIGINT, SIGTERM, SIGCHLD, SIGPIPE, SIGALRM};
    sigset_t open;
    sigemptyset(&open);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        sigaddset(&open, numbers[i]);
    pthread_sigmask(SIG_UNBLOCK, &open, NULL);
}

/* Before the caller hears of the end, the thread already counts as one that
 * waits for work: the caller's next call goes to this one, not to a new thread. */
static void work_at(struct offload *offload, struct offload_thread *thread,
                    struct offload_call *call, struct offload_call *granted) NEEDS(offload->lock);

static void work_at(struct offload *offload, struct offload_thread *thread,
                    struct offload_call *call, struct offload_call *granted)
{
    thread->call = call;
    call->thread = thread;
    atomic_store(&thread->watched.guard.due_ns, 0);
    mutex_unlock(&offload->lock);
    offload_complete_granted(granted);
    offload_run(thread);
    mutex_lock(&offload->lock);
    thread->call = NULL;
    call->thread = NULL;
    struct op *op = offload_end(call);
    offload->idle++;
    mutex_unlock(&offload->lock);
    offload_ended(call, op);
    mutex_lock(&offload->lock);
    offload->idle--;
}

static void *thread_main(void *arg)
{
    struct offload_thread *thread = arg;
    struct offload *offload = thread->offload;
    open_signals();
    mutex_lock(&offload->lock);
    thread->tid = gettid();
    while (!offload->stopping && !thread->lost && offload->alive <= offload->limit) {
        struct offload_call *granted, *call = offload_next(offload, &granted);
        if (call) {
            work_at(offload, thread, call, granted);
            continue;
        }
        offload->idle++;
        cond_wait(&offload->work, &offload->lock);
        offload->idle--;
    }
    if (!thread->lost)
        offload->alive--;
    mutex_unlock(&offload->lock);
    if (thread->vm)
        vm_free(thread->vm);
    plain_release(thread->lent);
    mutex_lock(&offload->lock);
    if (thread->lost)
        offload->lost--;
    offload_wake(offload); /* it may reap: never the thread itself */
    thread->ended = true;
    cond_broadcast(&offload->ended);
    mutex_unlock(&offload->lock);
    return NULL;
}

static void reap_threads(struct offload *offload)
{
    struct offload_thread *thread, *next;
    must_hold(&offload->lock);
    LL_FOREACH_SAFE(offload->threads, thread, next) {
        if (!thread->ended)
            continue;
        LL_DELETE(offload->threads, thread);
        thread_join(thread->thread);
        free(thread);
    }
}

static int start_thread(struct offload *offload)
{
    struct offload_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return ERR_MEMORY;
    reap_threads(offload);
    thread->offload = offload;
    thread->watched.spare = true;
    int code = thread_start(&thread->thread, "offload", thread_main, thread, NULL);
    if (code) {
        free(thread);
        return code;
    }
    LL_PREPEND(offload->threads, thread);
    offload->alive++;
    return 0;
}

bool offload_may_start(const struct offload *offload)
{
    must_hold(&offload->lock);
    return offload->alive < offload->limit && offload->alive + offload->lost < 2 * offload->limit;
}

void offload_wake(struct offload *offload)
{
    must_hold(&offload->lock);
    if (!offload->queue || offload->stopping)
        return;
    cond_signal(&offload->work);
    if (offload->queued > offload->idle && offload_may_start(offload))
        start_thread(offload);
}

void offload_interrupt(struct offload_thread *thread)
{
    atomic_store(&thread->watched.guard.due_ns, clock_now_ns());
}

/* The clock, with the dispatch lock held: nothing is logged here. */
void offload_thread_lost(struct watched *watched)
{
    struct offload_thread *thread = container_of(watched, struct offload_thread, watched);
    struct offload *offload = thread->offload;
    mutex_lock(&offload->lock);
    thread_run_last(thread->tid);
    thread->lost = true;
    offload->alive--;
    offload->lost++;
    if (thread->call) {
        struct offload_call *call = offload_call_retain(thread->call);
        DL_APPEND(offload->lost_calls, call);
    }
    offload_wake(offload);
    cond_broadcast(&offload->ended); /* nobody waits for it */
    clock_arm(offload->clock, &offload->notice, clock_now_ns());
    mutex_unlock(&offload->lock);
}

static void log_lost(const struct offload_call *call, int lost, int most)
{
    const struct log_context context = {.script = call->script};
    log_event(LOG_WARN, &context,
              "the offloaded function %s.%s is in a call that cannot be interrupted: its thread is "
              "lost until it returns (%d of at most %d%s)",
              call->module, call->function, lost, most,
              lost >= most ? "; none takes its place any more" : "");
}

/* The clock. */
void offload_on_notice(struct deadline *deadline)
{
    struct offload *offload = container_of(deadline, struct offload, notice);
    struct offload_call *call, *later;
    do {
        int after = 0;
        mutex_lock(&offload->lock);
        call = offload->lost_calls;
        if (call) {
            DL_DELETE(offload->lost_calls, call);
            DL_COUNT(offload->lost_calls, later, after);
        }
        int lost = offload->lost - after, most = offload->limit;
        mutex_unlock(&offload->lock);
        if (call)
            log_lost(call, lost, most);
        offload_call_release(call);
    } while (call);
}

/* Stopping --------------------------------------------------------------------------------------
 */

static int count_left(const struct offload *offload)
{
    int left = 0;
    must_hold(&offload->lock);
    const struct offload_thread *thread;
    LL_FOREACH(offload->threads, thread)
        left += !thread->ended;
    return left;
}

int offload_stop(struct offload *offload, uint64_t deadline_ns)
{
    mutex_lock(&offload->lock);
    offload->stopping = true; /* from here on the list of threads is ours */
    cond_broadcast(&offload->work);
    struct offload_thread *thread;
    LL_FOREACH(offload->threads, thread) {
        if (thread->call)
            offload_interrupt(thread);
    }
    while (count_left(offload) > offload->lost && clock_now_ns() < deadline_ns)
        cond_wait_until(&offload->ended, &offload->lock, deadline_ns);
    reap_threads(offload);
    int left = count_left(offload);
    mutex_unlock(&offload->lock);
    return left;
}
