/* sim_host - a host in the world: what app/ does on its main thread and its pool is done here on
 * fibers, in the same order and by the same functions. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include <cjson/cJSON.h>

#include "api/api.h"
#include "app/ending.h"
#include "app/exporter.h"
#include "app/report_engine.h"
#include "base/log.h"
#include "base/value.h"
#include "engine/engine.h"
#include "http/http.h"
#include "sim/sim_private.h"
#include "trace/otlp.h"
#include "trace/tracer.h"
#include "vm/texts.h"

#define SERVE_NS ((uint64_t)60 * (uint64_t)NS_PER_S)

struct sim_host {
    struct sim_host *prev, *next;
    struct sim *sim;             /* not owned */
    const struct config *config; /* not owned */
    struct tracer *tracer;       /* NULL: traces are not recorded */
    struct http *http;           /* NULL: handlers call no HTTP servers */
    struct clock *clock;
    struct pool *pool;
    struct engine *engine;
    struct bus *bus;
    struct bus_options bus_options;
    struct err err;
    const char *path, *name, *settings_json; /* of the call under way */
    int number;                              /* counted from 1 */
    bool reloading, stopping, hangs;
    atomic_bool stopped;
    uint64_t deadline_ns;
    atomic_int unfinished;
    struct text status;
};

/* --- its beginning --- */

static void *make_engine(void *arg)
{
    struct sim_host *host = arg;
    host->tracer = exporter_tracer(host->config, &host->err);
    host->http = host->sim->answers_http ? sim_http_new(host->sim, &host->err) : NULL;
    struct engine_options options = {
        .http = host->http,
        .offload_stand_in = sim_offload_stand_in(host->sim),
        .tracer = host->tracer,
        .workers = host->config->workers,
        .tuning = config_tuning(host->config),
        .version = MOONBUS_VERSION,
        .updates = true,
        .subscription_messages = 65536,
        .subscription_bytes = (size_t)64 << 20,
        .only = host->sim->only,
    };
    host->clock = clock_new(&host->err);
    host->pool = host->clock ? pool_new(4, &host->err) : NULL;
    host->engine =
        host->pool ? engine_new(host->clock, host->pool, &options, api_hooks(), &host->err) : NULL;
    return NULL;
}

static void *free_all(void *arg)
{
    struct sim_host *host = arg;
    sim_http_end(host->sim, host->http);
    sim_offload_end(host->sim);
    if (ending_free(host->engine, host->bus, host->clock, host->pool)) {
        tracer_free(host->tracer);
        http_free(host->http);
    }
    clock_free(host->clock);
    return NULL;
}

void sim_only(struct sim *sim, const char *handler)
{
    sim->only = handler;
}

struct sim_host *sim_host_new(struct sim *sim, const struct sim_settings *settings)
{
    struct sim_host *host = calloc(1, sizeof *host);
    host->sim = sim;
    host->config = settings->config;
    host->number = ++sim->host_count;
    text_init(&host->status);
    if (sim_call(sim, "main", make_engine, host) && host->engine) {
        DL_APPEND(sim->hosts, host);
        return host;
    }
    sim_fail(sim, "no host: %s", host->err.message);
    sim_call(sim, "main", free_all, host);
    free(host);
    return NULL;
}

static void *load_script(void *arg)
{
    struct sim_host *host = arg;
    struct failure failure = {0};
    struct texts *read = texts_new();
    struct script *script =
        read ? engine_load(host->engine, host->path, host->name, read, NULL, &failure) : NULL;
    if (!read)
        err_set(&failure.err, ERR_MEMORY, "no memory to load it");
    texts_release(read);
    if (script)
        engine_add(host->engine, script);
    else if (failure.file)
        err_set(&host->err, failure.err.code, "%s:%d: %s", failure.file, failure.line,
                failure.err.message);
    else
        host->err = failure.err;
    failure_clear(&failure);
    return NULL;
}

static bool do_call(struct sim_host *host, const char *what, void *(*run)(void *))
{
    host->err = (struct err){.code = ERR_NONE};
    if (!sim_call(host->sim, what, run, host))
        return false;
    if (host->err.code)
        sim_fail(host->sim, "%s: %s", what, host->err.message);
    return !host->err.code;
}

static void *tune(void *arg)
{
    struct sim_host *host = arg;
    struct engine_tuning tuning = config_tuning(host->config);
    tuning.settings_json = host->settings_json;
    engine_tune(host->engine, &tuning, &host->err);
    return NULL;
}

bool sim_host_settings(struct sim_host *host, const char *json)
{
    host->settings_json = json;
    return do_call(host, "settings", tune);
}

bool sim_host_load(struct sim_host *host, const char *path, const char *name)
{
    host->path = path;
    host->name = name;
    return do_call(host, "load", load_script);
}

