/* What /healthz, /readyz and /status say, gathered from all parts of the process. */
#include "app/report.h"

#include <cjson/cJSON.h>
#include <luajit.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "app/app_private.h"
#include "app/recent.h"
#include "app/report_engine.h"
#include "app/report_trial.h"
#include "app/version.h"
#include "base/value.h"
#include "bus/link/library.h"

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

cJSON *report_health(struct app *app, bool *good)
{
    const char *troubles[HEALTH_TROUBLES_MOST];
    cJSON *reasons = cJSON_CreateArray();
    int count = health_look(&app->health, app->engine, troubles);
    for (int i = 0; i < count; i++)
        add_reason(reasons, troubles[i]);
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

static void check_link(cJSON *reasons, const char *name, struct link *link)
{
    char text[700], trouble[600];
    enum link_state state = link_state(link);
    if (state == LINK_CONNECTED)
        return;
    bool told = link_trouble(link, trouble, sizeof trouble);
    snprintf(text, sizeof text, "the %s connection is %s%s%s", name, state_name(state),
             told ? ", waiting for " : "", told ? trouble : "");
    add_reason(reasons, text);
}

/* A list of what the server refuses, as reasons or for the status. */
struct refused {
    cJSON *list;
    const char *connection;
    bool as_reasons;
    int count;
};

#define REASONS_MOST 8

static void add_refused(void *closure, const char *subject, const char *queue)
{
    struct refused *refused = closure;
    char text[400];
    if (!refused->as_reasons) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "connection", refused->connection);
        cJSON_AddStringToObject(object, "subject", subject);
        if (queue)
            cJSON_AddStringToObject(object, "queue", queue);
        cJSON_AddItemToArray(refused->list, object);
        return;
    }
    if (refused->count++ > REASONS_MOST)
        return;
    if (refused->count > REASONS_MOST)
        snprintf(text, sizeof text, "the server refuses further subscriptions of the %s connection",
                 refused->connection);
    else
        snprintf(text, sizeof text,
                 "the server refuses the subscription to \"%.200s\"%s to this user (%s connection)",
                 subject, queue ? " by queue" : "", refused->connection);
    add_reason(refused->list, text);
}

static void each_refused(struct app *app, cJSON *list, bool as_reasons)
{
    struct refused consume = {list, "consume", as_reasons, 0};
    struct refused publish = {list, "publish", as_reasons, 0};
    link_each_refused(app->bus->consume, add_refused, &consume);
    link_each_refused(app->bus->publish, add_refused, &publish);
}

/* snapshot: NULL for want of memory. */
static cJSON *unready(struct app *app, const struct engine_snapshot *snapshot)
{
    cJSON *reasons = cJSON_CreateArray();
    if (atomic_load(&app->stopping))
        add_reason(reasons, "draining");
    else if (!app->ready)
        add_reason(reasons, "not everything is served yet");
    if (app->bus) {
        check_link(reasons, "consume", app->bus->consume);
        check_link(reasons, "publish", app->bus->publish);
        each_refused(app, reasons, true);
    }
    if (!app->ready)
        return reasons;
    if (snapshot)
        report_unready(snapshot, reasons);
    else
        add_reason(reasons, "no memory to look at the scripts");
    return reasons;
}

cJSON *report_ready(struct app *app, bool *good)
{
    struct engine_snapshot *snapshot = app->ready ? engine_snapshot(app->engine) : NULL;
    cJSON *body = verdict(unready(app, snapshot), good);
    engine_snapshot_free(snapshot);
    return body;
}

bool report_is_ready(struct app *app, const struct engine_snapshot *snapshot)
{
    bool good;
    cJSON_Delete(verdict(unready(app, snapshot), &good));
    return good;
}

bool report_is_healthy(struct app *app)
{
    bool good;
    cJSON_Delete(report_health(app, &good));
    return good;
}

