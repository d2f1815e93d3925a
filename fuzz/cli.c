/* The command line: a letter for the command, then its arguments, one a line. What the options say
 * goes on to the config. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

#define ARGS_MOST 32

static const struct {
    char letter;
    struct cli_command command;
} commands[] = {
    {'r', {.name = "run", .most_args = -1, .bit = CLI_RUN}},
    {'d', {.name = "dev", .most_args = -1, .bit = CLI_DEV}},
    {'p', {.name = "pub", .missing = "SUBJECT", .most_args = 2, .bit = CLI_PUB}},
    {'q', {.name = "req", .missing = "SUBJECT", .most_args = 2, .bit = CLI_REQ}},
    {'s', {.name = "sub", .missing = "SUBJECT", .most_args = 1, .bit = CLI_SUB}},
    {'D', {.name = "redrive", .missing = "STREAM", .most_args = 1, .bit = CLI_REDRIVE}},
    {'R', {.name = "reload", .most_args = 0, .bit = CLI_RELOAD}},
    {'S', {.name = "status", .most_args = 0, .bit = CLI_STATUS}},
    {'o', {.name = "version", .most_args = 0, .bit = CLI_OTHER}},
};

static const struct cli_command *find(char letter)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (commands[i].letter == letter)
            return &commands[i].command;
    }
    return NULL;
}

/* The flags, judged by the config as those of a file are. */
static void check_flags(struct cli *cli)
{
    struct err err = {.code = ERR_NONE};
    cli->config_file = "/dev/null/none";
    struct config_sources sources = cli_sources(cli);
    MUST(config_load(&sources, &err) == NULL);
    sources.file = NULL;
    struct config *config = config_load(&sources, &err);
    if (config)
        config_free(config);
    else
        MUST(err.code == ERR_INVALID && strncmp(err.message, "--", 2) == 0);
}

static void check_numbers(const struct cli *cli)
{
    if (cli->count) {
        long number = cli_number(cli, "--count", cli->count, 1, 1000000);
        MUST(number == -1 || (number >= 1 && number <= 1000000));
    }
    if (cli->timeout)
        MUST(cli_duration(cli, "--timeout", cli->timeout) >= -1);
}

static void check_parsed(struct cli *cli, char **args, int count)
{
    const struct cli_command *command = cli->command;
    MUST(cli->arg_count >= 0 && cli->arg_count <= count);
    MUST(command->most_args < 0 || cli->arg_count <= command->most_args);
    MUST(!command->missing || cli->arg_count > 0);
    MUST(cli->flag_count + cli->header_count + cli->arg_count <= count);
    MUST(cli->args[cli->arg_count] == NULL && cli->args + cli->arg_count == args + 1 + count);
    for (int i = 0; i < cli->flag_count; i++)
        MUST(cli->flags[i].key && cli->flags[i].value && cli->flags[i].spelling);
    for (int i = 0; i < cli->header_count; i++)
        MUST(cli->headers[i] != NULL);
    check_numbers(cli);
    if (cli->flag_count > 0)
        check_flags(cli);
}

void fuzz_cli(const uint8_t *data, size_t size)
{
    static char *nothing[] = {NULL};
    struct input input = {data, data + size};
    char *lines[ARGS_MOST], *args[ARGS_MOST + 2], **before = environ;
    struct cli cli = {.program = "moonbus", .command = find((char)input_byte(&input))};
    int count = 0;
    if (!cli.command)
        return;
    args[0] = (char *)cli.command->name;
    for (; count < ARGS_MOST && input_left(&input) > 0; count++)
        args[count + 1] = lines[count] = input_line(&input, NULL);
    args[count + 1] = NULL;
    environ = nothing;
    int code = cli_parse(&cli, count + 1, args);
    MUST(code == 0 || code == CLI_USAGE || code == -1);
    if (code == 0)
        check_parsed(&cli, args, count);
    cli_clear(&cli);
    environ = before;
    for (int i = 0; i < count; i++)
        free(lines[i]);
}
