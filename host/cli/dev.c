/* dev - moonbus run with a private nats-server, and the greeting. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/app.h"
#include "app/version.h"
#include "base/text.h"
#include "base/value.h"
#include "cli/cli.h"
#include "cli/example.h"

#define NATS_URL "nats://127.0.0.1:4222"

struct dev {
    struct cli *cli;
    const struct config *config; /* not owned */
    bool servers_given;
};

/* --- where .moonbus/ goes --- */

/* Beside the folder of the handlers, or the file; for "." inside it. */
static void folder_beside(const char *path, char *folder, size_t size)
{
    char copy[PATH_MAX];
    struct stat st;
    snprintf(copy, sizeof copy, "%s", path);
    size_t len = strlen(copy);
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = '\0';
    char *slash = strrchr(copy, '/');
    const char *name = slash ? slash + 1 : copy;
    bool is_folder = stat(copy, &st) == 0 && S_ISDIR(st.st_mode);
    if (is_folder && (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || !*name))
        snprintf(folder, size, "%s/.moonbus", *name ? copy : "");
    else if (slash)
        snprintf(folder, size, "%.*s/.moonbus", (int)(slash - copy), copy);
    else
        snprintf(folder, size, ".moonbus");
    if (strncmp(folder, "./", 2) == 0)
        memmove(folder, folder + 2, strlen(folder + 2) + 1);
}

/* --- the greeting --- */

static bool is_shown(const struct registration_view *view)
{
    return !view->declared && strcmp(view->what, "hook") != 0;
}

/* Calls visit for what is shown, in order. */
static void each_handler(struct engine *engine,
                         void (*visit)(void *arg, struct script *script,
                                       const struct registration_view *view),
                         void *arg)
{
    for (int i = 0; i < engine_script_count(engine); i++) {
        struct registration_view view;
        struct script *script = engine_script(engine, i);
        for (int k = 0; script_serves(script) && engine_registration(engine, script, k, &view);
             k++) {
            if (is_shown(&view))
                visit(arg, script, &view);
        }
    }
}

struct table {
    struct text *out;
    int script_width, handler_width;
};

static void measure(void *arg, struct script *script, const struct registration_view *view)
{
    struct table *table = arg;
    int script_len = (int)strlen(script_name(script)), len = (int)strlen(view->handler);
    table->script_width = script_len > table->script_width ? script_len : table->script_width;
    table->handler_width = len > table->handler_width ? len : table->handler_width;
}

static void print_row(void *arg, struct script *script, const struct registration_view *view)
{
    struct table *table = arg;
    text_printf(table->out, "  %-*s  %-*s  %s\n", table->script_width, script_name(script),
                table->handler_width, view->handler, view->what);
}

/* What to try: of the script that registers least, which is the simplest to follow. */
struct tries {
    struct engine *engine;
    const char *request, *consume;               /* subjects, of the registrations */
    const char *request_schema, *consume_schema; /* of their payloads; NULL: none is stated */
    int request_size;
    char consumed[256];
    struct script *edit;
};

static int size_of(struct engine *engine, struct script *script)
{
    struct registration_view view;
    int count = 0;
    while (engine_registration(engine, script, count, &view))
        count++;
    return count;
}

static void find_tries(void *arg, struct script *script, const struct registration_view *view)
{
    struct tries *tries = arg;
    int size = size_of(tries->engine, script);
    bool is_endpoint = view->service && view->subject;
    if (is_endpoint || strcmp(view->what, "request/reply") == 0) {
        if (!tries->request || size < tries->request_size) {
            tries->request = view->subject;
            tries->request_schema = view->schema;
            tries->request_size = size;
            tries->edit = script;
        }
        return;
    }
    if (!tries->edit)
        tries->edit = script;
    size_t len = strcspn(view->what, ",");
    /* Nobody publishes the firings of a js.cron by hand. */
    bool consumes = view->consumer && strncmp(view->what, "moonbus.", 8) != 0;
    if (consumes && !tries->consume && len < sizeof tries->consumed &&
        subject_check(view->what, len, SUBJECT_SUBSCRIBE, NULL) == 0) { /* not "all subjects" */
        snprintf(tries->consumed, sizeof tries->consumed, "%.*s", (int)len, view->what);
        tries->consume = tries->consumed;
        tries->consume_schema = view->schema;
    }
}

/* greet.* becomes greet.ada */
static void put_subject(struct text *out, const char *pattern)
{
    for (const char *token = pattern; *token;) {
        size_t len = strcspn(token, ".");
        bool wild = len == 1 && (*token == '*' || *token == '>');
        text_add(out, wild ? "ada" : token, wild ? 3 : len);
        token += len;
        if (*token)
            text_add(out, token++, 1);
    }
}

