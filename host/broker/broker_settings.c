/* The JSON of streams' and consumers' settings, with the defaults that a nats-server puts in. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/value.h"
#include "broker/broker_private.h"

#define DUPLICATE_WINDOW_NS (120 * NS_PER_S)
#define ACK_WAIT_NS (30 * NS_PER_S)
#define MAX_ACK_PENDING 1000
#define MAX_WAITING 512
#define EPHEMERAL_INACTIVE_NS (5 * NS_PER_S)

/* --- fields --- */

const char *broker_json_text(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

int64_t broker_json_integer(const cJSON *object, const char *name, int64_t otherwise)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? (int64_t)item->valuedouble : otherwise;
}

bool broker_json_true(const cJSON *object, const char *name)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* As text: cJSON prints a number, reads it again, and compares. */
void broker_json_add_count(cJSON *object, const char *name, uint64_t count)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, count);
    cJSON_AddRawToObject(object, name, text);
}

void broker_json_add_time(cJSON *object, const char *name, int64_t wall_ns)
{
    char text[VALUE_TIME_BYTES];
    cJSON_AddStringToObject(object, name, value_format_time(wall_ns, 9, text, sizeof text));
}

bool broker_json_time(const cJSON *object, const char *name, int64_t *wall_ns)
{
    return broker_read_time(broker_json_text(object, name), wall_ns);
}

bool broker_read_time(const char *text, int64_t *wall_ns)
{
    struct tm utc = {0};
    const char *at = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);
    if (!at)
        return false;
    int64_t ns = 0, unit = NS_PER_S / 10;
    if (*at == '.') {
        for (at++; *at >= '0' && *at <= '9'; at++, unit /= 10)
            ns += (*at - '0') * unit;
    }
    int64_t offset = 0;
    int hours, minutes;
    char sign;
    if (sscanf(at, "%c%2d:%2d", &sign, &hours, &minutes) == 3)
        offset = (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60) * NS_PER_S;
    *wall_ns = (int64_t)timegm(&utc) * NS_PER_S + ns - offset;
    return true;
}

static bool wrong(struct broker_error *error, int code, int err_code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->description, sizeof error->description, format, arguments);
    va_end(arguments);
    error->code = code;
    error->err_code = err_code;
    return false;
}

static void default_text(cJSON *config, const char *name, const char *text)
{
    if (*broker_json_text(config, name) == '\0') {
        cJSON_DeleteItemFromObjectCaseSensitive(config, name);
        cJSON_AddStringToObject(config, name, text);
    }
}

/* 0 and less are "nothing stated". */
static void default_number(cJSON *config, const char *name, int64_t number)
{
    if (broker_json_integer(config, name, 0) <= 0) {
        cJSON_DeleteItemFromObjectCaseSensitive(config, name);
        cJSON_AddNumberToObject(config, name, (double)number);
    }
}

static void default_false(cJSON *config, const char *name)
{
    if (!cJSON_HasObjectItem(config, name))
        cJSON_AddFalseToObject(config, name);
}

/* --- streams --- */

static bool one_of(const cJSON *config, const char *name, const char *const *known,
                   struct broker_error *error)
{
    const char *text = broker_json_text(config, name);
    for (; *known; known++) {
        if (strcmp(text, *known) == 0)
            return true;
    }
    return wrong(error, 400, 10025, "invalid JSON: can not unmarshal \"%s\"", text);
}

bool broker_settings_readable(const cJSON *config)
{
    const cJSON *field;
    cJSON_ArrayForEach(field, config) {
        if ((cJSON_IsArray(config) && cJSON_IsArray(field)) || !broker_settings_readable(field))
            return false;
    }
    return true;
}

