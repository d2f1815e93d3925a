/* Fields of an object, and its end where one of them has no room. */
#include "engine/kinds/whole_json.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>

void whole_json_spoil(cJSON *object)
{
    if (object)
        object->type = cJSON_Invalid;
}

void whole_json_put(cJSON *object, const char *name, cJSON *item)
{
    if (cJSON_AddItemToObject(object, name, item))
        return;
    cJSON_Delete(item);
    whole_json_spoil(object);
}

void whole_json_put_text(cJSON *object, const char *name, const char *text)
{
    whole_json_put(object, name, cJSON_CreateString(text));
}

void whole_json_put_number(cJSON *object, const char *name, uint64_t number)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRIu64, number);
    whole_json_put(object, name, cJSON_CreateRaw(digits));
}
