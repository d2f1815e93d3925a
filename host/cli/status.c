/* status - moonbus status: what a running host does, for people; once, or again and again. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/value.h"
#include "cli/ask.h"
#include "cli/cli.h"

/* --- as text --- */

/* What a script or a message wrote must not steer the terminal. */
static void add_shown(struct text *text, const char *string)
{
    text_escape(text, string, strlen(string));
}

static void add_ago(struct text *text, double ms)
{
    char buf[32];
    int64_t seconds = (int64_t)(ms / 1000);
    text_printf(text, "%s ago", value_format_duration(seconds * NS_PER_S, buf, sizeof buf));
}

static void add_counts(struct text *text, const cJSON *handler)
{
    static const char *const counts[] = {"ack", "nak",    "term",   "dead_letter",
                                         "ok",  "failed", "dropped"};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        double count = json_number(handler, counts[i], 0);
        if (count > 0)
            text_printf(text, ", %s %.0f", counts[i], count);
    }
}

/* Old figures say so: the server is asked at most every 10 s. */
#define LAG_OLD_MS 15000.0

static void add_lag(struct text *text, const cJSON *handler)
{
    const cJSON *lag = json_field(handler, "lag");
    const char *until = json_text_or(handler, "paused_until", "");
    if (json_true(handler, "paused")) {
        text_printf(text, "    paused on the server%s", *until ? " until " : "");
        add_shown(text, until);
        text_puts(text, "\n");
    }
    const cJSON *group = json_field(handler, "group"), *pinned = json_field(handler, "pinned");
    if (cJSON_IsString(group)) {
        text_puts(text, "    group ");
        add_shown(text, group->valuestring);
        text_puts(text, cJSON_IsTrue(pinned) ? ", pinned\n"
                        : cJSON_IsFalse(pinned)
                            ? ", stands by: another process is pinned, or none is\n"
                            : "\n");
    }
    if (strcmp(json_text_or(handler, "retries", ""), "naks") == 0)
        text_puts(text, "    long retries are delayed naks: the server has no schedules\n");
    if (!lag)
        return;
    double waits = json_number(lag, "pending", 0), open = json_number(lag, "ack_pending", 0);
    double age_ms = json_number(lag, "age_ms", 0);
    if (waits + open == 0)
        return;
    text_printf(text, "    lag %.0f; delivered without a verdict %.0f", waits, open);
    if (json_number(lag, "redelivered", 0) > 0)
        text_printf(text, ", redelivered %.0f", json_number(lag, "redelivered", 0));
    if (age_ms > LAG_OLD_MS) {
        text_puts(text, ", said ");
        add_ago(text, age_ms);
    }
    text_puts(text, "\n");
}

/* A watch or a cache of a bucket. */
static void add_reader(struct text *text, const cJSON *handler)
{
    if (!json_field(handler, "caught_up"))
        return;
    if (json_true(handler, "gone"))
        text_puts(text, "    its stream cannot be read\n");
    else if (!json_true(handler, "caught_up"))
        text_printf(text, "    reads what is there: %.0f to come\n",
                    json_number(handler, "behind", 0));
}

static void add_last_error(struct text *text, const cJSON *handler)
{
    const cJSON *error = json_field(handler, "last_error");
    if (!error)
        return;
    text_puts(text, "    last error ");
    add_ago(text, json_number(error, "ago_ms", 0));
    text_puts(text, ": ");
    add_shown(text, json_text_or(error, "code", ""));
    if (*json_text_or(error, "message", "")) {
        text_puts(text, ": ");
        add_shown(text, json_text_or(error, "message", ""));
    }
    text_puts(text, "\n");
}

static void add_handler(struct text *text, const cJSON *handler)
{
    struct text name;
    text_init(&name);
    add_shown(&name, json_text_or(handler, "handler", ""));
    text_printf(text, "  %-28.*s running %.0f", (int)name.len, name.bytes,
                json_number(handler, "running", 0));
    text_clear(&name);
    if (json_number(handler, "stuck", 0) > 0)
        text_printf(text, " (stuck %.0f)", json_number(handler, "stuck", 0));
    text_printf(text, ", queued %.0f", json_number(handler, "queued", 0));
    add_counts(text, handler);
    if (*json_text_or(handler, "next", "")) {
        text_puts(text, ", next at ");
        add_shown(text, json_text_or(handler, "next", ""));
    }
    text_puts(text, "\n");
    add_lag(text, handler);
    add_reader(text, handler);
    if (*json_text_or(handler, "edited", "")) {
        text_puts(text, "    edited on the server: ");
        add_shown(text, json_text_or(handler, "edited", ""));
        text_puts(text, "\n");
    }
    add_last_error(text, handler);
}

