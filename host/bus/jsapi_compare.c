/* What is stated, compared with what a server has: pure. */
#include <stdio.h>
#include <string.h>

#include "base/value.h"
#include "bus/jsapi.h"

static bool is_one_of(const char *name, const char *const *names)
{
    for (; name && names && *names; names++) {
        if (strcmp(name, *names) == 0)
            return true;
    }
    return false;
}

static bool is_duration(const char *name)
{
    static const char *const durations[] = {"max_age",          "duplicate_window",
                                            "ack_wait",         "inactive_threshold",
                                            "max_expires",      "idle_heartbeat",
                                            "backoff",          "subject_delete_marker_ttl",
                                            "priority_timeout", NULL};
    return is_one_of(name, durations);
}

/* Where the server writes -1 for "no limit", 0 states the same. */
static bool is_limit(const char *name)
{
    static const char *const limits[] = {"max_msgs",
                                         "max_bytes",
                                         "max_msg_size",
                                         "max_consumers",
                                         "max_msgs_per_subject",
                                         "max_deliver",
                                         "max_waiting",
                                         "max_ack_pending",
                                         NULL};
    return is_one_of(name, limits);
}

static bool is_nothing(const cJSON *value)
{
    if (!value || cJSON_IsNull(value) || cJSON_IsFalse(value))
        return true;
    if (cJSON_IsNumber(value))
        return value->valuedouble == 0;
    if (cJSON_IsString(value))
        return value->valuestring[0] == '\0';
    return (cJSON_IsArray(value) || cJSON_IsObject(value)) && !value->child;
}

static char *show(const char *name, const cJSON *value, char *buf, size_t size)
{
    if (!value || cJSON_IsNull(value)) {
        snprintf(buf, size, "not set");
    } else if (cJSON_IsNumber(value) && is_duration(name) && value->valuedouble >= 0 &&
               value->valuedouble < 0x1p63) {
        value_format_duration((int64_t)value->valuedouble, buf, size);
    } else if (cJSON_IsNumber(value)) {
        snprintf(buf, size, "%.17g", value->valuedouble);
    } else {
        char *json = cJSON_PrintUnformatted(value);
        snprintf(buf, size, "%s", json ? json : "?");
        cJSON_free(json);
    }
    return buf;
}

static int differ(const char *path, const char *name, const cJSON *stated, const cJSON *actual,
                  struct err *err)
{
    char here[256], there[256];
    return err_set(err, ERR_MISMATCH, "%s: here %s, on the server %s", path,
                   show(name, stated, here, sizeof here), show(name, actual, there, sizeof there));
}

static bool holds_all(const cJSON *list, const cJSON *of)
{
    const cJSON *one, *other;
    cJSON_ArrayForEach(one, of) {
        bool found = false;
        cJSON_ArrayForEach(other, list)
            found = found || cJSON_Compare(one, other, true);
        if (!found)
            return false;
    }
    return true;
}

static bool same_strings(const cJSON *a, const cJSON *b)
{
    return holds_all(a, b) && holds_all(b, a);
}

static bool same_number(const char *name, double stated, double actual)
{
    if (stated == actual)
        return true;
    if (is_limit(name) && ((stated == 0 && actual == -1) || (stated == -1 && actual == 0)))
        return true;
    return strcmp(name, "num_replicas") == 0 && stated == 0 && actual == 1;
}

static int compare_fields(const char *path, const cJSON *stated, const cJSON *actual,
                          const char *const *skip, struct err *err);

static int compare_value(const char *path, const char *name, const cJSON *stated,
                         const cJSON *actual, struct err *err)
{
    if (is_nothing(stated) && is_nothing(actual))
        return 0;
    if (cJSON_IsNumber(stated) && cJSON_IsNumber(actual) &&
        same_number(name, stated->valuedouble, actual->valuedouble))
        return 0;
    if (cJSON_IsString(stated) && cJSON_IsString(actual) &&
        strcmp(stated->valuestring, actual->valuestring) == 0)
        return 0;
    if (cJSON_IsTrue(stated) && cJSON_IsTrue(actual))
        return 0;
    /* A server that knows no compression compresses nothing. */
    if (!actual && cJSON_IsString(stated) && strcmp(name, "compression") == 0 &&
        strcmp(stated->valuestring, "none") == 0)
        return 0;
    if (cJSON_IsArray(stated) && cJSON_IsArray(actual)) {
        if ((strcmp(name, "subjects") == 0 || strcmp(name, "filter_subjects") == 0) &&
            same_strings(stated, actual))
            return 0;
        if (strcmp(name, "subjects") != 0 && strcmp(name, "filter_subjects") != 0 &&
            cJSON_GetArraySize(stated) == cJSON_GetArraySize(actual)) {
            const cJSON *other = actual->child, *one;
            int code = 0;
            cJSON_ArrayForEach(one, stated) {
                code = code ? code : compare_value(path, name, one, other, err);
                other = other->next;
            }
            return code;
        }
    }
    if (cJSON_IsObject(stated) && (cJSON_IsObject(actual) || !actual) && stated->child)
        return compare_fields(path, stated, actual, NULL, err);
    return differ(path, name, stated, actual, err);
}

static int compare_fields(const char *path, const cJSON *stated, const cJSON *actual,
                          const char *const *skip, struct err *err)
{
    const cJSON *field;
    cJSON_ArrayForEach(field, stated) {
        char inner[256];
        if (!field->string || is_one_of(field->string, skip))
            continue;
        snprintf(inner, sizeof inner, "%s%s%s", path, *path ? "." : "", field->string);
        int code = compare_value(inner, field->string, field,
                                 cJSON_GetObjectItemCaseSensitive(actual, field->string), err);
        if (code)
            return code;
    }
    return 0;
}

int jsapi_compare(const cJSON *stated, const cJSON *actual, const char *const *skip,
                  struct err *err)
{
    return compare_fields("", stated, actual, skip, err);
}