/* What a client in this folder needs beside the subject: nothing, where it finds our server by
 * itself. */
static void put_server(struct text *out, const struct dev *dev)
{
    char path[PATH_MAX], url[256];
    const char *ours = dev->config->servers[0];
    bool found = cli_find_url(path, sizeof path, url, sizeof url);
    bool finds =
        !dev->servers_given && (found ? strcmp(url, ours) == 0 : strcmp(ours, NATS_URL) == 0);
    if (!finds)
        text_printf(out, " -s %s", ours);
}

/* One line, with a payload that the schema takes, if there is one. Where none is found there is no
 * line: what it sends would be refused. */
static void put_try(struct text *out, const char **line_start, const struct dev *dev,
                    const char *command, const char *subject, const char *schema, const char *data)
{
    const char *program = strchr(dev->cli->program, '/') ? dev->cli->program : "moonbus";
    size_t before = out->len;
    text_printf(out, "%s%s %s ", *line_start, program, command);
    put_subject(out, subject);
    text_puts(out, schema ? " " : data);
    if (schema && !example_put(out, schema)) {
        out->len = before;
        return;
    }
    put_server(out, dev);
    text_puts(out, "\n");
    *line_start = "      ";
}

static void put_refused(struct text *out, const struct app *app)
{
    const char *name;
    for (int i = 0; (name = app_refused(app, i)); i++)
        text_printf(out, "  %s  does not serve, see above: mend it and save\n", name);
}

static void on_ready(void *owner, struct app *app, int64_t elapsed_ms)
{
    const struct dev *dev = owner;
    struct engine *engine = app_engine(app);
    struct text out;
    struct table table = {.out = &out};
    struct tries tries = {.engine = engine};
    const char *start = "try:  ";
    text_init(&out);
    text_printf(&out, "moonbus %s dev · nats %s · ready in %lld ms\n", MOONBUS_VERSION,
                dev->config->servers[0] + strlen("nats://"), (long long)elapsed_ms);
    each_handler(engine, measure, &table);
    each_handler(engine, print_row, &table);
    put_refused(&out, app);
    each_handler(engine, find_tries, &tries);
    if (tries.request)
        put_try(&out, &start, dev, "req", tries.request, tries.request_schema, "");
    if (tries.consume)
        put_try(&out, &start, dev, "pub -J", tries.consume, tries.consume_schema, " '{\"id\":1}'");
    if (tries.edit && dev->config->watch) {
        const char *name = script_name(tries.edit);
        text_printf(&out, "%sedit %s and save: \"%s: generation %u live in ... ms\"\n", start, name,
                    name, script_generation(tries.edit) + 1);
    }
    fwrite(out.bytes, 1, out.len, stdout);
    fflush(stdout);
    text_clear(&out);
}

/* --- the command --- */

static void say_ignored(struct config *config)
{
    const char *at = config->server_count > 0 ? strrchr(config->servers[0], '@') : NULL;
    if (config->servers_stated)
        config_warn(config, "dev starts a nats-server of its own; not used: the configured %s%s",
                    at ? at + 1 : config->servers[0], config->server_count > 1 ? ", ..." : "");
}

int cli_dev(struct cli *cli)
{
    static const struct config_flag defaults[] = {{"watch", "true", "dev"},
                                                  {"log.format", "text", "dev"}};
    struct config_sources sources = cli_sources(cli);
    sources.defaults = defaults;
    sources.default_count = sizeof defaults / sizeof *defaults;
    sources.no_selected = true;
    char folder[PATH_MAX];
    struct child_options child = {
        .binary = cli->nats_server, .folder = folder, .store = cli->store};
    if (cli->nats_port) {
        long port = cli_number(cli, "--nats-port", cli->nats_port, 1, 65535);
        if (port < 0)
            return CLI_USAGE;
        child.port = (int)port;
    }
    struct config *config = cli_host_config(cli, &sources);
    if (!config)
        return CLI_USAGE;
    folder_beside(cli->arg_count > 0 ? cli->args[0] : config->handlers[0], folder, sizeof folder);
    if (cli->store && mkdir(folder, 0755) != 0 && errno != EEXIST)
        child.folder = cli->store; /* the handlers stand where nobody may write */
    say_ignored(config);
    struct dev dev = {.cli = cli, .config = config, .servers_given = config->servers_given};
    const struct app_options options = {
        .config = config,
        .sources = &sources,
        .paths = (const char *const *)cli->args,
        .path_count = cli->arg_count,
        .child = &child,
        .serves_what_it_can = true,
        .began_ns = cli->began_ns,
        .on_ready = on_ready,
        .owner = &dev,
    };
    int status = cli_run_app(&options);
    config_free(config);
    return status;
}