/* "orders.lua: refused at 2026-..: why", if it was. */
static void add_refused(struct text *text, const char *indent, const char *name,
                        const cJSON *object)
{
    const char *error = json_text_or(object, "last_error", "");
    if (!*error)
        return;
    text_puts(text, indent);
    add_shown(text, name);
    text_printf(text, "refused at %s: ", json_text_or(object, "last_error_at", "the start"));
    add_shown(text, error);
    text_puts(text, "\n");
}

static void add_config(struct text *text, const cJSON *config)
{
    char name[600];
    const cJSON *line;
    snprintf(name, sizeof name, "%s: ", json_text_or(config, "file", ""));
    add_refused(text, "", name, config);
    cJSON_ArrayForEach(line, json_field(config, "at_next_start")) {
        add_shown(text, name);
        add_shown(text, cJSON_IsString(line) ? line->valuestring : "");
        text_puts(text, "\n");
    }
}

/* Only what is not as configured. */
static void add_log(struct text *text, const cJSON *log)
{
    const char *now = json_text_or(log, "level", "");
    const char *configured = json_text_or(log, "configured", "");
    if (strcmp(now, configured) != 0)
        text_printf(text, "log: level %s, configured is %s\n", now, configured);
}

static void add_script(struct text *text, const cJSON *script)
{
    const cJSON *handler;
    add_shown(text, json_text_or(script, "name", ""));
    text_printf(text, ": generation %.0f%s\n", json_number(script, "generation", 0),
                json_true(script, "served") ? "" : ", not served");
    add_refused(text, "  ", "", script);
    cJSON_ArrayForEach(handler, json_field(script, "handlers"))
        add_handler(text, handler);
}

/* "consume connected (own wire)" */
static void add_connection(struct text *text, const cJSON *status, const char *name)
{
    const cJSON *connections = json_field(status, "connections");
    const char *wire = json_text_or(json_field(status, "wire"), name, "");
    text_printf(text, "%s %s", name, json_text_or(connections, name, ""));
    if (*wire)
        text_printf(text, " (%s wire)", wire);
}

static void add_process(struct text *text, const cJSON *status)
{
    char uptime[32];
    const cJSON *reason;
    int64_t seconds = (int64_t)(json_number(status, "uptime_ms", 0) / 1000);
    value_format_duration(seconds * NS_PER_S, uptime, sizeof uptime);
    text_printf(text, "moonbus %s, %s, %s, up %s, pid %.0f\n",
                json_text_or(json_field(status, "versions"), "moonbus", ""),
                json_text_or(status, "state", ""),
                json_true(status, "ready") ? "ready" : "not ready", uptime,
                json_number(status, "pid", 0));
    cJSON_ArrayForEach(reason, json_field(status, "reasons")) {
        text_puts(text, "  not ready: ");
        add_shown(text, cJSON_IsString(reason) ? reason->valuestring : "");
        text_puts(text, "\n");
    }
    text_puts(text, "connections: ");
    add_connection(text, status, "consume");
    text_puts(text, ", ");
    add_connection(text, status, "publish");
    text_puts(text, "\n");
    const cJSON *jetstream = json_field(status, "jetstream");
    if (json_field(jetstream, "api_level"))
        text_printf(text, "jetstream: API level %.0f (nats-server %s%s)\n",
                    json_number(jetstream, "api_level", 0),
                    json_text_or(jetstream, "nats_server", ""),
                    json_number(jetstream, "api_level", 0) > 0 ? "" : " to 2.10");
}

