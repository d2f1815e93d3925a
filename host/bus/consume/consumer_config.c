/* The settings of a consumer: what a script states, as JSON, and compared with the server's. Pure.
 */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bus/consume/consumer_private.h"
#include "bus/request/jsapi.h"
#include "bus/request/jsfield.h"

/* Delayed naks stay in it for as long as their delay: too few, and failing messages stop the
 * others. */
#define MAX_ACK_PENDING_LEAST 10000

/* --- the spec --- */

/* What the host sets itself is not passed through. */
static int check_extra(const cJSON *extra, struct err *err)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, extra) {
        const struct jsfield *field = jsfield_find(item->string);
        if (field && field->instead)
            return err_set(err, ERR_INVALID, "consumer.%s: %s", field->name, field->instead);
    }
    return 0;
}

/* The strings of a spec that are of its own, beside its filters. Whatever else is owned is in
 * consumer_spec_copy and consumer_spec_clear: spec/unit/consumer_fields_spec.lua compares. */
static const size_t strings[] = {
    offsetof(struct consumer_spec, stream),       offsetof(struct consumer_spec, durable),
    offsetof(struct consumer_spec, deliver_time), offsetof(struct consumer_spec, owner),
    offsetof(struct consumer_spec, group),
};

static const char **string_at(struct consumer_spec *spec, size_t i)
{
    return (const char **)(void *)((char *)spec + strings[i]);
}

/* False: out of memory. */
static bool copy_string(const char **text)
{
    *text = *text ? strdup(*text) : NULL;
    return *text;
}

int consumer_spec_copy(struct consumer_spec *to, const struct consumer_spec *from, struct err *err)
{
    bool failed = false;
    *to = *from;
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        const char **text = string_at(to, i);
        failed |= *text && !copy_string(text);
    }
    to->extra = from->extra ? cJSON_Duplicate(from->extra, true) : NULL;
    to->filter_count = 0;
    const char **filters = calloc((size_t)from->filter_count + 1, sizeof *filters);
    to->filters = filters;
    for (int i = 0; filters && i < from->filter_count; i++) {
        filters[i] = from->filters[i];
        failed |= !copy_string(&filters[i]);
        to->filter_count = i + 1;
    }
    if (failed || !filters || (from->extra && !to->extra))
        return err_set(err, ERR_MEMORY, "out of memory");
    return check_extra(to->extra, err);
}

void consumer_spec_clear(struct consumer_spec *spec)
{
    for (int i = 0; i < spec->filter_count; i++)
        free((char *)spec->filters[i]);
    free((char **)spec->filters);
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        free((char *)*string_at(spec, i));
    cJSON_Delete((cJSON *)spec->extra);
    memset(spec, 0, sizeof *spec);
}

struct puller_group consumer_group(const struct consumer_spec *spec)
{
    struct puller_group group = {.priority = spec->priority,
                                 .min_pending = spec->min_pending,
                                 .min_ack_pending = spec->min_ack_pending};
    if (spec->group)
        snprintf(group.name, sizeof group.name, "%s", spec->group);
    return group;
}

/* --- reading what the server has --- */

