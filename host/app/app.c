/* The process from its first line of the log to its last: what is made, in which order, and freed.
 */
#include "app/app.h"
#include "app/admin.h"

#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "app/app_private.h"
#include "app/exporter.h"
#include "app/recent.h"
#include "app/version.h"
#include "base/thread.h"
#include "base/value.h"
#include "http/http.h"

#define POOL_THREADS 4
#define CHILD_START_NS (15 * NS_PER_S)
/* What one core subscription may have queued before its newest messages are dropped. */
#define SUBSCRIPTION_MESSAGES 65536
#define SUBSCRIPTION_BYTES (64u << 20)

struct engine *app_engine(struct app *app)
{
    return app->engine;
}

static void on_wake(uv_async_t *handle)
{
    struct app *app = handle->data;
    reload_done(app);
    judging_asked(app);
    admin_unserved_look(app->admin);
    const char *stuck = atomic_exchange(&app->stuck, NULL);
    if (stuck && !atomic_load(&app->stopping)) {
        log_error("%s: stopping", stuck);
        stop_with(app, APP_FAILED);
    }
    if (atomic_load(&app->start_failed)) /* also while it stops */
        stop_with(app, APP_FAILED);
    if (!atomic_load(&app->stopped))
        return;
    /* What the pool still does for us ends soon after the drain; the guard waits no longer. */
    if (work_is_over(app))
        uv_stop(&app->loop);
}

static void open_loop(struct app *app)
{
    uv_loop_init(&app->loop);
    uv_async_init(&app->loop, &app->wake, on_wake);
    uv_timer_init(&app->loop, &app->guard);
    uv_timer_init(&app->loop, &app->absence);
    uv_timer_init(&app->loop, &app->late);
    uv_timer_init(&app->loop, &app->retry);
    uv_timer_init(&app->loop, &app->slow);
    app->wake.data = app->guard.data = app->absence.data = app->late.data = app->retry.data =
        app->slow.data = app;
    signals_open(app);
}

/* Any thread. */
static void on_stuck(void *owner, const char *why)
{
    struct app *app = owner;
    atomic_store(&app->stuck, why);
    uv_async_send(&app->wake);
}

/* Any thread. */
static void on_start_failed(void *owner)
{
    struct app *app = owner;
    atomic_store(&app->start_failed, true);
    uv_async_send(&app->wake);
}

/* What records traces, if the config says where they go. */
static int open_telemetry(struct app *app, struct err *err)
{
    app->tracer = exporter_tracer(app->config, err);
    if (!app->tracer)
        return err->code;
    app->exporter = exporter_new(app->config, app->tracer, app->http, err);
    return app->exporter ? 0 : err->code;
}

int app_make_engine(struct app *app, struct err *err)
{
    const struct config *config = app->config;
    const struct http_options http = {
        .per_host = config->http_max_per_host,
        .agent = "moonbus/" MOONBUS_VERSION,
    };
    app->http = http_new(&http, err);
    if (!app->http || open_telemetry(app, err) != 0)
        return err->code;
    const struct engine_options options = {
        .http = app->options->no_http ? NULL : app->http,
        .tracer = app->tracer,
        .trial = app->options->trial,
        .workers = config->workers,
        .tuning = config_tuning(config),
        .on_stuck = on_stuck,
        .on_start_failed = app->options->needs_start ? on_start_failed : NULL,
        .owner = app,
        .version = MOONBUS_VERSION,
        /* The server is the scripts' own. */
        .updates = app->options->child || app->options->trial,
        .subscription_messages = SUBSCRIPTION_MESSAGES,
        .subscription_bytes = SUBSCRIPTION_BYTES,
    };
    app->clock = clock_new(err);
    if (app->clock)
        health_begin(&app->health, app->clock);
    app->pool = app->clock ? pool_new(POOL_THREADS, err) : NULL;
    app->engine = app->pool ? engine_new(app->clock, app->pool, &options, api_hooks(), err) : NULL;
    return app->engine ? 0 : err->code;
}

