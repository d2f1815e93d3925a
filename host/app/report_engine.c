/* report_engine - the snapshot's structs as JSON and as sentences. */
#include "app/report_engine.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/value.h"
#include "engine/engine.h"

static const char *const outcome_names[OUTCOMES] = {
    [OUTCOME_OK] = "ok",   [OUTCOME_FAILED] = "failed", [OUTCOME_ACK] = "ack",
    [OUTCOME_NAK] = "nak", [OUTCOME_TERM] = "term",     [OUTCOME_DEAD] = "dead_letter",
};

void report_time(cJSON *object, const char *name, int64_t wall_ns)
{
    char text[VALUE_TIME_BYTES];
    if (wall_ns > 0)
        cJSON_AddStringToObject(object, name, value_format_time(wall_ns, 0, text, sizeof text));
}

/* What the server said last of how far it is behind; nothing, while it has not. */
static void add_lag(cJSON *object, const char *name, const struct consumer_lag *lag)
{
    if (!lag->at_ns)
        return;
    cJSON *item = cJSON_AddObjectToObject(object, name);
    cJSON_AddNumberToObject(item, "pending", (double)lag->pending);
    cJSON_AddNumberToObject(item, "ack_pending", (double)lag->ack_pending);
    cJSON_AddNumberToObject(item, "redelivered", (double)lag->redelivered);
    cJSON_AddNumberToObject(item, "waiting", (double)lag->waiting);
    cJSON_AddNumberToObject(item, "age_ms", (double)((clock_now_ns() - lag->at_ns) / NS_PER_MS));
}

static void add_durable(cJSON *object, const struct durable_stat *stat)
{
    cJSON_AddNumberToObject(object, "held", stat->held);
    cJSON_AddNumberToObject(object, "ack_floor", (double)stat->ack_floor);
    cJSON_AddBoolToObject(object, "paused", stat->paused);
    if (stat->paused && *stat->paused_until)
        cJSON_AddStringToObject(object, "paused_until", stat->paused_until);
    if (stat->group)
        cJSON_AddStringToObject(object, "group", stat->group);
    if (stat->pins)
        cJSON_AddBoolToObject(object, "pinned", stat->pinned);
    if (stat->edited)
        cJSON_AddStringToObject(object, "edited", stat->edited);
    add_lag(object, "lag", &stat->lag);
    if (stat->retries)
        cJSON_AddStringToObject(object, "retries", stat->retries);
    add_lag(object, "retries_lag", &stat->retries_lag);
}

static void add_error(cJSON *object, const struct tally_error *error, bool quotes)
{
    if (!error->at_ns)
        return;
    cJSON *item = cJSON_AddObjectToObject(object, "last_error");
    report_time(item, "at", error->at_ns);
    cJSON_AddNumberToObject(item, "ago_ms", (double)((clock_wall_ns() - error->at_ns) / NS_PER_MS));
    cJSON_AddStringToObject(item, "code", err_name(error->code));
    if (quotes)
        cJSON_AddStringToObject(item, "message", error->text);
}

static void add_durations(cJSON *object, const struct stat_sum *sum)
{
    cJSON *item = cJSON_AddObjectToObject(object, "duration_ms");
    cJSON_AddNumberToObject(item, "p50", (double)stat_quantile_ns(sum, 0.5) / NS_PER_MS);
    cJSON_AddNumberToObject(item, "p99", (double)stat_quantile_ns(sum, 0.99) / NS_PER_MS);
}

static void add_counts(cJSON *object, const struct tally_stat *stat, bool is_durable, bool quotes)
{
    for (int i = 0; i < OUTCOMES; i++) {
        if ((i >= OUTCOME_ACK) == is_durable)
            cJSON_AddNumberToObject(object, outcome_names[i], (double)stat->sum.outcomes[i]);
    }
    if (is_durable) {
        cJSON_AddNumberToObject(object, "redelivered", (double)stat->sum.redelivered);
        cJSON_AddNumberToObject(object, "joined", (double)stat->consumer.joined);
        cJSON_AddNumberToObject(object, "leases_lost", (double)stat->consumer.leases_lost);
    }
    if (stat->takes_messages)
        cJSON_AddNumberToObject(object, "received", (double)stat->sum.received);
    cJSON_AddNumberToObject(object, "timeouts", (double)stat->sum.timeouts);
    add_durations(object, &stat->sum.duration);
    add_error(object, &stat->error, quotes);
}

