/* The settings of a consumer: what a script states, as JSON, and compared with the server's. Pure.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/consumer_internal.h"

/* Delayed naks stay in it for as long as their delay: too few, and failing messages stop the
 * others. */
#define MAX_ACK_PENDING_LEAST 10000

/* --- the spec --- */

/* Fields of NATS that are not passed through, and what to use. */
static const struct {
    const char *name, *instead;
} not_ours[] = {
    {"durable_name", "it is the option \"durable\""},
    {"name", "it is the option \"durable\""},
    {"ack_wait", "it is an option of js.consume itself"},
    {"max_ack_pending", "it is an option of js.consume itself"},
    {"max_deliver", "use the option \"attempts\": the host counts, the server would drop silently"},
    {"backoff", "use the option \"backoff\" of js.consume: the server's overrides ack_wait"},
    {"filter_subject", "it is the option \"filter\""},
    {"filter_subjects", "it is the option \"filter\""},
    {"deliver_policy", "it is the option \"deliver\""},
    {"opt_start_seq", "it is the option deliver = {sequence = N}"},
    {"opt_start_time", "it is the option deliver = {time = \"...\"}"},
    {"ack_policy", "it is always \"explicit\""},
    {"deliver_subject", "consumers are pulled from, never pushed"},
    {"deliver_group", "consumers are pulled from, never pushed"},
    {"flow_control", "consumers are pulled from, never pushed"},
    {"idle_heartbeat", "consumers are pulled from, never pushed"},
    {"priority_groups", "priority groups are not supported"},
    {"priority_policy", "priority groups are not supported"},
};

static int check_extra(const cJSON *extra, struct err *err)
{
    for (const cJSON *field = extra != NULL ? extra->child : NULL; field; field = field->next)
        for (size_t i = 0; i < sizeof(not_ours) / sizeof(*not_ours); i++)
            if (strcmp(field->string, not_ours[i].name) == 0)
                return err_set(err, ERR_INVALID, "consumer.%s: %s", field->string,
                               not_ours[i].instead);
    return 0;
}

static char *copy_string(const char *text, bool *failed)
{
    char *copy = text != NULL ? strdup(text) : NULL;

    *failed |= text != NULL && copy == NULL;
    return copy;
}

int consumer_spec_copy(struct consumer_spec *to, const struct consumer_spec *from, struct err *err)
{
    bool failed = false;

    *to = *from;
    to->stream = copy_string(from->stream, &failed);
    to->durable = copy_string(from->durable, &failed);
    to->deliver_time = copy_string(from->deliver_time, &failed);
    to->extra = from->extra != NULL ? cJSON_Duplicate(from->extra, true) : NULL;
    to->filter_count = 0;
    char **filters = calloc((size_t)from->filter_count + 1, sizeof(*filters));
    to->filters = (const char *const *)filters;
    for (int i = 0; filters != NULL && i < from->filter_count; i++) {
        filters[i] = copy_string(from->filters[i], &failed);
        to->filter_count = i + 1;
    }
    if (failed || filters == NULL || (from->extra != NULL && to->extra == NULL))
        return err_set(err, ERR_MEMORY, "out of memory");
    return check_extra(to->extra, err);
}

void consumer_spec_clear(struct consumer_spec *spec)
{
    for (int i = 0; i < spec->filter_count; i++)
        free((char *)spec->filters[i]);
    free((char **)spec->filters);
    free((char *)spec->stream);
    free((char *)spec->durable);
    free((char *)spec->deliver_time);
    cJSON_Delete((cJSON *)spec->extra);
    memset(spec, 0, sizeof(*spec));
}

/* --- reading what the server has --- */

