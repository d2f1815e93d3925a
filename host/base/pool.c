/* A queue of jobs, and threads that take from it. */
#include "base/pool.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/sync.h"
#include "base/thread.h"

struct pool {
    struct mutex lock;             /* first, last, stopping; a leaf: jobs run without it */
    struct cond work;              /* a job was submitted, or stopping */
    struct pool_job *first, *last; /* not owned; waiting to be run */
    bool stopping;
    bool stopped; /* of the thread that stops it */
    int thread_count;
    struct thread threads[];
};

static void append(struct pool_job **first, struct pool_job **last, struct pool_job *job)
{
    job->next = NULL;
    if (*last)
        (*last)->next = job;
    else
        *first = job;
    *last = job;
}

/* NULL when nothing waits. */
static struct pool_job *take_first(struct pool_job **first, struct pool_job **last)
{
    struct pool_job *job = *first;
    if (job) {
        *first = job->next;
        if (!*first)
            *last = NULL;
    }
    return job;
}

static void queue(struct pool *pool, struct pool_job *job)
{
    must_hold(&pool->lock);
    append(&pool->first, &pool->last, job);
    cond_signal(&pool->work);
}

/* One of its jobs has ended. */
static void share_ended(struct pool *pool, struct pool_share *share)
{
    must_hold(&pool->lock);
    struct pool_job *next = take_first(&share->first, &share->last);
    if (next)
        queue(pool, next);
    else
        share->running--;
}

static void *run_jobs(void *arg)
{
    struct pool *pool = arg;
    mutex_lock(&pool->lock);
    for (;;) {
        struct pool_job *job = take_first(&pool->first, &pool->last);
        if (job) {
            struct pool_share *share = job->share;
            mutex_unlock(&pool->lock);
            job->run(job);
            mutex_lock(&pool->lock);
            if (share)
                share_ended(pool, share);
        } else if (pool->stopping) {
            break;
        } else {
            cond_wait(&pool->work, &pool->lock);
        }
    }
    mutex_unlock(&pool->lock);
    return NULL;
}

struct pool *pool_new(int threads, struct err *err)
{
    if (threads < 1) {
        err_set(err, ERR_INVALID, "a pool needs at least one thread, not %d", threads);
        return NULL;
    }
    struct pool *pool = calloc(1, sizeof *pool + (size_t)threads * sizeof *pool->threads);
    if (!pool) {
        err_set(err, ERR_SYSTEM, "out of memory");
        return NULL;
    }
    mutex_init(&pool->lock);
    cond_init(&pool->work);
    while (pool->thread_count < threads) {
        if (thread_start(&pool->threads[pool->thread_count], "pool", run_jobs, pool, err) != 0) {
            pool_free(pool);
            return NULL;
        }
        pool->thread_count++;
    }
    return pool;
}

void pool_stop(struct pool *pool)
{
    mutex_lock(&pool->lock);
    pool->stopping = true;
    cond_broadcast(&pool->work);
    mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->thread_count; i++)
        thread_join(pool->threads[i]);
    /* What others submitted after the last thread had looked runs here. */
    if (!pool->stopped)
        run_jobs(pool);
    pool->stopped = true;
    pool->thread_count = 0;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    pool_stop(pool);
    cond_destroy(&pool->work);
    mutex_destroy(&pool->lock);
    free(pool);
}

void pool_submit(struct pool *pool, struct pool_job *job)
{
    mutex_lock(&pool->lock);
    job->share = NULL;
    queue(pool, job);
    mutex_unlock(&pool->lock);
}

void pool_submit_within(struct pool *pool, struct pool_share *share, struct pool_job *job)
{
    mutex_lock(&pool->lock);
    job->share = share;
    if (share->running >= share->most) {
        append(&share->first, &share->last, job);
    } else {
        share->running++;
        queue(pool, job);
    }
    mutex_unlock(&pool->lock);
}
