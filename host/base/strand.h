/* strand - what a thread of the host is while a simulated world runs (world.h): for base/, which
 * does here what threads do elsewhere, and for variables that each thread has of its own. */
#ifndef MOONBUS_BASE_STRAND_H
#define MOONBUS_BASE_STRAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mutex;
struct cond;
struct semaphore;
struct strand;
struct world;

/* The world that the calling thread is in; NULL: none, and everything is as always. */
extern _Thread_local struct world *world_here;

static inline bool world_active(void)
{
    return __builtin_expect(world_here != NULL, 0);
}

struct strand *world_start(const char *name, void *(*run)(void *), void *arg);
void *world_join(struct strand *strand);
void world_detach(struct strand *strand);
struct strand *world_self(void);
void world_stack(void **lowest, size_t *bytes);
const char *world_name(void);

int64_t world_wall_ns(void);
void world_sleep_until(uint64_t at_ns, const void *from);
/* By the seed, others go first. */
void world_about_to_lock(void);
/* It was found taken; then it is tried again. */
void world_wait_for_mutex(struct mutex *mutex, const void *from);
void world_unlocked(struct mutex *mutex);
/* The mutex is not held, and was not given to anybody else since cond was looked at. */
bool world_wait(struct cond *cond, uint64_t until_ns, const void *from);
void world_wake(struct cond *cond, bool all);
/* It was found at zero; then it is tried again. */
void world_wait_for_semaphore(struct semaphore *semaphore, const void *from);
void world_semaphore_posted(struct semaphore *semaphore);

/* A variable that each thread has of its own (_Thread_local) is that in a world, too, when this
 * stands behind its definition. It begins as zeros in each fiber, and there is no more than one
 * word of it. */
void world_keep_own(void *(*find)(void));
#define WORLD_OWN(variable)                                                                        \
    static void *find_own_##variable(void)                                                         \
    {                                                                                              \
        _Static_assert(sizeof variable == sizeof(uintptr_t), "one word");                          \
        return &variable;                                                                          \
    }                                                                                              \
    __attribute__((constructor)) static void keep_own_##variable(void)                             \
    {                                                                                              \
        world_keep_own(find_own_##variable);                                                       \
    }

#endif
