/* A search over the settings of streams, each asked for once. */
#include "cli/redrive_target.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/value.h"
#include "bus/transform.h"

#define GATHERED_MOST 4 /* streams that gather from streams that gather */

struct known_stream {
    struct known_stream *next; /* owned */
    cJSON *info;               /* owned; NULL: it cannot be looked at */
    char name[];
};

void targets_clear(struct targets *targets)
{
    while (targets->known) {
        struct known_stream *known = targets->known;
        targets->known = known->next;
        cJSON_Delete(known->info);
        free(known);
    }
}

/* *config: the stream's, or NULL when it cannot be looked at. An error: nothing can, now. */
static int look(struct targets *targets, const char *stream, const cJSON **config, struct err *err)
{
    size_t len = strlen(stream) + 1;
    char operation[300];
    struct known_stream *known = targets->known;
    while (known && strcmp(known->name, stream) != 0)
        known = known->next;
    if (!known) {
        snprintf(operation, sizeof operation, "STREAM.INFO.%s", stream);
        cJSON *info = jetstream_call(targets->js, operation, NULL, NULL, err);
        if (!info && err->code != ERR_NOT_FOUND && err->code != ERR_PERMISSION)
            return err->code;
        known = calloc(1, sizeof *known + len);
        if (!known) {
            cJSON_Delete(info);
            return err_set(err, ERR_MEMORY, "out of memory");
        }
        memcpy(known->name, stream, len);
        known->info = info;
        known->next = targets->known;
        targets->known = known;
    }
    *config = json_field(known->info, "config");
    return 0;
}

/* ---- where a message came from ---- */

static bool takes(const cJSON *config, const char *subject)
{
    const cJSON *pattern;
    cJSON_ArrayForEach(pattern, json_field(config, "subjects")) {
        if (cJSON_IsString(pattern) && subject_matches(pattern->valuestring, subject))
            return true;
    }
    return false;
}

static int undo(const cJSON *transform, const char *subject, char out[SUBJECT_ROOM],
                struct err *err)
{
    int code = transform_undo(json_text(transform, "src"), json_text(transform, "dest"), subject,
                              out, SUBJECT_ROOM, err);
    if (code > 0 && subject_check(out, strlen(out), SUBJECT_PUBLISH, NULL) != 0)
        return 0;
    return code;
}

/* Does what is published to this stream come to be stored in it as `subject`? 1: as *target. */
static int by_publishing(const cJSON *config, const char *subject, struct target *target,
                         struct err *err)
{
    const cJSON *transform = json_field(config, "subject_transform");
    bool transformed =
        cJSON_IsObject(transform) && json_text(transform, "dest") && *json_text(transform, "dest");
    int code = 1;
    snprintf(target->subject, sizeof target->subject, "%s", subject);
    if (transformed &&
        (transform_takes(json_text(transform, "src"), subject) || !takes(config, subject)))
        code = undo(transform, subject, target->subject, err);
    if (code <= 0 || !takes(config, target->subject))
        return code < 0 ? code : 0;
    snprintf(target->stored_as, sizeof target->stored_as, "%s", subject);
    snprintf(target->stream, sizeof target->stream, "%s", json_text(config, "name"));
    return 1;
}

static int origin(struct targets *targets, const char *stream, const char *subject, int depth,
                  struct target *target, struct err *err);

/* The same for what it gathers from another stream. */
static int by_gathering(struct targets *targets, const cJSON *source, const char *subject,
                        int depth, struct target *target, struct err *err)
{
    char there[SUBJECT_ROOM];
    const char *name = json_text(source, "name");
    const cJSON *transforms = json_field(source, "subject_transforms"), *transform;
    int code = 0;
    if (!name || json_field(source, "external"))
        return 0;
    if (cJSON_GetArraySize(transforms) == 0)
        return origin(targets, name, subject, depth + 1, target, err);
    cJSON_ArrayForEach(transform, transforms) {
        const char *dest = json_text(transform, "dest");
        int undone = 1;
        if (dest && *dest)
            undone = undo(transform, subject, there, err);
        else /* a filter */
            snprintf(there, sizeof there, "%s", subject);
        if (undone > 0)
            undone = origin(targets, name, there, depth + 1, target, err);
        if (undone > 0)
            return undone;
        code = undone < 0 ? undone : code;
    }
    return code;
}

/* 1: *target; 0: nothing is known; negative: err. */
static int origin(struct targets *targets, const char *stream, const char *subject, int depth,
                  struct target *target, struct err *err)
{
    const cJSON *config, *source;
    int code = look(targets, stream, &config, err);
    if (code || !config)
        return code;
    int found = by_publishing(config, subject, target, err);
    if (found > 0 || depth >= GATHERED_MOST)
        return found;
    cJSON_ArrayForEach(source, json_field(config, "sources")) {
        code = by_gathering(targets, source, subject, depth, target, err);
        if (code > 0)
            return code;
        found = code < 0 ? code : found;
    }
    if (json_field(config, "mirror")) {
        code = by_gathering(targets, json_field(config, "mirror"), subject, depth, target, err);
        found = code ? code : found;
    }
    return found;
}

