/* The command of the nats CLI that changes a setting on the server: pure. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "base/value.h"
#include "bus/request/jsapi.h"
#include "bus/request/jsfield.h"

/* Between single quotes, as a shell reads it, unless it needs none. */
static int quote_for_shell(const char *text, char *buf, size_t size)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-$,/:";
    if (*text && text[strspn(text, plain)] == '\0')
        return snprintf(buf, size, "%s", text);
    size_t len = 0;
    char out[300];
    for (const char *at = text; *at && len + 6 < sizeof out; at++) {
        const char *piece = *at == '\'' ? "'\\''" : (char[]){*at, '\0'};
        len += (size_t)snprintf(out + len, sizeof out - len, "%s", piece);
    }
    out[len] = '\0';
    return snprintf(buf, size, "'%s'", out);
}

static void print_list(const cJSON *list, char *buf, size_t size)
{
    const cJSON *item;
    size_t len = 0;
    buf[0] = '\0';
    cJSON_ArrayForEach(item, list) {
        const char *text = cJSON_GetStringValue(item);
        len += (size_t)snprintf(buf + len, size - len, "%s%s", len ? "," : "", text ? text : "");
        if (len >= size)
            return;
    }
}

static void print_value(const struct jsfield *field, const cJSON *value, char *buf, size_t size)
{
    buf[0] = '\0';
    if (cJSON_IsArray(value))
        print_list(value, buf, size);
    else if (cJSON_IsString(value))
        snprintf(buf, size, "%s", value->valuestring);
    else if (!cJSON_IsNumber(value))
        return;
    else if (field->kind != JSFIELD_DURATION)
        snprintf(buf, size, "%.0f", value->valuedouble);
    else if (value->valuedouble >= 0 && value->valuedouble < 0x1p63)
        value_format_duration((int64_t)value->valuedouble, buf, size);
}

/* " --max-age=1h"; "" when it has none. */
static void print_option(const struct jsfield *field, const cJSON *value, char *buf, size_t size)
{
    char text[300], quoted[400];
    bool on = cJSON_IsTrue(value) == (field->form == JSFIELD_FLAG);
    buf[0] = '\0';
    if (!field->option)
        return;
    if (field->form != JSFIELD_VALUE) {
        snprintf(buf, size, " --%s%s", on ? "" : "no-", field->option);
        return;
    }
    print_value(field, value, text, sizeof text);
    quote_for_shell(text, quoted, sizeof quoted);
    snprintf(buf, size, " --%s=%s", field->option, quoted);
}

char *jsapi_remedy(const char *command, const char *name, const cJSON *stated,
                   const char *difference, char *buf, size_t size)
{
    const struct jsfield *field = jsfield_of_difference(difference);
    char option[500] = "";
    if (field)
        print_option(field, cJSON_GetObjectItemCaseSensitive(stated, field->name), option,
                     sizeof option);
    snprintf(buf, size, "nats %s %s%s", command, name, option);
    return buf;
}
