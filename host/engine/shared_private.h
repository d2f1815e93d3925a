/* shared_private - a store as its own files see it: shared.c (entries, and what is done with one)
 * and shared_look.c (what walks over all of them). Nobody else includes it. */
#ifndef MOONBUS_ENGINE_SHARED_PRIVATE_H
#define MOONBUS_ENGINE_SHARED_PRIVATE_H

#include "base/sync.h"
#include "base/table.h"
#include "engine/shared.h"

struct entry {
    struct wheel_timer timer; /* first: found by it. Armed when it has a ttl */
    UT_hash_handle hh;
    struct entry *prev, *next; /* of all: with EVICT_LRU, what was used longest ago first */
    uint64_t expires_ns;       /* 0: never */
    struct store_value value;
    size_t key_len;
    char key[];
};

struct store {
    struct store *next;
    struct shared *shared;  /* not owned */
    struct mutex lock;      /* all below but the name; before the clock's */
    struct entry *entries;  /* owned; uthash */
    struct entry *all;      /* the same as a list */
    struct wheel *wheel;    /* owned; ticks are milliseconds; NULL until something has a ttl */
    struct deadline expiry; /* armed while something may expire */
    uint64_t sweep_tick;    /* when; UINT64_MAX: not armed */
    size_t used_bytes, size_bytes;
    bool lru; /* makes room by itself */
    uint64_t hits, misses, evicted;
    char name[]; /* immutable */
};

struct shared {
    struct clock *clock;  /* not owned */
    struct mutex lock;    /* the list; before a store's */
    struct store *stores; /* owned */
    int count;
};

#endif
