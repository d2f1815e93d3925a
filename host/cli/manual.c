/* manual - moonbus.1, made from the tables of commands and options. */
#include <stdio.h>
#include <string.h>

#include "app/version.h"
#include "cli/cli.h"
#include "cli/completion.h"

/* As it is, whatever roff would make of it. */
static void put(const char *text)
{
    bool begins = true;
    for (; *text; text++) {
        if (begins && (*text == '.' || *text == '\''))
            fputs("\\&", stdout);
        begins = *text == '\n';
        if (*text == '\\')
            fputs("\\e", stdout);
        else if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\'')
            fputs("\\(aq", stdout);
        else if (*text == '`')
            fputs("\\(ga", stdout);
        else if (*text == '~')
            fputs("\\(ti", stdout);
        else
            putchar(*text);
    }
}

static void put_option(const struct cli_option *option)
{
    fputs(".TP\n", stdout);
    if (option->letter)
        printf("\\fB\\-%c\\fR, ", option->letter);
    fputs("\\fB", stdout);
    put(option->spelling);
    fputs("\\fR", stdout);
    if (option->argument) {
        fputs(" \\fI", stdout);
        put(option->argument);
        fputs("\\fR", stdout);
    }
    fputs("\n", stdout);
    put(option->help);
    fputs("\n", stdout);
}

static bool put_options(const struct cli_command *command, bool common)
{
    struct cli_option option;
    bool any = false;
    for (int i = 0; cli_option_at(command, i, &option); i++) {
        any = any || option.common;
        if (option.common == common)
            put_option(&option);
    }
    return any;
}

static void put_command(const struct cli_command *command)
{
    fputs(".SS \"moonbus ", stdout);
    put(command->name);
    if (*command->usage) {
        fputs(" ", stdout);
        put(command->usage);
    }
    fputs("\"\n", stdout);
    put(*command->details ? command->details : command->summary);
    if (!*command->details)
        fputs("\n", stdout);
    if (put_options(command, false))
        fputs(".PP\nThe common options count, too.\n", stdout);
}

void manual_print(void)
{
    printf(".\\\" Made from the table of options: moonbus completion man\n"
           ".TH MOONBUS 1 \"\" \"moonbus %s\" \"User Commands\"\n"
           ".SH NAME\nmoonbus \\- message handlers written in Lua, on NATS\n"
           ".SH SYNOPSIS\n.B moonbus\n.I COMMAND\n[\\fIARGUMENT\\fR...] [\\fIOPTION\\fR...]\n"
           ".SH DESCRIPTION\n"
           "moonbus runs message handlers written in Lua on NATS. It owns connections, reconnects, "
           "pull loops,\nheartbeats, timeouts, retries, dead letters, draining and reloading.\n"
           "Options may stand before or behind the command; what follows \\fB\\-\\-\\fR is no "
           "option.\n"
           ".SH COMMANDS\n",
           MOONBUS_VERSION);
    for (int i = 0; i < cli_command_count; i++)
        put_command(&cli_commands[i]);
    fputs(".SH \"COMMON OPTIONS\"\n", stdout);
    put_options(&cli_commands[0], true);
    fputs(
        ".SH ENVIRONMENT\n"
        "Each key of the config file has a variable: MOONBUS_LIMITS_MEMORY for limits.memory. "
        "NATS_URL, NATS_CONTEXT,\nNATS_CREDS, NATS_USER, NATS_PASSWORD, NATS_TOKEN, NATS_NKEY, "
        "NATS_JWT, NATS_SEED, NATS_CA, NATS_CERT, NATS_KEY\nand NATS_TIMEOUT are read as the nats "
        "command line reads them. A flag is stronger than the environment,\nand that is stronger "
        "than the config file.\n"
        ".SH FILES\n.TP\n\\fImoonbus.lua\\fR\nthe config file, in the folder where moonbus "
        "starts\n.TP\n\\fI.moonbus/url\\fR\nthe URL of a \\fBmoonbus dev\\fR that runs there\n"
        ".TP\n\\fI\\(ti/.config/nats/\\fR\ncontexts of the nats command line\n"
        ".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\ndone, or stopped cleanly\n.TP\n\\fB1\\fR\nfailed at "
        "run time\n.TP\n\\fB2\\fR\nwrong usage, wrong configuration, or a handler that does not "
        "load at start\n.TP\n\\fB3\\fR\nstopped at the graceful deadline with handlers "
        "unfinished\n"
        ".SH \"SEE ALSO\"\n.BR nats\\-server (1)\n",
        stdout);
}
