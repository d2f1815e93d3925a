/* thread - see thread.h. */
#include "base/thread.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bug.h"
#include "base/strand.h"
#include "base/value.h"

void thread_block_signals(sigset_t *before)
{
    static const int open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t blocked;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        sigdelset(&blocked, open[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, before);
}

static _Thread_local void *mark_here;

void thread_set_mark(void *mark)
{
    mark_here = mark;
}

void *thread_mark(void)
{
    return mark_here;
}

/* What a thread begins with that is marked. */
struct marked_start {
    void *(*run)(void *arg);
    void *arg, *mark;
};

static void *run_marked(void *arg)
{
    struct marked_start begun = *(struct marked_start *)arg;
    free(arg);
    mark_here = begun.mark;
    return begun.run(begun.arg);
}

static int start_fiber(struct thread *thread, const char *name, void *(*run)(void *), void *arg,
                       struct err *err)
{
    thread->strand = world_start(name, run, arg);
    return thread->strand ? 0 : err_set(err, ERR_SYSTEM, "cannot start the fiber \"%s\"", name);
}

int thread_start(struct thread *thread, const char *name, void *(*run)(void *), void *arg,
                 struct err *err)
{
    sigset_t before;
    pthread_attr_t attr;
    if (world_active())
        return start_fiber(thread, name, run, arg, err);
    thread->strand = NULL;
    struct marked_start *marked = mark_here ? malloc(sizeof *marked) : NULL;
    if (marked) {
        *marked = (struct marked_start){run, arg, mark_here};
        run = run_marked;
        arg = marked;
    }
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
    thread_block_signals(&before);
    int failed = pthread_create(&thread->raw, &attr, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (failed) {
        free(marked);
        return err_set(err, ERR_SYSTEM, "cannot start the thread \"%s\": %s", name,
                       strerror(failed));
    }
    pthread_setname_np(thread->raw, name);
    return 0;
}

void thread_join(struct thread thread)
{
    if (thread.strand) {
        world_join(thread.strand);
        return;
    }
    int failed = pthread_join(thread.raw, NULL);
    BUG_ON(failed);
}

void thread_detach(struct thread thread)
{
    if (thread.strand)
        world_detach(thread.strand);
    else
        pthread_detach(thread.raw);
}

struct thread thread_self(void)
{
    return (struct thread){.raw = pthread_self(), .strand = world_active() ? world_self() : NULL};
}

void thread_signal(struct thread thread, int signal)
{
    if (!thread.strand)
        pthread_kill(thread.raw, signal);
}

void thread_run_last(int tid)
{
    const struct sched_param none = {0};
    if (!world_active())
        sched_setscheduler(tid, SCHED_IDLE, &none);
}

void thread_sleep_until(uint64_t at_ns)
{
    struct timespec at = {.tv_sec = (time_t)(at_ns / (uint64_t)NS_PER_S),
                          .tv_nsec = (long)(at_ns % (uint64_t)NS_PER_S)};
    if (world_active()) {
        world_sleep_until(at_ns, __builtin_return_address(0));
        return;
    }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
    }
}

bool thread_stack(void **lowest, size_t *bytes)
{
    pthread_attr_t attr;
    if (world_active()) {
        world_stack(lowest, bytes);
        return true;
    }
    if (pthread_getattr_np(pthread_self(), &attr))
        return false;
    bool known = pthread_attr_getstack(&attr, lowest, bytes) == 0;
    pthread_attr_destroy(&attr);
    return known;
}
