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

/* How often a stop asks again what still runs to end. */
#define ASK_AGAIN_NS ((uint64_t)20 * NS_PER_MS)

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
    pthread_mutex_unlock(&offload->lock);
    offload_tell(granted);
    offload_run(thread);
    pthread_mutex_lock(&offload->lock);
    thread->call = NULL;
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
    pthread_mutex_lock(&offload->lock);
    if (thread->lost)
        offload->lost--;
    thread->ended = true;
    offload_wake(offload);
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
        pthread_join(thread->thread, NULL);
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

void offload_wake(struct offload *offload)
{
    if (!offload->queue || offload->stopping)
        return;
    pthread_cond_signal(&offload->work);
    if (offload->queued > offload->idle && offload->alive < offload->limit &&
        offload->alive + offload->lost < 2 * offload->limit)
        start_thread(offload);
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
    offload_wake(offload);
    clock_arm(offload->engine->clock, &offload->notice, clock_now_ns());
    pthread_mutex_unlock(&offload->lock);
}

/* The clock. */
void offload_on_notice(struct deadline *deadline)
{
    struct offload *offload = OFFLOAD_OF_NOTICE(deadline);
    pthread_mutex_lock(&offload->lock);
    int lost = offload->lost, most = offload->limit;
    pthread_mutex_unlock(&offload->lock);
    log_warn("an offloaded function is in a call that cannot be interrupted: its thread is left to "
             "it until it returns (%d of at most %d%s)",
             lost, most, lost >= most ? "; from here on there is none in its place" : "");
}

/* Stopping --------------------------------------------------------------------------------------
 */

/* Whoever has not entered Lua yet is missed, and asked again. The address is only compared. */
static void ask_all(struct offload *offload)
{
    struct offload_thread *thread;
    LL_FOREACH(offload->threads, thread) {
        pthread_mutex_lock(&offload->lock);
        const struct offload_call *call = thread->call;
        pthread_mutex_unlock(&offload->lock);
        if (call)
            watchdog_overdue(offload->engine->watchdog, call);
    }
}

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
    int left;
    uint64_t now;
    while ((left = count_left(offload)) > 0 && left > offload->lost &&
           (now = clock_now_ns()) < deadline_ns) {
        pthread_mutex_unlock(&offload->lock);
        ask_all(offload);
        uint64_t until = now + ASK_AGAIN_NS < deadline_ns ? now + ASK_AGAIN_NS : deadline_ns;
        struct timespec at = {.tv_sec = (time_t)(until / NS_PER_S),
                              .tv_nsec = (long)(until % NS_PER_S)};
        pthread_mutex_lock(&offload->lock);
        if (count_left(offload) == left)
            pthread_cond_timedwait(&offload->ended, &offload->lock, &at);
    }
    reap(offload);
    left = count_left(offload);
    pthread_mutex_unlock(&offload->lock);
    return left;
}
