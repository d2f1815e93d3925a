/* limiters - a table of buckets by name, each with a queue and one deadline for its head. */
#include "engine/limiters.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/container.h"
#include "base/sync.h"
#include "base/table.h"
#include "base/value.h"

/* What sums of fractions may lack. */
#define TOLERANCE 1e-6
/* So many buckets are looked at for each one that is made: are they full again? */
#define SWEPT 2
#define WAIT_MOST_S 3e8

struct draw {
    struct draw *prev, *next; /* its bucket's queue */
    struct draw *granted;
    struct limiters *limiters; /* not owned */
    struct bucket *bucket;     /* not owned; NULL: it does not wait */
    double tokens;
    void (*on_end)(void *context);
    void *context;
};

struct bucket {
    UT_hash_handle hh;
    struct bucket *prev, *next; /* of all, the one that was looked at longest ago first */
    struct limiters *limiters;  /* not owned */
    struct draw *waiting;       /* not owned */
    double tokens, rate, burst;
    uint64_t at_ns;           /* when it had so many tokens */
    struct deadline deadline; /* of the head of the queue */
    int armings;              /* that on_due is not through with: until then it is kept */
    size_t name_len;
    char name[];
};

struct limiters {
    struct clock *clock;          /* not owned */
    struct mutex lock;            /* all below; before the clock's */
    struct bucket *buckets, *all; /* owned; by name, and as a list */
    unsigned count, waiting;
};

/* With the lock held --------------------------------------------------------------------------- */

/* now_ns may be a little older than another thread's. */
static void fill(struct bucket *bucket, uint64_t now_ns)
{
    if (now_ns <= bucket->at_ns)
        return;
    double since_s = (double)(now_ns - bucket->at_ns) / NS_PER_S;
    bucket->tokens = fmin(bucket->burst, bucket->tokens + since_s * bucket->rate);
    bucket->at_ns = now_ns;
}

static void drop(struct limiters *limiters, struct bucket *bucket)
{
    HASH_DEL(limiters->buckets, bucket);
    DL_DELETE(limiters->all, bucket);
    limiters->count--;
    free(bucket);
}

/* A full bucket is as good as none: some are looked at. */
static void sweep(struct limiters *limiters, uint64_t now_ns)
{
    for (int i = 0; i < SWEPT && limiters->all; i++) {
        struct bucket *bucket = limiters->all;
        fill(bucket, now_ns);
        if (!bucket->armings && !bucket->waiting && bucket->tokens >= bucket->burst) {
            drop(limiters, bucket);
        } else {
            DL_DELETE(limiters->all, bucket);
            DL_APPEND(limiters->all, bucket);
        }
    }
}

static void on_due(struct deadline *deadline);

/* NULL: there are too many, or no memory. */
static struct bucket *make(struct limiters *limiters, const struct limit *limit, uint64_t now_ns)
{
    sweep(limiters, now_ns);
    if (limiters->count >= LIMITERS_MAX)
        return NULL;
    struct bucket *bucket = calloc(1, sizeof *bucket + limit->name_len);
    if (!bucket)
        return NULL;
    bucket->name_len = limit->name_len;
    memcpy(bucket->name, limit->name, limit->name_len);
    HASH_ADD_KEYPTR(hh, limiters->buckets, bucket->name, bucket->name_len, bucket);
    if (!table_has(bucket)) {
        free(bucket);
        return NULL;
    }
    DL_APPEND(limiters->all, bucket);
    limiters->count++;
    bucket->limiters = limiters;
    bucket->tokens = limit->burst;
    bucket->at_ns = now_ns;
    bucket->deadline.on_due = on_due;
    return bucket;
}

/* The bucket as it is now, by what is stated. NULL as of make. */
static struct bucket *open_bucket(struct limiters *limiters, const struct limit *limit,
                                  uint64_t now_ns)
{
    struct bucket *bucket;
    must_hold(&limiters->lock);
    HASH_FIND(hh, limiters->buckets, limit->name, limit->name_len, bucket);
    if (!bucket && !(bucket = make(limiters, limit, now_ns)))
        return NULL;
    bucket->burst = fmax(bucket->burst, limit->burst);
    fill(bucket, now_ns); /* at the rate until now */
    bucket->rate = limit->rate;
    bucket->burst = limit->burst;
    bucket->tokens = fmin(bucket->tokens, bucket->burst);
    return bucket;
}

/* Has it enough? Of a burst that has become smaller all is enough. Then they are taken. */
static bool take(struct bucket *bucket, double tokens)
{
    tokens = fmin(tokens, bucket->burst);
    if (bucket->tokens + TOLERANCE < tokens)
        return false;
    bucket->tokens -= tokens; /* what it lacked is owed */
    return true;
}

