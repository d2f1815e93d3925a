/* What walks over all of a store, or all stores: keys, flushes, counts. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "engine/shared_private.h"

/* With the lock held: the next entry that has not expired, from this one on. */
static const struct entry *live(const struct entry *entry, uint64_t now)
{
    while (entry && entry->expires_ns && entry->expires_ns <= now)
        entry = entry->next;
    return entry;
}

size_t store_keys_bytes(struct store *store, unsigned most)
{
    uint64_t now = clock_now_ns();
    size_t bytes = 0;
    mutex_lock(&store->lock);
    for (const struct entry *entry = live(store->all, now); entry && most > 0;
         entry = live(entry->next, now), most--)
        bytes += sizeof(size_t) + entry->key_len;
    mutex_unlock(&store->lock);
    return bytes;
}

unsigned store_keys(struct store *store, unsigned most, char *buf, size_t size)
{
    uint64_t now = clock_now_ns();
    unsigned count = 0;
    mutex_lock(&store->lock);
    for (const struct entry *entry = live(store->all, now); entry && count < most;
         entry = live(entry->next, now), count++) {
        size_t bytes = sizeof(size_t) + entry->key_len;
        if (bytes > size)
            break;
        memcpy(buf, &entry->key_len, sizeof(size_t));
        memcpy(buf + sizeof(size_t), entry->key, entry->key_len);
        buf += bytes;
        size -= bytes;
    }
    mutex_unlock(&store->lock);
    return count;
}

unsigned store_flush(struct store *store)
{
    mutex_lock(&store->lock);
    struct entry *all = store->all, *entry, *next;
    struct wheel *wheel = store->wheel;
    unsigned count = HASH_COUNT(store->entries);
    HASH_CLEAR(hh, store->entries);
    store->all = NULL;
    store->wheel = NULL;
    store->used_bytes = 0;
    mutex_unlock(&store->lock);
    DL_FOREACH_SAFE(all, entry, next) {
        plain_release(entry->value.plain);
        free(entry);
    }
    if (wheel)
        wheel_free(wheel);
    return count;
}

void store_count(struct store *store, struct store_stat *stat)
{
    mutex_lock(&store->lock);
    *stat = (struct store_stat){
        .name = store->name,
        .entries = HASH_COUNT(store->entries),
        .used_bytes = store->used_bytes,
        .size_bytes = store->size_bytes,
        .hits = store->hits,
        .misses = store->misses,
        .evicted = store->evicted,
    };
    mutex_unlock(&store->lock);
}

struct store_stat *shared_stat(struct shared *shared, int *count)
{
    struct store *store;
    *count = 0;
    mutex_lock(&shared->lock);
    struct store_stat *all = shared->count > 0 ? calloc((size_t)shared->count, sizeof *all) : NULL;
    for (store = all ? shared->stores : NULL; store; store = store->next)
        store_count(store, &all[(*count)++]);
    mutex_unlock(&shared->lock);
    return all;
}
