/* judge_buckets - judgements on the buckets that locks, semaphores and limits of a cluster are kept
 * in. */
#include <cjson/cJSON.h>
#include <string.h>

#include "base/json.h"
#include "base/value.h"
#include "judge/judge_look.h"
#include "judge/judge_table.h"

/* --- is it there? --- */

JUDGEMENT(missing_bucket)
{
    for (int i = 0; i < facts->bucket_count; i++) {
        const struct judge_bucket *bucket = &facts->buckets[i];
        if (bucket->own || look_stream(facts, bucket->stream) || (facts->serving && !facts->asked))
            continue;
        judge_find(
            out, self, facts->asked ? JUDGE_WARNING : self->severity, &bucket->place, NULL,
            "%s: each %s with cluster = \"%s\" fails (no_stream)%s. Right: kv.bucket { name = "
            "\"%s\", replicas = 3 }, or cluster = true, whose bucket the host makes",
            facts->asked ? "there is no such bucket, and no script states it"
                         : "no script states the bucket",
            bucket->ttl_ns > 0 ? "lock" : "limit", bucket->name,
            facts->asked ? "" : ", unless it is there", bucket->name);
    }
}

/* --- does it keep them? --- */

struct bucket_look {
    const struct judgement *self;
    struct judge_findings *out;
    const struct judge_bucket *bucket;
};

static void find(const struct bucket_look *look, const char *setting, const char *what,
                 const char *right)
{
    judge_find(look->out, look->self, look->self->severity, &look->bucket->place, NULL,
               "the bucket \"%s\" has %s, and %s in it: %s. Right: %s", look->bucket->name, setting,
               look->bucket->ttl_ns > 0 ? "locks are" : "limits are", what, right);
}

static void find_short_age(const struct bucket_look *look, const cJSON *config)
{
    struct look_words words = {0};
    const struct judge_bucket *bucket = look->bucket;
    int64_t age_ns = json_integer(config, "max_age", 0);
    if (age_ns <= 0 || age_ns >= 2 * bucket->ttl_ns)
        return;
    judge_find(look->out, look->self, look->self->severity, &bucket->place, NULL,
               "the bucket \"%s\" forgets what is older than %s, less than twice the ttl of a lock "
               "in it (%s): nobody gets that, and the error is mismatch. Right: ttl = \"%s\" or "
               "longer for the bucket",
               bucket->name, look_duration(&words, age_ns), look_duration(&words, bucket->ttl_ns),
               look_round_up(&words, 2 * bucket->ttl_ns));
}

/* What a full one drops may be a lock that is held. */
static bool drops(const cJSON *config)
{
    return strcmp(json_text_or(config, "discard", "old"), "old") == 0 &&
           (json_integer(config, "max_bytes", -1) > 0 || json_integer(config, "max_msgs", -1) > 0);
}

static void find_settings(const struct bucket_look *look, const struct judge_stream *stream)
{
    const cJSON *config = stream->config;
    if (strcmp(json_text_or(config, "storage", "file"), "memory") == 0)
        find(look, "storage = \"memory\"",
             "they are forgotten when its server starts again, and two may hold one",
             "storage = \"file\"");
    if (stream->clustered && json_integer(config, "num_replicas", 1) <= 1)
        find(look, "one replica in a cluster", "while that server is away nobody gets any",
             "replicas = 3");
    if (drops(config))
        find(look, "discard = \"old\" and a limit",
             "when it is full it drops some that are still held", "discard = \"new\"");
    if (json_true(config, "no_ack"))
        find(look, "no_ack", "it confirms nothing, so nobody gets any", "no_ack = false");
    if (look_is_servers(stream) && !json_true(config, "allow_rollup_hdrs"))
        find(look, "no allow_rollup_hdrs", "it refuses what is written, so nobody gets any",
             "allow_rollup_hdrs = true, as kv.bucket makes it");
    find_short_age(look, config);
}

JUDGEMENT(forgetful_bucket)
{
    for (int i = 0; i < facts->bucket_count; i++) {
        const struct bucket_look look = {.self = self, .out = out, .bucket = &facts->buckets[i]};
        const struct judge_stream *stream = look_stream(facts, look.bucket->stream);
        if (stream)
            find_settings(&look, stream);
    }
}
