/* tune - the load test of the user's own handlers, on a private server: what is asked for, and the
 * rounds, one after the other.
 *
 *   mind: which round? ─▶ server: empty streams ─▶ trial_host: starts ─▶ player: plays
 *     ▲                                               │ looks at its meters
 *     └────────────── what was measured ◀─────────────┘ */
#include "cli/tune/tune_private.h"

#include <cjson/cJSON.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cpus.h"
#include "base/json.h"
#include "base/log_output.h"
#include "base/thread.h"
#include "base/value.h"

#define FOR_DEFAULT "30s"
#define WAIT_DEFAULT "500ms"
#define RATE_MOST 1000000
#define COUNT_DEFAULT 1000
#define COUNT_MOST 1000000
#define LOG_FLUSH_MS 1000

int tune_failed(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "moonbus tune: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    return CLI_FAILED;
}

bool tune_interrupted(void *owner)
{
    struct tune *tune = owner;
    const struct timespec none = {0};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    if (!tune->interrupted && sigtimedwait(&signals, NULL, &none) > 0)
        tune->interrupted = true;
    return tune->interrupted;
}

/* --- what is asked for --- */

static int check_source(const struct cli *cli)
{
    int sources = !!cli->tune.input + !!cli->tune.copy_from + !!cli->tune.generate;
    if (!cli->stream)
        return cli_usage(cli, "--stream STREAM is missing: the one that messages are played into");
    if (sources != 1)
        return cli_usage(cli, "one of --input FILE, --copy-from URL and --generate TEMPLATE says "
                              "what is played");
    if (cli->servers_given)
        return cli_usage(cli, "a load test has a server of its own; --copy-from URL copies "
                              "messages from another one");
    if (cli->count && !cli->tune.copy_from)
        return cli_usage(cli, "--count goes with --copy-from");
    return 0;
}

static int read_rate(struct tune *tune)
{
    const char *rate = tune->cli->tune.rate;
    char *end;
    if (!rate || strcmp(rate, "ramp") == 0)
        return 0;
    tune->rate = strtod(rate, &end);
    if (end == rate || *end || !(tune->rate > 0) || tune->rate > RATE_MOST)
        return cli_usage(tune->cli,
                         "--rate: must be messages in a second, up to %d, or \"ramp\", "
                         "not \"%s\"",
                         RATE_MOST, rate);
    return 0;
}

static int read_seconds(const struct cli *cli, const char *spelling, const char *text, double least,
                        double *seconds)
{
    int64_t ns = cli_duration(cli, spelling, text);
    if (ns < 0)
        return CLI_USAGE;
    *seconds = (double)ns / (double)NS_PER_S;
    return *seconds >= least
               ? 0
               : cli_usage(cli, "%s: %s is too short; at least %gs", spelling, text, least);
}

/* Settings to try, and what they are. */
static const struct trial_setting {
    const char *name, *key; /* key: as the mind has it */
    enum { TRY_NUMBER, TRY_DURATION, TRY_SIZE } kind;
} tries[] = {
    {"concurrency", "concurrency", TRY_NUMBER},
    {"batch", "batch", TRY_NUMBER},
    {"timeout", "timeout", TRY_DURATION},
    {"ack_wait", "ack_wait", TRY_DURATION},
    {"workers", "workers", TRY_NUMBER},
    {"graceful_timeout", "graceful_timeout", TRY_DURATION},
    {"memory", "limits.memory", TRY_SIZE},
    {"offload_threads", "limits.offload_threads", TRY_NUMBER},
};

static int read_value(const struct trial_setting *setting, const char *value, double *number,
                      struct err *err)
{
    int64_t whole = 0;
    char *end;
    int code = 0;
    switch (setting->kind) {
    case TRY_DURATION:
        code = value_duration(value, strlen(value), &whole, err);
        *number = (double)whole / (double)NS_PER_S;
        break;
    case TRY_SIZE:
        code = value_size(value, strlen(value), &whole, err);
        *number = (double)whole;
        break;
    case TRY_NUMBER:
        *number = (double)strtol(value, &end, 10);
        if (end == value || *end)
            code = err_set(err, ERR_INVALID, "must be a number, not \"%s\"", value);
        break;
    }
    if (!code && !(*number > 0))
        code = err_set(err, ERR_INVALID, "must be above 0");
    return code;
}

/* "concurrency=8" */
static int read_try(struct tune *tune, const char *text)
{
    struct err err;
    double number = 0;
    const char *equals = strchr(text, '=');
    size_t len = equals ? (size_t)(equals - text) : strlen(text);
    for (size_t i = 0; equals && i < sizeof tries / sizeof *tries; i++) {
        if (strlen(tries[i].name) != len || strncmp(tries[i].name, text, len) != 0)
            continue;
        if (read_value(&tries[i], equals + 1, &number, &err) != 0)
            return cli_usage(tune->cli, "--try %s: %s", tries[i].name, err.message);
        cJSON_DeleteItemFromObject(tune->tries, tries[i].key);
        cJSON_AddNumberToObject(tune->tries, tries[i].key, number);
        return 0;
    }
    return cli_usage(tune->cli,
                     "--try %s: must be SETTING=VALUE, of concurrency, batch, timeout, ack_wait, "
                     "workers, graceful_timeout, memory and offload_threads",
                     text);
}

