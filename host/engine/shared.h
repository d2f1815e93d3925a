/* shared - stores of plain values that belong to the process: all scripts, instances and
 * generations that name the same store share it, and it lives until the process ends.
 *
 *   worker ── store_put, _get, _incr ─▶ store (one mutex) ◀── frees what has expired ── clock
 *
 * Each operation is atomic. A store is bounded in bytes and refuses what does not fit; or, if that
 * is asked for, it forgets what was used longest ago. When the ttl of a key is over, nobody finds
 * it any more; the clock frees it soon after, some keys at a time. Only the end of a store, and
 * what lists keys, walks through it.
 *
 * Any thread. A store's lock is held for a look-up and a few copies of pointers (and of the keys
 * that are listed), never while Lua runs, values are copied, or another lock than the clock's is
 * taken. Values are references to
 * immutable blocks: the caller of store_get releases what it got. */
#ifndef MOONBUS_ENGINE_SHARED_H
#define MOONBUS_ENGINE_SHARED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "vm/plain.h"

#define SHARED_STORES_MAX 256
#define SHARED_NAME_MAX 255
#define SHARED_KEY_MAX 65535
#define SHARED_SIZE_DEFAULT ((size_t)16 << 20)

struct shared;
struct store;

/* clock: not owned; must have stopped before shared_free. NULL when out of memory. */
struct shared *shared_new(struct clock *clock);
void shared_free(struct shared *shared);

/* What is done when it is full: refuse, or forget what was used longest ago. */
enum store_evict { EVICT_AS_IT_IS, EVICT_NONE, EVICT_LRU };

/* The store of that name, made if need be; it lives as long as `shared`. size_bytes: its bound, if
 * it is stated; 0: as it is, at first the default; evict: the same, at first EVICT_NONE. NULL with
 * err: too many of them, no memory. */
struct store *shared_open(struct shared *shared, const char *name, size_t size_bytes,
                          enum store_evict evict, struct err *err);
const char *store_name(const struct store *store);
size_t store_size_bytes(struct store *store);

/* A value is a number, or anything else as a block. */
struct store_value {
    double number;       /* when plain is NULL */
    struct plain *plain; /* owned */
};

struct store_key {
    const char *text; /* borrowed for the call */
    size_t len;
};

/* True: it is there. out: with a reference of the caller's. */
bool store_get(struct store *store, struct store_key key, struct store_value *out);
/* True: it is there, which counts as a hit. Holds nothing: *number, if it is one. */
bool store_peek(struct store *store, struct store_key key, double *number, bool *is_number);

enum store_mode { STORE_SET, STORE_ADD, STORE_REPLACE };

/* Puts a value under a key; takes the value's block, also when it fails. ttl_ns 0: for ever.
 * STORE_ADD changes nothing when the key is there already, STORE_REPLACE when it is not: then *done
 * is false. 0, ERR_FULL or ERR_TOO_LARGE. */
int store_put(struct store *store, enum store_mode mode, struct store_key key,
              struct store_value value, int64_t ttl_ns, bool *done, struct err *err);

/* Adds `by` to a number; a key that is not there begins with `init`, and gets the ttl. 0 with *sum;
 * ERR_INVALID: the value is none, or the sum would not be finite, and the value is kept; ERR_FULL.
 */
int store_incr(struct store *store, struct store_key key, double by, double init, int64_t ttl_ns,
               double *sum, struct err *err);

/* True: it was there. */
bool store_delete(struct store *store, struct store_key key);

/* True: it is there. *ttl_ns: how long it is yet; 0: for ever. */
bool store_ttl(struct store *store, struct store_key key, int64_t *ttl_ns);
/* Another ttl from now on; 0: for ever. *there: is it? 0 or ERR_MEMORY. */
int store_expire(struct store *store, struct store_key key, int64_t ttl_ns, bool *there,
                 struct err *err);

/* How many bytes the first `most` keys take, for store_keys. */
size_t store_keys_bytes(struct store *store, unsigned most);
/* Writes keys, each with its length as a size_t before it, as long as there are some and they have
 * room. How many. */
unsigned store_keys(struct store *store, unsigned most, char *buf, size_t size);

/* Forgets all of it. How many keys there were. */
unsigned store_flush(struct store *store);

/* What a store holds. */
struct store_stat {
    const char *name; /* the store's */
    unsigned entries;
    size_t used_bytes, size_bytes;
    uint64_t hits, misses; /* of store_peek */
    uint64_t evicted;
};
void store_count(struct store *store, struct store_stat *stat);

/* Of all stores, in the order in which they were made; the caller frees the array. *count: how
 * many; NULL with 0: none, or no memory. */
struct store_stat *shared_stat(struct shared *shared, int *count);

#endif
