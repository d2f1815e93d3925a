/* commands - the table of commands, and the help. */
#include <luajit.h>
#include <microhttpd.h>
#include <nats/nats.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "app/version.h"
#include "cli/cli.h"

const struct cli_command cli_commands[] = {
    {"run", "[PATH...]", "run handlers: files, or folders of *.lua",
     "Runs handlers: each file that is named, and every *.lua in each folder, except *_test.lua.\n"
     "Without a PATH: the handlers of the config file, else ./handlers.\n"
     "SIGTERM and SIGINT drain and stop the host; SIGHUP reloads what has changed.\n",
     NULL, -1, CLI_RUN, cli_run},
    {"dev", "[PATH...]", "run them with a private nats-server, watching files",
     "Runs handlers as `moonbus run` does, with a nats-server of its own (JetStream on, loopback\n"
     "only). A file is reloaded when it is saved. The log is text.\n"
     "Its URL is in .moonbus/url, where `moonbus pub`, `req` and `sub` find it.\n",
     NULL, -1, CLI_DEV, cli_dev},
    {"init", "[DIR]", "make a new project",
     "Makes a project in DIR, or here: moonbus.lua, a handler and its test, types and settings "
     "for\n"
     "editors, a Makefile, a CI job. What it makes runs, and its tests pass. Nothing is written "
     "if\n"
     "one of the files is there already: exits 2 then.\n",
     NULL, 1, CLI_INIT, cli_init},
    {"check", "[PATH...]", "load handlers without starting them, and judge the settings",
     "Loads the config and the handlers as `moonbus run` does, starts nothing, and connects to\n"
     "nothing. Prints what is registered, and what is set wrong: what will happen, and which "
     "value\n"
     "would be right. With --server it also compares with what that server has.\n"
     "Exits 2 if something does not load or cannot be served; with --strict, 1 for a warning.\n",
     NULL, -1, CLI_CHECK, cli_check},
    {"test", "[PATH...]", "run tests of handlers, without a server",
     "Runs tests of handlers: each file that is named, and every *_test.lua in each folder and in\n"
     "those below it. Without a PATH: in the handlers' folders, ./test and ./tests.\n"
     "Scripts run with the host's own engine and bindings, in simulated time, against a server\n"
     "inside the process: no nats-server is needed, and an hour takes a moment.\n"
     "Exits 1 if a test fails, 2 if a file does not load or there is nothing to run.\n",
     NULL, -1, CLI_TEST, cli_test},
    {"pub", "SUBJECT [DATA]", "publish a message",
     "Publishes DATA, or standard input, to SUBJECT.\n"
     "Exits 1 if the message was not sent, or with -J was not stored.\n",
     "SUBJECT", 2, CLI_PUB, cli_pub},
    {"req", "SUBJECT [DATA]", "send a request and print the reply",
     "Sends DATA, or standard input, to SUBJECT, and prints the reply.\n"
     "Exits 1 if nobody serves SUBJECT, no reply comes in time, or the reply is an error.\n",
     "SUBJECT", 2, CLI_REQ, cli_req},
    {"sub", "[SUBJECT]", "print messages as they come, or what a stream holds",
     "Prints the messages to SUBJECT, which may have wildcards, until SIGINT.\n"
     "With --stream, or with --all, --last, --new, --start-sequence or --since: what is stored, "
     "and\n"
     "of a dead letter where it came from and why. No consumer is made. It ends with the last\n"
     "message that was there, unless there is --count, --follow or --new: then it waits for more.\n"
     "Exits 1 if fewer than --count came.\n",
     NULL, 1, CLI_SUB, cli_sub},
    {"reload", "", "make a running host reload what has changed",
     "Asks a running host, at its admin endpoint, to reload what has changed on disk, and waits\n"
     "for the verdict. Every changed script is loaded and checked before the first one switches.\n"
     "If one is refused, none switches. With --each, each script switches by itself.\n"
     "Exits 1 if anything was refused.\n",
     NULL, 0, CLI_RELOAD, cli_reload},
    {"status", "", "show what a running host does",
     "Asks a running host, at its admin endpoint. Exits 1 if it is not healthy, or not ready.\n",
     NULL, 0, CLI_STATUS, cli_status},
    {"drain", "", "make a running host finish its work and end",
     "Asks a running host, at its admin endpoint, to drain, and waits until it has.\n"
     "Exits 3 if handlers were unfinished at its graceful deadline.\n",
     NULL, 0, CLI_DRAIN, cli_drain},
    {"log-level", "[LEVEL]", "show or change how much a running host logs",
     "Asks a running host, at its admin endpoint, to log from LEVEL on: debug, info, warn, error "
     "or\n"
     "off. Without LEVEL it prints the present one. The change holds until it is made again, "
     "until\n"
     "log.level in the config changes, or until the host ends.\n",
     NULL, 1, CLI_LOG_LEVEL, cli_log_level},
    {"redrive", "STREAM", "put dead letters back to where they came from",
     "Publishes each dead letter of STREAM to its original subject, with its original headers, "
     "and\n"
     "deletes the letter once that is stored. A letter that cannot be stored is kept. Every\n"
     "consumer of the subject gets the message once more.\n"
     "Exits 1 if a letter was kept.\n",
     "STREAM", 1, CLI_REDRIVE, cli_redrive},
    {"eval", "LUA|FILE|- [ARG...]", "run a piece of Lua with the bindings",
     "Runs a chunk of Lua (the argument itself, a file, or standard input) as a handler runs, "
     "with\n"
     "the globals bus and js, and the arguments as `...`. Prints what it returns: a table as "
     "JSON,\n"
     "a message as its data. It has the whole Lua library, and print goes to standard output.\n"
     "Exits 1 if it raises an error, with the traceback, or returns nil and an error.\n",
     "LUA or FILE", -1, CLI_EVAL, cli_eval},
    {"completion", "SHELL", "what bash, zsh or fish completes",
     "Prints a script that completes commands and options in bash, zsh or fish:\n"
     "source <(moonbus completion bash). man: the manual page, in place of a shell.\n",
     "SHELL", 1, CLI_OTHER, cli_completion},
    {"tune", "[PATH...]", "load-test handlers on a private server, and recommend settings",
     "Plays messages into STREAM on a nats-server of its own, to a host that runs the handlers\n"
     "for real, at several rates and settings. Prints the highest rate that held, and the\n"
     "settings that follow from what was measured, ready to paste. NATS is apart; bus.http is\n"
     "refused unless it is allowed; files, and what bus.offload does, are real.\n"
     "Messages: JSON lines as `moonbus sub --json` prints them, the last ones of a real stream,\n"
     "which is only read, or a template with {{n}}, {{random}}, {{uuid}} and {{time}}.\n"
     "Ctrl-C prints what there is so far. Exits 1 if nothing can be recommended, or what was\n"
     "tried does not hold.\n",
     NULL, -1, CLI_TUNE, cli_tune},
    {"replay", "STREAM SEQ | --dead STREAM [SEQ] | --file FILE",
     "run the code on one stored message",
     "Runs the handlers on disk on one message: of a stream, of a dead letter, or of a file. "
     "Prints\n"
     "the verdict, an error with its traceback and the values of locals, and what would be\n"
     "published. Time is simulated. Nothing is published or acknowledged; requests and HTTP calls\n"
     "are answered by --stub, or by an error, but with --for-real.\n"
     "Exits 1 if it would not succeed.\n",
     NULL, 2, CLI_REPLAY, cli_replay},
    {"shadow", "PATH --stream STREAM", "compare what new code does with what was stored",
     "Runs the handler of PATH on the stored messages of STREAM, and compares what it would "
     "publish\n"
     "with what lies in the streams that its subjects go to, by the ids of messages. Nothing is\n"
     "published or acknowledged; no consumer is made. Inputs that need a request or an HTTP call\n"
     "without an answer by --stub are counted, not compared.\n"
     "Exits 1 if anything differs.\n",
     "PATH", 1, CLI_SHADOW, cli_shadow},
    {"version", "", "print the versions of moonbus and its libraries", "", NULL, 0, CLI_OTHER,
     cli_version},
    {"help", "[COMMAND]", "explain a command", "", NULL, 1, CLI_OTHER, cli_help},
};

