/* container - from a member of a struct to the struct: a callback gets a deadline, a gate or a job,
 * and finds the struct that it is part of. Pure, any thread. */
#ifndef MOONBUS_BASE_CONTAINER_H
#define MOONBUS_BASE_CONTAINER_H

#include <stddef.h>

static inline void *container_at(void *member, size_t offset)
{
    return (char *)member - offset;
}

/* The `type` that `pointer` is the member `member` of. A pointer of another type than that member's
 * does not compile: the second branch is there for its type alone. */
#define container_of(pointer, type, member)                                                        \
    ((type *)container_at(1 ? (pointer) : &((type *)0)->member, offsetof(type, member)))

#endif
