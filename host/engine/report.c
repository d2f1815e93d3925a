/* report - what the scripts do, as JSON: for the status. */
#include <stdio.h>
#include <utlist.h>

#include "base/value.h"
#include "engine/internal.h"

static const char *const outcome_names[OUTCOMES] = {
    [OUTCOME_OK] = "ok",   [OUTCOME_FAILED] = "failed", [OUTCOME_ACK] = "ack",
    [OUTCOME_NAK] = "nak", [OUTCOME_TERM] = "term",     [OUTCOME_DEAD] = "dead_letter",
};

static bool has_handler(const struct source *source)
{
    enum registration_kind kind = source->registration->kind;
    return kind != REGISTER_STREAM && kind != REGISTER_STOP && kind != REGISTER_START;
}

static void add_counts(cJSON *object, struct source *source)
{
    for (int i = 0; i < OUTCOMES; i++) {
        bool jetstream = i >= OUTCOME_ACK;
        if (jetstream == (source->consumer != NULL))
            cJSON_AddNumberToObject(object, outcome_names[i],
                                    (double)atomic_load(&source->outcomes[i]));
    }
}

static double oldest_ms(const struct source *source, uint64_t oldest, uint64_t now)
{
    const struct delivery *delivery;
    DL_FOREACH(source->active, delivery) {
        if (delivery->started_ns < oldest)
            oldest = delivery->started_ns;
    }
    return (double)((now - oldest) / NS_PER_MS);
}

static cJSON *of_source(struct source *source, uint64_t now)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "handler", source->registration->handler);
    cJSON_AddStringToObject(object, "what", source->registration->what);
    /* A message whose thread was given up has left its source; a timer's run has not. */
    enum registration_kind kind = source->registration->kind;
    bool left = kind == REGISTER_SUBSCRIBE || kind == REGISTER_CONSUME;
    uint64_t oldest = now;
    int stuck = workers_stuck(source->engine->workers, source, &oldest);
    cJSON_AddNumberToObject(object, "running", source->running + (left ? stuck : 0));
    cJSON_AddNumberToObject(object, "stuck", stuck);
    cJSON_AddNumberToObject(object, "queued", source->queued);
    cJSON_AddNumberToObject(object, "oldest_running_ms", oldest_ms(source, oldest, now));
    if (source->registration->kind == REGISTER_SUBSCRIBE)
        cJSON_AddNumberToObject(object, "dropped", (double)source->dropped);
    if (source->consumer) {
        struct consumer_stat stat;
        consumer_stat(source->consumer, &stat);
        cJSON_AddNumberToObject(object, "held", stat.held);
        cJSON_AddNumberToObject(object, "ack_floor", (double)stat.ack_floor);
    }
    add_counts(object, source);
    return object;
}

static cJSON *of_script(struct script *script, uint64_t now)
{
    int generations = 0, instances = 0;
    struct generation *generation;
    struct source *source;
    cJSON *object = cJSON_CreateObject(), *handlers = cJSON_CreateArray();
    DL_FOREACH(script->generations, generation) {
        generations++;
        instances += generation->instance_count;
    }
    LL_FOREACH(script->sources, source) {
        if (source->generation == script->live && source->state == SOURCE_SERVING &&
            has_handler(source))
            cJSON_AddItemToArray(handlers, of_source(source, now));
    }
    cJSON_AddStringToObject(object, "name", script->name);
    cJSON_AddStringToObject(object, "path", script->path);
    cJSON_AddBoolToObject(object, "served", script->served && !script->unloaded);
    cJSON_AddNumberToObject(object, "generation", script->live->number);
    cJSON_AddNumberToObject(object, "live_generations", generations);
    cJSON_AddNumberToObject(object, "instances", instances);
    cJSON_AddItemToObject(object, "handlers", handlers);
    return object;
}

cJSON *engine_report(struct engine *engine)
{
    cJSON *scripts = cJSON_CreateArray();
    uint64_t now = clock_now_ns();
    struct script *script;
    dispatch_lock(&engine->dispatch);
    LL_FOREACH(engine->scripts, script)
        cJSON_AddItemToArray(scripts, of_script(script, now));
    dispatch_unlock(&engine->dispatch);
    return scripts;
}

cJSON *engine_report_stuck(struct engine *engine)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "threads", workers_lost(engine->workers));
    cJSON_AddNumberToObject(object, "limit", atomic_load(&engine->max_stuck));
    return object;
}

cJSON *engine_report_offload(struct engine *engine)
{
    return offload_report(engine->offload);
}

cJSON *engine_report_shared(struct engine *engine)
{
    return shared_report(engine->shared);
}

/* A pull loop is fresh while its consumer is there and is heard of. */
static void check_pull(struct source *source, cJSON *reasons)
{
    struct consumer_stat stat;
    consumer_stat(source->consumer, &stat);
    if (!stat.gone && !stat.silent)
        return;
    char text[600];
    snprintf(text, sizeof text, "%s: %s", source->registration->handler,
             stat.gone ? "the consumer is gone" : "the server does not answer its pulls");
    cJSON_AddItemToArray(reasons, cJSON_CreateString(text));
}

void engine_unready(struct engine *engine, cJSON *reasons)
{
    struct script *script;
    struct source *source;
    dispatch_lock(&engine->dispatch);
    LL_FOREACH(engine->scripts, script) {
        LL_FOREACH(script->sources, source) {
            if (source->consumer && source->state == SOURCE_SERVING)
                check_pull(source, reasons);
        }
    }
    dispatch_unlock(&engine->dispatch);
    offload_unready(engine->offload, reasons);
}

int64_t engine_stalled_ns(struct engine *engine)
{
    uint64_t now = clock_now_ns();
    dispatch_lock(&engine->dispatch);
    uint64_t takes = engine->dispatch.takes;
    bool waits = engine->dispatch.queue != NULL;
    dispatch_unlock(&engine->dispatch);
    if (!waits || takes != engine->stall.takes || !engine->stall.since_ns) {
        engine->stall.takes = takes;
        engine->stall.since_ns = now;
    }
    return (int64_t)(now - engine->stall.since_ns);
}
