/* What was typed, as values; and what is said of it when it is none. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/value.h"
#include "cli/cli.h"

int cli_usage(const struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "moonbus%s%s: ", cli->command ? " " : "",
            cli->command ? cli->command->name : "");
    vfprintf(stderr, format, args);
    fprintf(stderr, "; see: moonbus help%s%s\n", cli->command ? " " : "",
            cli->command ? cli->command->name : "");
    va_end(args);
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
