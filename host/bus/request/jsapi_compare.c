/* What is stated, compared with what a server has: pure. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"
#include "base/value.h"
#include "bus/request/jsapi.h"
#include "bus/request/jsfield.h"

static bool is_one_of(const char *name, const char *const *names)
{
    for (; name && names && *names; names++) {
        if (strcmp(name, *names) == 0)
            return true;
    }
    return false;
}

static enum jsfield_kind kind_of(const char *name)
{
    const struct jsfield *field = jsfield_find(name);
    return field ? field->kind : JSFIELD_PLAIN;
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

static char *show_value(const char *name, const cJSON *value, char *buf, size_t size)
{
    if (!value || cJSON_IsNull(value)) {
        snprintf(buf, size, "not set");
    } else if (cJSON_IsNumber(value) && kind_of(name) == JSFIELD_DURATION &&
               value->valuedouble >= 0 && value->valuedouble < 0x1p63) {
        value_format_duration((int64_t)value->valuedouble, buf, size);
    } else if (cJSON_IsNumber(value)) {
        char number[NUMBER_SHOWN];
        snprintf(buf, size, "%s", number_show(value->valuedouble, number));
    } else {
        char *json = cJSON_PrintUnformatted(value);
        snprintf(buf, size, "%s", json ? json : "?");
        cJSON_free(json);
    }
    return buf;
}

static int say_difference(const char *path, const char *name, const cJSON *stated,
                          const cJSON *actual, struct err *err)
{
    char here[256], there[256];
    return err_set(err, ERR_MISMATCH, "%s: here %s, on the server %s", path,
                   show_value(name, stated, here, sizeof here),
                   show_value(name, actual, there, sizeof there));
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
    switch (kind_of(name)) {
    case JSFIELD_LIMIT:
        return (stated == 0 && actual == -1) || (stated == -1 && actual == 0);
    case JSFIELD_COUNT:
        return stated == 0 && actual == 1;
    default:
        return false;
    }
}

static int compare_fields(const char *path, const cJSON *stated, const cJSON *actual,
                          const char *const *skip, struct err *err);

static int compare_value(const char *path, const char *name, const cJSON *stated,
                         const cJSON *actual, struct err *err);

static int compare_items(const char *path, const char *name, const cJSON *stated,
                         const cJSON *actual, struct err *err)
{
    const cJSON *other = actual->child, *one;
    int code = 0;
    cJSON_ArrayForEach(one, stated) {
        code = code ? code : compare_value(path, name, one, other, err);
        other = other->next;
    }
    return code;
}

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
    /* A server that knows no compression compresses nothing; nor is a default echoed. */
    if (!actual && cJSON_IsString(stated) && kind_of(name) == JSFIELD_METHOD &&
        (strcmp(stated->valuestring, "none") == 0 || strcmp(stated->valuestring, "default") == 0))
        return 0;
    if (cJSON_IsArray(stated) && cJSON_IsArray(actual)) {
        if (kind_of(name) == JSFIELD_SET && same_strings(stated, actual))
            return 0;
        if (kind_of(name) != JSFIELD_SET &&
            cJSON_GetArraySize(stated) == cJSON_GetArraySize(actual))
            return compare_items(path, name, stated, actual, err);
    }
    if (cJSON_IsObject(stated) && (cJSON_IsObject(actual) || !actual) && stated->child)
        return compare_fields(path, stated, actual, NULL, err);
    return say_difference(path, name, stated, actual, err);
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