static void *serve(void *arg)
{
    struct sim_host *host = arg;
    int culprit, code = 0;
    config_bus_options(host->config, &host->bus_options);
    if (host->sim->real) {
        host->bus_options.link.servers = &host->sim->real->url;
        host->bus_options.link.server_count = 1;
    }
    host->bus_options.domain = host->bus_options.api_prefix = NULL; /* those of a real server */
    host->bus_options.transport = sim_transport(host->sim, host->number);
    if (host->sim->world && host->sim->calm > 1) {
        host->bus_options.calm = host->sim->calm;
        host->bus_options.link.ping_interval_ns *= host->sim->calm;
    }
    host->bus =
        bus_new(host->clock, host->pool, &host->bus_options, engine_sink(host->engine), &host->err);
    if (!host->bus)
        return NULL;
    engine_connect(host->engine, host->bus);
    host->err = (struct err){.code = ERR_NONE};
    for (int i = 0; i < engine_script_count(host->engine) && !code; i++) {
        struct rollout rollout = {.kind = ROLLOUT_SERVE, .script = engine_script(host->engine, i)};
        while ((code = engine_roll_out(host->engine, &rollout, 1, ROLLOUT_PATIENT, &culprit,
                                       &host->err)) != 0 &&
               err_passes(code))
            thread_sleep_until(clock_now_ns() + (uint64_t)NS_PER_S);
    }
    if (!code)
        host->err = (struct err){.code = ERR_NONE};
    if (!code && (!bus_wait_connected(host->bus, clock_now_ns() + SERVE_NS) ||
                  !bus_flush(host->bus, clock_now_ns() + SERVE_NS)))
        err_set(&host->err, ERR_TIMEOUT, "no connection");
    return NULL;
}

bool sim_host_serve(struct sim_host *host)
{
    return do_call(host, "serve", serve);
}

/* --- a reload --- */

struct reload {
    struct sim_host *host;
    char *path, *name; /* owned */
};

static void reload_end(struct reload *reload, const struct err *err)
{
    if (err)
        sim_note(reload->host->sim, "sim", "refused: %s", err->message);
    else
        sim_note(reload->host->sim, "sim", "reloaded");
    reload->host->reloading = false;
    free(reload->path);
    free(reload->name);
    free(reload);
}

static struct script *find_script(struct sim_host *host, const char *name)
{
    for (int i = 0; i < engine_script_count(host->engine); i++) {
        if (strcmp(script_name(engine_script(host->engine, i)), name) == 0)
            return engine_script(host->engine, i);
    }
    return NULL;
}

static void *do_reload(void *arg)
{
    struct reload *reload = arg;
    struct sim_host *host = reload->host;
    struct failure failure = {0};
    struct err err;
    int culprit;
    struct texts *read = texts_new();
    struct rollout rollout = {.kind = ROLLOUT_SWITCH, .script = find_script(host, reload->name)};
    if (read)
        rollout.generation = engine_build(host->engine, rollout.script, read, NULL, &failure);
    else
        err_set(&failure.err, ERR_MEMORY, "no memory to load it");
    texts_release(read);
    int code = failure.err.code;
    err = failure.err;
    failure_clear(&failure);
    if (rollout.generation && host->stopping)
        code = err_set(&err, ERR_CLOSED, "the host is stopping");
    else if (rollout.generation)
        code = engine_roll_out(host->engine, &rollout, 1, ROLLOUT_WAITS, &culprit, &err);
    if (code && rollout.generation)
        engine_drop_version(rollout.generation);
    reload_end(reload, code ? &err : NULL);
    return NULL;
}

static void *start_reload(void *arg)
{
    struct reload *reload = arg;
    struct thread thread;
    thread_start(&thread, "reload", do_reload, reload, NULL);
    thread_detach(thread);
    return NULL;
}

void sim_host_reload(struct sim_host *host, const char *path, const char *name)
{
    struct reload *reload = calloc(1, sizeof *reload);
    reload->host = host;
    reload->path = strdup(path);
    reload->name = strdup(name);
    host->reloading = true;
    sim_call(host->sim, "main", start_reload, reload);
}

bool sim_host_reloading(const struct sim_host *host)
{
    return host->reloading;
}

/* --- its end --- */

static void *do_stop(void *arg)
{
    struct sim_host *host = arg;
    engine_cancel_loads(host->engine);
    engine_drain(host->engine);
    host->hangs = !ending_wait(host->engine, host->bus, host->deadline_ns, &host->unfinished);
    sim_note(host->sim, "sim", "stopped, %d unfinished%s", atomic_load(&host->unfinished),
             host->hangs ? ", hangs" : "");
    host->stopped = true;
    return NULL;
}

static void *start_stop(void *arg)
{
    struct sim_host *host = arg;
    struct thread thread;
    thread_start(&thread, "stop", do_stop, host, NULL);
    thread_detach(thread);
    return NULL;
}

