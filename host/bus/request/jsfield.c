/* The settings of streams and consumers. Source: nats-server, server/stream.go (StreamConfig) and
 * server/consumer.go (ConsumerConfig). */
#include "bus/request/jsfield.h"

#include <stdio.h>
#include <string.h>

#define PULLED "consumers are pulled from, never pushed"
#define OWN_OPTION "it is an option of js.consume itself"

#define STREAM(...) ((struct jsfield){.of = JSFIELD_STREAM, __VA_ARGS__})
#define CONSUMER(...) ((struct jsfield){.of = JSFIELD_CONSUMER, __VA_ARGS__})
#define BOTH(...) ((struct jsfield){.of = JSFIELD_BOTH, __VA_ARGS__})
#define NAMED(field, cli) .name = #field, .option = cli
#define UNNAMED(field) .name = #field
#define DURATION .kind = JSFIELD_DURATION
#define LIMIT .kind = JSFIELD_LIMIT
#define SET .kind = JSFIELD_SET
#define FLAG .form = JSFIELD_FLAG

/* clang-format off */
static const struct jsfield table[] = {
    STREAM(NAMED(subjects, "subjects"), SET),
    STREAM(NAMED(retention, "retention")),
    STREAM(NAMED(discard, "discard")),
    STREAM(NAMED(discard_new_per_subject, "discard-per-subject"), FLAG),
    STREAM(NAMED(compression, "compression"), .kind = JSFIELD_METHOD, .since = "2.10"),
    STREAM(NAMED(max_msgs, "max-msgs"), LIMIT),
    STREAM(NAMED(max_msg_size, "max-msg-size"), LIMIT),
    STREAM(NAMED(max_msgs_per_subject, "max-msgs-per-subject"), LIMIT),
    STREAM(NAMED(max_consumers, "max-consumers"), LIMIT, .fixed = true),
    STREAM(NAMED(max_age, "max-age"), DURATION),
    STREAM(NAMED(duplicate_window, "dupe-window"), DURATION),
    STREAM(NAMED(subject_delete_marker_ttl, "subject-del-markers-ttl"), DURATION, .since = "2.11"),
    STREAM(NAMED(allow_rollup_hdrs, "allow-rollup"), FLAG),
    STREAM(NAMED(allow_direct, "allow-direct"), FLAG),
    STREAM(NAMED(deny_delete, "deny-delete"), FLAG),
    STREAM(NAMED(deny_purge, "deny-purge"), FLAG),
    STREAM(NAMED(no_ack, "ack"), .form = JSFIELD_UNFLAG),
    STREAM(UNNAMED(subject_transform), .since = "2.10"),
    STREAM(UNNAMED(subject_transforms), .since = "2.10"), /* of its mirror, or of a source */
    STREAM(UNNAMED(first_seq), .since = "2.10"),
    STREAM(UNNAMED(consumer_limits), .since = "2.10"),
    STREAM(NAMED(mirror_direct, "allow-mirror-direct"), FLAG),
    STREAM(UNNAMED(mirror)),
    STREAM(UNNAMED(sources)),
    STREAM(UNNAMED(placement)),
    STREAM(UNNAMED(republish)),
    STREAM(UNNAMED(sealed)),
    STREAM(UNNAMED(storage), .fixed = true),
    STREAM(UNNAMED(allow_msg_ttl), .since = "2.11"),
    STREAM(UNNAMED(allow_msg_counter), .since = "2.12", .fixed = true),
    STREAM(UNNAMED(allow_msg_schedules), .since = "2.12"),
    STREAM(UNNAMED(allow_atomic), .since = "2.12"),
    STREAM(UNNAMED(persist_mode), .kind = JSFIELD_METHOD, .since = "2.12", .fixed = true),
    STREAM(UNNAMED(allow_batched), .since = "2.14"),

    /* Of a consumer max_bytes bounds one request; the nats CLI changes that of a stream only. */
    BOTH(NAMED(max_bytes, "max-bytes"), LIMIT),
    BOTH(NAMED(description, "description")),
    BOTH(NAMED(num_replicas, "replicas"), .kind = JSFIELD_COUNT),
    BOTH(UNNAMED(metadata), .since = "2.10"),

    CONSUMER(NAMED(filter, "filter"), SET), /* how both filters of NATS are called here */
    CONSUMER(NAMED(inactive_threshold, "inactive-threshold"), DURATION),
    CONSUMER(NAMED(headers_only, "headers-only"), FLAG),
    CONSUMER(NAMED(max_batch, "max-pull-batch")),
    CONSUMER(NAMED(max_expires, "max-pull-expire"), DURATION),
    CONSUMER(UNNAMED(max_waiting), LIMIT, .fixed = true),
    CONSUMER(UNNAMED(replay_policy), .fixed = true),
    CONSUMER(UNNAMED(sample_freq)),
    CONSUMER(UNNAMED(mem_storage)),
    CONSUMER(UNNAMED(pause_until), .since = "2.11"),

    /* Those that the host sets itself. */
    CONSUMER(UNNAMED(durable_name), .fixed = true, .instead = "it is the option \"durable\""),
    CONSUMER(UNNAMED(name), .fixed = true, .instead = "it is the option \"durable\""),
    CONSUMER(NAMED(ack_wait, "wait"), DURATION, .instead = OWN_OPTION),
    CONSUMER(NAMED(max_ack_pending, "max-pending"), LIMIT, .instead = OWN_OPTION),
    CONSUMER(NAMED(max_deliver, "max-deliver"), LIMIT,
             .instead = "use the option \"attempts\": the host counts, the server would drop "
                        "silently"),
    CONSUMER(UNNAMED(backoff), DURATION,
             .instead = "use the option \"backoff\" of js.consume: the server's overrides "
                        "ack_wait"),
    CONSUMER(UNNAMED(filter_subject), .instead = "it is the option \"filter\""),
    CONSUMER(UNNAMED(filter_subjects), SET, .since = "2.10",
             .instead = "it is the option \"filter\""),
    CONSUMER(UNNAMED(deliver_policy), .fixed = true, .instead = "it is the option \"deliver\""),
    CONSUMER(UNNAMED(opt_start_seq), .fixed = true,
             .instead = "it is the option deliver = {sequence = N}"),
    CONSUMER(UNNAMED(opt_start_time), .fixed = true,
             .instead = "it is the option deliver = {time = \"...\"}"),
    CONSUMER(UNNAMED(ack_policy), .fixed = true, .instead = "it is always \"explicit\""),
    CONSUMER(UNNAMED(deliver_subject), .instead = PULLED),
    CONSUMER(UNNAMED(deliver_group), .instead = PULLED),
    CONSUMER(UNNAMED(flow_control), .fixed = true, .instead = PULLED),
    CONSUMER(UNNAMED(idle_heartbeat), DURATION, .fixed = true, .instead = PULLED),
    CONSUMER(UNNAMED(priority_groups), .since = "2.11",
             .instead = "it is the option \"group\""),
    CONSUMER(UNNAMED(priority_policy), .since = "2.11",
             .instead = "it is the option \"pinned\", \"overflow\" or \"priority\""),
    CONSUMER(UNNAMED(priority_timeout), DURATION, .since = "2.11",
             .instead = "it is the option pinned = {timeout = \"2m\"}"),
    CONSUMER(UNNAMED(rate_limit_bps), .instead = PULLED),
};
/* clang-format on */