static void add_rest(struct text *text, const cJSON *status)
{
    const cJSON *stuck = json_field(status, "stuck"), *offload = json_field(status, "offload");
    const cJSON *store, *service;
    if (json_number(stuck, "threads", 0) > 0)
        text_printf(text, "stuck: threads lost %.0f of at most %.0f\n",
                    json_number(stuck, "threads", 0), json_number(stuck, "limit", 0));
    if (json_number(offload, "calls", 0) + json_number(offload, "running", 0) > 0)
        text_printf(text, "offload: threads %.0f of %.0f, lost %.0f, running %.0f, queued %.0f\n",
                    json_number(offload, "threads", 0), json_number(offload, "limit", 0),
                    json_number(offload, "lost", 0), json_number(offload, "running", 0),
                    json_number(offload, "queued", 0) + json_number(offload, "waiting", 0));
    cJSON_ArrayForEach(service, json_field(status, "services")) {
        text_puts(text, "service ");
        add_shown(text, json_text_or(service, "name", ""));
        text_puts(text, " ");
        add_shown(text, json_text_or(service, "version", ""));
        text_printf(text, ": id %s, endpoints %.0f\n", json_text_or(service, "id", ""),
                    json_number(service, "endpoints", 0));
    }
    cJSON_ArrayForEach(store, json_field(status, "shared")) {
        text_puts(text, "shared \"");
        add_shown(text, json_text_or(store, "name", ""));
        text_printf(text, "\": entries %.0f, %.0f of %.0f KB\n", json_number(store, "entries", 0),
                    json_number(store, "bytes", 0) / 1024, json_number(store, "size", 0) / 1024);
    }
}

static void add_status(struct text *text, const cJSON *status)
{
    const cJSON *script, *refused;
    add_process(text, status);
    cJSON_ArrayForEach(refused, json_field(status, "refused")) {
        text_puts(text, "refused: the subscription to \"");
        add_shown(text, json_text_or(refused, "subject", ""));
        text_printf(text, "\" (%s connection)\n", json_text_or(refused, "connection", ""));
    }
    add_config(text, json_field(status, "config"));
    add_log(text, json_field(status, "log"));
    cJSON_ArrayForEach(script, json_field(status, "scripts"))
        add_script(text, script);
    add_rest(text, status);
}

/* --- once --- */

static void print_text(const struct text *text)
{
    fwrite(text->bytes, 1, text->len, stdout);
}

/* Of a host that waits for its server there is nothing to mend, so that is healthy. */
static int tell_health(struct cli *cli)
{
    struct answer answer;
    int status = cli_ask(cli, "/healthz", false, &answer);
    if (status == 0) {
        bool good = json_true(answer.json, "ok");
        const cJSON *reason;
        struct text text;
        text_init(&text);
        text_puts(&text, good ? "healthy\n" : "not healthy\n");
        cJSON_ArrayForEach(reason, json_field(answer.json, "reasons")) {
            text_puts(&text, "  ");
            add_shown(&text, cJSON_IsString(reason) ? reason->valuestring : "");
            text_puts(&text, "\n");
        }
        print_text(&text);
        text_clear(&text);
        status = good ? CLI_OK : CLI_FAILED;
    }
    answer_clear(&answer);
    return status;
}

static int exit_status_of(const cJSON *status)
{
    return json_true(status, "healthy") && json_true(status, "ready") ? CLI_OK : CLI_FAILED;
}

static void add_pretty(struct text *text, const cJSON *status)
{
    char *json = cJSON_Print(status);
    if (json)
        text_printf(text, "%s\n", json);
    cJSON_free(json);
}

/* Up to the second, of a time as the server writes it. */
static void add_time(struct text *text, const char *before, const char *time)
{
    text_puts(text, before);
    text_escape(text, time, strcspn(time, "."));
    if (strchr(time, '.'))
        text_puts(text, "Z");
}

static void add_activity(struct text *text, const cJSON *item)
{
    const char *active = json_text_or(item, "last_active", "");
    const char *created = json_text_or(item, "created", "");
    if (*active)
        add_time(text, "; last delivery ", active);
    else if (*created)
        add_time(text, "; no delivery since it was made, ", created);
}

static void add_unserved(struct text *text, const cJSON *answer)
{
    const cJSON *list = json_field(answer, "unserved"), *item;
    text_puts(text, cJSON_GetArraySize(list) > 0
                        ? "durables that moonbus made and nobody pulls from:\n"
                        : "each durable that moonbus made is served\n");
    cJSON_ArrayForEach(item, list) {
        text_puts(text, "  ");
        add_shown(text, json_text_or(item, "stream", ""));
        text_puts(text, "/");
        add_shown(text, json_text_or(item, "durable", ""));
        text_puts(text, " of ");
        add_shown(text, json_text_or(item, "script", ""));
        text_printf(text, ": lag %.0f", json_number(item, "pending", 0));
        add_activity(text, item);
        if (json_number(item, "ack_pending", 0) > 0)
            text_printf(text, "; %.0f without a verdict, which a busy host may still have",
                        json_number(item, "ack_pending", 0));
        text_puts(text, "\n");
    }
    if (json_true(answer, "cut"))
        text_puts(text, "  and perhaps more: there are too many to look at all\n");
}