const int cli_command_count = sizeof cli_commands / sizeof *cli_commands;

const struct cli_command *cli_find(const char *name)
{
    for (int i = 0; i < cli_command_count; i++) {
        if (strcmp(cli_commands[i].name, name) == 0)
            return &cli_commands[i];
    }
    return NULL;
}

int cli_version(struct cli *cli)
{
    (void)cli;
    printf("moonbus %s\n%s, nats.c %s, libuv %s, libmicrohttpd %s\nwire: auto, nats.c\n",
           MOONBUS_VERSION, LUAJIT_VERSION, nats_GetVersion(), uv_version_string(),
           MHD_get_version());
    return CLI_OK;
}

void cli_print_commands(FILE *out)
{
    fprintf(out, "moonbus runs message handlers written in Lua on NATS.\n\n");
    for (int i = 0; i < cli_command_count; i++) {
        char left[64];
        snprintf(left, sizeof left, "moonbus %s %s", cli_commands[i].name, cli_commands[i].usage);
        fprintf(out, "  %-30s %s\n", left, cli_commands[i].summary);
    }
    fprintf(out, "\nThe options of a command: moonbus help COMMAND\n");
}

static void print_option(const struct cli_option *option)
{
    char left[64];
    char letter[5] = "    ";
    if (option->letter)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    snprintf(left, sizeof left, "%s%s%s%s", letter, option->spelling, option->argument ? " " : "",
             option->argument ? option->argument : "");
    printf("  %-30s %s\n", left, option->help);
}

static void print_options(const struct cli_command *command)
{
    struct cli_option option;
    for (int common = 0; common <= 1; common++) {
        bool any = false;
        for (int i = 0; cli_option_at(command, i, &option); i++) {
            if (option.common != common)
                continue;
            if (!any)
                printf(common ? "\nCommon options:\n" : "\nOptions:\n");
            any = true;
            print_option(&option);
        }
    }
}

void cli_print_command(const struct cli_command *command)
{
    printf("moonbus %s%s%s\n\n%s", command->name, *command->usage ? " " : "", command->usage,
           *command->details ? command->details : command->summary);
    if (!*command->details)
        printf("\n");
    print_options(command);
}

int cli_unknown_command(const struct cli *cli, const char *name)
{
    const char *names[sizeof cli_commands / sizeof *cli_commands];
    for (int i = 0; i < cli_command_count; i++)
        names[i] = cli_commands[i].name;
    const char *near = cli_nearest(name, names, cli_command_count);
    struct cli none = {.program = cli->program};
    if (near)
        return cli_usage(&none, "unknown command \"%s\" (did you mean \"%s\"?)", name, near);
    if (name[0] == '-')
        return cli_usage(&none, "a command is missing, before or behind \"%s\"", name);
    return cli_usage(&none, "unknown command \"%s\"", name);
}

int cli_help(struct cli *cli)
{
    if (cli->arg_count == 0) {
        cli_print_commands(stdout);
        return CLI_OK;
    }
    const struct cli_command *command = cli_find(cli->args[0]);
    if (!command)
        return cli_unknown_command(cli, cli->args[0]);
    cli_print_command(command);
    return CLI_OK;
}
