/* eval - moonbus eval: runs a chunk of Lua with the bindings against a server. It is a host like
 * any other, whose one script is lua/moonbus/eval.lua; that runs the chunk, and ends the host. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/app.h"
#include "base/text.h"
#include "cli/connect.h"
#include "cli/say.h"
#include "vm/embedded.h"

#define SCRIPT "moonbus.eval"
#define FOREVER "3650d" /* of a chunk without --timeout */

struct eval {
    struct cli *cli;
    char folder[PATH_MAX]; /* "": not made yet */
    char script[PATH_MAX];
    struct config *config; /* owned */
};

/* --- the folder --- */

static const char *const parts[] = {"eval.lua", "chunk",  "name",  "arguments",
                                    "timeout",  "format", "status"};

static void path_of(const struct eval *eval, const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/%s", eval->folder, name);
}

static void remove_folder(struct eval *eval)
{
    char path[PATH_MAX + 16];
    if (!*eval->folder)
        return;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        path_of(eval, parts[i], path, sizeof path);
        unlink(path);
    }
    rmdir(eval->folder);
    *eval->folder = '\0';
}

static bool write_part(const struct eval *eval, const char *name, const char *bytes, size_t len)
{
    char path[PATH_MAX + 16];
    path_of(eval, name, path, sizeof path);
    FILE *file = fopen(path, "wex");
    bool ok = file && fwrite(bytes, 1, len, file) == len;
    if (file && fclose(file) != 0)
        ok = false;
    return ok;
}

static const struct embedded_module *find_script(void)
{
    for (size_t i = 0; i < embedded_module_count; i++) {
        if (strcmp(embedded_modules[i].name, SCRIPT) == 0)
            return &embedded_modules[i];
    }
    return NULL;
}

static bool write_arguments(const struct eval *eval)
{
    struct text list;
    text_init(&list);
    for (int i = 1; i < eval->cli->arg_count; i++)
        text_add(&list, eval->cli->args[i], strlen(eval->cli->args[i]) + 1);
    bool ok = !list.failed && write_part(eval, "arguments", list.bytes, list.len);
    text_clear(&list);
    return ok;
}

static bool make_folder(struct eval *eval)
{
    const char *root = getenv("TMPDIR");
    snprintf(eval->folder, sizeof eval->folder, "%s/moonbus-eval-XXXXXX",
             root && *root ? root : "/tmp");
    if (mkdtemp(eval->folder))
        return true;
    *eval->folder = '\0';
    return false;
}

/* --- the chunk --- */

static bool is_file(const char *text)
{
    struct stat info;
    return stat(text, &info) == 0 && S_ISREG(info.st_mode);
}

/* One word that ends in .lua is no Lua. */
static bool is_file_name(const char *text)
{
    size_t len = strlen(text);
    return len > 4 && strcmp(text + len - 4, ".lua") == 0 && !strpbrk(text, " \t\n;=(){}\"'");
}

/* All of it; false with errno. */
static bool read_all(FILE *file, struct text *out)
{
    char piece[65536];
    size_t got;
    while ((got = fread(piece, 1, sizeof piece, file)) > 0)
        text_add(out, piece, got);
    return !ferror(file) && !out->failed;
}

/* A file, standard input, or the argument itself. name: of the chunk, as Lua wants it. */
static bool read_chunk(const char *argument, struct text *chunk, char *name, size_t size)
{
    bool input = strcmp(argument, "-") == 0;
    if (!input && !is_file(argument) && !is_file_name(argument)) {
        snprintf(name, size, "@eval");
        text_puts(chunk, argument);
        return !chunk->failed;
    }
    FILE *file = input ? stdin : fopen(argument, "re");
    bool ok = file && read_all(file, chunk);
    if (file && !input)
        fclose(file);
    snprintf(name, size, "@%s", input ? "stdin" : argument);
    if (ok && chunk->len > 1 && chunk->bytes[0] == '#') /* "#!": its line stays, for the numbers */
        memcpy(chunk->bytes, "--", 2);
    return ok;
}

static int print_errno(const struct cli *cli, const char *what)
{
    say_error(cli, "%s: %s", what, strerror(errno));
    return CLI_FAILED;
}

