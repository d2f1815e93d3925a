/* moonbus check - loads what `run` would, and prints what is registered and what is set wrong. */
#include "app/check.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log_output.h"
#include "base/text.h"
#include "base/value.h"
#include "cli/asyncapi.h"
#include "cli/check_json.h"
#include "cli/cli.h"
#include "cli/say.h"

#define LOG_FLUSH_MS 1000

struct check_command {
    const struct cli *cli;
    const struct config *config;
    int count[3]; /* findings, by severity */
    int refused;
};

/* --- the table of what is registered --- */

struct widths {
    int handler, what;
};

static void widen(int *width, const char *text)
{
    int len = (int)strlen(text);
    if (len > *width)
        *width = len;
}

static struct widths measure(const struct judge_facts *facts)
{
    struct widths widths = {0, (int)strlen("stream")};
    for (int i = 0; i < facts->handler_count; i++) {
        widen(&widths.handler, facts->handlers[i].place.handler);
        widen(&widths.what, facts->handlers[i].what);
    }
    for (int i = 0; i < facts->stream_count; i++) {
        if (facts->streams[i].place.script)
            widen(&widths.handler, facts->streams[i].place.handler);
    }
    return widths;
}

static void put_duration(struct text *out, const char *name, int64_t ns)
{
    char shown[32];
    if (ns > 0)
        text_printf(out, ", %s %s", name, value_format_duration(ns, shown, sizeof shown));
}

static void put_next(struct text *out, const struct judge_handler *handler)
{
    char shown[VALUE_TIME_BYTES];
    text_printf(out, ", %s, next at %s", handler->zone,
                value_format_time(handler->next_s * NS_PER_S, 0, shown, sizeof shown));
}

static void put_settings(struct text *out, const struct judge_handler *handler)
{
    if (handler->queue)
        text_printf(out, ", queue %s", handler->queue);
    if (handler->next_s)
        put_next(out, handler);
    put_duration(out, "timeout", handler->timeout_ns);
    if (handler->kind == JUDGE_CONSUME)
        put_duration(out, "ack_wait", handler->ack_wait_ns);
    if (handler->concurrency > 0 && !handler->next_s)
        text_printf(out, ", concurrency %d", handler->concurrency);
    if (handler->kind != JUDGE_CONSUME)
        return;
    text_printf(out, ", attempts %d", handler->attempts);
    if (handler->dead_letter)
        text_printf(out, ", dead letter %s", handler->dead_letter);
    else
        text_puts(out, handler->drops ? ", then terminated" : ", no dead letter");
}

static void put_row(const struct widths *widths, const char *name, const char *what,
                    const struct text *settings)
{
    const char *rest = settings->len > 2 ? settings->bytes + 2 : ""; /* without ", " */
    if (settings->len > 2)
        printf("  %-*s  %-*s  %.*s\n", widths->handler, name, widths->what, what,
               (int)settings->len - 2, rest);
    else
        printf("  %-*s  %s\n", widths->handler, name, what);
}

static void put_subjects(struct text *out, const struct cJSON *config)
{
    const cJSON *subject;
    cJSON_ArrayForEach(subject, json_field(config, "subjects"))
        text_printf(out, ", %s", cJSON_IsString(subject) ? subject->valuestring : "?");
}

static void print_script(const struct judge_facts *facts, const char *name,
                         const struct widths *widths)
{
    struct text settings;
    printf("%s\n", name);
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (strcmp(handler->place.script, name) != 0)
            continue;
        text_init(&settings);
        put_settings(&settings, handler);
        put_row(widths, handler->place.handler, handler->what, &settings);
        text_clear(&settings);
    }
    for (int i = 0; i < facts->stream_count; i++) {
        const struct judge_stream *stream = &facts->streams[i];
        if (!stream->place.script || strcmp(stream->place.script, name) != 0)
            continue;
        text_init(&settings);
        put_subjects(&settings, stream->config);
        put_row(widths, stream->place.handler, "stream", &settings);
        text_clear(&settings);
    }
}

static void print_registered(const struct judge_facts *facts)
{
    struct widths widths = measure(facts);
    for (int i = 0; i < facts->script_count; i++)
        print_script(facts, facts->scripts[i].name, &widths);
    if (facts->script_count > 0)
        printf("\n");
}

/* --- what is wrong --- */

static void print_refusal(FILE *out, const struct check_refusal *refusal)
{
    const struct failure *failure = refusal->failure;
    if (failure->file)
        fprintf(out, "error: %s:%d: %s\n", failure->file, failure->line, failure->err.message);
    else
        fprintf(out, "error: %s: %s\n", refusal->name, failure->err.message);
    if (failure->traceback)
        fprintf(out, "%s\n", failure->traceback);
}

