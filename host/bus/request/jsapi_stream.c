/* Making sure of a stream: created, compared, updated. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/value.h"
#include "bus/jscode.h"
#include "bus/request/jsapi.h"
#include "bus/request/jsfield.h"

#define TRANSFORMS "subject_transforms" /* of one source, or of a mirror */

struct ensure {
    struct jsapi *jsapi;
    const char *name;
    const cJSON *stated;
    const cJSON *defaults; /* or NULL */
    uint64_t deadline_ns;
    cJSON *info; /* owned: the last answer that told the stream's settings */
};

static bool call_stream(struct ensure *ensure, const char *operation, const cJSON *request,
                        int *api_code, struct err *err)
{
    char full[300];
    jsapi_stream(operation, ensure->name, full, sizeof full);
    cJSON *reply = jsapi_wait(ensure->jsapi, full, request, ensure->deadline_ns, api_code, err);
    if (!reply)
        return false;
    cJSON_Delete(ensure->info);
    ensure->info = reply;
    return true;
}

static const cJSON *config_of(const struct ensure *ensure)
{
    return cJSON_GetObjectItemCaseSensitive(ensure->info, "config");
}

/* Puts what is stated over what is there, in depth: what others have set beside it stays. False:
 * there is no memory for that. */
static bool set_stated(cJSON *config, const cJSON *stated)
{
    const cJSON *field;
    bool set = config;
    cJSON_ArrayForEach(field, stated) {
        cJSON *there = cJSON_GetObjectItemCaseSensitive(config, field->string);
        if (cJSON_IsObject(field) && cJSON_IsObject(there)) {
            set = set_stated(there, field) && set;
            continue;
        }
        cJSON *copy = cJSON_Duplicate(field, true);
        cJSON_DeleteItemFromObjectCaseSensitive(config, field->string);
        bool added = copy && cJSON_AddItemToObject(config, field->string, copy);
        if (!added)
            cJSON_Delete(copy);
        set = added && set;
    }
    return set;
}

/* why: the difference. */
static int update_stream(struct ensure *ensure, const struct err *why, struct err *err)
{
    cJSON *config = cJSON_Duplicate(config_of(ensure), true);
    struct err refused = {.code = ERR_NONE};
    char since[64];
    bool taken = set_stated(config, ensure->stated)
                     ? call_stream(ensure, "UPDATE", config, NULL, &refused)
                     : (err_set(&refused, ERR_MEMORY, "out of memory"), false);
    cJSON_Delete(config);
    if (!taken)
        return err_set(err, err_passes(refused.code) ? refused.code : ERR_MISMATCH,
                       "stream \"%s\" cannot be updated: %s: %s%s", ensure->name, why->message,
                       refused.message, jsfield_refused(refused.message, since, sizeof since));
    if (jsapi_compare(ensure->stated, config_of(ensure), NULL, &refused) != 0)
        return err_set(
            err, ERR_MISMATCH,
            "stream \"%s\" was updated, but this server does not take every setting: %s%s",
            ensure->name, refused.message, jsfield_since(refused.message, since, sizeof since));
    log_info("stream %s: updated on the server: %s", ensure->name, why->message);
    return 0;
}

static int compare_or_update(struct ensure *ensure, bool may_update, struct err *err)
{
    char command[600];
    struct err why;
    if (jsapi_compare(ensure->stated, config_of(ensure), NULL, &why) == 0)
        return 0;
    if (may_update)
        return update_stream(ensure, &why, err);
    if (jsfield_is_fixed(why.message))
        return err_set(err, ERR_MISMATCH,
                       "stream \"%s\" exists with other settings: %s (no server changes it: state "
                       "what the server has, or delete the stream)",
                       ensure->name, why.message);
    return err_set(err, ERR_MISMATCH,
                   "stream \"%s\" exists with other settings: %s (state what the server has, allow "
                   "update = true, or run: %s)",
                   ensure->name, why.message,
                   jsapi_remedy("stream edit", ensure->name, ensure->stated, why.message, command,
                                sizeof command));
}

static int check_echo(const struct ensure *ensure, const cJSON *asked, struct err *err)
{
    struct err why = {.code = ERR_NONE};
    char since[64];
    if (jsapi_compare(asked, config_of(ensure), NULL, &why) == 0)
        return 0;
    return err_set(err, ERR_MISMATCH,
                   "stream \"%s\" was created, but this server does not take every setting: %s%s",
                   ensure->name, why.message, jsfield_since(why.message, since, sizeof since));
}

/* --- what a server does not know --- */

/* A value that no setting takes. */
static cJSON *no_value(void)
{
    cJSON *list = cJSON_CreateArray();
    cJSON_AddItemToArray(list, cJSON_CreateArray());
    return list;
}

static const cJSON *transforms_of(const cJSON *origin)
{
    return cJSON_GetObjectItemCaseSensitive(origin, TRANSFORMS);
}