static void add_next(cJSON *object, int64_t seconds)
{
    char shown[VALUE_TIME_BYTES];
    cJSON_AddStringToObject(object, "next",
                            value_format_time(seconds * NS_PER_S, 0, shown, sizeof shown));
}

/* A watch or a cache of a bucket. */
static void add_reader(cJSON *object, const struct reading_stat *stat)
{
    cJSON_AddBoolToObject(object, "caught_up", stat->caught_up);
    cJSON_AddNumberToObject(object, "sequence", (double)stat->last);
    cJSON_AddNumberToObject(object, "behind", (double)stat->behind);
    cJSON_AddBoolToObject(object, "gone", stat->gone);
}

static cJSON *handler_json(const struct handler_stat *stat, bool quotes)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "handler", stat->handler);
    cJSON_AddStringToObject(object, "what", stat->what);
    cJSON_AddNumberToObject(object, "running", stat->running);
    cJSON_AddNumberToObject(object, "stuck", stat->stuck);
    cJSON_AddNumberToObject(object, "queued", stat->queued);
    cJSON_AddNumberToObject(object, "oldest_running_ms",
                            (double)(stat->oldest_running_ns / NS_PER_MS));
    if (!stat->is_durable && !stat->is_timer && !stat->is_reader)
        cJSON_AddNumberToObject(object, "dropped", (double)stat->dropped);
    if (stat->next_s)
        add_next(object, stat->next_s);
    if (stat->is_durable)
        add_durable(object, &stat->durable);
    if (stat->is_reader)
        add_reader(object, &stat->reader);
    if (stat->counted)
        add_counts(object, stat->counted, stat->is_durable, quotes);
    return object;
}

static cJSON *script_json(const struct script_stat *stat, bool quotes)
{
    cJSON *object = cJSON_CreateObject(), *handlers = cJSON_CreateArray();
    for (int i = 0; i < stat->handler_count; i++)
        cJSON_AddItemToArray(handlers, handler_json(&stat->handlers[i], quotes));
    cJSON_AddStringToObject(object, "name", stat->name);
    cJSON_AddStringToObject(object, "path", stat->path);
    cJSON_AddBoolToObject(object, "served", stat->served);
    cJSON_AddNumberToObject(object, "generation", stat->generation);
    cJSON_AddNumberToObject(object, "live_generations", stat->live_generations);
    cJSON_AddNumberToObject(object, "instances", stat->instances);
    if (stat->start_failure)
        cJSON_AddStringToObject(object, "start_failed", stat->start_failure);
    cJSON_AddItemToObject(object, "handlers", handlers);
    return object;
}

cJSON *report_scripts(const struct engine_snapshot *snapshot, bool quotes)
{
    cJSON *scripts = cJSON_CreateArray();
    for (int i = 0; i < snapshot->script_count; i++)
        cJSON_AddItemToArray(scripts, script_json(&snapshot->scripts[i], quotes));
    return scripts;
}

cJSON *report_stuck(const struct engine_snapshot *snapshot)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "threads", snapshot->lost_threads);
    cJSON_AddNumberToObject(object, "limit", snapshot->lost_most);
    cJSON_AddNumberToObject(object, "machine_code_left", snapshot->machine_code_left);
    return object;
}

cJSON *report_offload(const struct engine_snapshot *snapshot)
{
    const struct offload_stat *stat = &snapshot->offload;
    const struct {
        const char *name;
        double number;
    } numbers[] = {
        {"limit", stat->limit},
        {"threads", stat->threads},
        {"lost", stat->lost},
        {"running", stat->running},
        {"queued", stat->queued},
        {"waiting", stat->waiting},
        {"calls", (double)stat->calls},
        {"failed", (double)stat->failed},
        {"timed_out", (double)stat->timed_out},
    };
    cJSON *object = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        cJSON_AddNumberToObject(object, numbers[i].name, numbers[i].number);
    return object;
}