/* Asks for them, too. 0, or an exit status, after it has said why. */
static int ask_unserved(struct cli *cli, cJSON *status, struct text *text)
{
    struct answer answer;
    int code = cli_ask(cli, "/unserved", false, &answer);
    if (code == 0 && cli->json)
        cJSON_AddItemToObject(status, "unserved",
                              cJSON_Duplicate(json_field(answer.json, "unserved"), true));
    else if (code == 0)
        add_unserved(text, answer.json);
    answer_clear(&answer);
    return code;
}

static int tell_once(struct cli *cli)
{
    struct answer answer;
    struct text text;
    int status = cli_ask(cli, "/status", false, &answer), code = 0;
    text_init(&text);
    if (status == 0) {
        if (!cli->json)
            add_status(&text, answer.json);
        if (cli->unserved)
            code = ask_unserved(cli, answer.json, &text);
        if (cli->json)
            add_pretty(&text, answer.json);
        print_text(&text);
        status = code ? code : exit_status_of(answer.json);
    }
    text_clear(&text);
    answer_clear(&answer);
    return status;
}

/* --- again and again --- */

#define WATCH_S 1

#define HOME "\x1b[H"
#define CLEAR_BELOW "\x1b[J"
#define CLEAR_LINE_END "\x1b[K\n"
/* Long lines are cut, not wrapped. */
#define NO_WRAP "\x1b[?7l"
#define WRAP "\x1b[?7h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* A second one ends the command wherever it is. */
static void catch_interrupts(void)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* In place: over what stands there, as many lines as there is room for. */
static void draw(const struct text *text)
{
    struct winsize window = {0};
    size_t rows = ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_row > 1
                      ? window.ws_row - 1u
                      : SIZE_MAX;
    const char *at = text->bytes, *end = text->bytes + text->len;
    fputs(NO_WRAP HOME, stdout);
    for (; at < end && rows > 0; rows--) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (!line_end) /* memory ran out within this line */
            line_end = end;
        fwrite(at, 1, (size_t)(line_end - at), stdout);
        fputs(CLEAR_LINE_END, stdout);
        at = line_end < end ? line_end + 1 : end;
    }
    fputs(CLEAR_BELOW WRAP, stdout);
}

static void add_json(struct text *text, const cJSON *status)
{
    char *line = cJSON_PrintUnformatted(status);
    if (line)
        text_printf(text, "%s\n", line);
    cJSON_free(line);
}

/* on_terminal: what comes is drawn over what was there. */
static void tell_again(struct cli *cli, bool on_terminal, bool first)
{
    struct answer answer;
    struct text text;
    text_init(&text);
    if (cli_ask(cli, "/status", false, &answer) == 0) {
        if (cli->json)
            add_json(&text, answer.json);
        else
            add_status(&text, answer.json);
        if (on_terminal)
            draw(&text);
        else if (!first && !cli->json)
            fputs("\n", stdout);
        if (!on_terminal)
            print_text(&text);
    } else if (on_terminal) {
        fputs(HOME, stdout); /* of what is said next time */
    }
    cli_flush(CLI_OK);
    text_clear(&text);
    answer_clear(&answer);
}

static int watch(struct cli *cli)
{
    bool on_terminal = isatty(STDOUT_FILENO) && !cli->json;
    catch_interrupts();
    if (on_terminal)
        fputs(HOME CLEAR_BELOW, stdout);
    for (bool first = true; !interrupted && !ferror(stdout); first = false) {
        tell_again(cli, on_terminal, first);
        struct timespec wait = {.tv_sec = WATCH_S};
        while (!interrupted && nanosleep(&wait, &wait) != 0 && errno == EINTR)
            ;
    }
    if (on_terminal)
        fputs("\n", stdout); /* behind the ^C */
    return CLI_OK;
}

int cli_status(struct cli *cli)
{
    if (cli->health && cli->watch)
        return cli_usage(cli, "--health asks once: it cannot be with --watch");
    if (cli->unserved && (cli->health || cli->watch))
        return cli_usage(cli, "--unserved asks the whole server, once: it cannot be with %s",
                         cli->watch ? "--watch" : "--health");
    if (cli->health)
        return tell_health(cli);
    return cli->watch ? watch(cli) : tell_once(cli);
}