static int read_tries(struct tune *tune)
{
    const struct cli *cli = tune->cli;
    int status = 0;
    if (cli->tune.try_count == 0)
        return 0;
    tune->tries = cJSON_CreateObject();
    for (int i = 0; i < cli->tune.try_count && !status; i++)
        status = read_try(tune, cli->tune.tries[i]);
    if (!status && !(tune->rate > 0))
        status = cli_usage(cli, "--try wants a --rate to play");
    return status;
}

static int read_options(struct tune *tune)
{
    const struct cli *cli = tune->cli;
    int status = check_source(cli);
    if (!status)
        status = read_rate(tune);
    if (!status)
        status = read_seconds(cli, "--for", cli->tune.length ? cli->tune.length : FOR_DEFAULT, 1,
                              &tune->budget);
    if (!status)
        status = read_seconds(cli, "--wait", cli->tune.wait ? cli->tune.wait : WAIT_DEFAULT, 0.001,
                              &tune->bound);
    return status ? status : read_tries(tune);
}

/* --- before the first round --- */

static char *first_line(const char *path)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t size = 0;
    bool ok = file && getline(&line, &size, file) > 0;
    if (file)
        fclose(file);
    if (!ok) {
        free(line);
        line = NULL;
    }
    return line;
}

/* What the scripts register. */
static int discover(struct tune *tune)
{
    struct err err;
    cJSON *none = cJSON_CreateObject();
    int code = trial_host_start(&tune->host, tune->cli, none, tune->server.own.folder, &err);
    if (!code)
        code = trial_host_wait_end(&tune->host, &err);
    cJSON_Delete(none);
    char *line = code ? NULL : first_line(tune->host.output);
    tune->found = line ? cJSON_Parse(line) : NULL;
    free(line);
    if (tune->found)
        return 0;
    tune_failed("the handlers do not load: %s", code ? err.message : "nothing was said of them");
    return CLI_USAGE;
}

static cJSON *ask(struct tune *tune, const char *what, cJSON *asked)
{
    struct err err;
    cJSON *answer = mind_call(tune->mind, what, asked, &err);
    if (!answer)
        tune_failed("%s", err.message);
    return answer;
}

static int find_handlers(struct tune *tune)
{
    cJSON *asked = cJSON_CreateObject();
    cJSON_AddItemToObject(asked, "found", cJSON_Duplicate(tune->found, true));
    cJSON_AddStringToObject(asked, "stream", tune->cli->stream);
    if (tune->cli->subject)
        cJSON_AddStringToObject(asked, "subject", tune->cli->subject);
    cJSON *answer = ask(tune, "subjects", asked);
    const char *error = json_text(answer, "error");
    if (error)
        tune_failed("%s", error);
    tune->handlers = cJSON_DetachItemFromObject(answer, "handlers");
    tune->subjects = cJSON_DetachItemFromObject(answer, "subjects");
    cJSON_Delete(answer);
    return tune->handlers ? 0 : CLI_USAGE;
}

/* A file is read, and a template checked, before anything is started. */
static int load_messages(struct tune *tune)
{
    struct err err;
    const struct cli *cli = tune->cli;
    long count = COUNT_DEFAULT;
    int code, status = 0;
    if (cli->count && (count = cli_number(cli, "--count", cli->count, 1, COUNT_MOST)) < 0)
        return CLI_USAGE;
    if (cli->tune.copy_from) {
        code = 0;
        status = tune_messages_copy(&tune->messages, cli, cli->tune.copy_from, cli->stream, count,
                                    &tune->copied);
    } else if (cli->tune.input) {
        code = tune_messages_read(&tune->messages, cli->tune.input, tune->subjects, &err);
    } else {
        code = tune_messages_generate(&tune->messages, cli->tune.generate, tune->subjects, &err);
    }
    if (!code && !status)
        code = tune_messages_sift(&tune->messages, tune->handlers, &err);
    if (code) {
        tune_failed("%s", err.message);
        status = CLI_USAGE;
    }
    return status;
}