/* Of where a stream gets its messages from, what servers of 2.9 do not know. NULL: nothing. */
static cJSON *ask_of_origins(const cJSON *field)
{
    const cJSON *origin = cJSON_IsArray(field) ? field->child : field;
    while (cJSON_IsArray(field) && origin && !transforms_of(origin))
        origin = origin->next;
    if (!transforms_of(origin))
        return NULL;
    cJSON *asked = cJSON_CreateObject(), *list = NULL;
    cJSON_AddItemToObject(asked, TRANSFORMS, no_value());
    if (!cJSON_IsArray(field))
        return asked;
    list = cJSON_CreateArray();
    cJSON_AddItemToArray(list, asked);
    return list;
}

/* A server that drops it does what is stated. */
static bool states_nothing(const cJSON *field)
{
    cJSON *stated = cJSON_CreateObject(), *none = cJSON_CreateObject();
    cJSON_AddItemToObject(stated, field->string, cJSON_Duplicate(field, true));
    bool nothing = jsapi_compare(stated, none, NULL, NULL) == 0;
    cJSON_Delete(stated);
    cJSON_Delete(none);
    return nothing;
}

/* NULL: every server knows it. *name: what is asked for. */
static cJSON *ask_of(const cJSON *field, const char **name)
{
    const struct jsfield *known = jsfield_find(field->string);
    bool is_origin = strcmp(field->string, "sources") == 0 || strcmp(field->string, "mirror") == 0;
    *name = is_origin ? TRANSFORMS : field->string;
    if (is_origin)
        return ask_of_origins(field);
    bool may_be_new = (!known || known->since) && strcmp(field->string, "name") != 0;
    return may_be_new && !states_nothing(field) ? no_value() : NULL;
}

/* A request that makes nothing, as it does not name its stream. A server that reads the setting
 * finds fault with its value; one that drops it, with the name. */
static bool is_dropped(struct ensure *ensure, const char *field, cJSON *value)
{
    char operation[300];
    int api_code = 0;
    struct err why;
    cJSON *request = cJSON_CreateObject();
    cJSON_AddItemToObject(request, field, value);
    jsapi_stream("CREATE", ensure->name, operation, sizeof operation);
    cJSON *answer =
        jsapi_wait(ensure->jsapi, operation, request, ensure->deadline_ns, &api_code, &why);
    cJSON_Delete(request);
    cJSON_Delete(answer);
    return !answer && api_code == JSCODE_OTHER_NAME;
}

/* Nobody deletes a stream that was made and cannot be used, so the server is asked before. */
static int check_known(struct ensure *ensure, const cJSON *asked, struct err *err)
{
    const cJSON *field;
    cJSON_ArrayForEach(field, asked) {
        char since[64];
        const char *name;
        cJSON *value = ask_of(field, &name);
        if (value && is_dropped(ensure, field->string, value))
            return err_set(err, ERR_UNSUPPORTED,
                           "stream \"%s\" is not created: this server does not know %s%s%s%s",
                           ensure->name, field->string, strcmp(name, field->string) ? "." : "",
                           strcmp(name, field->string) ? name : "",
                           jsfield_since(name, since, sizeof since));
    }
    return 0;
}

/* 1: it is not there, as somebody else was faster, or the server refused: *api_code and why. */
static int create(struct ensure *ensure, int *api_code, struct err *why, struct err *err)
{
    cJSON *asked =
        ensure->defaults ? cJSON_Duplicate(ensure->defaults, true) : cJSON_CreateObject();
    int code = 1;
    if (!set_stated(asked, ensure->stated))
        code = err_set(err, ERR_MEMORY, "stream \"%s\": out of memory", ensure->name);
    else if (check_known(ensure, asked, err) != 0)
        code = err->code;
    else if (call_stream(ensure, "CREATE", asked, api_code, why))
        code = check_echo(ensure, asked, err);
    cJSON_Delete(asked);
    return code;
}

static int ensure_it(struct ensure *ensure, bool may_update, struct err *err)
{
    struct err why = {.code = ERR_NONE};
    int api_code = 0;
    bool there = call_stream(ensure, "INFO", NULL, &api_code, &why);
    if (!there && why.code == ERR_NOT_FOUND) {
        int code = create(ensure, &api_code, &why, err);
        if (code <= 0)
            return code;
        if (api_code == JSCODE_STREAM_EXISTS) /* someone else was faster */
            there = call_stream(ensure, "INFO", NULL, &api_code, &why);
    }
    char since[64];
    if (!there)
        return err_set(err, why.code, "stream \"%s\": %s%s", ensure->name, why.message,
                       jsfield_refused(why.message, since, sizeof since));
    return compare_or_update(ensure, may_update, err);
}

int jsapi_ensure_stream(struct jsapi *jsapi, const cJSON *stated, const cJSON *defaults,
                        bool may_update, cJSON **info, uint64_t deadline_ns, struct err *err)
{
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(stated, "name"));
    *info = NULL;
    if (!name)
        return err_set(err, ERR_INVALID, "a stream needs a name");
    if (name_check("stream", name, strlen(name), err) != 0)
        return ERR_INVALID;
    struct ensure ensure = {.jsapi = jsapi,
                            .name = name,
                            .stated = stated,
                            .defaults = defaults,
                            .deadline_ns = deadline_ns};
    int code = ensure_it(&ensure, may_update, err);
    if (code == 0)
        *info = ensure.info;
    else
        cJSON_Delete(ensure.info);
    return code;
}
