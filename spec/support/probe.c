#include "probe.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/thread.h"
#include "base/value.h"

struct probe {
    struct deadline deadline;
    struct clock *clock; /* not owned */
    uint64_t again_ns;
    char thread[16];
    bool signals_blocked;
    _Atomic uint64_t fired_ns;
    _Atomic int count; /* written last */
};

static void on_due(struct deadline *deadline)
{
    struct probe *probe = (struct probe *)deadline;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    if (probe->count == 0) {
        pthread_getname_np(pthread_self(), probe->thread, sizeof probe->thread);
        probe->signals_blocked = sigismember(&mask, SIGTERM) == 1;
    }
    probe->fired_ns = clock_now_ns();
    if (probe->again_ns)
        clock_arm(probe->clock, deadline, clock_now_ns() + probe->again_ns);
    probe->count++;
}

struct probe *probe_new(struct clock *clock, uint64_t again_ns)
{
    struct probe *probe = calloc(1, sizeof *probe);
    if (probe) {
        probe->clock = clock;
        probe->again_ns = again_ns;
        probe->deadline.on_due = on_due;
    }
    return probe;
}

void probe_free(struct probe *probe)
{
    free(probe);
}

struct deadline *probe_deadline(struct probe *probe)
{
    return &probe->deadline;
}

int probe_count(struct probe *probe)
{
    return probe->count;
}

uint64_t probe_fired_ns(struct probe *probe)
{
    return probe->fired_ns;
}

const char *probe_thread(struct probe *probe)
{
    return probe->thread;
}

bool probe_signals_blocked(struct probe *probe)
{
    return probe->signals_blocked;
}

struct probe_job {
    struct pool_job job;
    struct probe_jobs *all;     /* not owned */
    struct probe_job *children; /* owned by `all`'s array; NULL for none */
    _Atomic int turn;
};

struct probe_jobs {
    struct pool *pool; /* not owned */
    int count, children;
    struct pool_share share;
    _Atomic bool held; /* they do not end */
    _Atomic int begun, done;
    struct probe_job jobs[];
};

static void run_job(struct pool_job *pool_job)
{
    struct probe_job *job = (struct probe_job *)pool_job;
    struct probe_jobs *all = job->all;
    all->begun++;
    while (all->held)
        thread_sleep_until(clock_now_ns() + NS_PER_MS);
    for (int i = 0; job->children && i < all->children; i++)
        pool_submit(all->pool, &job->children[i].job);
    job->turn = ++all->done;
}

struct probe_jobs *probe_jobs_new(struct pool *pool, int count, int children)
{
    int total = count * (1 + children);
    struct probe_jobs *jobs = calloc(1, sizeof *jobs + (size_t)total * sizeof *jobs->jobs);
    if (!jobs)
        return NULL;
    jobs->pool = pool;
    jobs->count = count;
    jobs->children = children;
    for (int i = 0; i < total; i++) {
        jobs->jobs[i].job.run = run_job;
        jobs->jobs[i].all = jobs;
        if (i < count && children > 0)
            jobs->jobs[i].children = &jobs->jobs[count + i * children];
    }
    return jobs;
}

void probe_jobs_free(struct probe_jobs *jobs)
{
    free(jobs);
}

void probe_jobs_submit_within(struct probe_jobs *jobs, int most)
{
    jobs->share.most = most;
    for (int i = 0; i < jobs->count; i++)
        pool_submit_within(jobs->pool, &jobs->share, &jobs->jobs[i].job);
}

void probe_jobs_let(struct probe_jobs *jobs, bool may)
{
    jobs->held = !may;
}

int probe_jobs_begun(struct probe_jobs *jobs)
{
    return jobs->begun;
}

void probe_jobs_submit(struct probe_jobs *jobs)
{
    for (int i = 0; i < jobs->count; i++)
        pool_submit(jobs->pool, &jobs->jobs[i].job);
}

int probe_jobs_done(struct probe_jobs *jobs)
{
    return jobs->done;
}

int probe_jobs_turn(struct probe_jobs *jobs, int index)
{
    return jobs->jobs[index].turn;
}
