/* storm - see storm.h. */
#include "storm.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PERMITS 3
#define THREADS_MAX 16

struct storm {
    struct permits *permits;
    struct limiters *limiters;
    struct limit limit;
    int times, places;
    int64_t ttl_ns;
    unsigned seed;
    atomic_int inside[PERMITS], most, taken, timeouts, left, unanswered;
};

/* A wait: answered once. */
struct answer {
    sem_t come;
    enum err_code code;
};

static void on_end(void *context, enum err_code code)
{
    struct answer *answer = context;
    answer->code = code;
    sem_post(&answer->come);
}

static void on_drawn(void *context)
{
    on_end(context, ERR_NONE);
}

/* False: nobody has answered for 20 s. */
static bool await(struct answer *answer)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    int code;
    while ((code = sem_timedwait(&answer->come, &until)) != 0) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        if (now.tv_sec >= until.tv_sec)
            return false;
    }
    return true;
}

static void be_inside(struct storm *storm, int which)
{
    int now = atomic_fetch_add(&storm->inside[which], 1) + 1, most = atomic_load(&storm->most);
    while (now > most && !atomic_compare_exchange_weak(&storm->most, &most, now))
        ;
    atomic_fetch_add(&storm->taken, 1);
    sched_yield();
    atomic_fetch_sub(&storm->inside[which], 1);
}

static bool waited(struct storm *storm, struct hold *hold, struct answer *answer, unsigned dice)
{
    if (dice % 5 == 0 && hold_leave(hold) == HOLD_WAITED) {
        atomic_fetch_add(&storm->left, 1);
        return false;
    }
    if (!await(answer)) {
        atomic_fetch_add(&storm->unanswered, 1);
        return false;
    }
    if (answer->code != ERR_NONE)
        atomic_fetch_add(&storm->timeouts, 1);
    return answer->code == ERR_NONE && dice % 5;
}

static void take_one(struct storm *storm, unsigned *seed)
{
    static const char *const names[PERMITS] = {"a", "b", "c"};
    struct answer answer = {.code = ERR_NONE};
    unsigned dice = (unsigned)rand_r(seed);
    int which = (int)(dice % PERMITS);
    int64_t wait_ns = dice % 7 == 0 ? 0
                      : dice % 2    ? (int64_t)(dice % 3 + 1) * 1000000
                                    : HOLD_FOR_EVER;
    const struct permit_wish wish = {.kind = PERMIT_SEMAPHORE,
                                     .name = names[which],
                                     .name_len = 1,
                                     .places = (unsigned)storm->places,
                                     .ttl_ns = storm->ttl_ns};
    sem_init(&answer.come, 0, 0);
    struct hold *hold = hold_new(storm->permits, &wish);
    enum hold_taken taken = hold_take(hold, wait_ns, on_end, &answer);
    if (taken == HOLD_TAKEN || (taken == HOLD_WAITS && waited(storm, hold, &answer, dice)))
        be_inside(storm, which);
    hold_leave(hold);
    hold_release(hold);
    sem_destroy(&answer.come);
}

static void *take_many(void *arg)
{
    struct storm *storm = arg;
    unsigned seed = (unsigned)(uintptr_t)pthread_self();
    for (int i = 0; i < storm->times; i++)
        take_one(storm, &seed);
    return NULL;
}

static void draw_one(struct storm *storm, unsigned *seed)
{
    struct answer answer = {.code = ERR_NONE};
    unsigned dice = (unsigned)rand_r(seed);
    if (dice % 4 == 0) {
        if (limiters_try(storm->limiters, &storm->limit, 1) == DRAW_TAKEN)
            atomic_fetch_add(&storm->taken, 1);
        return;
    }
    sem_init(&answer.come, 0, 0);
    struct draw *draw = draw_new(storm->limiters, on_drawn, &answer);
    enum draw_taken taken = draw_take(draw, &storm->limit, 1);
    bool left = taken == DRAW_WAITS && dice % 5 == 0 && draw_leave(draw);
    if (taken == DRAW_WAITS && !left && !await(&answer))
        atomic_fetch_add(&storm->unanswered, 1);
    else if (!left)
        atomic_fetch_add(&storm->taken, 1);
    draw_free(draw);
    sem_destroy(&answer.come);
}

static void *draw_many(void *arg)
{
    struct storm *storm = arg;
    unsigned seed = (unsigned)(uintptr_t)pthread_self();
    for (int i = 0; i < storm->times; i++)
        draw_one(storm, &seed);
    return NULL;
}

static void run(struct storm *storm, void *(*each)(void *), int threads)
{
    pthread_t ids[THREADS_MAX];
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    for (int i = 0; i < threads; i++)
        pthread_create(&ids[i], NULL, each, storm);
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
}

struct storm_result storm_permits(struct permits *permits, int threads, int times, int places,
                                  int64_t ttl_ns)
{
    struct storm storm = {.permits = permits, .times = times, .places = places, .ttl_ns = ttl_ns};
    run(&storm, take_many, threads);
    return (struct storm_result){.taken = storm.taken,
                                 .timeouts = storm.timeouts,
                                 .left_waiting = storm.left,
                                 .most = storm.most,
                                 .unanswered = storm.unanswered};
}

int storm_limiter(struct limiters *limiters, double rate, double burst, int threads, int times,
                  int *unanswered)
{
    struct storm storm = {
        .limiters = limiters, .times = times, .limit = {"calls", strlen("calls"), rate, burst}};
    run(&storm, draw_many, threads);
    *unanswered = storm.unanswered;
    return storm.taken;
}
