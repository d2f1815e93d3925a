/* cli - the command line: one table of options, from which getopt_long, the help and the settings
 * are made; and the commands.
 *
 * A usage error goes to standard error with a hint where to look, and exits with status 2. */
#ifndef MOONBUS_CLI_CLI_H
#define MOONBUS_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "app/config.h"

enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

/* What `moonbus tune` was given; as typed, NULL when absent. */
struct cli_tune {
    const char *input, *copy_from, *generate; /* what is played */
    const char *rate, *length, *wait;
    const char **tries, **outputs; /* owned lists */
    int try_count, output_count;
    bool allow_http;
    const char *as_host; /* this is the host that is tested: its instructions */
};

/* What `moonbus replay` and `moonbus shadow` were given; as typed, NULL when absent. */
struct cli_replay {
    const char *dead, *file, *save, *against, *handler, *attempt, *stub, *since;
    bool last, for_real;
    const char **outputs, **ignored; /* owned lists */
    int output_count, ignored_count;
};

/* What a command was given. All strings are argv's. */
struct cli {
    const char *program; /* as typed: "moonbus", "build/moonbus" */
    const struct cli_command *command;
    uint64_t began_ns; /* monotonic, when the process began */

    const char *config_file, *context;
    struct config_flag *flags; /* owned */
    int flag_count;
    bool servers_given; /* a -s among them */

    const char **headers; /* owned list: "K: V" */
    int header_count;
    bool jetstream, json, raw, dry_run, force, strict, asyncapi, each, health, watch, unserved,
        follow, timestamps, coverage, test_server;
    const char *subject;                    /* a filter; NULL: none */
    const char *stream, *queue;             /* or NULL */
    const char *count, *timeout, *replies;  /* as typed; NULL when absent */
    const char *start;                      /* where to begin: "--since"; NULL: not stated */
    const char *start_value;                /* "10m", or NULL */
    const char *first_start;                /* the first of them, when there are several */
    int starts;                             /* how many different ones */
    const char *filter, *junit, *test_seed; /* of tests */
    const char *example;                    /* of a new project; NULL: its own handler */
    bool types;                             /* of a project: only these, anew */
    const char *nats_server, *nats_port, *store;
    struct cli_tune tune;
    struct cli_replay replay;

    char **args; /* arguments that are no options */
    int arg_count;
};

struct cli_command {
    const char *name;
    const char *usage;   /* "SUBJECT [DATA]" */
    const char *summary; /* one line, for the list */
    const char *details; /* for `help COMMAND`; lines end in \n */
    const char *missing; /* the argument that must be there; NULL: none */
    int most_args;       /* -1: any number */
    unsigned bit;        /* in an option's `commands` */
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
    CLI_LOG_LEVEL = 1 << 10,
    CLI_CHECK = 1 << 11,
    CLI_EVAL = 1 << 12,
    CLI_TUNE = 1 << 13,
    CLI_TEST = 1 << 14,
    CLI_INIT = 1 << 15,
    CLI_REPLAY = 1 << 16,
    CLI_SHADOW = 1 << 17,
    CLI_ADMIN = CLI_RELOAD | CLI_STATUS | CLI_DRAIN | CLI_LOG_LEVEL,
    CLI_CLIENT =
        CLI_PUB | CLI_REQ | CLI_SUB | CLI_REDRIVE | CLI_EVAL | CLI_TUNE | CLI_REPLAY | CLI_SHADOW,
    CLI_HOST = CLI_RUN | CLI_DEV,
};

/* --- options.c --- */

/* Reads argv after the command's name. 0; CLI_USAGE, after it has said why; or -1: help is wanted.
 */
int cli_parse(struct cli *cli, int argc, char **argv);
/* Are these arguments options of the command and their values, and nothing else? */
bool cli_only_options(const struct cli_command *command, int argc, char **argv);
void cli_clear(struct cli *cli);
/* "error: ...; see: moonbus help pub" to standard error. Returns CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* An option of a command, as the help lists it; all of it static. */
struct cli_option {
    const char *spelling; /* "--header" */
    char letter;          /* or 0 */
    const char *argument; /* "FILE"; NULL: it takes none */
    const char *help;
    bool common; /* every command that connects has it */
};
/* The i-th, from 0; false past the last. */
bool cli_option_at(const struct cli_command *command, int i, struct cli_option *out);

/* The file, the flags; a command's own defaults may be added. */
struct config_sources cli_sources(const struct cli *cli);

/* A whole number from least to most, or -1, after it has said why. spelling: the option's. */
long cli_number(const struct cli *cli, const char *spelling, const char *text, long least,
                long most);

/* A duration, or -1, after it has said why. */
int64_t cli_duration(const struct cli *cli, const char *spelling, const char *text);

/* The settings of a host. NULL, after it has said why: in JSON, where the log was to be that. */
struct config *cli_host_config(const struct cli *cli, const struct config_sources *sources);

/* What was printed is on its way. Returns status, or CLI_FAILED after it has said why not; of a
 * reader who has had enough nothing is said. Several calls: one complaint. */
int cli_flush(int status);

/* Runs a host, prints nothing; ends the process itself if threads had to be left behind. */
struct app_options;
int cli_run_app(const struct app_options *options);
/* The second half of it: ends the process if it must. */
struct app_end;
void cli_end_app(struct app_end *end);

/* --- nearest.c --- */

/* The nearest of the names, or NULL. */
const char *cli_nearest(const char *name, const char *const *names, int count);

/* --- settings.c --- */

/* The settings. NULL, with err: something is wrong; if it is the config file, *without has the
 * settings without that file, the caller's; else NULL. */
struct config *cli_config(const struct config_sources *sources, struct config **without,
                          struct err *err);

/* --- url.c --- */

/* Looks for the URL of a running `moonbus dev`: .moonbus/url in this folder, ./handlers or
 * ./examples, then the same in the folders above. False: there is none. path: where it was, for
 * people. */
bool cli_find_url(char *path, size_t path_size, char *url, size_t url_size);

/* --- the commands --- */

int cli_run(struct cli *cli);
int cli_dev(struct cli *cli);
int cli_check(struct cli *cli);
int cli_init(struct cli *cli);
int cli_test(struct cli *cli);
int cli_pub(struct cli *cli);
int cli_req(struct cli *cli);
int cli_sub(struct cli *cli);
int cli_redrive(struct cli *cli);
int cli_tune(struct cli *cli);
int cli_replay(struct cli *cli);
int cli_shadow(struct cli *cli);
int cli_eval(struct cli *cli);
int cli_completion(struct cli *cli);
int cli_reload(struct cli *cli);
int cli_status(struct cli *cli);
int cli_drain(struct cli *cli);
int cli_log_level(struct cli *cli);
int cli_version(struct cli *cli);
int cli_help(struct cli *cli);

/* --- commands.c --- */

const struct cli_command *cli_find(const char *name); /* or NULL */
void cli_print_commands(FILE *out);
void cli_print_command(const struct cli_command *command);
/* Says so, and what was meant perhaps. Returns CLI_USAGE. */
int cli_unknown_command(const struct cli *cli, const char *name);

extern const struct cli_command cli_commands[];
extern const int cli_command_count;

#endif
