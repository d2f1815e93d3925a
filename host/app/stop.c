/* stop - how the host ends: by one deadline for all, whatever hangs. A thread of its own waits for
 * the handlers and the server; the main thread goes on answering, and ends the process when the
 * deadline is over. */
#include "app/admin.h"
#include "app/app_private.h"
#include "app/recent.h"

#include <stdlib.h>

#include "app/ending.h"
#include "app/exporter.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/link/library.h"
#include "http/http.h"
#include "trace/tracer.h"

/* How long after the deadline the process ends, whatever it hangs on. */
#define GUARD_MS 500
/* nats.c's own threads get so long to end. */
#define NATS_CLOSE_MS 2000
/* nats-server gets so long to end by itself. */
#define CHILD_GRACE_NS (3 * NS_PER_S)

/* Waits for the handlers, flushes, closes: all by the one deadline. */
static void *run_stop(void *arg)
{
    struct app *app = arg;
    if (!ending_wait(app->engine, app->bus, app->stop_deadline_ns, &app->unfinished))
        atomic_store(&app->hangs, true);
    exporter_stop(app->exporter, app->stop_deadline_ns);
    atomic_store(&app->stopped, true);
    uv_async_send(&app->wake);
    return NULL;
}

/* What ran was not waited for. */
static void never_drained(struct app *app)
{
    if (!app->stopper_runs && app->end.status == APP_OK)
        app->end.status = APP_UNFINISHED;
}

static void on_guard(uv_timer_t *timer)
{
    struct app *app = timer->data;
    log_error("did not end by the graceful deadline");
    never_drained(app);
    app->end.left_behind = true;
    uv_stop(&app->loop);
}

static void drain(struct app *app)
{
    engine_drain(app->engine);
    int running = engine_running(app->engine);
    log_info("draining: %d handler%s running", running, running == 1 ? "" : "s");
    struct err err;
    app->stopper_runs = thread_start(&app->stopper, "stop", run_stop, app, &err) == 0;
    if (!app->stopper_runs) {
        log_event(LOG_ERROR, &(struct log_context){.code = err_name(err.code), .whole = true},
                  "cannot drain: %s", err.message);
        never_drained(app);
        app->end.left_behind = true;
        uv_stop(&app->loop);
    }
}

static void begin_stop(struct app *app)
{
    int64_t graceful_ns = app->config->graceful_timeout_ns;
    atomic_store(&app->stopping, true);
    engine_cancel_loads(app->engine);
    app->stop_deadline_ns = clock_now_ns() + (uint64_t)graceful_ns;
    uv_timer_start(&app->guard, on_guard, (uint64_t)(graceful_ns / NS_PER_MS) + GUARD_MS, 0);
    watch_close(app->watch);
    app->watch = NULL;
    reload_stop(app);
    admin_settled(app->admin, true);
    service_stopping(app);
    drain(app);
}

void stop_request(struct app *app)
{
    if (!atomic_load(&app->stopping))
        begin_stop(app);
}

void stop_at_once(struct app *app)
{
    log_warn("stopping at once");
    app->end.left_behind = true;
    uv_stop(&app->loop);
}

void stop_with(struct app *app, enum app_exit status)
{
    app->end.status = status;
    if (!atomic_load(&app->stopping))
        begin_stop(app);
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void free_loop(struct app *app)
{
    child_stop(app->child, clock_now_ns() + CHILD_GRACE_NS);
    watch_close(app->watch);
    for (size_t i = 0; i < sizeof app->signals / sizeof *app->signals; i++)
        close_handle((uv_handle_t *)&app->signals[i], NULL);
    close_handle((uv_handle_t *)&app->wake, NULL);
    close_handle((uv_handle_t *)&app->guard, NULL);
    close_handle((uv_handle_t *)&app->absence, NULL);
    close_handle((uv_handle_t *)&app->late, NULL);
    close_handle((uv_handle_t *)&app->retry, NULL);
    close_handle((uv_handle_t *)&app->slow, NULL);
    uv_run(&app->loop, UV_RUN_DEFAULT);
    uv_loop_close(&app->loop);
}

/* Nothing runs any more; but for a worker that takes long to notice, on a machine that is busy. */
static void free_all(struct app *app)
{
    if (!ending_free(app->engine, app->bus, app->clock, app->pool)) {
        app->end.left_behind = true;
        child_stop(app->child, 0);
        return;
    }
    exporter_free(app->exporter);
    tracer_free(app->tracer);
    http_free(app->http);
    if (!library_end(NATS_CLOSE_MS))
        log_debug("nats.c does not end: something of it was not released");
    if (app->clock)
        clock_free(app->clock);
    judging_clear(&app->judging);
    scripts_free(app);
    work_clear(app);
    free(app->reconfig.last_error);
    free_loop(app);
    admin_free(app->admin);
    recent_free(app->recent);
    service_free(app);
}

void stop_finish(struct app *app)
{
    int unfinished = atomic_load(&app->unfinished);
    if (app->stopper_runs && app->end.left_behind)
        thread_detach(app->stopper);
    else if (app->stopper_runs)
        thread_join(app->stopper);
    if (app->stopper_runs && unfinished != 0 && app->end.status == APP_OK)
        app->end.status = APP_UNFINISHED;
    if (atomic_load(&app->hangs) || (app->engine && engine_stuck(app->engine) > 0) ||
        !work_has_ended(app))
        app->end.left_behind = true;
    admin_close(app->admin, unfinished);
    service_close(app);
    health_end(&app->health);
    log_tell_counts();
    if (app->stopper_runs)
        log_info("stopped");
    if (!app->end.left_behind)
        exporter_stop(app->exporter, 0);
    http_stop(app->http); /* while there are instances, whom its thread tells */
    if (app->end.left_behind)
        child_stop(app->child, 0);
    else
        free_all(app);
}
