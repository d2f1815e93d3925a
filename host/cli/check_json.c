/* check_json - the object that `moonbus check --json` prints, part by part. */
#include "cli/check_json.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "app/check.h"
#include "base/value.h"

static void add_text(cJSON *object, const char *name, const char *text)
{
    if (text)
        cJSON_AddStringToObject(object, name, text);
}

static void add_ms(cJSON *object, const char *name, int64_t ns)
{
    if (ns > 0)
        cJSON_AddNumberToObject(object, name, (double)ns / (double)NS_PER_MS);
}

static void add_time(cJSON *object, const char *name, int64_t seconds)
{
    char shown[VALUE_TIME_BYTES];
    add_text(object, name, value_format_time(seconds * NS_PER_S, 0, shown, sizeof shown));
}

static void add_place(cJSON *object, const struct judge_place *place)
{
    add_text(object, "script", place->script);
    add_text(object, "handler", place->handler);
    add_text(object, "file", place->file);
    if (place->line > 0)
        cJSON_AddNumberToObject(object, "line", place->line);
}

/* --- what is registered --- */

static void add_durable(cJSON *object, const struct judge_handler *handler)
{
    add_text(object, "stream", handler->stream);
    add_text(object, "durable", handler->durable);
    cJSON_AddItemToObject(object, "filters",
                          cJSON_CreateStringArray(handler->filters, handler->filter_count));
    add_ms(object, "ack_wait_ms", handler->ack_wait_ns);
    cJSON_AddNumberToObject(object, "attempts", handler->attempts);
    if (handler->max_ack_pending)
        cJSON_AddNumberToObject(object, "max_ack_pending", handler->max_ack_pending);
    add_text(object, "dead_letter", handler->dead_letter);
    if (handler->drops)
        cJSON_AddFalseToObject(object, "dead_letter");
}

static cJSON *handler_json(const struct judge_handler *handler)
{
    cJSON *object = cJSON_CreateObject();
    add_place(object, &handler->place);
    add_text(object, "what", handler->what);
    add_text(object, "subject", handler->subject);
    add_text(object, "queue", handler->queue);
    add_ms(object, "timeout_ms", handler->timeout_ns);
    if (handler->next_s)
        add_time(object, "next", handler->next_s);
    add_text(object, "tz", handler->zone);
    if (handler->concurrency > 0 && !handler->next_s)
        cJSON_AddNumberToObject(object, "concurrency", handler->concurrency);
    if (handler->kind == JUDGE_CONSUME)
        add_durable(object, handler);
    return object;
}

static cJSON *stream_json(const struct judge_stream *stream)
{
    cJSON *object = cJSON_CreateObject();
    add_place(object, &stream->place);
    cJSON_AddItemToObject(object, "config", cJSON_Duplicate(stream->config, true));
    return object;
}

/* --- what is wrong --- */

static cJSON *finding_json(const struct judge_finding *finding)
{
    cJSON *object = cJSON_CreateObject();
    add_text(object, "name", finding->judgement->name);
    add_text(object, "severity", judge_severity_name(finding->severity));
    add_text(object, "text", finding->text);
    add_place(object, &finding->place);
    if (finding->other.file)
        add_place(cJSON_AddObjectToObject(object, "other"), &finding->other);
    return object;
}

static cJSON *refusal_json(const char *name, const struct check_refusal *refusal)
{
    const struct failure *failure = refusal->failure;
    cJSON *object = cJSON_CreateObject();
    add_text(object, "name", name);
    add_text(object, "severity", judge_severity_name(JUDGE_ERROR));
    add_text(object, "text", failure->err.message);
    add_text(object, "script", refusal->name);
    add_text(object, "file", failure->file);
    if (failure->file)
        cJSON_AddNumberToObject(object, "line", failure->line);
    add_text(object, "traceback", failure->traceback);
    return object;
}

static bool is_good(const struct checked *checked)
{
    for (int i = 0; i < checked->findings->count; i++) {
        if (checked->findings->list[i].severity == JUDGE_ERROR)
            return false;
    }
    return checked->refusal_count == 0;
}

/* refusals: the name that those have. */
static void print_named(const char *refusals, const struct checked *checked)
{
    const struct judge_facts *facts = checked->facts;
    cJSON *all = cJSON_CreateObject();
    cJSON_AddBoolToObject(all, "ok", is_good(checked));
    cJSON *scripts = cJSON_AddArrayToObject(all, "scripts");
    for (int i = 0; i < facts->script_count; i++)
        cJSON_AddItemToArray(scripts, cJSON_CreateString(facts->scripts[i].name));
    cJSON *handlers = cJSON_AddArrayToObject(all, "handlers");
    for (int i = 0; i < facts->handler_count; i++)
        cJSON_AddItemToArray(handlers, handler_json(&facts->handlers[i]));
    cJSON *streams = cJSON_AddArrayToObject(all, "streams");
    for (int i = 0; i < facts->stream_count; i++) {
        if (facts->streams[i].place.script)
            cJSON_AddItemToArray(streams, stream_json(&facts->streams[i]));
    }
    if (facts->server_minor > 0) {
        char release[32];
        snprintf(release, sizeof release, "%d.%d", facts->server_major, facts->server_minor);
        cJSON *server = cJSON_AddObjectToObject(all, "server");
        cJSON_AddStringToObject(server, "nats_server", release);
        cJSON_AddBoolToObject(server, "or_older", facts->server_older);
    }
    cJSON *findings = cJSON_AddArrayToObject(all, "findings");
    for (int i = 0; i < checked->refusal_count; i++)
        cJSON_AddItemToArray(findings, refusal_json(refusals, &checked->refusals[i]));
    for (int i = 0; i < checked->findings->count; i++)
        cJSON_AddItemToArray(findings, finding_json(&checked->findings->list[i]));
    char *text = cJSON_Print(all);
    printf("%s\n", text ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(all);
}

void check_print_json(const struct checked *checked)
{
    print_named("does_not_load", checked);
}

void check_print_json_failed(const char *name, const struct err *err)
{
    const struct failure failure = {.err = *err};
    const struct check_refusal refusal = {.failure = &failure};
    const struct judge_facts facts = {0};
    const struct judge_findings findings = {0};
    const struct checked checked = {
        .facts = &facts,
        .findings = &findings,
        .refusals = &refusal,
        .refusal_count = 1,
    };
    print_named(name, &checked);
}
