/* cli - the command line: one table of options, from which getopt_long, the help and the settings
 * are made; and the commands.
 *
 * Errors of usage go to standard error with a hint where to look, and end with status 2. */
#ifndef MOONBUS_CLI_CLI_H
#define MOONBUS_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "app/config.h"

enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* What a command was given. All strings are argv's. */
struct cli {
    const char *program; /* as typed: "moonbus", "build/moonbus" */
    const struct cli_command *command;
    uint64_t began_ns; /* monotonic, when the process began */

    const char *config_file;
    struct config_flag *flags; /* owned */
    int flag_count;
    bool servers_given; /* a -s among them */

    const char **headers; /* owned list: "K: V" */
    int header_count;
    bool jetstream, json, dry_run;
    const char *subject;         /* a filter; NULL: none */
    const char *count, *timeout; /* as typed; NULL when absent */
    const char *nats_server, *nats_port, *store;

    char **args; /* what is no option */
    int arg_count;
};

struct cli_command {
    const char *name;
    const char *usage;   /* "SUBJECT [DATA]" */
    const char *summary; /* one line, for the list */
    const char *details; /* for `help COMMAND`; lines end in \n */
    const char *missing; /* the argument that must be there; NULL: none */
    int most_args;       /* -1: any number */
    unsigned bit;        /* in cli_option.commands */
    int (*run)(struct cli *cli);
};

enum {
    CLI_RUN = 1 << 0,
    CLI_DEV = 1 << 1,
    CLI_PUB = 1 << 2,
    CLI_REQ = 1 << 3,
    CLI_SUB = 1 << 4,
    CLI_OTHER = 1 << 5,
    CLI_REDRIVE = 1 << 6,
    CLI_RELOAD = 1 << 7,
    CLI_STATUS = 1 << 8,
    CLI_DRAIN = 1 << 9,
    CLI_ADMIN = CLI_RELOAD | CLI_STATUS | CLI_DRAIN,
    CLI_CLIENT = CLI_PUB | CLI_REQ | CLI_SUB | CLI_REDRIVE,
    CLI_HOST = CLI_RUN | CLI_DEV,
};

/* --- options.c --- */

/* Reads argv after the command's name. 0; CLI_USAGE, said; or -1: the help was asked for. */
int cli_parse(struct cli *cli, int argc, char **argv);
void cli_clear(struct cli *cli);
/* "error: ...; see: moonbus help pub" to standard error. Returns CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The nearest of the names, or NULL. */
const char *cli_nearest(const char *name, const char *const *names, int count);
void cli_print_options(const struct cli_command *command);
/* The file, the flags; a command's own defaults may be added. */
struct config_sources cli_sources(const struct cli *cli);

/* A whole number from least to most, or -1, said. spelling: the option's. */
long cli_number(const struct cli *cli, const char *spelling, const char *text, long least,
                long most);

/* A duration, or -1, said. */
int64_t cli_duration(const struct cli *cli, const char *spelling, const char *text);

/* Runs a host, prints nothing; ends the process itself where threads had to be left behind. */
struct app_options;
int cli_run_app(const struct app_options *options);

/* --- settings.c --- */

/* The settings. NULL: err says why, and when it is the config file that is at fault *without is
 * what they are without it, owned; else NULL. */
struct config *cli_config(const struct config_sources *sources, struct config **without,
                          struct err *err);

/* --- url.c --- */

/* Looks for the URL of a running `moonbus dev`: .moonbus/url here, in ./handlers, ./examples, or so
 * in a folder above. False when there is none. path: where it was, for people. */
bool cli_find_url(char *path, size_t path_size, char *url, size_t url_size);

/* --- the commands --- */

int cli_run(struct cli *cli);
int cli_dev(struct cli *cli);
int cli_pub(struct cli *cli);
int cli_req(struct cli *cli);
int cli_sub(struct cli *cli);
int cli_redrive(struct cli *cli);
int cli_reload(struct cli *cli);
int cli_status(struct cli *cli);
int cli_drain(struct cli *cli);
int cli_version(struct cli *cli);
int cli_help(struct cli *cli);

extern const struct cli_command cli_commands[];
extern const int cli_command_count;

#endif