static int lay_out(struct eval *eval)
{
    const struct cli *cli = eval->cli;
    const struct embedded_module *script = find_script();
    const char *timeout = cli->timeout ? cli->timeout : FOREVER;
    const char *format = eval->config->log_format == LOG_JSON ? "json" : "text";
    char name[PATH_MAX + 2];
    struct text chunk;
    text_init(&chunk);
    int status = CLI_OK;
    if (!read_chunk(cli->args[0], &chunk, name, sizeof name))
        status = print_errno(cli, cli->args[0]);
    else if (!make_folder(eval) || !script ||
             !write_part(eval, "eval.lua", script->source, script->len) ||
             !write_part(eval, "chunk", chunk.bytes, chunk.len) ||
             !write_part(eval, "name", name, strlen(name)) || !write_arguments(eval) ||
             !write_part(eval, "timeout", timeout, strlen(timeout)) ||
             !write_part(eval, "format", format, strlen(format)))
        status = print_errno(cli, "a temporary folder");
    text_clear(&chunk);
    path_of(eval, "eval.lua", eval->script, sizeof eval->script);
    setenv("MOONBUS_EVAL_FOLDER", eval->folder, 1);
    return status;
}

/* --- the command --- */

/* What the chunk has returned; CLI_FAILED: it did not end. What it left to be waited for may have
 * failed since: that the host says. */
static int result_of(const struct eval *eval)
{
    char path[PATH_MAX + 16];
    path_of(eval, "status", path, sizeof path);
    FILE *file = fopen(path, "re");
    int digit = file ? fgetc(file) : EOF;
    if (file)
        fclose(file);
    return digit == '0' ? CLI_OK : CLI_FAILED;
}

static int run_host(struct eval *eval, const struct config_sources *sources)
{
    const char *const paths[] = {eval->script};
    const struct app_options options = {
        .config = eval->config,
        .sources = sources,
        .paths = paths,
        .path_count = 1,
        .needs_start = true, /* a chunk that was ended cannot say so itself */
        .began_ns = eval->cli->began_ns,
    };
    struct app_end end = app_run(&options);
    int status = result_of(eval);
    remove_folder(eval);
    if (end.left_behind && end.status == APP_OK)
        end.status = status ? APP_FAILED : APP_OK;
    cli_end_app(&end); /* may not return */
    return status ? status : (int)end.status;
}

int cli_eval(struct cli *cli)
{
    /* The user's own code, on the user's own machine; and nothing of it is to be reached or to be
     * kept running. */
    static const struct config_flag forced[] = {
        {"admin", "off", "eval"},           {"watch", "false", "eval"},
        {"trust", "true", "eval"},          {"workers", "1", "eval"},
        {"graceful_timeout", "5s", "eval"}, {"limits.max_stuck", "1", "eval"},
    };
    static const struct config_flag defaults[] = {{"log.format", "text", "eval"},
                                                  {"log.level", "warn", "eval"}};
    enum { FORCED = sizeof forced / sizeof *forced };
    struct eval eval = {.cli = cli};
    struct config_flag *flags = calloc((size_t)cli->flag_count + FORCED, sizeof *flags);
    if (!flags)
        return CLI_FAILED;
    memcpy(flags, forced, sizeof forced);
    memcpy(flags + FORCED, cli->flags, (size_t)cli->flag_count * sizeof *flags);
    struct config_sources sources = cli_sources(cli);
    sources.flags = flags;
    sources.flag_count += FORCED;
    sources.defaults = defaults;
    sources.default_count = sizeof defaults / sizeof *defaults;
    char found[PATH_MAX];
    int status = CLI_OK;
    if (cli->timeout && cli_duration(cli, "--timeout", cli->timeout) <= 0)
        status = CLI_USAGE;
    if (!status)
        status = client_config(cli, &sources, found, sizeof found, &eval.config);
    if (!status)
        status = lay_out(&eval);
    if (!status)
        status = run_host(&eval, &sources);
    remove_folder(&eval);
    config_free(eval.config);
    free(flags);
    return status;
}
