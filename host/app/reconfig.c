/* reconfig - reads the config file again while the host runs. Settings that may change do; the
 * others are logged, and keep their values. A bad config changes nothing, and reloads no script. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "app/admin.h"
#include "app/app_private.h"
#include "app/log_level.h"
#include "app/recent.h"
#include "base/regular.h"
#include "http/http.h"

#define DEBOUNCE_MS 30
#define LATE_MS 1000

/* --- on the pool --- */

/* At start a path that is not there ends the host; here it must not. */
static int check_handlers(const struct app *app, const struct config *fresh, struct err *err)
{
    if (app->options->path_count > 0)
        return 0;
    for (int i = 0; i < fresh->handler_count; i++) {
        if (access(fresh->handlers[i], R_OK) != 0)
            return err_set(err, ERR_NOT_FOUND, "%s: handlers: %s: %s",
                           config_path(app->options->sources), fresh->handlers[i], strerror(errno));
    }
    return 0;
}

void reconfig_read(struct work *work)
{
    const struct app *app = work->app;
    struct err *err = &work->failure.err;
    const char *file = app->config->file;
    work->fresh = NULL;
    if (file && regular_special(file)) /* such as <(...) of a shell: what it said is over */
        work->code = 0;
    else if (file && access(file, F_OK) != 0)
        work->code = err_set(err, ERR_NOT_FOUND, "the file is gone");
    else if (!(work->fresh = config_load(app->options->sources, err)))
        work->code = err->code;
    else
        work->code = check_handlers(app, work->fresh, err);
}

/* --- on the main thread --- */

void reconfig_watch(struct app *app)
{
    watch_close(app->watch);
    app->watch =
        app->config->watch ? watch_new(&app->loop, DEBOUNCE_MS, reload_on_change, app) : NULL;
    uv_timer_stop(&app->late);
    if (!app->watch)
        return;
    uv_timer_start(&app->late, reload_on_late, LATE_MS, LATE_MS);
    for (int i = 0; i < app->paths.count; i++) {
        if (watch_add(app->watch, app->paths.list[i]) != 0)
            log_warn("%s: cannot be watched", app->paths.list[i]);
    }
    watch_add(app->watch, config_path(app->options->sources));
    stamps_watch(app);
}

static void note_recent(struct app *app, bool good, const char *line)
{
    char text[PATH_MAX + 1300];
    snprintf(text, sizeof text, "%s: %s", config_path(app->options->sources), line);
    recent_note_reload(app->recent, good, text);
}

static void on_line(void *owner, const char *line)
{
    struct app *app = owner;
    const char *path = config_path(app->options->sources);
    bool beside = app->options->path_count > 0 && strncmp(line, "handlers:", 9) == 0;
    char text[1200];
    snprintf(text, sizeof text, "%s%s", line,
             beside ? ", without effect: the command line says which are served" : "");
    log_info("%s: %s", path, text);
    admin_note_config(app->admin, false, path, text);
    note_recent(app, true, text);
}

static void refuse_config(struct app *app)
{
    const char *path = config_path(app->options->sources);
    const char *reason = app->work.failure.err.message;
    char line[1200], prefix[PATH_MAX + 50];
    app->reconfig.refusals++;
    app->reconfig.refused_at_ns = clock_wall_ns();
    free(app->reconfig.last_error);
    app->reconfig.last_error = strdup(reason);
    snprintf(line, sizeof line, "refused, the settings stay as they are: %s", reason);
    snprintf(prefix, sizeof prefix, "%s: refused, the settings stay as they are: ", path);
    config_log_refused(app->options->sources, &app->work.failure.err, prefix);
    admin_note_config(app->admin, true, path, line);
    note_recent(app, false, line);
}

/* What the engine and the bus have copies of. */
static int tune(struct app *app, const struct config *fresh, struct err *err)
{
    const struct engine_tuning tuning = config_tuning(fresh);
    struct bus_options bus;
    int code = engine_tune(app->engine, &tuning, err);
    if (code)
        return code;
    config_bus_options(fresh, &bus);
    outbox_tune(app->bus->outbox, &bus.outbox);
    http_set_per_host(app->http, fresh->http_max_per_host);
    return 0;
}

static void apply(struct app *app, struct config *fresh)
{
    admin_config_read(app->admin);
    log_level_reconfigured(app, fresh); /* what is told now is told the new way */
    struct config_change change =
        config_adopt(app->config, fresh, app->options->child != NULL, on_line, app);
    if (app->options->path_count == 0) {
        app->paths.list = (const char *const *)app->config->handlers;
        app->paths.count = app->config->handler_count;
    }
    if (change.any)
        config_tell_warnings(app->config);
    if (change.watch || change.handlers)
        reconfig_watch(app);
    if (change.handlers && app->options->path_count == 0)
        scripts_relist(app);
    if (change.scripts)
        reload_want_all(app);
    app->reconfig.reloads += change.any;
    app->reconfig.changed = change.any;
    app->reconfig.read_at_ns = clock_wall_ns();
    free(app->reconfig.last_error);
    app->reconfig.last_error = NULL;
}

bool reconfig_done(struct app *app)
{
    struct work *work = &app->work;
    struct config *fresh = work->fresh;
    if (!work->code && !fresh) {
        admin_config_read(app->admin);
        log_info("%s: not a regular file; it is read once, at start", app->config->file);
        app->reconfig.changed = false;
        return true;
    }
    if (!work->code)
        work->code = tune(app, fresh, &work->failure.err);
    if (work->code)
        refuse_config(app);
    else
        apply(app, fresh);
    config_free(fresh);
    work->fresh = NULL;
    return !work->code;
}
