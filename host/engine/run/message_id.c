/* A hash table of counters by subject, and the spelling of an id. */
#include "engine/run/message_id.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/join.h"
#include "base/table.h"
#include "base/value.h"

struct publish_count {
    UT_hash_handle hh;
    unsigned count;
    size_t len;
    char key[]; /* the input's address, then the subject without its NUL */
};

static size_t make_key(const void *input, const char *subject, char *key)
{
    size_t len = strlen(subject);
    if (len > SUBJECT_MAX_BYTES)
        return 0;
    memcpy(key, &input, sizeof input);
    memcpy(key + sizeof input, subject, len);
    return sizeof input + len;
}

static bool has_key(const struct publish_count *count, const char *key, size_t len)
{
    return count->len == len && memcmp(count->key, key, len) == 0;
}

unsigned publish_counts_next(struct publish_counts *counts, const void *input, const char *subject)
{
    char key[sizeof input + SUBJECT_MAX_BYTES];
    size_t len = make_key(input, subject, key);
    struct publish_count *count = counts->first;
    if (!len)
        return 0;
    if (count && has_key(count, key, len))
        return ++count->count;
    if (count)
        HASH_FIND(hh, counts->others, key, len, count);
    if (count)
        return ++count->count;
    count = malloc(sizeof *count + len);
    if (!count)
        return 0;
    memcpy(count->key, key, len);
    count->len = len;
    count->count = 1;
    if (!counts->first) {
        counts->first = count;
        return 1;
    }
    HASH_ADD_KEYPTR(hh, counts->others, count->key, len, count);
    if (table_has(count))
        return 1;
    free(count);
    return 0;
}

void publish_counts_clear(struct publish_counts *counts)
{
    struct publish_count *count, *next;
    free(counts->first);
    HASH_ITER(hh, counts->others, count, next) {
        HASH_DEL(counts->others, count);
        free(count);
    }
    *counts = (struct publish_counts){0};
}

bool message_id(const char *input, const char *path, unsigned k, const char *subject, char *buf,
                size_t size)
{
    struct join id = join_in(buf, size);
    join_text(&id, input);
    join_text(&id, ":");
    join_text(&id, path);
    join_text(&id, ".");
    join_number(&id, k);
    join_text(&id, ":");
    struct join before = id;
    join_text(&id, subject);
    if (join_cut(&id)) {
        char hash[17];
        snprintf(hash, sizeof hash, "%016" PRIx64, hash_add(HASH_START, subject, strlen(subject)));
        id = before;
        join_text(&id, hash);
    }
    return !join_cut(&id);
}
