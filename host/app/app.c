#include "app/app.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "app/app_private.h"
#include "app/version.h"
#include "base/thread.h"
#include "base/value.h"

#define POOL_THREADS 4
#define CHILD_START_NS (15 * NS_PER_S)
/* What one core subscription may have queued before its newest messages are dropped. */
#define SUBSCRIPTION_MESSAGES 65536
#define SUBSCRIPTION_BYTES (64u << 20)

static const int signal_numbers[] = {SIGTERM, SIGINT, SIGHUP};

struct engine *app_engine(struct app *app)
{
    return app->engine;
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct app *app = handle->data;
    if (number != SIGHUP)
        stop_request(app);
    else if (app->ready && !atomic_load(&app->stopping))
        reload_changed(app);
}

static void on_wake(uv_async_t *handle)
{
    struct app *app = handle->data;
    reload_done(app);
    stop_continue(app);
    if (atomic_exchange(&app->stuck, false) && !atomic_load(&app->stopping)) {
        log_error("too many handlers are stuck: stopping");
        stop_with(app, APP_FAILED);
    }
    if (!atomic_load(&app->stopped))
        return;
    /* What the pool still does for us ends soon after the drain; the guard waits no longer. */
    if (!app->work.running)
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
    app->wake.data = app->guard.data = app->absence.data = app->late.data = app->retry.data = app;
    for (size_t i = 0; i < sizeof signal_numbers / sizeof *signal_numbers; i++) {
        uv_signal_init(&app->loop, &app->signals[i]);
        app->signals[i].data = app;
        uv_signal_start(&app->signals[i], on_signal, signal_numbers[i]);
    }
}

/* Only here, on the main thread, after everything that makes threads: they inherit the mask. */
static void unblock_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof signal_numbers / sizeof *signal_numbers; i++)
        sigaddset(&set, signal_numbers[i]);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* The clock. */
static void on_stuck(void *owner)
{
    struct app *app = owner;
    atomic_store(&app->stuck, true);
    uv_async_send(&app->wake);
}

static int make_engine(struct app *app, struct err *err)
{
    const struct config *config = app->config;
    const struct engine_options options = {
        .workers = config->workers,
        .tuning = config_tuning(config),
        .on_stuck = on_stuck,
        .owner = app,
        .version = MOONBUS_VERSION,
        .subscription_messages = SUBSCRIPTION_MESSAGES,
        .subscription_bytes = SUBSCRIPTION_BYTES,
    };
    app->clock = clock_new(err);
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

static int connect_bus(struct app *app, struct err *err)
{
    struct bus_options options;
    if (app->child && child_wait_ready(app->child, clock_now_ns() + CHILD_START_NS, err) != 0)
        return err->code;
    config_bus_options(app->config, &options);
    app->bus = bus_new(app->clock, app->pool, &options, engine_sink(app->engine), err);
    if (!app->bus)
        return err->code;
    engine_connect(app->engine, app->bus);
    return 0;
}

/* A taken port is no reason to stop somebody who develops. */
static int open_admin(struct app *app, struct err *err)
{
    app->admin = admin_open(app, err);
    if (app->admin || err->code == 0)
        return 0;
    if (!app->options->child)
        return err_set(err, err->code == ERR_SYSTEM ? ERR_INVALID : err->code,
                       "%s; another address or none: --admin ADDR:PORT|off", strdupa(err->message));
    log_warn("%s; there is no admin endpoint", err->message);
    return 0;
}

/* Everything up to the point where only the server is missing. */
static enum app_exit start(struct app *app)
{
    struct err err;
    int code = make_engine(app, &err);
    if (!code)
        code = open_admin(app, &err);
    if (!code)
        code = scripts_find(app, &err);
    if (!code) {
        code = start_child(app, &err);
        if (code) {
            log_error("%s", err.message);
            return APP_FAILED;
        }
        reconfig_watch(app); /* before loading: a change meanwhile is seen */
        if (scripts_load(app) > 0)
            return APP_USAGE;
        code = connect_bus(app, &err);
    }
    if (!code)
        return APP_OK;
    log_error("%s", err.message);
    return app->child && code == ERR_SYSTEM ? APP_FAILED : APP_USAGE;
}

static struct app *app_new(const struct app_options *options)
{
    struct app *app = calloc(1, sizeof *app);
    if (!app)
        return NULL;
    app->options = options;
    app->config = options->config;
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
        log_error("no memory to begin with");
        return (struct app_end){.status = APP_FAILED};
    }
    config_announce(options->config);
    thread_block_signals(NULL);
    open_loop(app);
    app->end.status = start(app);
    if (app->end.status == APP_OK) {
        reload_setup(app);
        unblock_signals();
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