/* The stream that takes the subject. Asked before anything is published, for other subscribers
 * would get the message even if no stream took it. */
static int by_subject(struct targets *targets, const char *subject, struct target *target,
                      struct err *err)
{
    const cJSON *config;
    int found =
        jetstream_stream_of(targets->js, subject, target->stream, sizeof target->stream, err);
    if (found == 0)
        return err_set(err, ERR_NO_STREAM,
                       "no stream takes \"%s\"; a handler can declare one: js.stream { name = "
                       "..., subjects = { \"%s\" } }",
                       subject, subject);
    if (found < 0)
        return found;
    snprintf(target->subject, sizeof target->subject, "%s", subject);
    snprintf(target->stored_as, sizeof target->stored_as, "%s", subject);
    found = look(targets, target->stream, &config, err);
    const cJSON *transform = found == 0 ? json_field(config, "subject_transform") : NULL;
    const char *dest = json_text(transform, "dest");
    if (dest && *dest && transform_takes(json_text(transform, "src"), subject))
        return err_set(err, ERR_INVALID,
                       "stream %s takes \"%s\", but makes another subject of it (\"%s\")",
                       target->stream, subject, dest);
    return found;
}

int target_find(struct targets *targets, const struct letter *letter, struct target *target,
                struct err *err)
{
    const cJSON *config = NULL;
    const char *subject = letter->subject;
    memset(target, 0, sizeof *target);
    int code = letter->stream ? origin(targets, letter->stream, subject, 0, target, err) : 0;
    if (code == 0)
        code = by_subject(targets, subject, target, err);
    if (code >= 0)
        code = look(targets, target->stream, &config, err);
    const cJSON *most = json_field(config, "max_msgs_per_subject");
    target->keeps_last = strncmp(target->stored_as, "$KV.", 4) == 0 ||
                         strncmp(target->stored_as, "$O.", 3) == 0 ||
                         (cJSON_IsNumber(most) && most->valuedouble == 1);
    return code < 0 ? code : 0;
}

/* ---- whether it still counts ---- */

static struct span original_header(const struct stored_message *stored, const char *renamed)
{
    struct span value = headers_get(&stored->headers, renamed);
    return value.at ? value : headers_get(&stored->headers, renamed + strlen(LETTER_ORIGINAL));
}

static bool is_marker(const struct stored_message *stored)
{
    return original_header(stored, LETTER_ORIGINAL "Nats-Marker-Reason").at != NULL;
}

bool target_is_state(const struct stored_message *stored)
{
    return is_marker(stored) || original_header(stored, LETTER_ORIGINAL "Nats-Rollup").at;
}

/* Its sequence in the target's stream; 0: unknown, as it was another stream's. */
static uint64_t sequence_there(const struct target *target, const struct letter *letter,
                               const struct stored_message *stored)
{
    if (letter->stream && strcmp(letter->stream, target->stream) == 0)
        return letter->sequence;
    /* "ORDERS 4711 ..." */
    struct span source = original_header(stored, LETTER_ORIGINAL "Nats-Stream-Source");
    size_t len = strlen(target->stream);
    if (source.len <= len || memcmp(source.at, target->stream, len) != 0 || source.at[len] != ' ')
        return 0;
    char number[24];
    span_text((struct span){source.at + len + 1, source.len - len - 1}, number, sizeof number);
    return strtoull(number, NULL, 10);
}

static bool is_newer(const struct stored_message *last, uint64_t sequence,
                     const struct letter *letter, const char *id)
{
    if (span_equals(headers_get(&last->headers, "Nats-Msg-Id"), id)) /* an earlier redrive's */
        return false;
    return sequence ? last->sequence > sequence : last->timestamp_ns > letter->timestamp_ns;
}

int target_check(struct targets *targets, const struct target *target, const struct letter *letter,
                 const struct stored_message *stored, const char *id, uint64_t *expected,
                 struct err *err)
{
    struct stored_message last;
    int code = jetstream_last(targets->js, target->stream, target->stored_as, &last, err);
    *expected = last.sequence;
    if (code == ERR_NOT_FOUND && !is_marker(stored))
        code = 0;
    else if (code == ERR_NOT_FOUND)
        err_set(err, ERR_NOT_FOUND,
                "it marks \"%s\" as gone, and nothing of that is left; --force puts it back",
                target->stored_as);
    else if (last.sequence && is_newer(&last, sequence_there(target, letter, stored), letter, id))
        code = err_set(err, ERR_WRONG_SEQUENCE,
                       "superseded by sequence %llu of %s; --force puts it back",
                       (unsigned long long)last.sequence, target->stream);
    else if (last.sequence) /* what of it cannot be read is not needed */
        code = 0;
    stored_clear(&last);
    return code;
}
