#include <nats/nats.h>

#include "app/app_private.h"
#include "base/thread.h"
#include "base/value.h"

/* The share of the graceful timeout that is kept for handing back and flushing, and its most. */
#define RESERVE_SHARE 10
#define RESERVE_MOST_NS (1 * NS_PER_S)
/* Dead letters that are under way get so long for their answer, before they are handed back. */
#define ANSWERS_NS (200 * NS_PER_MS)
/* What offload threads still do is for nobody: they get so long to end. */
#define OFFLOAD_NS (500 * NS_PER_MS)
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
    uint64_t deadline = app->stop_deadline_ns, now = clock_now_ns();
    uint64_t reserve = deadline > now ? (deadline - now) / RESERVE_SHARE : 0;
    if (reserve > RESERVE_MOST_NS)
        reserve = RESERVE_MOST_NS;
    int unfinished = engine_wait_idle(app->engine, deadline - reserve);
    atomic_store(&app->unfinished, unfinished);
    if (unfinished > 0) {
        log_warn("%d handler%s unfinished at the graceful deadline, handing back", unfinished,
                 unfinished == 1 ? " is" : "s are");
        engine_cancel(app->engine);
        if (engine_wait_idle(app->engine, deadline - reserve / 2) > 0)
            atomic_store(&app->hangs, true);
    }
    now = clock_now_ns();
    uint64_t threads_by =
        now + OFFLOAD_NS < deadline - reserve / 2 ? now + OFFLOAD_NS : deadline - reserve / 2;
    if (engine_stuck(app->engine) > 0 || engine_end_offload(app->engine, threads_by) > 0)
        atomic_store(&app->hangs, true);
    now = clock_now_ns();
    bus_end_publishes(app->bus, now + ANSWERS_NS < deadline - reserve / 2 ? now + ANSWERS_NS
                                                                          : deadline - reserve / 2);
    if (!bus_flush(app->bus, deadline - reserve / 4))
        log_warn("not everything could be written to the server before the end");
    bus_stop(app->bus, deadline);
    if (clock_now_ns() >= deadline)
        atomic_store(&app->hangs, true);
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
    app->draining = true;
    engine_drain(app->engine);
    int running = engine_running(app->engine);
    log_info("draining: %d handler%s running", running, running == 1 ? "" : "s");
    struct err err;
    app->stopper_runs = thread_start(&app->stopper, "stop", run_stop, app, &err) == 0;
    if (!app->stopper_runs) {
        log_error("cannot drain: %s", err.message);
        never_drained(app);
        app->end.left_behind = true;
        uv_stop(&app->loop);
    }
}

static void begin(struct app *app)
{
    int64_t graceful_ns = app->config->graceful_timeout_ns;
    atomic_store(&app->stopping, true);
    engine_end_loads(app->engine);
    app->stop_deadline_ns = clock_now_ns() + (uint64_t)graceful_ns;
    uv_timer_start(&app->guard, on_guard, (uint64_t)(graceful_ns / NS_PER_MS) + GUARD_MS, 0);
    watch_close(app->watch);
    app->watch = NULL;
    uv_timer_stop(&app->late);
    uv_timer_stop(&app->retry);
    admin_settled(app->admin, true);
    stop_continue(app);
}

void stop_continue(struct app *app)
{
    if (!atomic_load(&app->stopping) || app->draining)
        return;
    if (app->work.running && atomic_load(&app->work.loading))
        return; /* its end wakes us */
    drain(app);
}

void stop_request(struct app *app)
{
    if (!atomic_load(&app->stopping)) {
        begin(app);
        return;
    }
    log_warn("stopping at once");
    app->end.left_behind = true;
    uv_stop(&app->loop);
}

void stop_with(struct app *app, enum app_exit status)
{
    app->end.status = status;
    if (!atomic_load(&app->stopping))
        begin(app);
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
    uv_run(&app->loop, UV_RUN_DEFAULT);
    uv_loop_close(&app->loop);
}

/* Nothing runs any more. The clock stands still first: it gives the pool jobs. Then the pool's last
 * ones, for they know the engine. */
static void free_all(struct app *app)
{
    if (app->clock)
        clock_stop(app->clock);
    if (app->pool)
        pool_free(app->pool);
    if (app->engine)
        engine_free(app->engine);
    if (app->bus)
        bus_free(app->bus);
    if (nats_CloseAndWait(NATS_CLOSE_MS) != NATS_OK)
        log_debug("nats.c does not end: something of it was not released");
    if (app->clock)
        clock_free(app->clock);
    scripts_free(app);
    config_free(app->work.fresh);
    sources_release(app->work.read);
    free(app->reconfig.last_error);
    free_loop(app);
    admin_free(app->admin);
}

void stop_finish(struct app *app)
{
    int unfinished = atomic_load(&app->unfinished);
    if (app->stopper_runs && app->end.left_behind)
        pthread_detach(app->stopper);
    else if (app->stopper_runs)
        pthread_join(app->stopper, NULL);
    if (app->stopper_runs && unfinished != 0 && app->end.status == APP_OK)
        app->end.status = APP_UNFINISHED;
    if (atomic_load(&app->hangs) || (app->engine && engine_stuck(app->engine) > 0) ||
        (app->work.running && !atomic_load(&app->work.done)))
        app->end.left_behind = true;
    admin_close(app->admin, unfinished);
    if (app->stopper_runs)
        log_info("stopped");
    if (app->end.left_behind)
        child_stop(app->child, 0);
    else
        free_all(app);
}
