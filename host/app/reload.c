/* reload - what comes next for the handler files. The state of each file is in its change machine
 * (change.h); this decides on which thread work is done, how much at a time, and in which order:
 *
 *   loads     each on a thread of its own, a few at a time; slow ones make room for others
 *   rollouts  one at a time, on the pool. Those that are `together` as one, when all of them are
 *             ready, or none if one was refused; then the others, each by itself */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "app/admin.h"
#include "app/app_private.h"
#include "base/value.h"
#include "vm/texts.h"

#define RETRY_MS 1000
#define RETRY_MOST_MS 30000
/* So many loads at a time, without those that take longer than this. A top level takes 1 to 20 ms.
 */
#define LOADS_AT_ONCE 4
#define SLOW_MS 100

static void plural(char *buf, size_t size, int count, const char *what)
{
    snprintf(buf, size, "%d %s%s", count, what, count == 1 ? "" : "s");
}

void reload_act(struct handler_file *file, struct change_action action)
{
    if (action.stop)
        atomic_store(&file->load.hurry, true);
    if (action.discard && file->candidate) {
        engine_drop_version(file->candidate);
        file->candidate = NULL;
    }
}

/* --- loads --- */

static void refuse_load(struct app *app, struct handler_file *file)
{
    struct load_job *load = &file->load;
    bool together = file->change.together;
    struct change_action action = change_loaded(&file->change, CHANGE_REFUSED);
    if (action.tell) {
        verdict_refused(app, file, &load->failure);
        app->together.refused += together;
    }
    verdict_over(app, file);
}

/* Its thread has ended. */
static void load_done(struct app *app, struct handler_file *file)
{
    struct load_job *load = &file->load;
    struct texts *read = work_loaded(file);
    if (load->script && !file->script) {
        engine_add(app->engine, load->script);
        file->script = load->script;
    }
    file->candidate = load->built;
    bool stale = stamps_take(app, file, read);
    texts_release(read);
    if (stale) /* changed before the watch saw it; who hears of this one hears of the next */
        change_asked(&file->change, false, false);
    if (load->failure.err.code && !atomic_load(&app->stopping))
        refuse_load(app, file);
    else /* what the stop has cut short is no complaint */
        reload_act(file, change_loaded(&file->change, CHANGE_LIVE));
    failure_clear(&load->failure);
    if (atomic_load(&app->stopping))
        reload_act(file, (struct change_action){.discard = true});
}

void reload_stop(struct app *app)
{
    struct handler_file *file;
    uv_timer_stop(&app->late);
    uv_timer_stop(&app->retry);
    uv_timer_stop(&app->slow);
    LL_FOREACH(app->files, file) {
        if (file->change.state == CHANGE_LOADED)
            reload_act(file, (struct change_action){.discard = true});
    }
}

static void on_slow(uv_timer_t *timer)
{
    reload_next(timer->data);
}

/* How many load that have just begun. */
static int fresh_loads(const struct app *app)
{
    const struct handler_file *file;
    uint64_t now = clock_now_ns();
    int count = 0;
    LL_FOREACH(app->files, file) {
        count += file->change.state == CHANGE_LOADING &&
                 now - file->load.began_ns < SLOW_MS * (uint64_t)NS_PER_MS;
    }
    return count;
}

static void begin_loads(struct app *app)
{
    struct handler_file *file;
    int loads = fresh_loads(app);
    LL_FOREACH(app->files, file) {
        if (!change_may_load(&file->change))
            continue;
        if (loads++ >= LOADS_AT_ONCE) {
            uv_timer_start(&app->slow, on_slow, SLOW_MS, 0);
            return;
        }
        change_begin_load(&file->change);
        if (!work_load(app, file))
            refuse_load(app, file);
    }
}

/* --- rollouts --- */

static void submit_rollout(struct app *app, struct work_item *items, int count,
                           enum rollout_patience patience)
{
    app->work.patience = patience;
    for (int i = 0; i < count; i++)
        change_begin_rollout(&items[i].file->change);
    work_submit(app, WORK_ROLLOUT, items, count);
}

/* Of those that are to be rolled out together some are not ready yet. */
static bool waits_for_others(struct app *app)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (file->change.together && change_works(&file->change) &&
            !change_may_roll_out(&file->change))
            return true;
        if (file->change.together && file->change.presence == CHANGE_MISSING && notice_absent(app))
            return true;
    }
    return false;
}

