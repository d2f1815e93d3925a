/* endpoint - bus.service and its endpoints (ADR-32). An endpoint is a subscription, as of
 * bus.subscribe; a service has no handler: while one of its statements serves, it is found
 * (discovery.h). Any number of scripts may state a service, each with endpoints of its own, as long
 * as they state the same of it. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "engine/kinds/discovery.h"
#include "engine/kinds/kinds.h"
#include "engine/kinds/spec.h"
#include "engine/kinds/subscribe.h"
#include "engine/source/source.h"
#include "engine/version/script.h"

static const char *read_metadata(lua_State *L, int spec, struct registration *registration)
{
    int top = lua_gettop(L);
    const char *wrong = NULL;
    if (spec_push(L, spec, "metadata") == LUA_TTABLE)
        wrong = spec_json(L, top + 1, &registration->metadata);
    lua_settop(L, top);
    return wrong;
}

static bool same_metadata(const struct registration *a, const struct registration *b)
{
    return a->metadata == b->metadata ||
           (a->metadata && b->metadata && cJSON_Compare(a->metadata, b->metadata, true));
}

/* --- the service --- */

static const char *read_service(lua_State *L, int spec, struct registration *registration)
{
    char what[300];
    registration->service = spec_text(L, spec, "name");
    registration->version = spec_text(L, spec, "version");
    registration->description = spec_text(L, spec, "description");
    snprintf(what, sizeof what, "service %.280s", registration->version);
    spec_name(L, registration, what, "%s", registration->service);
    return read_metadata(L, spec, registration);
}

static bool same_service(const struct registration *now, const struct registration *then)
{
    return registration_same_text(now->service, then->service);
}

static bool is_stated_otherwise(const struct registration *mine, const struct registration *other)
{
    return other->kind == mine->kind && same_service(mine, other) &&
           !(registration_same_text(mine->version, other->version) &&
             registration_same_text(mine->description, other->description) &&
             same_metadata(mine, other));
}

/* The first setting that is not the same. */
static const char *difference(const struct registration *a, const struct registration *b)
{
    if (!registration_same_text(a->version, b->version))
        return "version";
    return registration_same_text(a->description, b->description) ? "metadata" : "description";
}

static void tell_difference(const struct registration *mine, const struct registration *other,
                            bool same_script, struct err *err)
{
    (void)same_script;
    err_set(
        err, ERR_TAKEN,
        "the service \"%s\" has another %s here than at %s:%d: of one name there is one service "
        "in a process. State it once, in a module that both require; after a change to it "
        "`moonbus reload` switches all of its scripts together",
        mine->service, difference(mine, other), other->file, other->line);
}

static int start_service(struct source *source, struct err *err)
{
    return discovery_add(source->scripts->discovery, source, err);
}

static void stop_service(struct source *source, void (*on_drained)(void *source))
{
    discovery_remove(source->scripts->discovery, source);
    on_drained(source);
}

const struct kind kind_service = {
    .name = "service",
    .binding = "bus.service",
    .brings = SOURCE_BRINGS_NOTHING,
    .read = read_service,
    .is_rival = is_stated_otherwise,
    .tell_rival = tell_difference,
    .continues = same_service,
    .start = start_service,
    .stop = stop_service,
    .on_hand_over = discovery_note,
};

/* --- an endpoint --- */

static const char *read_endpoint(lua_State *L, int spec, struct registration *registration)
{
    subscribe_read(L, spec, registration);
    registration->service = spec_text(L, spec, "service");
    registration->endpoint = spec_text(L, spec, "endpoint");
    spec_name(L, registration, registration->subject, "%s/%s", registration->service,
              registration->endpoint);
    return read_metadata(L, spec, registration);
}

static bool same_endpoint(const struct registration *mine, const struct registration *other)
{
    return other->kind == mine->kind && same_service(mine, other) &&
           strcmp(mine->endpoint, other->endpoint) == 0 &&
           strcmp(mine->subject, other->subject) == 0;
}

static void tell_twin(const struct registration *mine, const struct registration *other,
                      bool same_script, struct err *err)
{
    err_set(err, ERR_TAKEN,
            "the endpoint \"%s\" of the service \"%s\" on \"%s\" has a handler already%s (%s:%d): "
            "give this one another name, or another subject",
            mine->endpoint, mine->service, mine->subject, same_script ? "" : " in another script",
            other->file, other->line);
}

static bool endpoint_continues(const struct registration *now, const struct registration *then)
{
    return same_endpoint(now, then) && subscribe_continues(now, then);
}

static int start_endpoint(struct source *source, struct err *err)
{
    struct discovery *discovery = source->scripts->discovery;
    int code = discovery_add(discovery, source, err);
    if (!code && (code = subscribe_start(source, err)) != 0)
        discovery_remove(discovery, source);
    return code;
}

static void stop_endpoint(struct source *source, void (*on_drained)(void *source))
{
    discovery_remove(source->scripts->discovery, source);
    subscribe_stop(source, on_drained);
}

const struct kind kind_endpoint = {
    .name = "endpoint",
    .binding = "service:endpoint",
    .brings = SOURCE_BRINGS_MESSAGES,
    .read = read_endpoint,
    .is_rival = same_endpoint,
    .tell_rival = tell_twin,
    .continues = endpoint_continues,
    .start = start_endpoint,
    .stop = stop_endpoint,
    .on_hand_over = discovery_note,
};
