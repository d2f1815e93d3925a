/* Hash tables with a bound in bytes, and times at which entries end. */
#include "engine/shared_private.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/container.h"
#include "base/number.h"
#include "base/value.h"

#define TICK_NS ((uint64_t)NS_PER_MS)
/* How many expired entries are freed at a time, in about 0.1 ms: that holds up neither the clock
 * nor those that wait for the lock. */
#define SWEEP_MOST 1000
/* What malloc and the table of keys take for an entry, beside what we ask for. */
#define OVERHEAD_BYTES 48

/* Entries: with the lock held -------------------------------------------------------------------
 */

static size_t value_bytes(const struct store_value *value)
{
    return value->plain ? plain_bytes(value->plain) + OVERHEAD_BYTES / 3 : 0;
}

static size_t entry_bytes(size_t key_len, const struct store_value *value)
{
    return sizeof(struct entry) + key_len + OVERHEAD_BYTES + value_bytes(value);
}

static void remove_entry(struct store *store, struct entry *entry)
{
    if (entry->expires_ns)
        wheel_remove(store->wheel, &entry->timer);
    HASH_DEL(store->entries, entry);
    DL_DELETE(store->all, entry);
    store->used_bytes -= entry_bytes(entry->key_len, &entry->value);
    plain_release(entry->value.plain);
    free(entry);
}

/* NULL: it is not there, or has expired. */
static struct entry *find(struct store *store, struct store_key key, uint64_t now)
{
    struct entry *entry;
    HASH_FIND(hh, store->entries, key.text, key.len, entry);
    if (entry && entry->expires_ns && entry->expires_ns <= now) {
        remove_entry(store, entry);
        return NULL;
    }
    if (entry && store->lru && entry->next) {
        DL_DELETE(store->all, entry);
        DL_APPEND(store->all, entry);
    }
    return entry;
}

/* Frees some of what has expired. True: there may be more. */
static bool expire(struct store *store, uint64_t now)
{
    if (!store->wheel)
        return false;
    wheel_advance(store->wheel, now / TICK_NS);
    for (int i = 0; i < SWEEP_MOST; i++) {
        struct entry *entry = (struct entry *)wheel_take(store->wheel);
        if (!entry)
            return false;
        remove_entry(store, entry);
    }
    return true;
}

static void arm_expiry(struct store *store, uint64_t tick)
{
    if (tick >= store->sweep_tick)
        return;
    store->sweep_tick = tick;
    clock_arm(store->shared->clock, &store->expiry, tick * TICK_NS);
}

/* The clock. */
static void on_expiry(struct deadline *deadline)
{
    struct store *store = container_of(deadline, struct store, expiry);
    uint64_t now = clock_now_ns();
    mutex_lock(&store->lock);
    store->sweep_tick = UINT64_MAX;
    bool more = expire(store, now);
    uint64_t next = store->wheel ? wheel_next(store->wheel) : UINT64_MAX; /* none: it was flushed */
    if (more || next != UINT64_MAX)
        arm_expiry(store, more ? now / TICK_NS + 1 : next);
    mutex_unlock(&store->lock);
}

/* A ttl of 0 is none. False: no memory. */
static bool set_expiry(struct store *store, struct entry *entry, int64_t ttl_ns, uint64_t now)
{
    if (entry->expires_ns)
        wheel_remove(store->wheel, &entry->timer);
    entry->expires_ns = 0;
    if (ttl_ns <= 0)
        return true;
    if (!store->wheel && !(store->wheel = wheel_new(now / TICK_NS)))
        return false;
    entry->expires_ns = now + (uint64_t)ttl_ns;
    uint64_t tick = entry->expires_ns / TICK_NS + 1;
    wheel_add(store->wheel, &entry->timer, tick);
    arm_expiry(store, tick);
    return true;
}

static struct entry *new_entry(struct store *store, struct store_key key)
{
    struct entry *entry = calloc(1, sizeof *entry + key.len);
    if (!entry)
        return NULL;
    entry->key_len = key.len;
    memcpy(entry->key, key.text, key.len);
    HASH_ADD_KEYPTR(hh, store->entries, entry->key, key.len, entry);
    if (!table_has(entry)) {
        free(entry);
        return NULL;
    }
    DL_APPEND(store->all, entry);
    store->used_bytes += entry_bytes(key.len, &entry->value);
    return entry;
}

/* Forgets what was used longest ago. False: nothing is there, or nothing may be forgotten. */
static bool evict(struct store *store)
{
    if (!store->lru || !store->all)
        return false;
    remove_entry(store, store->all);
    store->evicted++;
    return true;
}