static cJSON *open_asked(const struct tune *tune)
{
    const struct cli *cli = tune->cli;
    cJSON *asked = cJSON_CreateObject(), *outputs = cJSON_CreateArray();
    cJSON_AddItemToObject(asked, "found", cJSON_Duplicate(tune->found, true));
    cJSON_AddItemToObject(asked, "flags", cJSON_Duplicate(json_field(tune->found, "flags"), true));
    cJSON_AddStringToObject(asked, "stream", cli->stream);
    cJSON_AddItemToObject(asked, "played", tune_messages_subjects(&tune->messages));
    if (tune->copied)
        cJSON_AddItemToObject(asked, "copied", cJSON_Duplicate(tune->copied, true));
    for (int i = 0; i < cli->tune.output_count; i++)
        cJSON_AddItemToArray(outputs, cJSON_CreateString(cli->tune.outputs[i]));
    cJSON_AddItemToObject(asked, "outputs", outputs);
    if (tune->rate > 0)
        cJSON_AddNumberToObject(asked, "rate", tune->rate);
    if (tune->tries)
        cJSON_AddItemToObject(asked, "try", cJSON_Duplicate(tune->tries, true));
    cJSON_AddNumberToObject(asked, "budget", tune->budget);
    cJSON_AddNumberToObject(asked, "bound", tune->bound);
    cJSON_AddNumberToObject(asked, "cpus", cpus_available());
    return asked;
}

static void print_head(const struct tune *tune, const char *head)
{
    const cJSON *handler;
    const struct cli *cli = tune->cli;
    printf("moonbus tune: ");
    cJSON_ArrayForEach(handler, tune->handlers)
        printf("%s%s", handler != tune->handlers->child ? ", " : "",
               json_text_or(handler, "handler", ""));
    printf(" on a private nats-server, with %d message%s%s\n", tune->messages.count,
           tune->messages.count == 1 ? "" : "s", cli->tune.generate ? " by the template" : "");
    if (tune->messages.unwanted > 0)
        printf("%d messages that no handler of the stream takes are left out\n",
               tune->messages.unwanted);
    printf("Apart: NATS. bus.http %s. For real: files, and what bus.offload does.\n\n%s\n",
           cli->tune.allow_http ? "calls real servers (--allow-http)"
                                : "is refused (--allow-http lets it out)",
           head);
    fflush(stdout);
}

/* --- the rounds --- */

static int play_all(struct tune *tune)
{
    cJSON *opened = ask(tune, "open", open_asked(tune));
    if (!opened)
        return CLI_FAILED;
    cJSON *round = cJSON_DetachItemFromObject(opened, "first");
    tune->streams = cJSON_DetachItemFromObject(opened, "streams");
    if (!tune->cli->json)
        print_head(tune, json_text_or(opened, "head", ""));
    cJSON_Delete(opened);
    int status = CLI_OK;
    while (round && !status && !tune->interrupted) {
        cJSON *played = tune_play(tune, round);
        cJSON *answer = played && !tune->interrupted ? ask(tune, "next", played) : NULL;
        if (tune->interrupted)
            cJSON_Delete(played); /* half of a round says nothing */
        else if (!answer)
            status = CLI_FAILED;
        if (answer && !tune->cli->json) {
            printf("%s\n", json_text_or(answer, "line", ""));
            fflush(stdout);
        }
        cJSON_Delete(round);
        round = cJSON_DetachItemFromObject(answer, "next");
        cJSON_Delete(answer);
    }
    cJSON_Delete(round);
    return status;
}

static int print_report(struct tune *tune)
{
    cJSON *asked = cJSON_CreateObject();
    cJSON_AddBoolToObject(asked, "json", tune->cli->json);
    cJSON_AddBoolToObject(asked, "interrupted", tune->interrupted);
    cJSON *answer = ask(tune, "report", asked);
    bool good = json_true(answer, "good");
    fputs(json_text_or(answer, "text", ""), stdout);
    fflush(stdout);
    cJSON_Delete(answer);
    return good ? CLI_OK : CLI_FAILED;
}

static int run_tune(struct tune *tune)
{
    struct err err;
    int status = read_options(tune);
    if (status)
        return status;
    tune->mind = mind_new(&err);
    if (!tune->mind)
        return tune_failed("%s", err.message);
    /* Copying ends what it has used of nats.c, so the private server comes behind it. The folder is
     * that server's. */
    if (tune_server_start(&tune->server, tune->cli->nats_server, &err) != 0)
        return tune_failed("%s", err.message);
    status = discover(tune);
    if (!status)
        status = find_handlers(tune);
    if (!status)
        status = load_messages(tune);
    if (status)
        return status;
    if (tune_server_connect(&tune->server, &err) != 0)
        return tune_failed("%s", err.message);
    status = play_all(tune);
    return status ? status : print_report(tune);
}

static void clear(struct tune *tune)
{
    trial_host_stop(&tune->host, 0);
    trial_host_clear(&tune->host);
    tune_server_stop(&tune->server);
    tune_messages_clear(&tune->messages);
    mind_free(tune->mind);
    cJSON_Delete(tune->found);
    cJSON_Delete(tune->handlers);
    cJSON_Delete(tune->subjects);
    cJSON_Delete(tune->streams);
    cJSON_Delete(tune->copied);
    cJSON_Delete(tune->tries);
}

int cli_tune(struct cli *cli)
{
    struct tune tune = {.cli = cli};
    if (cli->tune.as_host)
        return trial_host_main(cli);
    thread_block_signals(NULL);
    int status = run_tune(&tune);
    clear(&tune);
    log_output_flush(LOG_FLUSH_MS);
    return status;
}