const struct jsfield *jsfield_at(size_t index)
{
    return index < sizeof table / sizeof *table ? &table[index] : NULL;
}

static const struct jsfield *find_named(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strlen(table[i].name) == len && strncmp(table[i].name, name, len) == 0)
            return &table[i];
    }
    return NULL;
}

const struct jsfield *jsfield_find(const char *name)
{
    return find_named(name, strlen(name));
}

const struct jsfield *jsfield_of_difference(const char *difference)
{
    return find_named(difference, strcspn(difference, ":."));
}

bool jsfield_is_fixed(const char *difference)
{
    const struct jsfield *field = jsfield_of_difference(difference);
    return field && field->fixed;
}

char *jsfield_since(const char *difference, char *buf, size_t size)
{
    const struct jsfield *field = jsfield_of_difference(difference);
    buf[0] = '\0';
    if (field && field->since)
        snprintf(buf, size, " (nats-server %s and newer know it)", field->since);
    return buf;
}

char *jsfield_refused(const char *message, char *buf, size_t size)
{
    static const char begin[] = "unknown field \"";
    const char *at = strstr(message, begin);
    const struct jsfield *field = NULL;
    buf[0] = '\0';
    if (at) {
        at += sizeof begin - 1;
        field = find_named(at, strcspn(at, "\""));
    }
    return field ? jsfield_since(field->name, buf, size) : buf;
}