/* Is there room for so many bytes more? With EVICT_LRU what find has just found is the last to go.
 */
static int make_room(struct store *store, size_t more, size_t alone, uint64_t now, struct err *err)
{
    if (alone > store->size_bytes)
        return err_set(err, ERR_TOO_LARGE,
                       "%zu bytes are more than all of the store \"%s\" (%zu bytes)", alone,
                       store->name, store->size_bytes);
    while (store->used_bytes + more > store->size_bytes) {
        if (!expire(store, now) && store->used_bytes + more > store->size_bytes && !evict(store))
            return err_set(err, ERR_FULL,
                           "the store \"%s\" is full (%zu of %zu bytes are in use): delete "
                           "something, use a ttl, or state a larger size",
                           store->name, store->used_bytes, store->size_bytes);
    }
    return 0;
}

/* Puts the value into the key's entry, which is made if need be. */
static int put(struct store *store, struct store_key key, struct entry *entry,
               struct store_value *value, uint64_t now, struct entry **out, struct err *err)
{
    size_t alone = entry_bytes(key.len, value);
    size_t before = entry ? entry_bytes(key.len, &entry->value) : 0;
    int code = make_room(store, alone > before ? alone - before : 0, alone, now, err);
    if (code)
        return code;
    /* Making room may have freed it, if it has expired. */
    entry = find(store, key, now);
    if (!entry && !(entry = new_entry(store, key)))
        return err_set(err, ERR_MEMORY, "not enough memory");
    store->used_bytes += alone - entry_bytes(key.len, &entry->value);
    struct store_value old = entry->value;
    entry->value = *value;
    *value = old;
    *out = entry;
    return 0;
}

/* Operations ------------------------------------------------------------------------------------
 */

bool store_get(struct store *store, struct store_key key, struct store_value *out)
{
    uint64_t now = clock_now_ns();
    mutex_lock(&store->lock);
    const struct entry *entry = find(store, key, now);
    if (entry) {
        *out = entry->value;
        if (out->plain)
            plain_retain(out->plain);
    }
    mutex_unlock(&store->lock);
    return entry != NULL;
}

bool store_peek(struct store *store, struct store_key key, double *number, bool *is_number)
{
    uint64_t now = clock_now_ns();
    mutex_lock(&store->lock);
    const struct entry *entry = find(store, key, now);
    if (entry) {
        *number = entry->value.number;
        *is_number = !entry->value.plain;
        store->hits++;
    } else {
        store->misses++;
    }
    mutex_unlock(&store->lock);
    return entry != NULL;
}

int store_put(struct store *store, enum store_mode mode, struct store_key key,
              struct store_value value, int64_t ttl_ns, bool *done, struct err *err)
{
    uint64_t now = clock_now_ns();
    int code = 0;
    struct entry *put_at;
    mutex_lock(&store->lock);
    struct entry *entry = find(store, key, now);
    *done = mode == STORE_SET || (mode == STORE_ADD) == !entry;
    if (*done)
        code = put(store, key, entry, &value, now, &put_at, err);
    if (!code && *done && !set_expiry(store, put_at, ttl_ns, now)) {
        remove_entry(store, put_at);
        code = err_set(err, ERR_MEMORY, "not enough memory");
    }
    mutex_unlock(&store->lock);
    plain_release(value.plain); /* what was there before, or what was not put */
    return code;
}

int store_incr(struct store *store, struct store_key key, double by, double init, int64_t ttl_ns,
               double *sum, struct err *err)
{
    uint64_t now = clock_now_ns();
    int code = 0;
    mutex_lock(&store->lock);
    struct entry *entry = find(store, key, now);
    double before = entry ? entry->value.number : init;
    char shown[2][NUMBER_SHOWN];
    *sum = before + by;
    if (entry && entry->value.plain) {
        code = err_set(err, ERR_INVALID, "the value of \"%.*s\" is not a number",
                       key.len < 100 ? (int)key.len : 100, key.text);
    } else if (!isfinite(*sum)) {
        /* From infinity nothing leads back. */
        code = err_set(err, ERR_INVALID, "%s + %s is no finite number: \"%.*s\" stays as it is",
                       number_show(before, shown[0]), number_show(by, shown[1]),
                       key.len < 100 ? (int)key.len : 100, key.text);
    } else if (entry) {
        entry->value.number = *sum;
    } else {
        struct store_value value = {.number = *sum};
        code = put(store, key, NULL, &value, now, &entry, err);
        if (!code && !set_expiry(store, entry, ttl_ns, now)) {
            remove_entry(store, entry);
            code = err_set(err, ERR_MEMORY, "not enough memory");
        }
    }
    mutex_unlock(&store->lock);
    return code;
}

