#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#include "app/app_private.h"
#include "base/value.h"

#define RETRY_NS (1 * NS_PER_S)
#define FLUSH_NS (1 * NS_PER_S)
/* Editors write by renaming, deployments by removing and writing anew: so long a file may be gone
 * before its script is unloaded. */
#define ABSENCE_MS 500
#define RETRY_MS 1000
#define RETRY_MOST_MS 30000
/* While waiting for the server we look so often whether the host is stopping. */
#define LOOK_NS (100 * NS_PER_MS)

static void plural(char *buf, size_t size, int count, const char *what)
{
    snprintf(buf, size, "%d %s%s", count, what, count == 1 ? "" : "s");
}

/* --- on the pool --- */

static bool passes(int code)
{
    return code == ERR_TIMEOUT || code == ERR_DISCONNECTED || code == ERR_NO_RESPONDERS ||
           code == ERR_FULL;
}

/* Serves a script at start. What time may mend is said once and tried again: NATS may be there
 * before its JetStream is. */
static int serve(struct app *app, struct script *script, struct err *err)
{
    char told[sizeof err->message] = "";
    int code;
    while ((code = engine_serve(app->engine, script, true, err)) != 0 && passes(code) &&
           !atomic_load(&app->stopping)) {
        if (strcmp(told, err->message) != 0)
            log_warn("%s: cannot serve yet, trying on: %s", script_name(script), err->message);
        snprintf(told, sizeof told, "%s", err->message);
        const struct timespec pause = {.tv_sec = RETRY_NS / NS_PER_S};
        nanosleep(&pause, NULL);
    }
    return code;
}

/* Who reads that we are ready may send at once: the server must have our subscriptions. */
static void settle(struct app *app)
{
    while (!atomic_load(&app->stopping)) {
        if (bus_wait_connected(app->bus, clock_now_ns() + LOOK_NS) &&
            bus_flush(app->bus, clock_now_ns() + (uint64_t)app->config->connect_timeout_ns))
            return;
    }
}

static void set_up(struct work *work)
{
    struct app *app = work->app;
    for (int i = 0; i < engine_script_count(app->engine) && !work->code; i++)
        work->code = serve(app, engine_script(app->engine, i), &work->failure.err);
    if (!work->code)
        settle(app);
}

/* Nobody else waits for what is added: without a server it is refused as a reload is. */
static void add_file(struct work *work)
{
    struct app *app = work->app;
    const struct handler_file *file = work->file;
    work->script = engine_load(app->engine, file->path, file->name, &work->read, &work->failure);
    atomic_store(&work->loading, false);
    uv_async_send(&app->wake);
    if (!work->script)
        work->code = work->failure.err.code;
    else if (!atomic_load(&app->stopping))
        work->code = engine_serve(app->engine, work->script, false, &work->failure.err);
    if (!work->code)
        bus_flush(app->bus, clock_now_ns() + FLUSH_NS);
    work->generation = 1;
}

static void run(struct pool_job *job)
{
    struct work *work = (struct work *)job; /* its first member */
    struct app *app = work->app;
    switch (work->kind) {
    case WORK_SETUP:
        set_up(work);
        break;
    case WORK_CONFIG:
        reconfig_read(work);
        break;
    case WORK_ADD:
        add_file(work);
        break;
    case WORK_UNLOAD:
        engine_unload(app->engine, work->script);
        break;
    case WORK_RELOAD:
        work->code = engine_reload(app->engine, work->script, &work->generation, &work->read,
                                   &work->failure);
        if (!work->code) /* what is new is subscribed to; without a server, that can wait */
            bus_flush(app->bus, clock_now_ns() + FLUSH_NS);
        break;
    }
    work->ended_ns = clock_now_ns();
    atomic_store(&work->done, true);
    uv_async_send(&app->wake);
}

/* --- on the main thread --- */

static void submit(struct app *app, enum work_kind kind, struct handler_file *file)
{
    struct work *work = &app->work;
    work->app = app;
    work->kind = kind;
    work->file = file;
    work->script = file ? file->script : NULL;
    work->code = 0;
    work->failure = (struct failure){0};
    work->began_ns = clock_now_ns();
    work->read = NULL;
    work->running = true;
    atomic_store(&work->loading, kind == WORK_ADD);
    atomic_store(&work->done, false);
    work->job.run = run;
    pool_submit(app->pool, &work->job);
}

void reload_setup(struct app *app)
{
    submit(app, WORK_SETUP, NULL);
}

static bool files_absent(struct app *app)
{
    return uv_is_active((uv_handle_t *)&app->absence);
}

