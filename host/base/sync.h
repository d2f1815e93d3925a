/* sync - the mutexes and condition variables of the host: pthreads', with monotonic deadlines in
 * nanoseconds, and with a check of who holds what.
 *
 * Who reads "with the lock held" in a comment of a function finds must_hold in its first line. The
 * check costs nothing where assertions are off; with a sanitizer or in a debug build a caller that
 * does not hold the lock ends the process.
 *
 * In a simulated world (world.h) this is where a fiber lets others go on. */
#ifndef MOONBUS_BASE_SYNC_H
#define MOONBUS_BASE_SYNC_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bug.h"
#include "base/strand.h"

/* What clang checks in `make lint`: a function gives each lock back that it takes, on each way out,
 * and none that it has not. A function that does otherwise says so in its declaration: it LOCKS a
 * mutex, or UNLOCKS one that its caller has; or it NEEDS one, and gives it back only in between. In
 * C clang cannot be told which mutex guards a field. */
#ifdef LOCK_CHECK
#define MUTEX_TYPE __attribute__((capability("mutex")))
#define LOCKS(mutex) __attribute__((acquire_capability(mutex)))
#define UNLOCKS(mutex) __attribute__((release_capability(mutex)))
#define NEEDS(mutex) __attribute__((requires_capability(mutex)))
#define UNCHECKED                                                                                  \
    __attribute__((                                                                                \
        no_thread_safety_analysis)) /* takes several, or one that its callers cannot name */
#else
#define MUTEX_TYPE
#define LOCKS(mutex)
#define UNLOCKS(mutex)
#define NEEDS(mutex)
#define UNCHECKED
#endif

/* Nine locks are taken for each message that is consumed: where nothing is checked, without calls
 * but those of pthreads. */
#if !defined(BUG_CHECKED) && !defined(LOCK_CHECK)
#define MUTEX_INLINE
#endif

/* Of one thread at a time; not recursive. Its fields are sync's own. */
struct MUTEX_TYPE mutex {
    pthread_mutex_t raw;
#ifdef BUG_CHECKED
    const void *_Atomic holder; /* who has it: something of that thread alone; NULL: nobody */
#endif
};

/* Its fields are sync's own. */
struct cond {
    pthread_cond_t raw;
};

struct semaphore {
    sem_t raw;
};

/* For those that are static. */
#define MUTEX_STATIC ((struct mutex){.raw = PTHREAD_MUTEX_INITIALIZER})
#define COND_STATIC ((struct cond){.raw = PTHREAD_COND_INITIALIZER})

void mutex_init(struct mutex *mutex);
/* For a mutex that is held for less than a microsecond, many thousand times a second: who finds it
 * taken looks again for a moment, before it goes to sleep and has to be woken. */
void mutex_init_spinning(struct mutex *mutex);
/* Where the thread is a fiber of a simulated world. */
void mutex_lock_in_world(struct mutex *mutex) LOCKS(mutex);
/* Held by nobody. */
void mutex_destroy(struct mutex *mutex);
#ifdef MUTEX_INLINE
static inline void mutex_lock(struct mutex *mutex)
{
    if (world_active())
        mutex_lock_in_world(mutex);
    else
        pthread_mutex_lock(&mutex->raw);
}

/* Of the thread that locked it. */
static inline void mutex_unlock(struct mutex *mutex)
{
    pthread_mutex_unlock(&mutex->raw);
    if (world_active())
        world_unlocked(mutex);
}
#else
void mutex_lock(struct mutex *mutex) LOCKS(mutex);
/* Of the thread that locked it. */
void mutex_unlock(struct mutex *mutex) UNLOCKS(mutex);
#endif

/* The calling thread holds the mutex: must be true. */
#if defined(LOCK_CHECK)
#define must_hold(mutex) mutex_assume_held(mutex)
#define must_not_hold(mutex) ((void)(mutex))
void mutex_assume_held(const struct mutex *mutex) __attribute__((assert_capability(mutex)));
#elif defined(BUG_CHECKED)
#define must_hold(mutex) BUG_ON(!mutex_is_mine(mutex))
#define must_not_hold(mutex) BUG_ON(mutex_is_mine(mutex))
bool mutex_is_mine(const struct mutex *mutex);
#else
#define must_hold(mutex) ((void)(mutex))
#define must_not_hold(mutex) ((void)(mutex))
#endif

void cond_init(struct cond *cond);
/* Nobody waits for it. */
void cond_destroy(struct cond *cond);
/* Gives the mutex back, sleeps until it is signalled (or, rarely, for no reason: so callers look
 * again at what they wait for), and has the mutex again. With the mutex held. */
void cond_wait(struct cond *cond, struct mutex *mutex) NEEDS(mutex);
/* The same, until `until_ns` of clock_now_ns at most. False: that has come. */
bool cond_wait_until(struct cond *cond, struct mutex *mutex, uint64_t until_ns) NEEDS(mutex);
/* Wakes one of those who wait. With the mutex held or not. */
void cond_signal(struct cond *cond);
/* Wakes all of them. */
void cond_broadcast(struct cond *cond);

/* Counts: 0 at first. A wait takes one, and waits while there is none, whatever signals come. */
void semaphore_init(struct semaphore *semaphore);
/* Nobody waits for it. */
void semaphore_destroy(struct semaphore *semaphore);
void semaphore_post(struct semaphore *semaphore);
void semaphore_wait(struct semaphore *semaphore);

#endif
