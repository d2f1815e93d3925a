#include "app/report.h"

#include <luajit.h>
#include <nats/nats.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "app/admin.h"
#include "app/app_private.h"
#include "app/version.h"
#include "base/value.h"

/* Work that no worker has taken for so long: none of them lives. */
#define STALLED_NS (10 * NS_PER_S)

static cJSON *verdict(cJSON *reasons, bool *good)
{
    *good = cJSON_GetArraySize(reasons) == 0;
    cJSON *body = cJSON_CreateObject();
    cJSON_AddBoolToObject(body, "ok", *good);
    if (*good)
        cJSON_Delete(reasons);
    else
        cJSON_AddItemToObject(body, "reasons", reasons);
    return body;
}

static void add_reason(cJSON *reasons, const char *text)
{
    cJSON_AddItemToArray(reasons, cJSON_CreateString(text));
}

cJSON *report_health(struct app *app, const struct admin *admin, bool *good)
{
    cJSON *reasons = cJSON_CreateArray();
    if (!admin_clock_lives(admin))
        add_reason(reasons, "the clock's thread does not run");
    if (app->engine && engine_stalled_ns(app->engine) > STALLED_NS)
        add_reason(reasons, "no worker takes work: all are stuck");
    return verdict(reasons, good);
}

static const char *state_name(enum link_state state)
{
    switch (state) {
    case LINK_CONNECTING:
        return "connecting";
    case LINK_CONNECTED:
        return "connected";
    case LINK_DISCONNECTED:
        return "disconnected";
    case LINK_CLOSED:
        return "closed";
    }
    return "?";
}

static void check_link(cJSON *reasons, const char *name, const struct link *link)
{
    char text[80];
    enum link_state state = link_state(link);
    snprintf(text, sizeof text, "the %s connection is %s", name, state_name(state));
    if (state != LINK_CONNECTED)
        add_reason(reasons, text);
}

cJSON *report_ready(struct app *app, bool *good)
{
    cJSON *reasons = cJSON_CreateArray();
    if (atomic_load(&app->stopping))
        add_reason(reasons, "draining");
    else if (!app->ready)
        add_reason(reasons, "not everything is served yet");
    if (app->bus) {
        check_link(reasons, "consume", app->bus->consume);
        check_link(reasons, "publish", app->bus->publish);
    }
    if (app->ready)
        engine_unready(app->engine, reasons);
    return verdict(reasons, good);
}

static const char *app_state(const struct app *app)
{
    if (atomic_load(&((struct app *)app)->stopping))
        return "draining";
    return app->ready ? "serving" : "setting up";
}

static cJSON *versions(void)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "moonbus", MOONBUS_VERSION);
    cJSON_AddStringToObject(object, "luajit", LUAJIT_VERSION);
    cJSON_AddStringToObject(object, "nats.c", nats_GetVersion());
    cJSON_AddStringToObject(object, "libuv", uv_version_string());
    return object;
}

static cJSON *connections(const struct app *app)
{
    cJSON *object = cJSON_CreateObject();
    if (app->bus) {
        cJSON_AddStringToObject(object, "consume", state_name(link_state(app->bus->consume)));
        cJSON_AddStringToObject(object, "publish", state_name(link_state(app->bus->publish)));
    }
    return object;
}

/* What only the app knows of a script. */
static void add_history(const struct app *app, cJSON *scripts)
{
    const struct handler_file *file;
    LL_FOREACH(app->files, file) {
        cJSON *script, *found = NULL;
        cJSON_ArrayForEach(script, scripts) {
            if (strcmp(cJSON_GetObjectItem(script, "name")->valuestring, file->name) == 0)
                found = script;
        }
        if (!found) {
            found = cJSON_CreateObject();
            cJSON_AddStringToObject(found, "name", file->name);
            cJSON_AddNumberToObject(found, "generation", 0);
            cJSON_AddItemToArray(scripts, found);
        }
        cJSON_AddNumberToObject(found, "reloads", file->reloads);
        cJSON_AddNumberToObject(found, "refused", file->refusals);
        if (file->reload_ms > 0)
            cJSON_AddNumberToObject(found, "reload_ms", file->reload_ms);
        if (file->last_error)
            cJSON_AddStringToObject(found, "last_error", file->last_error);
    }
}

static cJSON *config_report(const struct app *app)
{
    const struct config *config = app->config;
    cJSON *object = cJSON_CreateObject(), *waits = cJSON_CreateArray();
    char line[1000];
    cJSON_AddStringToObject(object, "file", config_path(app->options->sources));
    cJSON_AddNumberToObject(object, "reloads", app->reconfig.reloads);
    cJSON_AddNumberToObject(object, "refused", app->reconfig.refusals);
    if (app->reconfig.last_error)
        cJSON_AddStringToObject(object, "last_error", app->reconfig.last_error);
    for (int i = 0; i < config->leaf_count; i++) {
        if (config_waits(&config->leaves[i], app->options->child != NULL, line, sizeof line))
            cJSON_AddItemToArray(waits, cJSON_CreateString(line));
    }
    cJSON_AddItemToObject(object, "at_next_start", waits);
    return object;
}

cJSON *report_status(struct app *app, const struct admin *admin)
{
    bool healthy, ready;
    cJSON_Delete(report_health(app, admin, &healthy));
    cJSON_Delete(report_ready(app, &ready));
    uint64_t now = clock_now_ns();
    cJSON *status = cJSON_CreateObject();
    cJSON_AddStringToObject(status, "state", app_state(app));
    cJSON_AddBoolToObject(status, "healthy", healthy);
    cJSON_AddBoolToObject(status, "ready", ready);
    cJSON_AddNumberToObject(status, "pid", getpid());
    cJSON_AddNumberToObject(status, "uptime_ms",
                            (double)((now - app->options->began_ns) / NS_PER_MS));
    cJSON_AddItemToObject(status, "versions", versions());
    cJSON_AddItemToObject(status, "connections", connections(app));
    cJSON_AddNumberToObject(status, "workers", app->config->workers);
    cJSON_AddItemToObject(status, "config", config_report(app));
    cJSON_AddNumberToObject(status, "running", engine_running(app->engine));
    cJSON *scripts = engine_report(app->engine);
    add_history(app, scripts);
    cJSON_AddItemToObject(status, "scripts", scripts);
    cJSON_AddItemToObject(status, "stuck", engine_report_stuck(app->engine));
    cJSON_AddItemToObject(status, "offload", engine_report_offload(app->engine));
    cJSON_AddItemToObject(status, "shared", engine_report_shared(app->engine));
    return status;
}
