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
    char key[]; /* the input's address, then the subject without its NUL */
};

static size_t make_key(const void *input, const char *subject, size_t len, char *key)
{
    memcpy(key, &input, sizeof input);
    memcpy(key + sizeof input, subject, len);
    return sizeof input + len;
}

static unsigned next_of_others(struct publish_counts *counts, const void *input,
                               const char *subject, size_t subject_len)
{
    char key[sizeof input + SUBJECT_MAX_BYTES];
    size_t len = make_key(input, subject, subject_len, key);
    struct publish_count *count = NULL;
    HASH_FIND(hh, counts->others, key, len, count);
    if (count)
        return ++count->count;
    count = malloc(sizeof *count + len);
    if (!count)
        return 0;
    memcpy(count->key, key, len);
    count->count = 1;
    HASH_ADD_KEYPTR(hh, counts->others, count->key, len, count);
    if (table_has(count))
        return 1;
    free(count);
    return 0;
}

unsigned publish_counts_next(struct publish_counts *counts, const void *input, const char *subject)
{
    size_t len = strlen(subject);
    if (len > SUBJECT_MAX_BYTES)
        return 0;
    if (!counts->first && !counts->others && len < sizeof counts->subject) {
        counts->input = input;
        memcpy(counts->subject, subject, len + 1);
        return counts->first = 1;
    }
    if (counts->first && counts->input == input && strcmp(counts->subject, subject) == 0)
        return ++counts->first;
    return next_of_others(counts, input, subject, len);
}

void publish_counts_clear(struct publish_counts *counts)
{
    struct publish_count *count, *next;
    HASH_ITER(hh, counts->others, count, next) {
        HASH_DEL(counts->others, count);
        free(count);
    }
    *counts = (struct publish_counts){0};
}

bool message_id(struct join *id, const char *path, unsigned k, const char *subject)
{
    join_char(id, ':');
    join_text(id, path);
    join_char(id, '.');
    join_number(id, k);
    join_char(id, ':');
    const struct join before = *id;
    join_text(id, subject);
    if (join_cut(id)) {
        char hash[17];
        snprintf(hash, sizeof hash, "%016" PRIx64, hash_add(HASH_START, subject, strlen(subject)));
        *id = before;
        join_text(id, hash);
    }
    return !join_cut(id);
}