static void hold_all(struct app *app)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (!file->change.together || !change_may_roll_out(&file->change))
            continue;
        reload_act(file, change_hold(&file->change));
        verdict_held(app, file);
    }
    app->together.refused = 0;
}

/* True: they are being rolled out. */
static bool roll_out_together(struct app *app)
{
    struct handler_file *file;
    int count = 0, most = 0;
    if (waits_for_others(app))
        return false;
    if (app->together.refused > 0)
        hold_all(app);
    LL_COUNT(app->files, file, most);
    struct work_item *items = work_items(most);
    LL_FOREACH(app->files, file) {
        if (items && file->change.together && change_may_roll_out(&file->change))
            items[count++].file = file;
    }
    if (count > 0)
        submit_rollout(app, items, count, ROLLOUT_WAITS);
    else
        free(items);
    return count > 0;
}

/* Is there anything else to be done that may set free what it wants? */
static bool others_work(struct app *app, const struct handler_file *than)
{
    const struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (file != than && change_works(&file->change) && !file->change.last)
            return true;
    }
    return notice_absent(app);
}

/* The next that is rolled out by itself; what was put off comes last. NULL: none yet. */
static struct handler_file *next_alone(struct app *app)
{
    struct handler_file *file, *last = NULL;
    LL_FOREACH(app->files, file) {
        if (file->change.together || !change_may_roll_out(&file->change))
            continue;
        if (!file->change.last)
            return file;
        if (!last)
            last = file;
    }
    return last && !others_work(app, last) ? last : NULL;
}

static bool roll_out_alone(struct app *app)
{
    struct handler_file *file = next_alone(app);
    struct work_item *item = file ? work_items(1) : NULL;
    if (!item)
        return false;
    item->file = file;
    /* For want of a server it holds up none that needs none; after those it may wait for it. */
    submit_rollout(app, item, 1, others_work(app, file) ? ROLLOUT_HASTY : ROLLOUT_WAITS);
    return true;
}

static bool all_settled(struct app *app)
{
    const struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (change_works(&file->change))
            return false;
    }
    return !notice_absent(app);
}

void reload_next(struct app *app)
{
    if (!app->ready || atomic_load(&app->stopping))
        return;
    if (app->work.running && app->work.kind == WORK_CONFIG)
        return; /* what is loaded then is loaded by it */
    if (!app->reconfig.wanted)
        begin_loads(app);
    if (app->work.running)
        return;
    if (app->reconfig.wanted) {
        app->reconfig.wanted = false;
        work_submit(app, WORK_CONFIG, NULL, 0);
    } else if (!roll_out_together(app) && !roll_out_alone(app) && all_settled(app)) {
        admin_settled(app->admin, false);
        service_reload_ends(app);
    }
}

/* --- how a rollout ended --- */

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
    LL_FOREACH(app->files, file)
        change_connected(&file->change);
    reload_next(app);
}

static void retry_soon(struct app *app)
{
    if (!uv_is_active((uv_handle_t *)&app->retry))
        uv_timer_start(&app->retry, on_retry, app->retry_ms ? app->retry_ms : RETRY_MS, 0);
}

/* Something serves now that did not, or the other way round: a durable may be free. */
static void rolled_out(struct app *app)
{
    struct work *work = &app->work;
    struct handler_file *file;
    app->retry_ms = RETRY_MS;
    for (int i = 0; i < work->count; i++) {
        bool unloads = work->rollouts[i].kind == ROLLOUT_UNLOAD;
        file = work->items[i].file;
        file->candidate = NULL;
        reload_act(file, change_rolled_out(&file->change, unloads ? CHANGE_UNLOADED : CHANGE_LIVE));
        if (unloads)
            verdict_unloaded(app, file);
        else
            verdict_live(app, file, work->ended_ns);
    }
    judging_look(app);
    judging_ask(app);
    LL_FOREACH(app->files, file)
        change_freed(&file->change);
}

/* Of one that is not its own fault. */
static enum change_verdict verdict_of(const struct work *work, int i)
{
    if (err_passes(work->code))
        return CHANGE_WAITS;
    if (i != work->culprit)
        return CHANGE_HELD;
    return work->code == ERR_TAKEN && work->count == 1 ? CHANGE_TAKEN : CHANGE_REFUSED;
}

/* It was read while it was being written: it is loaded again, and only that verdict is logged. */
static bool note_stale(struct app *app, struct handler_file *file)
{
    bool stale = app->watch && !file->change.unloads && stamps_changed(file);
    if (stale)
        change_asked(&file->change, false, false);
    return stale;
}