cJSON *report_shared(const struct engine_snapshot *snapshot)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < snapshot->store_count; i++) {
        const struct store_stat *stat = &snapshot->stores[i];
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "name", stat->name);
        cJSON_AddNumberToObject(object, "entries", stat->entries);
        cJSON_AddNumberToObject(object, "bytes", (double)stat->used_bytes);
        cJSON_AddNumberToObject(object, "size", (double)stat->size_bytes);
        cJSON_AddItemToArray(list, object);
    }
    return list;
}

cJSON *report_services(const struct engine_snapshot *snapshot)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < snapshot->service_count; i++) {
        const struct service_stat *stat = &snapshot->services[i];
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "name", stat->name);
        cJSON_AddStringToObject(object, "version", stat->version);
        cJSON_AddStringToObject(object, "id", stat->id);
        report_time(object, "started", stat->started_ns);
        cJSON_AddNumberToObject(object, "endpoints", stat->endpoints);
        cJSON_AddItemToArray(list, object);
    }
    return list;
}

static void add_reason(cJSON *reasons, const char *text)
{
    cJSON_AddItemToArray(reasons, cJSON_CreateString(text));
}

static void add_handler(cJSON *reasons, const struct handler_stat *stat, const char *why)
{
    char text[600];
    snprintf(text, sizeof text, "%s: %s", stat->handler, why);
    add_reason(reasons, text);
}

/* A pull loop is fresh while its consumer is there, is heard of, and is what the script states. */
static void check_handler(cJSON *reasons, const struct handler_stat *stat)
{
    if (stat->durable.gone)
        add_handler(reasons, stat, "the consumer is gone");
    else if (stat->durable.silent)
        add_handler(reasons, stat, "the server does not answer its pulls");
    if (stat->durable.edited)
        add_handler(reasons, stat, stat->durable.edited);
    if (stat->reader.gone)
        add_handler(reasons, stat, "its stream cannot be read");
    else if (stat->reader.silent)
        add_handler(reasons, stat, "the server does not answer its pulls");
}

/* A script that serves and has no Lua state takes messages that nobody runs. */
static void check_script(cJSON *reasons, const struct script_stat *stat)
{
    char text[1200];
    if (stat->served && stat->live_instances == 0) {
        snprintf(text, sizeof text, "%s: generation %u has no Lua state: %s", stat->name,
                 stat->generation,
                 stat->complaint ? stat->complaint
                                 : "the last one was given up, another one loads");
        add_reason(reasons, text);
    }
    if (stat->served && stat->start_failure)
        add_reason(reasons, stat->start_failure);
    for (int i = 0; i < stat->handler_count; i++)
        check_handler(reasons, &stat->handlers[i]);
}

void report_unready(const struct engine_snapshot *snapshot, cJSON *reasons)
{
    char text[120];
    for (int i = 0; i < snapshot->script_count; i++)
        check_script(reasons, &snapshot->scripts[i]);
    snprintf(text, sizeof text,
             "bus.offload: no thread is left, %d are in calls that do not return",
             snapshot->offload.lost);
    if (snapshot->offload.none_left)
        add_reason(reasons, text);
}

static cJSON *run_json(const struct running_stat *stat)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "script", stat->script);
    cJSON_AddStringToObject(object, "handler", stat->handler);
    if (*stat->subject)
        cJSON_AddStringToObject(object, "subject", stat->subject);
    if (stat->sequence) {
        cJSON_AddNumberToObject(object, "sequence", (double)stat->sequence);
        cJSON_AddNumberToObject(object, "attempt", stat->attempt);
    }
    cJSON_AddNumberToObject(object, "age_ms", (double)(stat->age_ns / NS_PER_MS));
    if (*stat->place)
        cJSON_AddStringToObject(object, "place", stat->place);
    cJSON_AddBoolToObject(object, "computes", stat->computes);
    return object;
}

cJSON *report_running(struct engine *engine, int most)
{
    struct running_stat *list = calloc((size_t)most, sizeof *list);
    if (!list)
        return NULL;
    cJSON *runs = cJSON_CreateArray();
    int count = engine_oldest_runs(engine, list, most);
    for (int i = 0; i < count; i++)
        cJSON_AddItemToArray(runs, run_json(&list[i]));
    free(list);
    return runs;
}
