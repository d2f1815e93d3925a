/* facts_buckets - which buckets scripts keep locks and limits of a cluster in, by the words of
 * their files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/facts.h"
#include "app/words.h"
#include "base/value.h"
#include "engine/engine.h"
#include "vm/texts.h"

#define OWN "moonbus_locks"            /* lua/moonbus/cluster_key.lua */
#define TTL_DEFAULT_NS (30 * NS_PER_S) /* lua/moonbus/options_shared.lua */

/* One script, which is looked through file by file. */
struct bucket_search {
    struct facts *facts;
    const char *script;
    int first; /* of its buckets */
};

static struct judge_bucket *known(const struct bucket_search *search, const char *name)
{
    for (int i = search->first; i < search->facts->judged.bucket_count; i++) {
        if (strcmp(search->facts->buckets[i].name, name) == 0)
            return &search->facts->buckets[i];
    }
    return NULL;
}

/* NULL: no memory. */
static struct judge_bucket *add(struct facts *facts, const char *name)
{
    char stream[sizeof((struct words_cluster *)0)->bucket + 3];
    size_t count = (size_t)facts->judged.bucket_count;
    struct judge_bucket *all = realloc(facts->buckets, (count + 1) * sizeof *all);
    if (!all) {
        facts->failed = true;
        return NULL;
    }
    facts->buckets = all;
    facts->judged.buckets = all;
    snprintf(stream, sizeof stream, "KV_%s", name);
    all[count] =
        (struct judge_bucket){.name = facts_keep(facts, name), .stream = facts_keep(facts, stream)};
    if (facts->failed)
        return NULL;
    facts->judged.bucket_count++;
    return &all[count];
}

static void note(const struct bucket_search *search, const char *path,
                 const struct words_cluster *words)
{
    const char *name = *words->bucket ? words->bucket : OWN;
    const char *slash = strrchr(path, '/');
    struct judge_bucket *bucket = known(search, name);
    if (!bucket) {
        bucket = add(search->facts, name);
        if (!bucket)
            return;
        bucket->own = !*words->bucket || strcmp(name, OWN) == 0;
        bucket->place = (struct judge_place){
            .script = search->script,
            .file = facts_keep(search->facts, slash ? slash + 1 : path),
            .line = words->line,
        };
    }
    int64_t ttl_ns = words->limits ? 0 : words->ttl_ns > 0 ? words->ttl_ns : TTL_DEFAULT_NS;
    if (ttl_ns > bucket->ttl_ns)
        bucket->ttl_ns = ttl_ns;
}

static void look(void *owner, const char *path, const char *text, size_t len)
{
    struct words_cluster words = {0};
    while (text && words_next_cluster(text, len, &words))
        note(owner, path, &words);
}

void facts_buckets_find(struct facts *facts, struct script *script)
{
    struct texts *texts = script_texts(script);
    struct bucket_search search = {
        .facts = facts, .script = script_name(script), .first = facts->judged.bucket_count};
    texts_each(texts, look, &search);
    texts_release(texts);
}

void facts_buckets_copy(struct facts *copy, const struct judge_facts *from)
{
    size_t size = (size_t)from->bucket_count * sizeof *copy->buckets;
    if (from->bucket_count == 0)
        return;
    copy->buckets = malloc(size);
    copy->failed |= !copy->buckets;
    if (!copy->buckets)
        return;
    memcpy(copy->buckets, from->buckets, size);
    copy->judged.buckets = copy->buckets;
    copy->judged.bucket_count = from->bucket_count;
}

void facts_buckets_keep(struct facts *copy)
{
    for (int i = 0; i < copy->judged.bucket_count; i++) {
        struct judge_bucket *bucket = &copy->buckets[i];
        bucket->name = facts_keep(copy, bucket->name);
        bucket->stream = facts_keep(copy, bucket->stream);
        bucket->place.file = facts_keep(copy, bucket->place.file);
    }
}
