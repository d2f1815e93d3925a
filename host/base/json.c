/* json - how a field is looked up, and what it may be. */
#include "base/json.h"

#include <cjson/cJSON.h>
#include <limits.h>

const cJSON *json_field(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

const char *json_text(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(json_field(object, name));
}

const char *json_text_or(const cJSON *object, const char *name, const char *otherwise)
{
    const char *text = json_text(object, name);
    return text ? text : otherwise;
}

const char *json_first_text(const cJSON *object, const char *name)
{
    const cJSON *list = json_field(object, name);
    return cJSON_IsArray(list) ? cJSON_GetStringValue(cJSON_GetArrayItem(list, 0)) : NULL;
}

double json_number(const cJSON *object, const char *name, double otherwise)
{
    const cJSON *field = json_field(object, name);
    return cJSON_IsNumber(field) ? field->valuedouble : otherwise;
}

int json_int(const cJSON *object, const char *name, int otherwise)
{
    int64_t number = json_integer(object, name, INT64_MAX);
    return number >= INT_MIN && number <= INT_MAX ? (int)number : otherwise;
}

int64_t json_integer(const cJSON *object, const char *name, int64_t otherwise)
{
    double number = json_number(object, name, 0x1p63);
    return number >= -0x1p63 && number < 0x1p63 ? (int64_t)number : otherwise;
}

uint64_t json_unsigned(const cJSON *object, const char *name, uint64_t otherwise)
{
    double number = json_number(object, name, -1);
    return number >= 0 && number < 0x1p64 ? (uint64_t)number : otherwise;
}

bool json_true(const cJSON *object, const char *name)
{
    return cJSON_IsTrue(json_field(object, name));
}