/* The other one of two, unless the sentence has it. */
static void print_other(const struct judge_finding *finding)
{
    char other[600];
    if (!finding->other.file)
        return;
    snprintf(other, sizeof other, "%s:%d", finding->other.file, finding->other.line);
    if (!strstr(finding->text, other))
        printf(" (see %s)", other);
}

static void print_finding(const struct judge_finding *finding)
{
    const struct judge_place *place = &finding->place;
    printf("%s: ", judge_severity_name(finding->severity));
    if (place->file)
        printf("%s:%d: ", place->file, place->line);
    else if (place->script)
        printf("%s: ", place->script);
    if (place->handler)
        printf("%s: ", place->handler);
    printf("%s: %s", finding->judgement->name, finding->text);
    print_other(finding);
    printf("\n");
}

static void print_count(const char **separator, int count, const char *what)
{
    if (count > 0)
        printf("%s%d %s%s", *separator, count, what, count == 1 ? "" : "s");
    if (count > 0)
        *separator = ", ";
}

static void print_summary(const struct check_command *command, const struct checked *checked)
{
    const char *separator = "";
    int handlers = 0, streams = 0;
    for (int i = 0; i < checked->facts->handler_count; i++)
        handlers += checked->facts->handlers[i].kind != JUDGE_OFFLOAD &&
                    checked->facts->handlers[i].kind != JUDGE_SERVICE;
    for (int i = 0; i < checked->facts->stream_count; i++)
        streams += checked->facts->streams[i].place.script != NULL;
    print_count(&separator, checked->facts->script_count, "script");
    print_count(&separator, handlers, "handler");
    print_count(&separator, streams, "stream");
    const char *before = separator = *separator ? ": " : "";
    print_count(&separator, command->count[JUDGE_ERROR] + command->refused, "error");
    print_count(&separator, command->count[JUDGE_WARNING], "warning");
    print_count(&separator, command->count[JUDGE_NOTE], "note");
    if (separator == before)
        printf("%sall is well", before);
    printf("\n");
}

/* Nothing without a server that was asked. */
static void print_server(const struct judge_facts *facts)
{
    if (facts->server_minor > 0)
        printf("server: nats-server %d.%d%s, by what its JetStream can do\n", facts->server_major,
               facts->server_minor, facts->server_older ? " or older" : "");
}

static void print_all(const struct check_command *command, const struct checked *checked)
{
    print_registered(checked->facts);
    for (int i = 0; i < checked->refusal_count; i++)
        print_refusal(stdout, &checked->refusals[i]);
    for (int i = 0; i < checked->findings->count; i++)
        print_finding(&checked->findings->list[i]);
    if (checked->refusal_count + checked->findings->count > 0)
        printf("\n");
    print_server(checked->facts);
    print_summary(command, checked);
}

/* --- the command --- */

static void on_checked(void *owner, const struct checked *checked)
{
    struct check_command *command = owner;
    for (int i = 0; i < checked->findings->count; i++)
        command->count[checked->findings->list[i].severity]++;
    command->refused = checked->refusal_count;
    for (int i = 0; i < checked->refusal_count && command->cli->asyncapi; i++)
        print_refusal(stderr, &checked->refusals[i]); /* the document lacks it */
    if (command->cli->asyncapi)
        asyncapi_print(checked, command->config);
    else if (command->cli->json)
        check_print_json(checked);
    else
        print_all(command, checked);
}

static int status_of(const struct check_command *command)
{
    if (command->refused > 0 || command->count[JUDGE_ERROR] > 0)
        return CLI_USAGE;
    return command->cli->strict && command->count[JUDGE_WARNING] > 0 ? CLI_FAILED : CLI_OK;
}

int cli_check(struct cli *cli)
{
    static const struct config_flag defaults[] = {{"log.level", "warn", "check"}};
    struct err err;
    struct config_sources sources = cli_sources(cli);
    sources.defaults = defaults;
    sources.default_count = sizeof defaults / sizeof *defaults;
    struct config *config = config_load(&sources, &err);
    if (!config) {
        say_error(cli, "%s", err.message);
        if (cli->json)
            check_print_json_failed("does_not_load", &err);
        return CLI_USAGE;
    }
    struct check_command command = {.cli = cli, .config = config};
    const struct check_options options = {
        .app = {.config = config,
                .sources = &sources,
                .paths = (const char *const *)cli->args,
                .path_count = cli->arg_count},
        .asks_server = cli->servers_given || cli->context,
        .on_checked = on_checked,
        .owner = &command,
        .failed = &err,
    };
    struct app_end end = check_run(&options);
    int status = end.status == APP_OK ? status_of(&command) : (int)end.status;
    if (end.status != APP_OK && cli->json)
        check_print_json_failed(end.status == APP_USAGE ? "does_not_load" : "not_checked", &err);
    status = cli_flush(status);
    log_output_flush(LOG_FLUSH_MS);
    if (end.left_behind) /* as cli_run_app does */
        syscall(SYS_exit_group, status);
    config_free(config);
    return status;
}
