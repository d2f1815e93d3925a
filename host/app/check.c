/* check - the way of `moonbus check`: loads all, asks the server where that is wanted, judges, and
 * ends the host that was never started. */
#include "app/check.h"

#include <stdlib.h>
#include <utlist.h>

#include "app/app_private.h"
#include "app/ending.h"
#include "app/exporter.h"
#include "app/facts.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/link/library.h"
#include "http/http.h"
#include "trace/tracer.h"
#include "vm/texts.h"

#define CONNECTS 2 /* so many connect_timeouts a server has to take us */
#define ASK_NS (10 * NS_PER_S)
#define CLOSE_NS (1 * NS_PER_S)
#define NATS_CLOSE_MS 2000

/* One checking. */
struct checking {
    const struct check_options *options;
    struct app *app;
    struct failure *failures;       /* owned: by place in refusals */
    struct check_refusal *refusals; /* owned */
    int refused;
    struct facts *facts; /* owned */
    struct judge_findings findings;
};

/* --- loading --- */

static void load(struct checking *checking, struct handler_file *file)
{
    struct app *app = checking->app;
    struct failure *failure = &checking->failures[checking->refused];
    struct texts *read = texts_new();
    if (!read)
        err_set(&failure->err, ERR_MEMORY, "no memory to load it");
    else
        file->script = engine_load(app->engine, file->path, file->name, read, NULL, failure);
    texts_release(read);
    if (file->script)
        engine_add(app->engine, file->script);
    else
        checking->refusals[checking->refused++] =
            (struct check_refusal){.name = file->name, .failure = failure};
}

static int load_all(struct checking *checking, struct err *err)
{
    struct handler_file *file;
    int count = 0;
    LL_COUNT(checking->app->files, file, count);
    checking->failures = calloc((size_t)count + 1, sizeof *checking->failures);
    checking->refusals = calloc((size_t)count + 1, sizeof *checking->refusals);
    if (!checking->failures || !checking->refusals)
        return err_set(err, ERR_MEMORY, "no memory to load the scripts");
    LL_FOREACH(checking->app->files, file)
        load(checking, file);
    return 0;
}

/* --- the server --- */

static int ask(struct checking *checking, struct err *err)
{
    struct app *app = checking->app;
    uint64_t connected_ns = clock_now_ns() + CONNECTS * (uint64_t)app->config->connect_timeout_ns;
    int code = app_connect_bus(app, err);
    if (code)
        return code;
    if (!bus_wait_connected(app->bus, connected_ns))
        return err_set(err, ERR_DISCONNECTED, "the server does not answer: nothing was compared");
    return facts_ask(checking->facts, app->bus, true, clock_now_ns() + ASK_NS, err);
}

/* --- all of it --- */

static void call_on_checked(const struct checking *checking)
{
    const struct checked checked = {
        .facts = &checking->facts->judged,
        .findings = &checking->findings,
        .refusals = checking->refusals,
        .refusal_count = checking->refused,
    };
    checking->options->on_checked(checking->options->owner, &checked);
}

/* How it ends; what went wrong is in err. */
static enum app_exit check_all(struct checking *checking, struct err *err)
{
    struct app *app = checking->app;
    int code = app_make_engine(app, err);
    signals_unblock();
    if (code)
        return code == ERR_INVALID ? APP_USAGE : APP_FAILED;
    code = scripts_find(app, err);
    if (code)
        return APP_USAGE;
    code = load_all(checking, err);
    checking->facts = code ? NULL : facts_new(app);
    if (!checking->facts)
        return APP_FAILED;
    checking->facts->judged.no_scripts = !app->files;
    if (checking->options->asks_server && ask(checking, err) != 0)
        return APP_FAILED;
    judge_all(&checking->facts->judged, &checking->findings);
    call_on_checked(checking);
    return APP_OK;
}

static void clear(struct checking *checking)
{
    for (int i = 0; i < checking->refused; i++)
        failure_clear(&checking->failures[i]);
    free(checking->failures);
    free(checking->refusals);
    judge_findings_clear(&checking->findings);
    facts_free(checking->facts);
}

/* False: a load has not come back, and what it uses is left as it is. */
static bool end(struct app *app)
{
    if (app->engine && engine_stuck(app->engine) > 0)
        return false;
    if (app->bus)
        bus_stop(app->bus, clock_now_ns() + CLOSE_NS);
    exporter_stop(app->exporter, 0); /* it has sent nothing */
    http_stop(app->http);
    health_end(&app->health);
    if (!ending_free(app->engine, app->bus, app->clock, app->pool))
        return false;
    exporter_free(app->exporter);
    tracer_free(app->tracer);
    http_free(app->http);
    if (app->bus)
        library_end(NATS_CLOSE_MS);
    if (app->clock)
        clock_free(app->clock);
    judging_clear(&app->judging);
    scripts_free(app);
    free(app);
    return true;
}

struct app_end check_run(const struct check_options *options)
{
    struct err err = {0};
    struct app *app = app_new(&options->app);
    struct checking checking = {.options = options, .app = app};
    if (!app) {
        log_error("out of memory at the start");
        return (struct app_end){.status = APP_FAILED};
    }
    config_announce_command(options->app.config);
    thread_block_signals(NULL);
    struct app_end result = {.status = check_all(&checking, &err)};
    if (result.status != APP_OK)
        log_error("%s", err.message);
    if (result.status != APP_OK && options->failed)
        *options->failed = err;
    clear(&checking);
    result.left_behind = !end(app);
    return result;
}