cJSON *report_recent(struct app *app, int most)
{
    cJSON *body = recent_json(app->recent);
    cJSON *running = app->engine ? report_running(app->engine, most) : NULL;
    if (running)
        cJSON_AddItemToObject(body, "running", running);
    return body;
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
    cJSON_AddStringToObject(object, "nats.c", library_version());
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

/* Which way the messages of a connection go: "own" or "nats.c". */
static void add_wire(cJSON *object, const char *name, struct link *link)
{
    struct link_stat stat;
    link_stat(link, &stat);
    if (*stat.wire)
        cJSON_AddStringToObject(object, name, stat.wire);
}

static cJSON *wires(const struct app *app)
{
    cJSON *object = cJSON_CreateObject();
    if (app->bus) {
        add_wire(object, "consume", app->bus->consume);
        add_wire(object, "publish", app->bus->publish);
    }
    return object;
}

/* Nothing while it is not known. */
static cJSON *jetstream(const struct app *app)
{
    cJSON *object = cJSON_CreateObject();
    int level = app->bus ? jslevel_now(app->bus->jslevel) : -1;
    if (level >= 0) {
        cJSON_AddNumberToObject(object, "api_level", level);
        cJSON_AddStringToObject(object, "nats_server", jslevel_release(level));
    }
    return object;
}

static cJSON *refused_subscriptions(struct app *app)
{
    cJSON *list = cJSON_CreateArray();
    if (app->bus)
        each_refused(app, list, false);
    return list;
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
        if (!found && change_is_over(&file->change))
            continue;
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
        if (file->last_error)
            report_time(found, "last_error_at", file->refused_at_ns);
        report_time(found, "live_at", file->live_at_ns);
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
    if (app->reconfig.last_error)
        report_time(object, "last_error_at", app->reconfig.refused_at_ns);
    for (int i = 0; i < config->leaf_count; i++) {
        if (config_waits(&config->leaves[i], app->options->child != NULL, line, sizeof line))
            cJSON_AddItemToArray(waits, cJSON_CreateString(line));
    }
    cJSON_AddItemToObject(object, "at_next_start", waits);
    return object;
}

static void add_engine(struct app *app, const struct engine_snapshot *snapshot, bool quotes,
                       cJSON *status)
{
    cJSON *scripts = report_scripts(snapshot, quotes);
    add_history(app, scripts);
    cJSON_AddNumberToObject(status, "running", snapshot->running);
    cJSON_AddItemToObject(status, "scripts", scripts);
    cJSON_AddItemToObject(status, "stuck", report_stuck(snapshot));
    cJSON_AddItemToObject(status, "offload", report_offload(snapshot));
    cJSON_AddItemToObject(status, "shared", report_shared(snapshot));
    cJSON_AddItemToObject(status, "services", report_services(snapshot));
}

cJSON *report_log(const struct app *app)
{
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "level", log_level_name(log_level()));
    cJSON_AddStringToObject(body, "configured", log_level_name(app->config->log_level));
    cJSON_AddStringToObject(body, "format", log_format_name(log_format()));
    return body;
}

cJSON *report_status(struct app *app, bool quotes)
{
    struct engine_snapshot *snapshot = engine_snapshot(app->engine);
    engine_ask_lag(app->engine);
    uint64_t now = clock_now_ns();
    cJSON *status = cJSON_CreateObject(), *reasons = unready(app, snapshot);
    cJSON_AddStringToObject(status, "state", app_state(app));
    cJSON_AddBoolToObject(status, "healthy", report_is_healthy(app));
    cJSON_AddBoolToObject(status, "ready", cJSON_GetArraySize(reasons) == 0);
    cJSON_AddItemToObject(status, "reasons", reasons);
    cJSON_AddNumberToObject(status, "pid", getpid());
    cJSON_AddNumberToObject(status, "uptime_ms",
                            (double)((now - app->options->began_ns) / NS_PER_MS));
    cJSON_AddItemToObject(status, "versions", versions());
    cJSON_AddItemToObject(status, "connections", connections(app));
    cJSON_AddItemToObject(status, "wire", wires(app));
    cJSON_AddItemToObject(status, "jetstream", jetstream(app));
    cJSON_AddItemToObject(status, "refused", refused_subscriptions(app));
    cJSON_AddNumberToObject(status, "workers", app->config->workers);
    cJSON_AddItemToObject(status, "config", config_report(app));
    cJSON_AddItemToObject(status, "log", report_log(app));
    if (snapshot)
        add_engine(app, snapshot, quotes, status);
    engine_snapshot_free(snapshot);
    if (engine_trial(app->engine))
        cJSON_AddItemToObject(status, "trial", report_trial(engine_trial(app->engine)));
    return status;
}