/* What it wants may be free, or there, when the others have been. */
static bool may_come_later(struct app *app, const struct handler_file *file)
{
    const struct work *work = &app->work;
    if (file->change.together || work->count > 1)
        return false;
    if (work->code == ERR_TAKEN)
        return others_work(app, file);
    return work->patience == ROLLOUT_HASTY && err_passes(work->code);
}

static void refused(struct app *app)
{
    const struct work *work = &app->work;
    struct handler_file *file = work->items[work->culprit].file;
    if (may_come_later(app, file)) {
        reload_act(file, change_put_off(&file->change));
        return;
    }
    for (int i = 0; i < work->count; i++) {
        file = work->items[i].file;
        file->candidate = work->rollouts[i].generation; /* NULL: it has taken over all the same */
        bool stale = note_stale(app, file);
        struct change_action action = change_rolled_out(&file->change, verdict_of(work, i));
        if (i == work->culprit && !stale)
            verdict_refused(app, file, &work->failure);
        else if (!stale)
            verdict_held(app, file);
        reload_act(file, action);
    }
    if (err_passes(work->code))
        retry_soon(app);
}

/* --- the start --- */

void reload_setup(struct app *app)
{
    struct handler_file *file;
    int count = 0, most;
    LL_COUNT(app->files, file, most);
    struct work_item *items = work_items(most);
    LL_FOREACH(app->files, file) {
        if (items && file->script && file->change.verdict == CHANGE_NEW)
            items[count++].file = file;
    }
    work_submit(app, WORK_SETUP, items, count);
}

static void refuse_start(const struct err *err)
{
    char file[300];
    struct log_context context = {.code = err_name(err->code), .whole = true};
    verdict_place(err->message, &context, file, sizeof file);
    log_event(LOG_ERROR, &context, "%s", err->message);
}

static void setup_done(struct app *app)
{
    struct work *work = &app->work;
    if (work->code) {
        refuse_start(&work->failure.err);
        stop_with(app, APP_USAGE);
        return;
    }
    for (int i = 0; i < work->count; i++) {
        struct handler_file *file = work->items[i].file;
        const struct failure failure = {.err = work->items[i].err};
        change_started(&file->change, work->items[i].code ? CHANGE_REFUSED : CHANGE_LIVE);
        if (work->items[i].code)
            verdict_refused(app, file, &failure);
        else
            file->live_at_ns = clock_wall_ns();
    }
    int handler_count;
    char scripts[32], handlers[32];
    int64_t elapsed_ms = (int64_t)(work->ended_ns - app->options->began_ns) / NS_PER_MS;
    app->ready = true;
    service_ready(app);
    judging_ask(app);
    plural(scripts, sizeof scripts, scripts_serving(app, &handler_count), "script");
    plural(handlers, sizeof handlers, handler_count, "handler");
    log_event(app->options->on_ready ? LOG_DEBUG : LOG_INFO, NULL, "ready in %lld ms: %s, %s",
              (long long)elapsed_ms, scripts, handlers);
    if (app->options->on_ready)
        app->options->on_ready(app->options->owner, app, elapsed_ms);
}

/* --- what has ended --- */

static void work_done(struct app *app)
{
    struct work *work = &app->work;
    bool together = app->reconfig.together;
    work->running = false;
    if (atomic_load(&app->stopping)) {
        for (int i = 0; work->kind == WORK_ROLLOUT && i < work->count; i++) {
            if (work->rollouts[i].generation)
                engine_drop_version(work->rollouts[i].generation);
        }
        work_clear(app);
        return;
    }
    switch (work->kind) {
    case WORK_SETUP:
        setup_done(app);
        break;
    case WORK_CONFIG:
        if (reconfig_done(app)) {
            judging_look(app);
            if (app->ready)
                judging_ask(app);
            notice_all(app, together);
        }
        app->reconfig.together = app->reconfig.wanted && together;
        break;
    case WORK_ROLLOUT:
        if (work->code)
            refused(app);
        else
            rolled_out(app);
        break;
    }
    work_clear(app);
}

void reload_done(struct app *app)
{
    struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (file->change.state == CHANGE_LOADING && atomic_load(&file->load.done))
            load_done(app, file);
    }
    if (app->work.running && atomic_load(&app->work.done))
        work_done(app);
    reload_next(app);
}
