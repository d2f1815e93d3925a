/* notice - what is seen of the handler files: that they have changed, gone, or come back; by the
 * watch, by a timer, and when somebody asks. */
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "app/app_private.h"

/* How long a file may be gone before its script is unloaded: editors write by renaming, deployments
 * by removing and writing again. */
#define ABSENCE_MS 500

bool notice_absent(struct app *app)
{
    return uv_is_active((uv_handle_t *)&app->absence);
}

static void rescan(struct app *app)
{
    if (scripts_rescan(app) > 0 && !notice_absent(app))
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
    stamps_take_late(app);
    reload_next(app);
}

void reload_changed(struct app *app, bool together)
{
    service_reload_begins(app);
    if (app->bus) /* whoever reloads may have mended the permissions, too */
        bus_retry_refused(app->bus);
    app->reconfig.wanted = true;
    app->reconfig.together = app->reconfig.together || together;
    reload_next(app);
    if (!app->ready) {
        log_info("reloading as soon as the host serves");
        service_reload_ends(app);
    }
}

void reload_want_all(struct app *app)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file)
        reload_act(file, change_asked(&file->change, app->reconfig.together, false));
}

void notice_all(struct app *app, bool together)
{
    bool any = app->reconfig.changed;
    struct handler_file *file;
    rescan(app);
    stamps_take_late(app);
    LL_FOREACH(app->files, file) {
        struct change *change = &file->change;
        if (change->presence == CHANGE_HERE && stamps_changed(file))
            reload_act(file, change_asked(change, together, false));
        if (together)
            change_join(change);
        any = any || change_works(change) ||
              (change->presence == CHANGE_MISSING && (change->known || file->last_error));
    }
    if (!any)
        log_info("reload: nothing has changed");
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
        bool concerns = false, own = false;
        for (int i = 0; i < count && !own && file->change.presence == CHANGE_HERE; i++)
            concerns = stamps_concern(file, paths[i], &own) || concerns;
        if (concerns)
            reload_act(file, change_asked(&file->change, false, !own));
    }
    reload_next(app);
}
