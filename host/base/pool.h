/* pool - a few threads for work that may block: setting up streams and consumers, loading
 * scripts. Jobs are embedded in their owner's structs; the pool owns none of them.
 *
 * Jobs start in the order in which they were submitted. Those of a share wait for each other, too:
 * so many of them run at a time, and leave the other threads to the rest. */
#ifndef MOONBUS_BASE_POOL_H
#define MOONBUS_BASE_POOL_H

#include "base/err.h"

struct pool;

struct pool_share;

struct pool_job {
    struct pool_job *next;
    struct pool_share *share;          /* or NULL */
    void (*run)(struct pool_job *job); /* on a pool thread; may free the job */
};

/* Outlives its jobs. What is beside `most` is the pool's. */
struct pool_share {
    int most; /* so many of its jobs run, or are next, at a time; at least 1 */
    int running;
    struct pool_job *first, *last; /* not owned; they wait for one of those to end */
};

struct pool *pool_new(int threads, struct err *err);

/* Runs what was submitted, then ends the threads. What is submitted meanwhile runs too; what comes
 * later never runs. Again: no effect. */
void pool_stop(struct pool *pool);

/* Stops it if need be. Nobody may submit any more. NULL is allowed. */
void pool_free(struct pool *pool);

/* Any thread; never blocks. */
void pool_submit(struct pool *pool, struct pool_job *job);
/* The same, of a share. */
void pool_submit_within(struct pool *pool, struct pool_share *share, struct pool_job *job);

#endif
