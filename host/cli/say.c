/* say - a command's own words, for people or for programs. */
#include "cli/say.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log_line.h"
#include "base/value.h"
#include "cli/cli.h"

/* Until the settings are known, what was typed and the environment count. */
static bool is_json(const struct cli *cli)
{
    const struct config_sources sources = cli_sources(cli);
    return log_format() == LOG_JSON || config_stated_format(&sources) == LOG_JSON;
}

/* "timeout: no answer": where the sentence begins, behind its code. */
static const char *split_code(const char *text, const char **code)
{
    const char *colon = strstr(text, ": ");
    char name[32];
    if (!colon || (size_t)(colon - text) >= sizeof name)
        return text;
    memcpy(name, text, (size_t)(colon - text));
    name[colon - text] = '\0';
    enum err_code found = err_named(name);
    if (found == ERR_NONE)
        return text;
    *code = err_name(found);
    return colon + 2;
}

static void write_json(enum log_level level, const char *text)
{
    struct log_context context = {0};
    struct text line;
    struct timespec now;
    text_init(&line);
    clock_gettime(CLOCK_REALTIME, &now);
    const char *message = split_code(text, &context.code);
    log_line_json(&(struct log_line){.level = level,
                                     .context = &context,
                                     .message = message,
                                     .message_len = strlen(message),
                                     .wall_ns = now.tv_sec * NS_PER_S + now.tv_nsec},
                  &line);
    fwrite(line.bytes, 1, line.len, stderr);
    text_clear(&line);
}

void say_any(const struct cli *cli, enum log_level level, const char *format, va_list args)
{
    struct text text;
    text_init(&text);
    text_vprintf(&text, format, args);
    const char *said = text.failed ? "out of memory" : text.bytes;
    if (is_json(cli))
        write_json(level, said);
    else
        fprintf(stderr, "moonbus%s%s: %s\n", cli->command ? " " : "",
                cli->command ? cli->command->name : "", said);
    text_clear(&text);
}

void say_error(const struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_any(cli, LOG_ERROR, format, args);
    va_end(args);
}

void say_note(const struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_any(cli, LOG_INFO, format, args);
    va_end(args);
}

void say_as(const struct config *config)
{
    if (config->log_format == LOG_JSON)
        log_setup(config->log_level, LOG_JSON);
}
