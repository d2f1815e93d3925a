#include "base/pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/thread.h"

struct pool {
    pthread_mutex_t lock;          /* first, last, stopping; a leaf: jobs run without it */
    pthread_cond_t work;           /* a job was submitted, or stopping */
    struct pool_job *first, *last; /* not owned; waiting to be run */
    bool stopping;
    int thread_count;
    pthread_t threads[];
};

/* With the lock held; NULL when nothing waits. */
static struct pool_job *take(struct pool *pool)
{
    struct pool_job *job = pool->first;
    if (job) {
        pool->first = job->next;
        if (!pool->first)
            pool->last = NULL;
    }
    return job;
}

static void *run(void *arg)
{
    struct pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct pool_job *job = take(pool);
        if (job) {
            pthread_mutex_unlock(&pool->lock);
            job->run(job);
            pthread_mutex_lock(&pool->lock);
        } else if (pool->stopping) {
            break;
        } else {
            pthread_cond_wait(&pool->work, &pool->lock);
        }
    }
    pthread_mutex_unlock(&pool->lock);
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
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    while (pool->thread_count < threads) {
        if (thread_start(&pool->threads[pool->thread_count], "pool", run, pool, err) != 0) {
            pool_free(pool);
            return NULL;
        }
        pool->thread_count++;
    }
    return pool;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    /* What others submitted after the last thread had looked runs here. */
    run(pool);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

void pool_submit(struct pool *pool, struct pool_job *job)
{
    pthread_mutex_lock(&pool->lock);
    job->next = NULL;
    if (pool->last)
        pool->last->next = job;
    else
        pool->first = job;
    pool->last = job;
    pthread_cond_signal(&pool->work);
    pthread_mutex_unlock(&pool->lock);
}
