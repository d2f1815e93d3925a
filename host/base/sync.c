/* sync - see sync.h. */
#include "base/sync.h"

#include <time.h>

#include "base/strand.h"
#include "base/value.h"

#ifdef BUG_CHECKED
/* Something of the calling thread's own, by which it is told from the others. */
static const void *self(void)
{
    static _Thread_local char here;
    return world_active() ? (const void *)world_self() : &here;
}

bool mutex_is_mine(const struct mutex *mutex)
{
    return mutex->holder == self();
}

static void note_held(struct mutex *mutex)
{
    mutex->holder = self();
}

static void note_free(struct mutex *mutex)
{
    must_hold(mutex);
    mutex->holder = NULL;
}
#else
static void note_held(struct mutex *mutex)
{
    (void)mutex;
}

static void note_free(struct mutex *mutex)
{
    (void)mutex;
}
#endif

static void init(struct mutex *mutex, int kind)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, kind);
    pthread_mutex_init(&mutex->raw, &attr);
    pthread_mutexattr_destroy(&attr);
#ifdef BUG_CHECKED
    mutex->holder = NULL;
#endif
}

void mutex_init(struct mutex *mutex)
{
    init(mutex, PTHREAD_MUTEX_NORMAL);
}

void mutex_init_spinning(struct mutex *mutex)
{
    init(mutex, PTHREAD_MUTEX_ADAPTIVE_NP);
}

void mutex_destroy(struct mutex *mutex)
{
    pthread_mutex_destroy(&mutex->raw);
}

static void lock_in_world(struct mutex *mutex, const void *from)
{
    world_about_to_lock();
    while (pthread_mutex_trylock(&mutex->raw) != 0)
        world_wait_for_mutex(mutex, from);
}

UNCHECKED void mutex_lock_in_world(struct mutex *mutex)
{
    lock_in_world(mutex, __builtin_return_address(0));
    note_held(mutex);
}

#ifndef MUTEX_INLINE
UNCHECKED void mutex_lock(struct mutex *mutex)
{
    must_not_hold(mutex);
    if (world_active())
        lock_in_world(mutex, __builtin_return_address(0));
    else
        pthread_mutex_lock(&mutex->raw);
    note_held(mutex);
}

UNCHECKED void mutex_unlock(struct mutex *mutex)
{
    note_free(mutex);
    pthread_mutex_unlock(&mutex->raw);
    if (world_active())
        world_unlocked(mutex);
}
#endif

void cond_init(struct cond *cond)
{
    pthread_cond_init(&cond->raw, NULL);
}

void cond_destroy(struct cond *cond)
{
    pthread_cond_destroy(&cond->raw);
}

UNCHECKED static bool wait_in_world(struct cond *cond, struct mutex *mutex, uint64_t until_ns,
                                    const void *from)
{
    mutex_unlock(mutex);
    bool in_time = world_wait(cond, until_ns, from);
    lock_in_world(mutex, from);
    note_held(mutex);
    return in_time;
}

UNCHECKED void cond_wait(struct cond *cond, struct mutex *mutex)
{
    if (world_active()) {
        wait_in_world(cond, mutex, UINT64_MAX, __builtin_return_address(0));
        return;
    }
    note_free(mutex);
    pthread_cond_wait(&cond->raw, &mutex->raw);
    note_held(mutex);
}

UNCHECKED bool cond_wait_until(struct cond *cond, struct mutex *mutex, uint64_t until_ns)
{
    const struct timespec until = {.tv_sec = (time_t)(until_ns / (uint64_t)NS_PER_S),
                                   .tv_nsec = (long)(until_ns % (uint64_t)NS_PER_S)};
    if (world_active())
        return wait_in_world(cond, mutex, until_ns, __builtin_return_address(0));
    note_free(mutex);
    int code = pthread_cond_clockwait(&cond->raw, &mutex->raw, CLOCK_MONOTONIC, &until);
    note_held(mutex);
    return code == 0;
}

void cond_signal(struct cond *cond)
{
    if (world_active())
        world_wake(cond, false);
    else
        pthread_cond_signal(&cond->raw);
}

void cond_broadcast(struct cond *cond)
{
    if (world_active())
        world_wake(cond, true);
    else
        pthread_cond_broadcast(&cond->raw);
}

void semaphore_init(struct semaphore *semaphore)
{
    sem_init(&semaphore->raw, 0, 0);
}

void semaphore_destroy(struct semaphore *semaphore)
{
    sem_destroy(&semaphore->raw);
}

void semaphore_post(struct semaphore *semaphore)
{
    sem_post(&semaphore->raw);
    if (world_active())
        world_semaphore_posted(semaphore);
}

void semaphore_wait(struct semaphore *semaphore)
{
    if (world_active()) {
        while (sem_trywait(&semaphore->raw) != 0)
            world_wait_for_semaphore(semaphore, __builtin_return_address(0));
        return;
    }
    while (sem_wait(&semaphore->raw) != 0) { /* a signal */
    }
}
