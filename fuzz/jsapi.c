/* JetStream's API: its answers, and what is made of a consumer's settings.
 *
 *   r JSON                 an answer
 *   w JSON                 a request, as it is written
 *   c STATED\nACTUAL       settings that are compared
 *   i FILTERS\nEXTRA\nINFO a consumer: filters ("a,b"), the script's own fields, CONSUMER.INFO */
#include "bus/request/jsapi.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bus/consume/consumer_private.h"
#include "fuzz.h"

#define FILTERS_MOST 4

static void answer(const char *text, size_t len)
{
    struct err err;
    int api_code = -1;
    cJSON *reply = jsapi_parse("STREAM.INFO.S", text, len, &api_code, &err);
    if (!reply) {
        fuzz_check_err(&err, (int)err.code);
        MUST(strncmp(err.message, "STREAM.INFO.S: ", 15) == 0);
        return;
    }
    MUST(cJSON_IsObject(reply) && api_code == 0);
    MUST(!cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(reply, "error")));
    cJSON_Delete(reply);
}

/* Two fields of one name: there the first one is the field. */
static bool repeats(const cJSON *item)
{
    for (const cJSON *child = item->child; child; child = child->next) {
        if (cJSON_IsObject(item) && cJSON_GetObjectItemCaseSensitive(item, child->string) != child)
            return true;
        if (repeats(child))
            return true;
    }
    return false;
}

/* 1e999 is read as infinity, which cJSON finds equal to nothing. */
static bool is_finite(const cJSON *item)
{
    if (cJSON_IsNumber(item) && !isfinite(item->valuedouble))
        return false;
    for (const cJSON *child = item->child; child; child = child->next) {
        if (!is_finite(child))
            return false;
    }
    return true;
}

static bool is_whole(const cJSON *item)
{
    return cJSON_IsNumber(item) && fabs(item->valuedouble) < 0x1p63 &&
           item->valuedouble == floor(item->valuedouble);
}

static void check_same_numbers(const cJSON *a, const cJSON *b)
{
    MUST(cJSON_IsNumber(a) == cJSON_IsNumber(b));
    MUST(!is_whole(a) || a->valuedouble == b->valuedouble); /* others may lose their last digits */
    const cJSON *other = b->child;
    for (const cJSON *child = a->child; child; child = child->next) {
        bool gone = cJSON_IsNumber(child) && !isfinite(child->valuedouble);
        MUST(other != NULL);
        if (!gone) /* JSON has no infinity: cJSON writes null */
            check_same_numbers(child, other);
        other = other->next;
    }
    MUST(other == NULL);
}

/* Numbers arrive as they are, and whole ones as such: Go reads no integer from 1e+18. */
static void request(const char *text, size_t len)
{
    cJSON *item = cJSON_ParseWithLength(text, len), *list = cJSON_CreateArray();
    cJSON_AddItemToArray(list, item);
    char *written = jsapi_print(list);
    MUST(written != NULL);
    if (!repeats(list)) {
        cJSON *back = cJSON_Parse(written);
        MUST(back != NULL);
        check_same_numbers(list, back);
        MUST(!is_whole(item) || strpbrk(written, ".eE") == NULL);
        cJSON_Delete(back);
    }
    cJSON_free(written);
    cJSON_Delete(list);
}

static void compare(struct input *input)
{
    struct err err;
    size_t stated_len, actual_len;
    char *first = input_line(input, &stated_len), *second = input_rest(input, &actual_len);
    cJSON *stated = cJSON_ParseWithLength(first, stated_len);
    cJSON *actual = cJSON_ParseWithLength(second, actual_len);
    static const char *const skip[] = {"deliver_policy", NULL};
    int code = jsapi_compare(stated, actual, skip, &err);
    if (code) {
        fuzz_check_err(&err, code);
        MUST(code == ERR_MISMATCH && cJSON_IsObject(stated));
    }
    if (cJSON_IsObject(stated) && !repeats(stated) && is_finite(stated)) {
        MUST(jsapi_compare(stated, stated, NULL, &err) == 0);
        /* What is not stated is not compared. */
        cJSON *more = cJSON_Duplicate(stated, true);
        cJSON_AddItemToObject(more, "-", cJSON_CreateNumber(1));
        MUST(jsapi_compare(stated, more, NULL, &err) == 0);
        cJSON_Delete(more);
    }
    cJSON_Delete(stated);
    cJSON_Delete(actual);
    free(first);
    free(second);
}