static int start_child(struct app *app, struct err *err)
{
    if (!app->options->child)
        return 0;
    app->child = child_start(&app->loop, app->options->child, err);
    return app->child ? config_use_server(app->config, child_url(app->child), err) : err->code;
}

int app_connect_bus(struct app *app, struct err *err)
{
    struct bus_options options;
    if (app->child && child_wait_ready(app->child, clock_now_ns() + CHILD_START_NS, err) != 0)
        return err->code;
    config_bus_options(app->config, &options);
    app->bus = bus_new(app->clock, app->pool, &options, engine_sink(app->engine), err);
    if (!app->bus)
        return err->code;
    exporter_set_link(app->exporter, app->bus->publish);
    engine_connect(app->engine, app->bus);
    return 0;
}

/* In dev, a taken port is no reason not to start. */
static int open_admin(struct app *app, struct err *err)
{
    app->admin = admin_open(app, err);
    if (app->admin)
        app->recent = recent_new();
    if (app->admin || err->code == 0)
        return 0;
    if (!app->options->child)
        return err_set(err, err->code == ERR_SYSTEM ? ERR_INVALID : err->code,
                       "%s; another address or none: --admin ADDR:PORT|off", strdupa(err->message));
    log_event(LOG_WARN, &(struct log_context){.code = err_name(err->code), .whole = true},
              "%s; there is no admin endpoint", err->message);
    return 0;
}

/* Everything up to the point where only the server is missing. */
static enum app_exit start(struct app *app)
{
    struct err err;
    int code = app_make_engine(app, &err);
    if (!code)
        code = open_admin(app, &err);
    if (!code)
        code = scripts_find(app, &err);
    if (!code) {
        code = start_child(app, &err);
        if (code) {
            log_err(&err);
            return APP_FAILED;
        }
        reconfig_watch(app); /* before loading: a change meanwhile is seen */
        if (scripts_load(app) > 0 && !app->options->serves_what_it_can)
            return APP_USAGE;
        if (app->options->on_loaded)
            return app->options->on_loaded(app->options->owner, app);
        judging_look(app);
        code = app_connect_bus(app, &err);
    }
    if (!code)
        return APP_OK;
    log_err(&err);
    return app->child && code == ERR_SYSTEM ? APP_FAILED : APP_USAGE;
}

struct app *app_new(const struct app_options *options)
{
    struct app *app = calloc(1, sizeof *app);
    if (!app)
        return NULL;
    app->options = options;
    app->began_wall_ns = clock_wall_ns() - (int64_t)(clock_now_ns() - options->began_ns);
    app->config = options->config;
    judging_init(&app->judging, app);
    if (options->path_count > 0) {
        app->paths.list = options->paths;
        app->paths.count = options->path_count;
    } else {
        app->paths.list = (const char *const *)options->config->handlers;
        app->paths.count = options->config->handler_count;
    }
    atomic_init(&app->unfinished, -1);
    return app;
}

struct app_end app_run(const struct app_options *options)
{
    /* Not on the stack: threads that are left behind still use it. */
    struct app *app = app_new(options);
    if (!app) {
        log_error("out of memory at the start");
        return (struct app_end){.status = APP_FAILED};
    }
    service_open(app);
    config_announce(options->config);
    if (options->config->context_note)
        log_info("%s", options->config->context_note);
    thread_block_signals(NULL);
    open_loop(app);
    app->end.status = start(app);
    if (app->end.status == APP_OK && !options->on_loaded) {
        reload_setup(app);
        service_begin(app);
        signals_unblock();
        uv_run(&app->loop, UV_RUN_DEFAULT);
        /* The end is bounded: a signal has nothing left to hasten, and must not change the status.
         */
        thread_block_signals(NULL);
    }
    stop_finish(app);
    struct app_end end = app->end;
    if (!end.left_behind)
        free(app);
    return end;
}