static void unqueue(struct draw *draw)
{
    DL_DELETE(draw->bucket->waiting, draw);
    draw->bucket = NULL;
    draw->limiters->waiting--;
}

/* When the head of the queue has enough. */
static void arm(struct bucket *bucket, uint64_t now_ns)
{
    if (!bucket->waiting)
        return;
    double lacks = fmin(bucket->waiting->tokens, bucket->burst) - bucket->tokens;
    double wait_s = fmin(fmax(0, lacks) / bucket->rate, WAIT_MOST_S);
    uint64_t at_ns = now_ns + (uint64_t)ceil(wait_s * (double)NS_PER_S);
    if (clock_arm(bucket->limiters->clock, &bucket->deadline, at_ns))
        bucket->armings++;
}

/* Those whose turn it is, for tell. */
static struct draw *grant(struct bucket *bucket)
{
    struct draw *first = NULL, **last = &first;
    while (bucket->waiting && take(bucket, bucket->waiting->tokens)) {
        struct draw *draw = bucket->waiting;
        unqueue(draw);
        *last = draw;
        draw->granted = NULL;
        last = &draw->granted;
    }
    return first;
}

/* Without the lock ----------------------------------------------------------------------------- */

/* on_end may free the draw. */
static void tell(struct draw *granted)
{
    while (granted) {
        struct draw *draw = granted;
        granted = draw->granted;
        draw->on_end(draw->context);
    }
}

/* The clock. */
static void on_due(struct deadline *deadline)
{
    struct bucket *bucket = container_of(deadline, struct bucket, deadline);
    struct limiters *limiters = bucket->limiters;
    uint64_t now_ns = clock_now_ns();
    mutex_lock(&limiters->lock);
    bucket->armings--;
    fill(bucket, now_ns);
    struct draw *granted = grant(bucket);
    arm(bucket, now_ns);
    mutex_unlock(&limiters->lock);
    tell(granted);
}

/* draw: NULL: it does not wait. */
static enum draw_taken draw_from(struct limiters *limiters, const struct limit *limit,
                                 double tokens, struct draw *draw)
{
    uint64_t now_ns = clock_now_ns();
    enum draw_taken taken = DRAW_FULL;
    struct draw *granted = NULL;
    mutex_lock(&limiters->lock);
    struct bucket *bucket = open_bucket(limiters, limit, now_ns);
    if (bucket) {
        granted = grant(bucket);
        taken = !bucket->waiting && take(bucket, tokens) ? DRAW_TAKEN
                : !draw                                  ? DRAW_EMPTY
                : limiters->waiting < LIMITERS_MAX       ? DRAW_WAITS
                                                         : DRAW_FULL;
    }
    if (taken == DRAW_WAITS) {
        draw->tokens = tokens;
        draw->bucket = bucket;
        limiters->waiting++;
        DL_APPEND(bucket->waiting, draw);
    }
    if (bucket)
        arm(bucket, now_ns);
    mutex_unlock(&limiters->lock);
    tell(granted);
    return taken;
}

/* What is called from outside ------------------------------------------------------------------ */

enum draw_taken limiters_try(struct limiters *limiters, const struct limit *limit, double tokens)
{
    return draw_from(limiters, limit, tokens, NULL);
}

struct draw *draw_new(struct limiters *limiters, void (*on_end)(void *context), void *context)
{
    struct draw *draw = calloc(1, sizeof *draw);
    if (!draw)
        return NULL;
    draw->limiters = limiters;
    draw->on_end = on_end;
    draw->context = context;
    return draw;
}

enum draw_taken draw_take(struct draw *draw, const struct limit *limit, double tokens)
{
    return draw_from(draw->limiters, limit, tokens, draw);
}

bool draw_leave(struct draw *draw)
{
    struct limiters *limiters = draw->limiters;
    uint64_t now_ns = clock_now_ns();
    struct draw *granted = NULL;
    mutex_lock(&limiters->lock);
    struct bucket *bucket = draw->bucket;
    if (bucket) {
        unqueue(draw);
        fill(bucket, now_ns); /* the next one may want less */
        granted = grant(bucket);
        arm(bucket, now_ns);
    }
    mutex_unlock(&limiters->lock);
    tell(granted);
    return bucket != NULL;
}

void draw_free(struct draw *draw)
{
    free(draw);
}

struct limiters *limiters_new(struct clock *clock)
{
    struct limiters *limiters = calloc(1, sizeof *limiters);
    if (!limiters)
        return NULL;
    limiters->clock = clock;
    mutex_init(&limiters->lock);
    return limiters;
}

void limiters_free(struct limiters *limiters)
{
    if (!limiters)
        return;
    while (limiters->all) {
        struct bucket *bucket = limiters->all;
        clock_cancel(limiters->clock, &bucket->deadline);
        drop(limiters, bucket);
    }
    mutex_destroy(&limiters->lock);
    free(limiters);
}