void sim_host_stop(struct sim_host *host, double graceful_ms)
{
    if (host->stopping)
        return;
    host->stopping = true;
    host->deadline_ns = sim_now_ns(host->sim) + (uint64_t)(graceful_ms * NS_PER_MS);
    sim_call(host->sim, "main", start_stop, host);
}

bool sim_host_stopped(const struct sim_host *host)
{
    return host->stopped;
}

static bool has_stopped(void *arg)
{
    const struct sim_host *host = arg;
    return host->stopped && !host->reloading;
}

static bool run_until_stopped(struct sim_host *host, uint64_t most_ns)
{
    if (host->sim->world)
        return world_run_while_not(host->sim->world, has_stopped, host, most_ns) == WORLD_DONE;
    while (!has_stopped(host) && clock_now_ns() < most_ns)
        thread_sleep_until(clock_now_ns() + (uint64_t)NS_PER_MS);
    return has_stopped(host);
}

int sim_host_end(struct sim_host *host, double graceful_ms)
{
    struct sim *sim = host->sim;
    if (host->bus) {
        sim_host_stop(host, graceful_ms);
        uint64_t most_ns = sim_now_ns(sim) + (uint64_t)120 * (uint64_t)NS_PER_S +
                           (uint64_t)(graceful_ms * NS_PER_MS);
        if (!run_until_stopped(host, most_ns)) {
            sim_fail(sim, "the stop does not end\n%s", sim->world ? world_report(sim->world) : "");
            return -2;
        }
    }
    if (host->hangs)
        return -1;
    if (!sim_call(sim, "main", free_all, host))
        return -2;
    int unfinished = atomic_load(&host->unfinished);
    DL_DELETE(sim->hosts, host);
    text_clear(&host->status);
    free(host);
    return unfinished;
}

/* --- what it has --- */

#define FLUSH_NS ((uint64_t)NS_PER_S)

void sim_flush_hosts(struct sim *sim)
{
    struct sim_host *host;
    DL_FOREACH(sim->hosts, host) {
        if (host->bus)
            bus_flush(host->bus, clock_now_ns() + FLUSH_NS);
    }
}

struct question {
    struct sim_host *host;
    bool busy;
};

static void *ask_busy(void *arg)
{
    struct question *question = arg;
    struct sim_host *host = question->host;
    question->busy = engine_running(host->engine) > 0 || outbox_pending(host->bus->outbox) > 0 ||
                     link_pending(host->bus->consume) + link_pending(host->bus->publish) > 0;
    return NULL;
}

bool sim_host_busy(struct sim_host *host)
{
    struct question question = {.host = host};
    return sim_call(host->sim, "main", ask_busy, &question) && question.busy;
}

bool sim_host_registration(struct sim_host *host, int i, struct registration_view *out)
{
    return engine_script_count(host->engine) > 0 &&
           engine_registration(host->engine, engine_script(host->engine, 0), i, out);
}

static void *read_status(void *arg)
{
    struct sim_host *host = arg;
    struct engine_snapshot *snapshot = engine_snapshot(host->engine);
    cJSON *all = cJSON_CreateObject();
    if (snapshot) {
        cJSON_AddItemToObject(all, "scripts", report_scripts(snapshot, true));
        cJSON_AddItemToObject(all, "shared", report_shared(snapshot));
        cJSON_AddNumberToObject(all, "running", snapshot->running);
    }
    engine_snapshot_free(snapshot);
    cJSON_AddNumberToObject(
        all, "frames",
        (double)(link_pending(host->bus->consume) + link_pending(host->bus->publish)));
    char *text = cJSON_PrintUnformatted(all);
    text_clear(&host->status);
    text_init(&host->status);
    text_puts(&host->status, text ? text : "{}");
    text_add(&host->status, "", 1);
    free(text);
    cJSON_Delete(all);
    return NULL;
}

/* All that are queued, a request of OTLP for each batch. */
static void *read_spans(void *arg)
{
    struct sim_host *host = arg;
    struct trace_span *spans;
    unsigned count;
    text_clear(&host->status);
    text_init(&host->status);
    tracer_hurry(host->tracer);
    while ((spans = tracer_take(host->tracer, 0, &count)) != NULL) {
        otlp_write(&host->status, &(struct otlp_resource){.service = "sim"}, spans);
        text_puts(&host->status, "\n");
        tracer_free_spans(spans);
    }
    text_add(&host->status, "", 1);
    return NULL;
}

const char *sim_host_spans(struct sim_host *host)
{
    return host->tracer && sim_call(host->sim, "main", read_spans, host) ? host->status.bytes : "";
}

const char *sim_host_status(struct sim_host *host)
{
    return sim_call(host->sim, "main", read_status, host) ? host->status.bytes : "{}";
}