bool broker_settings_complete_stream(cJSON *config, struct broker_error *error)
{
    static const char *const retentions[] = {"limits", "interest", "workqueue", NULL};
    static const char *const discards[] = {"old", "new", NULL};
    static const char *const storages[] = {"file", "memory", NULL};
    const char *name = broker_json_text(config, "name");
    cJSON *subjects = cJSON_GetObjectItemCaseSensitive(config, "subjects");
    if (cJSON_GetArraySize(subjects) == 0) {
        cJSON_DeleteItemFromObjectCaseSensitive(config, "subjects");
        subjects = cJSON_AddArrayToObject(config, "subjects");
        cJSON_AddItemToArray(subjects, cJSON_CreateString(name));
    }
    const cJSON *subject;
    cJSON_ArrayForEach(subject, subjects) {
        if (!cJSON_IsString(subject) ||
            subject_check(subject->valuestring, strlen(subject->valuestring), SUBJECT_SUBSCRIBE,
                          NULL) != 0)
            return wrong(error, 400, 10052, "invalid subject");
    }
    default_text(config, "retention", "limits");
    default_text(config, "discard", "old");
    default_text(config, "storage", "file");
    default_number(config, "max_consumers", -1);
    default_number(config, "max_msgs", -1);
    default_number(config, "max_msgs_per_subject", -1);
    default_number(config, "max_bytes", -1);
    default_number(config, "max_msg_size", -1);
    default_number(config, "max_age", 0);
    default_number(config, "num_replicas", 1);
    int64_t age_ns = broker_json_integer(config, "max_age", 0);
    bool short_lived = age_ns > 0 && age_ns < DUPLICATE_WINDOW_NS;
    default_number(config, "duplicate_window", short_lived ? age_ns : DUPLICATE_WINDOW_NS);
    static const char *const flags[] = {"sealed",       "deny_delete",   "deny_purge",
                                        "allow_direct", "mirror_direct", "allow_rollup_hdrs"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        default_false(config, flags[i]);
    return one_of(config, "retention", retentions, error) &&
           one_of(config, "discard", discards, error) && one_of(config, "storage", storages, error);
}

static uint64_t positive(const cJSON *config, const char *name)
{
    int64_t value = broker_json_integer(config, name, 0);
    return value > 0 ? (uint64_t)value : 0;
}

bool broker_settings_read_stream(const cJSON *config, struct stream_settings *out)
{
    const char *retention = broker_json_text(config, "retention");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(config, "subjects"), *subject;
    size_t count = 0;
    *out = (struct stream_settings){
        .retention = strcmp(retention, "interest") == 0    ? RETENTION_INTEREST
                     : strcmp(retention, "workqueue") == 0 ? RETENTION_WORKQUEUE
                                                           : RETENTION_LIMITS,
        .max_msgs = (int64_t)positive(config, "max_msgs"),
        .max_bytes = (int64_t)positive(config, "max_bytes"),
        .max_msgs_per_subject = (int64_t)positive(config, "max_msgs_per_subject"),
        .max_msg_size = (int64_t)positive(config, "max_msg_size"),
        .max_age_ns = positive(config, "max_age"),
        .duplicate_window_ns = positive(config, "duplicate_window"),
        .memory = strcmp(broker_json_text(config, "storage"), "memory") == 0,
        .discard_new = strcmp(broker_json_text(config, "discard"), "new") == 0,
        .discard_new_per_subject = broker_json_true(config, "discard_new_per_subject"),
        .no_ack = broker_json_true(config, "no_ack"),
        .sealed = broker_json_true(config, "sealed"),
        .deny_delete = broker_json_true(config, "deny_delete"),
        .deny_purge = broker_json_true(config, "deny_purge"),
        .rollup = broker_json_true(config, "allow_rollup_hdrs"),
        .ttls = broker_json_true(config, "allow_msg_ttl"),
        .counters = broker_json_true(config, "allow_msg_counter"),
        .schedules = broker_json_true(config, "allow_msg_schedules"),
        .marker_ns = positive(config, "subject_delete_marker_ttl"),
    };
    out->subjects = calloc((size_t)cJSON_GetArraySize(list) + 1, sizeof *out->subjects);
    if (!out->subjects)
        return false;
    cJSON_ArrayForEach(subject, list) {
        out->subjects[count] = strdup(subject->valuestring);
        if (!out->subjects[count++]) {
            broker_settings_clear_stream(out);
            return false;
        }
    }
    return true;
}

void broker_settings_clear_stream(struct stream_settings *settings)
{
    for (char **subject = settings->subjects; subject && *subject; subject++)
        free(*subject);
    free(settings->subjects);
    settings->subjects = NULL;
}

/* --- consumers --- */

bool broker_settings_complete_consumer(cJSON *config, struct broker_error *error)
{
    static const char *const policies[] = {
        "all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject", NULL};
    static const char *const acks[] = {"none", "explicit", NULL};
    static const char *const replays[] = {"instant", "original", NULL};
    default_text(config, "deliver_policy", "all");
    default_text(config, "ack_policy", "none");
    default_text(config, "replay_policy", "instant");
    default_number(config, "max_deliver", -1);
    default_number(config, "max_waiting", MAX_WAITING);
    default_number(config, "num_replicas", 0);
    if (strcmp(broker_json_text(config, "ack_policy"), "explicit") == 0) {
        default_number(config, "ack_wait", ACK_WAIT_NS);
        default_number(config, "max_ack_pending", MAX_ACK_PENDING);
    }
    const cJSON *backoff = cJSON_GetObjectItemCaseSensitive(config, "backoff");
    if (cJSON_GetArraySize(backoff) > 0) {
        cJSON *wait = cJSON_Duplicate(cJSON_GetArrayItem(backoff, 0), true);
        cJSON_DeleteItemFromObjectCaseSensitive(config, "ack_wait");
        cJSON_AddItemToObject(config, "ack_wait", wait);
    }
    if (*broker_json_text(config, "durable_name") == '\0')
        default_number(config, "inactive_threshold", EPHEMERAL_INACTIVE_NS);
    if (cJSON_HasObjectItem(config, "deliver_subject"))
        return wrong(error, 400, 10025, "invalid JSON: push consumers are not known here");
    return one_of(config, "deliver_policy", policies, error) &&
           one_of(config, "ack_policy", acks, error) &&
           one_of(config, "replay_policy", replays, error);
}
