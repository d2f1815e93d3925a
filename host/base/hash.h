/* hash - FNV-1a: a short name for a long text, and whether a file has changed. No protection
 * against texts that were made to have the same hash. Pure, any thread. */
#ifndef MOONBUS_BASE_HASH_H
#define MOONBUS_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define HASH_START UINT64_C(14695981039346656037)

/* The hash of what was hashed before (HASH_START: nothing) and these bytes. */
static inline uint64_t hash_add(uint64_t hash, const void *bytes, size_t len)
{
    for (const unsigned char *at = bytes, *end = at + len; at < end; at++)
        hash = (hash ^ *at) * UINT64_C(1099511628211);
    return hash;
}

#endif