/* What was put off comes last. */
static struct handler_file *next_file(struct app *app)
{
    struct handler_file *file, *last = NULL;
    LL_FOREACH(app->files, file) {
        if (file->wanted && !file->put_off)
            return file;
        if (file->wanted && !last)
            last = file;
    }
    return files_absent(app) ? NULL : last;
}

void reload_next(struct app *app)
{
    if (app->work.running || !app->ready || atomic_load(&app->stopping))
        return;
    if (app->reconfig.wanted) {
        app->reconfig.wanted = false;
        submit(app, WORK_CONFIG, NULL);
        return;
    }
    struct handler_file *file = next_file(app);
    if (!file) {
        if (!files_absent(app))
            admin_settled(app->admin, false);
        return;
    }
    file->wanted = false;
    submit(app, file->removed ? WORK_UNLOAD : file->script ? WORK_RELOAD : WORK_ADD, file);
}

static void rescan(struct app *app)
{
    if (scripts_rescan(app) > 0)
        uv_timer_start(&app->absence, reload_on_absence, ABSENCE_MS, 0);
}

void reload_on_absence(uv_timer_t *timer)
{
    struct app *app = timer->data;
    if (atomic_load(&app->stopping))
        return;
    scripts_rescan(app);
    scripts_missed(app);
    reload_next(app);
}

void reload_on_late(uv_timer_t *timer)
{
    struct app *app = timer->data;
    scripts_stamp_late(app);
    reload_next(app);
}

void reload_changed(struct app *app)
{
    app->reconfig.wanted = true;
    reload_next(app);
}

/* Somebody asks for it, and for what becomes of it. */
static void want(struct handler_file *file)
{
    file->wanted = true;
    file->tried_again = false;
}

/* The config has been read: what of the scripts has changed? */
static void look_at_all(struct app *app)
{
    int wanted = 0;
    struct handler_file *file;
    rescan(app);
    scripts_stamp_late(app);
    LL_FOREACH(app->files, file) {
        if (!file->gone && scripts_changed(file))
            want(file);
        wanted += file->wanted || (file->gone && !file->told);
    }
    if (wanted == 0 && !app->reconfig.changed)
        log_info("reload: nothing has changed");
}

/* What it is made of is compared with what is there when it has loaded (scripts_stamp). */
static bool is_loading(const struct app *app, const struct handler_file *file)
{
    const struct work *work = &app->work;
    return work->running && work->file == file && work->kind != WORK_UNLOAD;
}

void reload_on_change(void *owner, const char *const *paths, int count)
{
    struct app *app = owner;
    struct handler_file *file;
    for (int i = 0; i < count; i++) {
        const char *path = config_path(app->options->sources);
        if (strcmp(paths[i], path) == 0 && access(path, F_OK) == 0) /* it may be back in a moment */
            app->reconfig.wanted = true;
    }
    rescan(app);
    LL_FOREACH(app->files, file) {
        for (int i = 0; i < count && !file->gone && !is_loading(app, file); i++) {
            if (scripts_concerns(file, paths[i]))
                want(file);
        }
    }
    reload_next(app);
}

static void setup_done(struct app *app)
{
    struct work *work = &app->work;
    if (work->code) {
        log_error("%s", work->failure.err.message);
        stop_with(app, APP_USAGE);
        return;
    }
    char scripts[32], handlers[32];
    int64_t elapsed_ms = (int64_t)(work->ended_ns - app->options->began_ns) / NS_PER_MS;
    app->ready = true;
    plural(scripts, sizeof scripts, engine_script_count(app->engine), "script");
    plural(handlers, sizeof handlers, scripts_handlers(app), "handler");
    log_event(app->options->on_ready ? LOG_DEBUG : LOG_INFO, NULL, "ready in %lld ms: %s, %s",
              (long long)elapsed_ms, scripts, handlers);
    if (app->options->on_ready)
        app->options->on_ready(app->options->owner, app, elapsed_ms);
}

static double elapsed_ms(const struct work *work)
{
    return (double)(work->ended_ns - work->began_ns) / NS_PER_MS;
}

/* A line of the log that who waits for a reload gets as well. */
static void tell(struct app *app, enum log_level level, const char *traceback, const char *format,
                 ...) __attribute__((format(printf, 4, 5)));

static void tell(struct app *app, enum log_level level, const char *traceback, const char *format,
                 ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_event(level, &(struct log_context){.traceback = traceback}, "%s", text);
    struct work *work = &app->work;
    admin_note(app->admin, work->file->name, work->code != 0,
               work->script ? script_generation(work->script) : 0, elapsed_ms(work), text);
}

