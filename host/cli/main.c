#include <luajit.h>
#include <microhttpd.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "app/version.h"
#include "base/clock.h"
#include "cli/cli.h"

const struct cli_command cli_commands[] = {
    {"run", "[PATH...]", "run handlers: files, or folders of *.lua",
     "Runs handlers: the files named, and every *.lua in the folders named, but for *_test.lua.\n"
     "Without a PATH: the handlers of the config file, else ./handlers.\n"
     "SIGTERM and SIGINT drain and end it; SIGHUP loads anew what has changed.\n",
     NULL, -1, CLI_RUN, cli_run},
    {"dev", "[PATH...]", "run them with a private nats-server, watching files",
     "Runs handlers as `moonbus run` does, with a nats-server of its own (JetStream on, loopback\n"
     "only), loads a file anew when it is saved, and logs for people.\n"
     "Its URL is in .moonbus/url, where `moonbus pub`, `req` and `sub` find it.\n",
     NULL, -1, CLI_DEV, cli_dev},
    {"pub", "SUBJECT [DATA]", "publish a message",
     "Publishes DATA, or what comes on standard input, to SUBJECT.\n"
     "Ends with 1 when it could not be published, or with -J not be stored.\n",
     "SUBJECT", 2, CLI_PUB, cli_pub},
    {"req", "SUBJECT [DATA]", "send a request and print the reply",
     "Sends DATA, or what comes on standard input, to SUBJECT, and prints the reply.\n"
     "Ends with 1 when nobody serves SUBJECT, no reply comes in time, or it is an error.\n",
     "SUBJECT", 2, CLI_REQ, cli_req},
    {"sub", "SUBJECT", "print the messages that come",
     "Prints the messages to SUBJECT, which may have wildcards, until SIGINT.\n"
     "Ends with 1 when --count was not met.\n",
     "SUBJECT", 1, CLI_SUB, cli_sub},
    {"reload", "", "have a running host load anew what has changed",
     "Asks a running host, by its admin endpoint, to load anew what has changed on disk, and "
     "waits\n"
     "for the verdict. Ends with 1 when something was refused: then the old version goes on.\n",
     NULL, 0, CLI_RELOAD, cli_reload},
    {"status", "", "what a running host does",
     "Asks a running host, by its admin endpoint. Ends with 1 when it is not healthy or not "
     "ready.\n",
     NULL, 0, CLI_STATUS, cli_status},
    {"drain", "", "have a running host finish its work and end",
     "Asks a running host, by its admin endpoint, to drain, and waits until it has.\n"
     "Ends with 3 when handlers were unfinished at its graceful deadline.\n",
     NULL, 0, CLI_DRAIN, cli_drain},
    {"redrive", "STREAM", "put dead letters back to where they came from",
     "Publishes each dead letter of STREAM to its original subject, with the headers it had, and\n"
     "deletes it once it is stored there. What cannot be stored is kept. Every consumer of that\n"
     "subject gets the message once more.\n"
     "Ends with 1 when a dead letter was kept.\n",
     "STREAM", 1, CLI_REDRIVE, cli_redrive},
    {"version", "", "print the version, and those of what is inside", "", NULL, 0, CLI_OTHER,
     cli_version},
    {"help", "[COMMAND]", "explain a command", "", NULL, 1, CLI_OTHER, cli_help},
};

const int cli_command_count = sizeof cli_commands / sizeof *cli_commands;

static const struct cli_command *find_command(const char *name)
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
    printf("moonbus %s\n%s, nats.c %s, libuv %s, libmicrohttpd %s\n", MOONBUS_VERSION,
           LUAJIT_VERSION, nats_GetVersion(), uv_version_string(), MHD_get_version());
    return CLI_OK;
}

static void print_commands(FILE *out)
{
    fprintf(out, "moonbus runs Lua message handlers on NATS.\n\n");
    for (int i = 0; i < cli_command_count; i++) {
        char left[64];
        snprintf(left, sizeof left, "moonbus %s %s", cli_commands[i].name, cli_commands[i].usage);
        fprintf(out, "  %-30s %s\n", left, cli_commands[i].summary);
    }
    fprintf(out, "\nThe options of a command: moonbus help COMMAND\n");
}

static void print_command(const struct cli_command *command)
{
    printf("moonbus %s%s%s\n\n%s", command->name, *command->usage ? " " : "", command->usage,
           *command->details ? command->details : command->summary);
    if (!*command->details)
        printf("\n");
    cli_print_options(command);
}

static int unknown_command(const struct cli *cli, const char *name)
{
    const char *names[sizeof cli_commands / sizeof *cli_commands];
    for (int i = 0; i < cli_command_count; i++)
        names[i] = cli_commands[i].name;
    const char *near = cli_nearest(name, names, cli_command_count);
    struct cli none = {.program = cli->program};
    if (near)
        return cli_usage(&none, "unknown command \"%s\" (did you mean \"%s\"?)", name, near);
    if (name[0] == '-')
        return cli_usage(&none, "\"%s\" stands where a command is wanted: options come after it",
                         name);
    return cli_usage(&none, "unknown command \"%s\"", name);
}

int cli_help(struct cli *cli)
{
    if (cli->arg_count == 0) {
        print_commands(stdout);
        return CLI_OK;
    }
    const struct cli_command *command = find_command(cli->args[0]);
    if (!command)
        return unknown_command(cli, cli->args[0]);
    print_command(command);
    return CLI_OK;
}

static int run_command(struct cli *cli, int argc, char **argv)
{
    int parsed = cli_parse(cli, argc, argv);
    if (parsed == 0)
        return cli->command->run(cli);
    if (parsed > 0)
        return parsed;
    print_command(cli->command);
    return CLI_OK;
}

int main(int argc, char **argv)
{
    struct cli cli = {.program = argc > 0 ? argv[0] : "moonbus", .began_ns = clock_now_ns()};
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        print_commands(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "--version") == 0)
        name = "version";
    else if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    cli.command = find_command(name);
    if (!cli.command)
        return unknown_command(&cli, name);
    int status = run_command(&cli, argc - 1, argv + 1);
    cli_clear(&cli);
    return status;
}
