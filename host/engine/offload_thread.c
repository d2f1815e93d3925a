#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#include "base/log.h"
#include "base/thread.h"
#include "base/value.h"
#include "engine/offload_internal.h"

#define THREAD_OF_WATCHED(w)                                                                       \
    ((struct offload_thread *)((char *)(w)-offsetof(struct offload_thread, watched)))
#define OFFLOAD_OF_NOTICE(d) ((struct offload *)((char *)(d)-offsetof(struct offload, notice)))

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

/* With the lock held. When its caller is told, the thread counts as one that waits for work
 * already: a caller's next call is for this one, not for a new thread. */
static void work_at(struct offload_thread *thread, struct offload_call *call,
                    struct offload_call *granted)
{
    struct offload *offload = thread->offload;
    thread->call = call;
    call->thread = thread;
    atomic_store(&thread->watched.guard.due_ns, 0);
    pthread_mutex_unlock(&offload->lock);
    offload_tell(granted);
    offload_run(thread);
    pthread_mutex_lock(&offload->lock);
    thread->call = NULL;
    call->thread = NULL;
    struct op *op = offload_end(call);
    offload->idle++;
    pthread_mutex_unlock(&offload->lock);
    offload_ended(call, op);
    pthread_mutex_lock(&offload->lock);
    offload->idle--;
}

static void *thread_main(void *arg)
{
    struct offload_thread *thread = arg;
    struct offload *offload = thread->offload;
    open_signals();
    pthread_mutex_lock(&offload->lock);
    thread->tid = gettid();
    while (!offload->stopping && !thread->lost && offload->alive <= offload->limit) {
        struct offload_call *granted, *call = offload_next(offload, &granted);
        if (call) {
            work_at(thread, call, granted);
            continue;
        }
        offload->idle++;
        pthread_cond_wait(&offload->work, &offload->lock);
        offload->idle--;
    }
    if (!thread->lost)
        offload->alive--;
    pthread_mutex_unlock(&offload->lock);
    if (thread->vm)
        vm_free(thread->vm);
    plain_release(thread->lent);
    pthread_mutex_lock(&offload->lock);
    if (thread->lost)
        offload->lost--;
    offload_wake(offload); /* it may reap: never the thread itself */
    thread->ended = true;
    pthread_cond_broadcast(&offload->ended);
    pthread_mutex_unlock(&offload->lock);
    return NULL;
}

/* With the lock held. */
static void reap(struct offload *offload)
{
    struct offload_thread *thread, *next;
    LL_FOREACH_SAFE(offload->threads, thread, next) {
        if (!thread->ended)
            continue;
        LL_DELETE(offload->threads, thread);
        int rc = pthread_join(thread->thread, NULL);
        assert(rc == 0);
        (void)rc;
        free(thread);
    }
}

static int start_thread(struct offload *offload)
{
    struct offload_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return ERR_MEMORY;
    reap(offload);
    thread->offload = offload;
    thread->watched.spare = true;
    int rc = thread_start(&thread->thread, "offload", thread_main, thread, NULL);
    if (rc) {
        free(thread);
        return rc;
    }
    LL_PREPEND(offload->threads, thread);
    offload->alive++;
    return 0;
}

bool offload_may_start(const struct offload *offload)
{
    return offload->alive < offload->limit && offload->alive + offload->lost < 2 * offload->limit;
}

void offload_wake(struct offload *offload)
{
    if (!offload->queue || offload->stopping)
        return;
    pthread_cond_signal(&offload->work);
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
    struct offload_thread *thread = THREAD_OF_WATCHED(watched);
    struct offload *offload = thread->offload;
    struct sched_param param = {0};
    pthread_mutex_lock(&offload->lock);
    sched_setscheduler(thread->tid, SCHED_IDLE, &param);
    thread->lost = true;
    offload->alive--;
    offload->lost++;
    if (thread->call) {
        struct offload_call *call = offload_call_retain(thread->call);
        DL_APPEND(offload->lost_calls, call);
    }
    offload_wake(offload);
    pthread_cond_broadcast(&offload->ended); /* nobody waits for it */
    clock_arm(offload->engine->clock, &offload->notice, clock_now_ns());
    pthread_mutex_unlock(&offload->lock);
}

static void tell_lost(const struct offload_call *call, int lost, int most)
{
    const struct log_context context = {.script = call->script};
    log_event(LOG_WARN, &context,
              "the offloaded function %s.%s is in a call that cannot be interrupted: its thread is "
              "left to it until it returns (%d of at most %d%s)",
              call->module, call->function, lost, most,
              lost >= most ? "; from here on there is none in its place" : "");
}

/* The clock. */
void offload_on_notice(struct deadline *deadline)
{
    struct offload *offload = OFFLOAD_OF_NOTICE(deadline);
    struct offload_call *call, *later;
    do {
        int after = 0;
        pthread_mutex_lock(&offload->lock);
        call = offload->lost_calls;
        if (call) {
            DL_DELETE(offload->lost_calls, call);
            DL_COUNT(offload->lost_calls, later, after);
        }
        int lost = offload->lost - after, most = offload->limit;
        pthread_mutex_unlock(&offload->lock);
        if (call)
            tell_lost(call, lost, most);
        offload_call_release(call);
    } while (call);
}

/* Stopping --------------------------------------------------------------------------------------
 */

/* With the lock held. */
static int count_left(const struct offload *offload)
{
    int left = 0;
    const struct offload_thread *thread;
    LL_FOREACH(offload->threads, thread)
        left += !thread->ended;
    return left;
}

int offload_stop(struct offload *offload, uint64_t deadline_ns)
{
    pthread_mutex_lock(&offload->lock);
    offload->stopping = true; /* from here on the list of threads is ours */
    pthread_cond_broadcast(&offload->work);
    struct offload_thread *thread;
    LL_FOREACH(offload->threads, thread) {
        if (thread->call)
            offload_interrupt(thread);
    }
    const struct timespec at = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
                                .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    while (count_left(offload) > offload->lost && clock_now_ns() < deadline_ns)
        pthread_cond_timedwait(&offload->ended, &offload->lock, &at);
    reap(offload);
    int left = count_left(offload);
    pthread_mutex_unlock(&offload->lock);
    return left;
}
