/* work - what the main thread has others do: loads, each on a thread of its own, and one piece of
 * work at a time on the pool. Their ends wake the loop. */
#include <stdlib.h>
#include <utlist.h>

#include "app/app_private.h"
#include "base/thread.h"
#include "base/value.h"
#include "vm/texts.h"

#define RETRY_NS (1 * NS_PER_S)
#define FLUSH_NS (1 * NS_PER_S)
/* While waiting for the server we look so often whether the host is stopping. */
#define LOOK_NS (100 * NS_PER_MS)

/* --- loads --- */

static void *run_load(void *arg)
{
    struct load_job *load = arg;
    const struct handler_file *file = load->file;
    struct app *app = load->app;
    if (load->script)
        load->built =
            engine_build(app->engine, load->script, load->read, &load->hurry, &load->failure);
    else
        load->script = engine_load(app->engine, file->path, file->name, load->read, &load->hurry,
                                   &load->failure);
    atomic_store(&load->done, true);
    uv_async_send(&app->wake);
    return NULL;
}

bool work_load(struct app *app, struct handler_file *file)
{
    struct load_job *load = &file->load;
    *load = (struct load_job){
        .app = app, .file = file, .script = file->script, .began_ns = clock_now_ns()};
    load->read = texts_new();
    if (!load->read) {
        err_set(&load->failure.err, ERR_MEMORY, "no memory to load it");
        return false;
    }
    if (thread_start(&load->thread, "reload", run_load, load, &load->failure.err) == 0)
        return true;
    texts_release(load->read);
    load->read = NULL;
    return false;
}

struct texts *work_loaded(struct handler_file *file)
{
    struct load_job *load = &file->load;
    struct texts *read = load->read;
    thread_join(load->thread);
    load->read = NULL;
    return read;
}

/* --- on the pool --- */

/* Serves a script at start. Errors that may pass are tried again, and each kind is logged once:
 * NATS may be there before its JetStream is, or before that has a leader, and the answers of a
 * cluster without a leader vary from try to try. */
static int serve(struct app *app, struct script *script, struct err *err)
{
    struct rollout rollout = {.kind = ROLLOUT_SERVE, .script = script};
    uint64_t told = 0; /* a bit for each code */
    _Static_assert(-ERR_LAST < 64, "each code of an error has its bit");
    int code, culprit;
    while ((code = engine_roll_out(app->engine, &rollout, 1, ROLLOUT_PATIENT, &culprit, err)) !=
               0 &&
           err_passes(code) && !atomic_load(&app->stopping)) {
        log_event(told & UINT64_C(1) << -code ? LOG_DEBUG : LOG_WARN,
                  &(struct log_context){.script = script_name(script), .code = err_name(code)},
                  "cannot serve yet, still trying: %s", err->message);
        told |= UINT64_C(1) << -code;
        thread_sleep_until(clock_now_ns() + RETRY_NS);
    }
    return code;
}

/* When we say that we are ready, clients may send at once: the server must have our subscriptions
 * by then. */
static void settle(struct app *app)
{
    while (!atomic_load(&app->stopping)) {
        if (bus_wait_connected(app->bus, clock_now_ns() + LOOK_NS) &&
            bus_flush(app->bus, clock_now_ns() + (uint64_t)app->config->connect_timeout_ns))
            return;
    }
}

/* One that cannot be served ends the host, unless it is to serve what it can. */
static void set_up(struct work *work)
{
    struct app *app = work->app;
    if (!work->items)
        work->code = err_set(&work->failure.err, ERR_MEMORY, "no memory to serve the scripts");
    for (int i = 0; i < work->count && !work->code; i++) {
        struct work_item *item = &work->items[i];
        item->code = serve(app, item->file->script, &item->err);
        if (item->code && !app->options->serves_what_it_can) {
            work->code = item->code;
            work->failure.err = item->err;
        }
    }
    if (!work->code)
        settle(app);
}

static void roll_out(struct work *work)
{
    struct app *app = work->app;
    if (atomic_load(&app->stopping))
        work->code = err_set(&work->failure.err, ERR_CLOSED, "the host is stopping");
    else
        work->code = engine_roll_out(app->engine, work->rollouts, work->count, work->patience,
                                     &work->culprit, &work->failure.err);
    if (!work->code) /* what is new is subscribed to; without a server, that can wait */
        bus_flush(app->bus, clock_now_ns() + FLUSH_NS);
}

static void run_work(struct pool_job *job)
{
    struct work *work = (struct work *)job; /* its first member */
    switch (work->kind) {
    case WORK_SETUP:
        set_up(work);
        break;
    case WORK_CONFIG:
        reconfig_read(work);
        break;
    case WORK_ROLLOUT:
        roll_out(work);
        break;
    }
    work->ended_ns = clock_now_ns();
    atomic_store(&work->done, true);
    uv_async_send(&work->app->wake);
}

/* --- on the main thread --- */

static struct rollout rollout_of(const struct handler_file *file)
{
    struct rollout rollout = {.script = file->script, .generation = file->candidate};
    rollout.kind = file->change.unloads ? ROLLOUT_UNLOAD
                   : file->candidate    ? ROLLOUT_SWITCH
                                        : ROLLOUT_SERVE;
    return rollout;
}

struct work_item *work_items(int most)
{
    return calloc((size_t)most + 1, sizeof(struct work_item) + sizeof(struct rollout));
}

void work_submit(struct app *app, enum work_kind kind, struct work_item *items, int count)
{
    struct work *work = &app->work;
    work->app = app;
    work->kind = kind;
    work->items = items;
    work->count = count;
    work->code = work->culprit = 0;
    work->failure = (struct failure){0};
    work->rollouts = items ? (struct rollout *)(void *)(items + count) : NULL;
    for (int i = 0; kind == WORK_ROLLOUT && i < count; i++)
        work->rollouts[i] = rollout_of(items[i].file);
    work->running = true;
    atomic_store(&work->done, false);
    work->job.run = run_work;
    pool_submit(app->pool, &work->job);
}

bool work_is_over(const struct app *app)
{
    const struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (file->change.state == CHANGE_LOADING)
            return false;
    }
    return !app->work.running;
}

bool work_has_ended(const struct app *app)
{
    const struct handler_file *file;
    LL_FOREACH(app->files, file) {
        if (file->change.state == CHANGE_LOADING && !atomic_load(&file->load.done))
            return false;
    }
    return !app->work.running || atomic_load(&app->work.done);
}

void work_clear(struct app *app)
{
    struct work *work = &app->work;
    free(work->items);
    config_free(work->fresh);
    failure_clear(&work->failure);
    work->items = NULL;
    work->rollouts = NULL;
    work->fresh = NULL;
}
