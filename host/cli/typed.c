/* What was typed, as values; and what is said of it when it is none. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/value.h"
#include "cli/cli.h"
#include "cli/say.h"

int cli_usage(const struct cli *cli, const char *format, ...)
{
    va_list args;
    struct text text;
    text_init(&text);
    va_start(args, format);
    text_vprintf(&text, format, args);
    va_end(args);
    say_error(cli, "%s; see: moonbus help%s%s", text.failed ? "out of memory" : text.bytes,
              cli->command ? " " : "", cli->command ? cli->command->name : "");
    text_clear(&text);
    return CLI_USAGE;
}

int64_t cli_duration(const struct cli *cli, const char *spelling, const char *text)
{
    struct err err;
    int64_t ns;
    if (value_duration(text, strlen(text), &ns, &err) == 0)
        return ns;
    cli_usage(cli, "%s: %s", spelling, err.message);
    return -1;
}

struct config_sources cli_sources(const struct cli *cli)
{
    return (struct config_sources){.file = cli->config_file,
                                   .context = cli->context,
                                   .flags = cli->flags,
                                   .flag_count = cli->flag_count};
}

long cli_number(const struct cli *cli, const char *spelling, const char *text, long least,
                long most)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno || end == text || *end || number < least || number > most) {
        cli_usage(cli, "%s: must be a number from %ld to %ld, not \"%s\"", spelling, least, most,
                  text);
        return -1;
    }
    return number;
}
