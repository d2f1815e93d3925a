/* stream - js.stream, and buckets, which are streams of a form: a stream that a script states. It
 * has no handler; it is made sure of. */
#include <cjson/cJSON.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "bus/bus.h"
#include "engine/kinds/kinds.h"
#include "engine/kinds/spec.h"
#include "engine/serve/setup.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"
#include "engine/version/script.h"
#include "engine/version/trial.h"

/* The subjects of a bucket follow from its name. */
static bool is_bare(const struct registration *registration)
{
    int count = cJSON_GetArraySize(registration->stream);
    return count == 1 || (count == 2 && registration->bucket &&
                          cJSON_HasObjectItem(registration->stream, "subjects"));
}

static const char *read_stream(lua_State *L, int spec, struct registration *registration)
{
    registration->update = spec_update(L, spec);
    spec_push(L, spec, "settings");
    int settings = lua_gettop(L);
    const char *wrong = spec_json(L, settings, &registration->stream);
    if (wrong)
        return wrong;
    if (spec_push(L, spec, "defaults") == LUA_TTABLE)
        wrong = spec_json(L, lua_gettop(L), &registration->stream_defaults);
    lua_pop(L, 1);
    if (wrong)
        return wrong;
    registration->bucket = spec_text(L, spec, "bucket");
    registration->bare = is_bare(registration);
    spec_push(L, settings, "name");
    spec_name(L, registration, "stream", "%s", lua_tostring(L, -1));
    lua_settop(L, settings - 1);
    struct trial *trial = instance_of(L)->generation->scripts->trial;
    if (trial)
        trial_take_stream(trial, registration->stream);
    return NULL;
}

/* A bucket has other names for what differs. */
static int name_option(const char *binding, struct err *err)
{
    static const struct {
        const char *field, *option;
    } names[] = {
        {"max_age", "ttl"},
        {"max_msgs_per_subject", "history"},
        {"max_msg_size", "max_value_size"},
        {"num_replicas", "replicas"},
        {"allow_msg_ttl", "limit_markers"},
        {"subject_delete_marker_ttl", "limit_markers"},
    };
    char difference[64];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(difference, sizeof difference, ": %s: here ", names[i].field);
        if (!strstr(err->message, difference))
            continue;
        struct err whole = *err;
        return err_set(err, whole.code, "%s (%s calls %s \"%s\")", whole.message, binding,
                       names[i].field, names[i].option);
    }
    return err->code;
}

static int ensure_stream(struct scripts *scripts, const struct registration *registration,
                         uint64_t deadline_ns, struct err *err)
{
    cJSON *info;
    int code = jsapi_ensure_stream(
        scripts->bus->jsapi, registration->stream, registration->stream_defaults,
        setup_stated_wins(scripts, registration), &info, deadline_ns, err);
    if (!code)
        outbox_learn(scripts->bus->outbox, info);
    else if (registration->bucket)
        code = name_option(registration->bucket, err);
    cJSON_Delete(info);
    return code;
}

static bool is_declared(const struct registration *now, const struct registration *then)
{
    return cJSON_Compare(now->stream, then->stream, true);
}

const struct kind kind_stream = {
    .name = "stream",
    .binding = "js.stream",
    .declared = true,
    .read = read_stream,
    .declare = ensure_stream,
    .is_declared = is_declared,
};