bool store_delete(struct store *store, struct store_key key)
{
    uint64_t now = clock_now_ns();
    mutex_lock(&store->lock);
    struct entry *entry = find(store, key, now);
    if (entry)
        remove_entry(store, entry);
    mutex_unlock(&store->lock);
    return entry != NULL;
}

bool store_ttl(struct store *store, struct store_key key, int64_t *ttl_ns)
{
    uint64_t now = clock_now_ns();
    mutex_lock(&store->lock);
    const struct entry *entry = find(store, key, now);
    if (entry)
        *ttl_ns = entry->expires_ns ? (int64_t)(entry->expires_ns - now) : 0;
    mutex_unlock(&store->lock);
    return entry != NULL;
}

int store_expire(struct store *store, struct store_key key, int64_t ttl_ns, bool *there,
                 struct err *err)
{
    uint64_t now = clock_now_ns();
    mutex_lock(&store->lock);
    struct entry *entry = find(store, key, now);
    *there = entry != NULL;
    bool done = !entry || set_expiry(store, entry, ttl_ns, now);
    mutex_unlock(&store->lock);
    return done ? 0 : err_set(err, ERR_MEMORY, "not enough memory");
}

const char *store_name(const struct store *store)
{
    return store->name;
}

size_t store_size_bytes(struct store *store)
{
    mutex_lock(&store->lock);
    size_t size_bytes = store->size_bytes;
    mutex_unlock(&store->lock);
    return size_bytes;
}

/* All stores ------------------------------------------------------------------------------------
 */

struct shared *shared_new(struct clock *clock)
{
    struct shared *shared = calloc(1, sizeof *shared);
    if (!shared)
        return NULL;
    shared->clock = clock;
    mutex_init(&shared->lock);
    return shared;
}

static struct store *store_new(struct shared *shared, const char *name)
{
    size_t len = strlen(name);
    struct store *store = calloc(1, sizeof *store + len + 1);
    if (!store)
        return NULL;
    store->shared = shared;
    store->size_bytes = SHARED_SIZE_DEFAULT;
    store->expiry.on_due = on_expiry;
    store->sweep_tick = UINT64_MAX;
    memcpy(store->name, name, len + 1);
    mutex_init(&store->lock);
    return store;
}

static void store_free(struct store *store)
{
    struct entry *entry, *next;
    clock_cancel(store->shared->clock, &store->expiry);
    HASH_ITER(hh, store->entries, entry, next) {
        remove_entry(store, entry);
    }
    if (store->wheel)
        wheel_free(store->wheel);
    mutex_destroy(&store->lock);
    free(store);
}

void shared_free(struct shared *shared)
{
    struct store *store, *next;
    if (!shared)
        return;
    LL_FOREACH_SAFE(shared->stores, store, next)
        store_free(store);
    mutex_destroy(&shared->lock);
    free(shared);
}

/* With the lock held. */
static struct store *find_or_make(struct shared *shared, const char *name, struct err *err)
{
    struct store *store;
    LL_FOREACH(shared->stores, store) {
        if (strcmp(store->name, name) == 0)
            return store;
    }
    if (shared->count >= SHARED_STORES_MAX) {
        err_set(err, ERR_FULL,
                "there are %d stores already, and no more: a store is named in the code, its keys "
                "are for what comes and goes",
                SHARED_STORES_MAX);
        return NULL;
    }
    store = store_new(shared, name);
    if (!store) {
        err_set(err, ERR_MEMORY, "not enough memory");
        return NULL;
    }
    LL_APPEND(shared->stores, store);
    shared->count++;
    return store;
}

struct store *shared_open(struct shared *shared, const char *name, size_t size_bytes,
                          enum store_evict evict, struct err *err)
{
    mutex_lock(&shared->lock);
    struct store *store = find_or_make(shared, name, err);
    mutex_unlock(&shared->lock);
    if (store && (size_bytes || evict != EVICT_AS_IT_IS)) {
        mutex_lock(&store->lock);
        store->size_bytes = size_bytes ? size_bytes : store->size_bytes;
        store->lru = evict == EVICT_AS_IT_IS ? store->lru : evict == EVICT_LRU;
        mutex_unlock(&store->lock);
    }
    return store;
}