/* Sent back to the server and taken there, the settings are what the script states. */
static void check_stated(const struct consumer_spec *spec, const cJSON *config)
{
    struct err err;
    cJSON *changed = cJSON_IsObject(config) ? cJSON_Duplicate(config, true) : NULL;
    if (!changed)
        return;
    consumer_config_state(changed, spec);
    if (!repeats(config) && !(spec->extra && repeats(spec->extra))) {
        MUST(consumer_config_check_retries(spec, changed, &err) == 0);
        MUST(consumer_config_compare(spec, changed, NULL, &err) == 0);
    }
    cJSON_Delete(changed);
}

static void judge(const struct consumer_spec *spec, const cJSON *info)
{
    const cJSON *config = json_field(info, "config");
    struct err err;
    char *unstated = NULL;
    int code = consumer_config_check_kind(config, &err);
    if (code)
        fuzz_check_err(&err, code);
    if ((code = consumer_config_check_retries(spec, config, &err)))
        fuzz_check_err(&err, code);
    if ((code = consumer_config_compare(spec, config, &unstated, &err)))
        fuzz_check_err(&err, code);
    MUST(!unstated || spec->filter_count == 0);
    free(unstated);
    (void)puller_floor(info);
    check_stated(spec, config);
    /* What would be created has what is stated. */
    cJSON *made = consumer_config_new(spec);
    if (!(spec->extra && repeats(spec->extra)))
        MUST(consumer_config_compare(spec, made, NULL, &err) == 0);
    cJSON_Delete(made);
}

static void consumer(struct input *input)
{
    const char *filters[FILTERS_MOST];
    struct consumer_spec stated = {.stream = "S", .durable = "d", .concurrency = 1}, spec;
    char *list = input_line(input, NULL), *rest = NULL;
    size_t extra_len, info_len;
    char *extra = input_line(input, &extra_len), *info = input_rest(input, &info_len);
    for (char *one = strtok_r(list, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
        bool twice = false; /* the binding refuses it */
        for (int i = 0; i < stated.filter_count; i++)
            twice = twice || strcmp(filters[i], one) == 0;
        if (!twice && stated.filter_count < FILTERS_MOST)
            filters[stated.filter_count++] = one;
    }
    cJSON *fields = cJSON_ParseWithLength(extra, extra_len);
    cJSON *json = cJSON_ParseWithLength(info, info_len);
    struct err err;
    stated.filters = filters;
    stated.extra = cJSON_IsObject(fields) && is_finite(fields) ? fields : NULL;
    stated.ack_wait_ns = 30000000000;
    stated.ack_wait_stated = stated.filter_count > 1;
    int code = consumer_spec_copy(&spec, &stated, &err);
    if (code)
        fuzz_check_err(&err, code);
    else
        judge(&spec, json);
    consumer_spec_clear(&spec);
    cJSON_Delete(fields);
    cJSON_Delete(json);
    free(list);
    free(extra);
    free(info);
}

void fuzz_jsapi(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    uint8_t kind = input_byte(&input);
    if (kind == 'c' || kind == 'i') {
        if (kind == 'c')
            compare(&input);
        else
            consumer(&input);
        return;
    }
    size_t len;
    char *text = input_rest(&input, &len);
    if (kind == 'r')
        answer(text, len);
    else if (kind == 'w')
        request(text, len);
    free(text);
}