/* The server's filters, however it spells them, as a list. Owned by the caller. NULL: no memory. */
static cJSON *actual_filters(const cJSON *config)
{
    const cJSON *several = json_field(config, "filter_subjects");
    cJSON *list = cJSON_IsArray(several) ? cJSON_Duplicate(several, true) : cJSON_CreateArray();
    const char *one = json_text_or(config, "filter_subject", "");
    cJSON *item = *one != '\0' ? cJSON_CreateString(one) : NULL;
    if (*one == '\0' || (item && cJSON_AddItemToArray(list, item)))
        return list;
    cJSON_Delete(item);
    cJSON_Delete(list);
    return NULL;
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

/* What lacks a field for want of memory is no JSON any more, so that nobody can send it: a durable
 * without its filter would take everything. */
static void set_field(cJSON *object, const char *name, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    if (cJSON_AddItemToObject(object, name, value))
        return;
    cJSON_Delete(value);
    if (object)
        object->type = cJSON_Invalid;
}

/* In depth: what others have in an object (metadata) beside it stays. */
static void set_in_depth(cJSON *object, const cJSON *field)
{
    cJSON *there = cJSON_GetObjectItemCaseSensitive(object, field->string);
    const cJSON *inner = NULL;
    if (!cJSON_IsObject(field) || !cJSON_IsObject(there)) {
        set_field(object, field->string, cJSON_Duplicate(field, true));
        return;
    }
    cJSON_ArrayForEach(inner, field)
        set_in_depth(there, inner);
}

static void set_filters(cJSON *config, const struct consumer_spec *spec)
{
    if (spec->filter_count == 0)
        return;
    cJSON_DeleteItemFromObjectCaseSensitive(config, "filter_subject");
    cJSON_DeleteItemFromObjectCaseSensitive(config, "filter_subjects");
    if (spec->filter_count == 1)
        set_field(config, "filter_subject", cJSON_CreateString(spec->filters[0]));
    else
        set_field(config, "filter_subjects", stated_filters(spec));
}

/* Servers take one group for each consumer. */
static void set_policy(cJSON *config, const struct consumer_spec *spec)
{
    static const char *const policies[] = {[POLICY_OVERFLOW] = "overflow",
                                           [POLICY_PINNED] = "pinned_client",
                                           [POLICY_PRIORITIZED] = "prioritized"};
    set_field(config, "priority_groups", cJSON_CreateStringArray(&spec->group, 1));
    set_field(config, "priority_policy", cJSON_CreateString(policies[spec->policy]));
    if (spec->policy != POLICY_PINNED)
        cJSON_DeleteItemFromObjectCaseSensitive(config, "priority_timeout");
    if (spec->pin_timeout_ns > 0)
        set_field(config, "priority_timeout", cJSON_CreateNumber((double)spec->pin_timeout_ns));
}

/* What the script states and an existing consumer must agree to, but for its filters. */
static void set_stated(cJSON *config, const struct consumer_spec *spec)
{
    if (spec->ack_wait_stated)
        set_field(config, "ack_wait", cJSON_CreateNumber((double)spec->ack_wait_ns));
    if (spec->max_ack_pending_stated)
        set_field(config, "max_ack_pending", cJSON_CreateNumber(spec->max_ack_pending));
    if (spec->policy != POLICY_NONE)
        set_policy(config, spec);
    for (const cJSON *field = spec->extra ? spec->extra->child : NULL; field; field = field->next)
        set_in_depth(config, field);
}

void consumer_config_deliver(cJSON *config, enum deliver_from deliver, uint64_t sequence,
                             const char *time)
{
    static const char *const policies[] = {
        [DELIVER_ALL] = "all",
        [DELIVER_NEW] = "new",
        [DELIVER_LAST] = "last",
        [DELIVER_LAST_PER_SUBJECT] = "last_per_subject",
        [DELIVER_SEQUENCE] = "by_start_sequence",
        [DELIVER_TIME] = "by_start_time",
    };
    cJSON_DeleteItemFromObjectCaseSensitive(config, "opt_start_seq");
    cJSON_DeleteItemFromObjectCaseSensitive(config, "opt_start_time");
    set_field(config, "deliver_policy", cJSON_CreateString(policies[deliver]));
    if (deliver == DELIVER_SEQUENCE)
        set_field(config, "opt_start_seq", cJSON_CreateNumber((double)sequence));
    if (deliver == DELIVER_TIME)
        set_field(config, "opt_start_time", cJSON_CreateString(time));
}

cJSON *consumer_config_new(const struct consumer_spec *spec)
{
    cJSON *config = cJSON_CreateObject();
    int pending = 8 * spec->concurrency;
    set_field(config, "durable_name", cJSON_CreateString(spec->durable));
    set_field(config, "ack_policy", cJSON_CreateString("explicit"));
    set_field(config, "max_deliver", cJSON_CreateNumber(-1));
    set_field(config, "replay_policy", cJSON_CreateString("instant"));
    set_field(config, "ack_wait", cJSON_CreateNumber((double)spec->ack_wait_ns));
    if (!spec->max_ack_pending_stated && spec->max_ack_pending > 0)
        pending = spec->max_ack_pending;
    else if (pending < MAX_ACK_PENDING_LEAST)
        pending = MAX_ACK_PENDING_LEAST;
    set_field(config, "max_ack_pending", cJSON_CreateNumber(pending));
    consumer_config_deliver(config, spec->deliver, spec->deliver_sequence, spec->deliver_time);
    set_stated(config, spec);
    set_filters(config, spec);
    if (spec->deliver == DELIVER_LAST_PER_SUBJECT && spec->filter_count == 0)
        set_field(config, "filter_subject", cJSON_CreateString(">")); /* the server wants one */
    return config;
}

void consumer_config_state(cJSON *config, const struct consumer_spec *spec)
{
    set_stated(config, spec);
    set_filters(config, spec);
    set_field(config, "max_deliver", cJSON_CreateNumber(-1));
    cJSON_DeleteItemFromObjectCaseSensitive(config, "backoff");
    if (spec->group)
        return;
    cJSON_DeleteItemFromObjectCaseSensitive(config, "priority_groups");
    cJSON_DeleteItemFromObjectCaseSensitive(config, "priority_policy");
    cJSON_DeleteItemFromObjectCaseSensitive(config, "priority_timeout");
}

static int compare_filters(const struct consumer_spec *spec, const cJSON *config, char **unstated,
                           struct err *err)
{
    cJSON *stated = stated_filters(spec), *actual = actual_filters(config);
    bool same = cJSON_GetArraySize(actual) == spec->filter_count;
    bool read = actual && (stated || spec->filter_count == 0);
    char here[300], there[300];
    for (int i = 0; i < spec->filter_count; i++)
        same = same && has_filter(actual, spec->filters[i]);
    print_filters(stated, here, sizeof here);
    print_filters(actual, there, sizeof there);
    cJSON_Delete(stated);
    cJSON_Delete(actual);
    if (!read)
        return err_set(err, ERR_MEMORY, "no memory to compare its filters");
    if (same)
        return 0;
    if (spec->filter_count > 0)
        return err_set(err, ERR_MISMATCH, "filter: here %s, on the server %s", here, there);
    if (unstated && strcmp(there, ">") != 0)
        *unstated = strdup(there);
    return 0;
}

int consumer_config_compare(const struct consumer_spec *spec, const cJSON *config, char **unstated,
                            struct err *err)
{
    cJSON *stated = cJSON_CreateObject();
    if (unstated)
        *unstated = NULL;
    set_stated(stated, spec);
    int code = jsapi_compare(stated, config, NULL, err);
    cJSON_Delete(stated);
    return code != 0 ? code : compare_filters(spec, config, unstated, err);
}

int consumer_config_check_kind(const cJSON *config, struct err *err)
{
    const char *policy = json_text_or(config, "ack_policy", "");
    if (*json_text_or(config, "deliver_subject", "") != '\0')
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

/* A stated policy is compared. Else our pulls have to be those of a group that there is. */
static int check_group(const struct consumer_spec *spec, const cJSON *config, struct err *err)
{
    const cJSON *groups = json_field(config, "priority_groups");
    bool any = cJSON_GetArraySize(groups) > 0;
    char there[300];
    print_filters(groups, there, sizeof there);
    if (spec->policy != POLICY_NONE)
        return 0;
    if (spec->group && !has_filter(groups, spec->group))
        return err_set(err, ERR_MISMATCH, "group: here %s, on the server %s", spec->group,
                       any ? there : "none");
    if (!spec->group && any)
        return err_set(
            err, ERR_MISMATCH,
            "group: here none, on the server %s (%s), which refuses pulls that belong to "
            "no group: state the option \"group\", or allow update = true",
            there, json_text_or(config, "priority_policy", "?"));
    return 0;
}

int consumer_config_check_retries(const struct consumer_spec *spec, const cJSON *config,
                                  struct err *err)
{
    double max_deliver = json_number(config, "max_deliver", 0);
    if (cJSON_GetArraySize(json_field(config, "backoff")) > 0)
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
    return check_group(spec, config, err);
}

/* --- whose it is --- */

#define OWNER_KEY "moonbus.script"
#define OWNER_SENTENCE "a handler of moonbus: %s"

void consumer_config_sign(cJSON *config, const struct consumer_spec *spec, bool knows_metadata)
{
    char sentence[600];
    if (!spec->owner)
        return;
    if (!knows_metadata) {
        snprintf(sentence, sizeof sentence, OWNER_SENTENCE, spec->owner);
        if (*json_text_or(config, "description", "") == '\0')
            set_field(config, "description", cJSON_CreateString(sentence));
        return;
    }
    if (!cJSON_IsObject(json_field(config, "metadata")))
        set_field(config, "metadata", cJSON_CreateObject());
    set_field(cJSON_GetObjectItemCaseSensitive(config, "metadata"), OWNER_KEY,
              cJSON_CreateString(spec->owner));
}

const char *consumer_config_owner(const cJSON *config)
{
    static const char before[] = "a handler of moonbus: ";
    const char *script = json_text_or(json_field(config, "metadata"), OWNER_KEY, "");
    const char *sentence = json_text_or(config, "description", "");
    if (*script)
        return script;
    return strncmp(sentence, before, sizeof before - 1) == 0 ? sentence + sizeof before - 1 : NULL;
}

bool consumer_config_is_own(const cJSON *config, const struct consumer_spec *spec)
{
    char sentence[600];
    if (!spec->owner)
        return false;
    snprintf(sentence, sizeof sentence, OWNER_SENTENCE, spec->owner);
    return strcmp(json_text_or(json_field(config, "metadata"), OWNER_KEY, ""), spec->owner) == 0 ||
           strcmp(json_text_or(config, "description", ""), sentence) == 0;
}

char *consumer_config_remedy(const struct consumer_spec *spec, const char *difference, char *buf,
                             size_t size)
{
    cJSON *stated = cJSON_CreateObject();
    char name[600];
    set_stated(stated, spec);
    set_field(stated, "filter", stated_filters(spec));
    snprintf(name, sizeof name, "%s %s", spec->stream, spec->durable);
    jsapi_remedy("consumer edit", name, stated, difference, buf, size);
    cJSON_Delete(stated);
    return buf;
}

int consumer_compare(const struct consumer_spec *spec, const cJSON *config, bool *own,
                     struct err *err)
{
    *own = consumer_config_is_own(config, spec);
    int code = consumer_config_check_kind(config, err);
    if (!code)
        code = consumer_config_check_retries(spec, config, err);
    return code ? code : consumer_config_compare(spec, config, NULL, err);
}