const cJSON *consumer_json(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

const char *consumer_json_string(const cJSON *object, const char *name)
{
    const char *text = cJSON_GetStringValue(consumer_json(object, name));

    return text != NULL ? text : "";
}

double consumer_json_number(const cJSON *object, const char *name)
{
    const cJSON *number = consumer_json(object, name);

    return cJSON_IsNumber(number) ? number->valuedouble : 0;
}

/* The server's filters, however it spells them, as a list. Owned by the caller. */
static cJSON *actual_filters(const cJSON *config)
{
    const cJSON *several = consumer_json(config, "filter_subjects");
    cJSON *list = cJSON_IsArray(several) ? cJSON_Duplicate(several, true) : cJSON_CreateArray();
    const char *one = consumer_json_string(config, "filter_subject");

    if (*one != '\0')
        cJSON_AddItemToArray(list, cJSON_CreateString(one));
    return list;
}

static bool has_filter(const cJSON *list, const char *filter)
{
    const cJSON *item = NULL;

    cJSON_ArrayForEach(item, list)
        if (cJSON_IsString(item) && strcmp(item->valuestring, filter) == 0)
            return true;
    return false;
}

/* "a, b", or "all subjects". Returns buf. */
static char *print_filters(const cJSON *list, char *buf, size_t size)
{
    const cJSON *item = NULL;
    size_t len = 0;

    snprintf(buf, size, "all subjects");
    cJSON_ArrayForEach(item, list) {
        int more = snprintf(buf + len, size - len, "%s%s", len > 0 ? ", " : "",
                            cJSON_IsString(item) ? item->valuestring : "?");
        len += more > 0 ? (size_t)more : 0;
        if (len >= size)
            break;
    }
    return buf;
}

/* --- JSON that we send --- */

static cJSON *stated_filters(const struct consumer_spec *spec)
{
    return cJSON_CreateStringArray(spec->filters, spec->filter_count);
}

static void put(cJSON *object, const char *name, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    cJSON_AddItemToObject(object, name, value);
}

static void put_filters(cJSON *config, const struct consumer_spec *spec)
{
    if (spec->filter_count == 0)
        return;
    cJSON_DeleteItemFromObjectCaseSensitive(config, "filter_subject");
    cJSON_DeleteItemFromObjectCaseSensitive(config, "filter_subjects");
    if (spec->filter_count == 1)
        put(config, "filter_subject", cJSON_CreateString(spec->filters[0]));
    else
        put(config, "filter_subjects", stated_filters(spec));
}

/* What the script states and an existing consumer must agree to, but for its filters. */
static void put_stated(cJSON *config, const struct consumer_spec *spec)
{
    if (spec->ack_wait_stated)
        put(config, "ack_wait", cJSON_CreateNumber((double)spec->ack_wait_ns));
    if (spec->max_ack_pending_stated)
        put(config, "max_ack_pending", cJSON_CreateNumber(spec->max_ack_pending));
    for (const cJSON *field = spec->extra != NULL ? spec->extra->child : NULL; field;
         field = field->next)
        put(config, field->string, cJSON_Duplicate(field, true));
}

void consumer_config_deliver(cJSON *config, enum deliver_from deliver, uint64_t sequence,
                             const char *time)
{
    static const char *const policies[] = {
        [DELIVER_ALL] = "all",
        [DELIVER_NEW] = "new",
        [DELIVER_LAST] = "last",
        [DELIVER_SEQUENCE] = "by_start_sequence",
        [DELIVER_TIME] = "by_start_time",
    };

    cJSON_DeleteItemFromObjectCaseSensitive(config, "opt_start_seq");
    cJSON_DeleteItemFromObjectCaseSensitive(config, "opt_start_time");
    put(config, "deliver_policy", cJSON_CreateString(policies[deliver]));
    if (deliver == DELIVER_SEQUENCE)
        put(config, "opt_start_seq", cJSON_CreateNumber((double)sequence));
    if (deliver == DELIVER_TIME)
        put(config, "opt_start_time", cJSON_CreateString(time));
}

/* Servers before 2.15 show an ack floor of 0 until the first ack, wherever the consumer started. */
uint64_t consumer_json_floor(const cJSON *info)
{
    const cJSON *floor = consumer_json(info, "ack_floor");
    const cJSON *delivered = consumer_json(info, "delivered");
    double from = consumer_json_number(floor, "stream_seq"), start = 0;

    if (consumer_json_number(floor, "consumer_seq") == 0)
        start = consumer_json_number(delivered, "consumer_seq") == 0
                    ? consumer_json_number(delivered, "stream_seq")
                    : consumer_json_number(consumer_json(info, "config"), "opt_start_seq") - 1;
    double floor_sequence = start > from ? start : from;
    return floor_sequence >= 0 && floor_sequence < 0x1p64 ? (uint64_t)floor_sequence : 0;
}

cJSON *consumer_config_new(const struct consumer_spec *spec)
{
    cJSON *config = cJSON_CreateObject();
    int pending = 8 * spec->concurrency;

    put(config, "durable_name", cJSON_CreateString(spec->durable));
    put(config, "ack_policy", cJSON_CreateString("explicit"));
    put(config, "max_deliver", cJSON_CreateNumber(-1));
    put(config, "replay_policy", cJSON_CreateString("instant"));
    put(config, "ack_wait", cJSON_CreateNumber((double)spec->ack_wait_ns));
    if (!spec->max_ack_pending_stated && spec->max_ack_pending > 0)
        pending = spec->max_ack_pending;
    else if (pending < MAX_ACK_PENDING_LEAST)
        pending = MAX_ACK_PENDING_LEAST;
    put(config, "max_ack_pending", cJSON_CreateNumber(pending));
    consumer_config_deliver(config, spec->deliver, spec->deliver_sequence, spec->deliver_time);
    put_stated(config, spec);
    put_filters(config, spec);
    return config;
}

void consumer_config_state(cJSON *config, const struct consumer_spec *spec)
{
    put_stated(config, spec);
    put_filters(config, spec);
    put(config, "max_deliver", cJSON_CreateNumber(-1));
    cJSON_DeleteItemFromObjectCaseSensitive(config, "backoff");
}

static int compare_filters(const struct consumer_spec *spec, const cJSON *config, char **unstated,
                           struct err *err)
{
    cJSON *stated = stated_filters(spec), *actual = actual_filters(config);
    bool same = cJSON_GetArraySize(actual) == spec->filter_count;
    char here[300], there[300];

    for (int i = 0; i < spec->filter_count; i++)
        same = same && has_filter(actual, spec->filters[i]);
    print_filters(stated, here, sizeof(here));
    print_filters(actual, there, sizeof(there));
    cJSON_Delete(stated);
    cJSON_Delete(actual);
    if (same)
        return 0;
    if (spec->filter_count > 0)
        return err_set(err, ERR_MISMATCH, "filter: here %s, on the server %s", here, there);
    if (unstated != NULL)
        *unstated = strdup(there);
    return 0;
}

int consumer_config_compare(const struct consumer_spec *spec, const cJSON *config, char **unstated,
                            struct err *err)
{
    cJSON *stated = cJSON_CreateObject();

    if (unstated != NULL)
        *unstated = NULL;
    put_stated(stated, spec);
    int code = jsapi_compare(stated, config, NULL, err);
    cJSON_Delete(stated);
    return code != 0 ? code : compare_filters(spec, config, unstated, err);
}

int consumer_config_check_kind(const cJSON *config, struct err *err)
{
    const char *policy = consumer_json_string(config, "ack_policy");

    if (*consumer_json_string(config, "deliver_subject") != '\0')
        return err_set(err, ERR_MISMATCH,
                       "on the server it is a push consumer, which cannot be pulled from: delete "
                       "it, or use another durable");
    if (strcmp(policy, "explicit") != 0)
        return err_set(err, ERR_MISMATCH,
                       "ack_policy: here explicit, on the server %s, which cannot be updated: "
                       "delete it, or use another durable",
                       policy);
    return 0;
}

int consumer_config_check_retries(const struct consumer_spec *spec, const cJSON *config,
                                  struct err *err)
{
    double max_deliver = consumer_json_number(config, "max_deliver");

    if (cJSON_GetArraySize(consumer_json(config, "backoff")) > 0)
        return err_set(err, ERR_MISMATCH,
                       "backoff: on the server the consumer has its own, which overrides ack_wait; "
                       "here the option \"backoff\" does it: allow update = true, or delete the "
                       "consumer");
    if (max_deliver > 0)
        return err_set(err, ERR_MISMATCH,
                       "max_deliver: here -1 (the option \"attempts\" counts), on the server %.0f, "
                       "after which it drops messages silently: allow update = true, or run: nats "
                       "consumer edit %s %s --max-deliver=-1",
                       max_deliver, spec->stream, spec->durable);
    return 0;
}