static void tell_refused(struct app *app)
{
    const struct work *work = &app->work;
    const struct failure *failure = &work->failure;
    char place[300] = "", what[80];
    if (failure->file)
        snprintf(place, sizeof place, "%s:%d: ", failure->file, failure->line);
    if (work->script && script_serves(work->script))
        snprintf(what, sizeof what, "refused, generation %u keeps running",
                 script_generation(work->script));
    else
        snprintf(what, sizeof what, "refused, it does not serve");
    char *error, *before = work->file->last_error;
    if (asprintf(&error, "%s%s", place, failure->err.message) < 0)
        error = NULL;
    /* Tried again by itself, it is told once. */
    bool again = work->file->tried_again && error && before && strcmp(error, before) == 0;
    tell(app, again ? LOG_DEBUG : LOG_ERROR, failure->traceback, "%s: %s: %s%s", work->file->name,
         what, place, failure->err.message);
    work->file->last_error = error;
    free(before);
}

/* What was refused for want of a server, which may be back. */
static void on_retry(uv_timer_t *timer)
{
    struct app *app = timer->data;
    struct handler_file *file;
    if (link_state(app->bus->consume) != LINK_CONNECTED ||
        link_state(app->bus->publish) != LINK_CONNECTED) {
        app->retry_ms = RETRY_MS; /* when the server is back it is tried at once */
        uv_timer_start(timer, on_retry, RETRY_MS, 0);
        return;
    }
    app->retry_ms = app->retry_ms < RETRY_MOST_MS / 2 ? 2 * app->retry_ms : RETRY_MOST_MS;
    LL_FOREACH(app->files, file) {
        if (file->waits && !file->gone)
            file->wanted = file->tried_again = true;
        file->waits = false;
    }
    reload_next(app);
}

/* A handler that moves to another script: which of the two is loaded first must not matter. True:
 * it is tried again when the others have been, and nothing is said yet. */
static bool put_off(struct app *app, struct handler_file *file)
{
    struct handler_file *other;
    bool others = files_absent(app);
    LL_FOREACH(app->files, other)
        others = others || (other != file && other->wanted && !other->put_off);
    file->put_off = others && file->taken;
    file->wanted = file->wanted || file->put_off;
    return file->put_off;
}

/* Something serves now that did not, or the other way round: a durable may be free. */
static void retry_taken(struct app *app)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        file->put_off = false;
        if (file->taken && !file->gone && !file->wanted)
            file->wanted = file->tried_again = true;
    }
}

static void file_done(struct app *app)
{
    struct work *work = &app->work;
    struct handler_file *file = work->file;
    file->script = work->script;
    file->refused = work->code != 0;
    /* What has a place is the script's own fault, an endless top level for one. */
    file->waits = passes(work->code) && !work->failure.file;
    if (file->waits && !uv_is_active((uv_handle_t *)&app->retry))
        uv_timer_start(&app->retry, on_retry, app->retry_ms ? app->retry_ms : RETRY_MS, 0);
    file->taken = work->code == ERR_TAKEN;
    scripts_stamp(app, file, work->read);
    work->read = NULL;
    if (file->gone && file->script && !file->told) { /* it went while it was loaded */
        file->wanted = false;
        uv_timer_start(&app->absence, reload_on_absence, ABSENCE_MS, 0);
    }
    if (put_off(app, file))
        return;
    if (work->code) {
        file->refusals++;
        tell_refused(app);
        return;
    }
    retry_taken(app);
    app->retry_ms = RETRY_MS;
    file->tried_again = false;
    free(file->last_error);
    file->last_error = NULL;
    if (work->kind == WORK_UNLOAD) {
        tell(app, LOG_INFO, NULL, "%s: %s; nothing of it is served any more", file->name,
             file->dropped ? "the config's handlers do not lead to it any more"
                           : "the file is gone");
        return;
    }
    file->reloads += work->kind == WORK_RELOAD;
    file->reload_ms = elapsed_ms(work);
    tell(app, LOG_INFO, NULL, "%s: generation %u live in %lld ms", file->name, work->generation,
         (long long)file->reload_ms);
    scripts_warn_empty(app, file);
}

void reload_done(struct app *app)
{
    struct work *work = &app->work;
    if (!work->running || !atomic_load(&work->done))
        return;
    work->running = false;
    if (atomic_load(&app->stopping)) {
        config_free(work->fresh); /* what the stop has cut short is no complaint */
        sources_release(work->read);
        work->fresh = NULL;
        work->read = NULL;
    } else if (work->kind == WORK_SETUP) {
        setup_done(app);
    } else if (work->kind == WORK_CONFIG) {
        if (reconfig_done(app))
            look_at_all(app);
    } else {
        file_done(app);
    }
    failure_clear(&work->failure);
    reload_next(app);
}
