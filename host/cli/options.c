#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/value.h"
#include "cli/cli.h"

#define LONG_BASE 256 /* above every letter */

enum slot {
    SLOT_FLAG, /* sets a config leaf */
    SLOT_CONFIG,
    SLOT_HEADER,
    SLOT_JETSTREAM,
    SLOT_JSON,
    SLOT_COUNT,
    SLOT_TIMEOUT,
    SLOT_SUBJECT,
    SLOT_DRY_RUN,
    SLOT_NATS_SERVER,
    SLOT_NATS_PORT,
    SLOT_STORE,
    SLOT_HELP,
};

struct option_spec {
    const char *spelling; /* "--server" */
    char letter;          /* or 0 */
    const char *argument; /* for the help; NULL: takes none */
    enum slot slot;
    const char *key;   /* FLAG: the config leaf */
    const char *value; /* FLAG without an argument: what it sets */
    unsigned commands;
    const char *help; /* NULL: another spelling, not listed */
};

#define EVERY (CLI_HOST | CLI_CLIENT)

static const struct option_spec specs[] = {
    {"--header", 'H', "'K: V'", SLOT_HEADER, NULL, NULL, CLI_PUB | CLI_REQ,
     "a header; may be given several times"},
    {"--jetstream", 'J', NULL, SLOT_JETSTREAM, NULL, NULL, CLI_PUB,
     "wait until a stream has stored it, and say where"},
    {"--count", 0, "N", SLOT_COUNT, NULL, NULL, CLI_PUB, "publish it so many times"},
    {"--count", 0, "N", SLOT_COUNT, NULL, NULL, CLI_SUB, "end after so many messages"},
    {"--timeout", 0, "5s", SLOT_TIMEOUT, NULL, NULL, CLI_REQ, "how long to wait for the reply"},
    {"--timeout", 0, "5s", SLOT_TIMEOUT, NULL, NULL, CLI_SUB, "end after this time"},
    {"--json", 0, NULL, SLOT_JSON, NULL, NULL, CLI_SUB, "one JSON object for each message"},
    {"--count", 0, "N", SLOT_COUNT, NULL, NULL, CLI_REDRIVE, "take only the first N dead letters"},
    {"--subject", 0, "FILTER", SLOT_SUBJECT, NULL, NULL, CLI_REDRIVE,
     "only those to, or originally to, this subject; may have wildcards"},
    {"--dry-run", 0, NULL, SLOT_DRY_RUN, NULL, NULL, CLI_REDRIVE, "say what would be done, only"},

    {"--workers", 0, "N", SLOT_FLAG, "workers", NULL, CLI_HOST,
     "Lua threads (default: CPUs or the container's quota, at most 4)"},
    {"--watch", 0, NULL, SLOT_FLAG, "watch", "true", CLI_HOST,
     "load a handler anew when its file changes"},
    {"--no-watch", 0, NULL, SLOT_FLAG, "watch", "false", CLI_HOST, "do not"},
    {"--graceful-timeout", 0, "25s", SLOT_FLAG, "graceful_timeout", NULL, CLI_HOST,
     "how long a stop may take, all in all"},
    {"--admin", 0, "ADDR:PORT|off", SLOT_FLAG, "admin", NULL, CLI_HOST,
     "where to listen for reload, status and drain (default: 127.0.0.1:8223)"},
    {"--admin", 0, "ADDR:PORT", SLOT_FLAG, "admin", NULL, CLI_ADMIN,
     "where the host listens (default: the config's, else 127.0.0.1:8223)"},
    {"--timeout", 0, "1m", SLOT_TIMEOUT, NULL, NULL, CLI_ADMIN, "how long to wait for the verdict"},
    {"--json", 0, NULL, SLOT_JSON, NULL, NULL, CLI_STATUS, "all of it, as JSON"},
    {"--config", 'c', "FILE", SLOT_CONFIG, NULL, NULL, CLI_ADMIN,
     "the config file (default: ./moonbus.lua, if there is one)"},
    {"--nats-server", 0, "PATH", SLOT_NATS_SERVER, NULL, NULL, CLI_DEV,
     "the server to start (default: nats-server in PATH)"},
    {"--nats-port", 0, "N", SLOT_NATS_PORT, NULL, NULL, CLI_DEV,
     "its port (default: 4222 if free, else a free one)"},
    {"--store", 0, "DIR", SLOT_STORE, NULL, NULL, CLI_DEV,
     "where it keeps its data (default: .moonbus/ beside the handlers)"},

    {"--config", 'c', "FILE", SLOT_CONFIG, NULL, NULL, EVERY,
     "the config file (default: ./moonbus.lua, if there is one)"},
    {"--log-level", 0, "LEVEL", SLOT_FLAG, "log.level", NULL, EVERY,
     "debug, info, warn, error or off (default: info)"},
    {"--log-format", 0, "FORMAT", SLOT_FLAG, "log.format", NULL, EVERY,
     "auto, text or json (auto: text on a terminal)"},

    {"--server", 's', "URL", SLOT_FLAG, "servers", NULL, EVERY,
     "nats://host:4222 or tls://...; may be given several times"},
    {"--creds", 0, "FILE", SLOT_FLAG, "auth.creds", NULL, EVERY, "a user's credentials"},
    {"--user", 0, "NAME", SLOT_FLAG, "auth.user", NULL, EVERY, "with --password"},
    {"--password", 0, "TEXT", SLOT_FLAG, "auth.password", NULL, EVERY,
     "better: $NATS_PASSWORD, which no list of processes shows"},
    {"--token", 0, "TEXT", SLOT_FLAG, "auth.token", NULL, EVERY, "better: $NATS_TOKEN"},
    {"--nkey", 0, "FILE", SLOT_FLAG, "auth.nkey", NULL, EVERY, "the seed of a user's key"},
    {"--tls-ca", 0, "FILE", SLOT_FLAG, "tls.ca", NULL, EVERY, "whom to trust"},
    {"--tls-cert", 0, "FILE", SLOT_FLAG, "tls.cert", NULL, EVERY, "our certificate"},
    {"--tls-key", 0, "FILE", SLOT_FLAG, "tls.key", NULL, EVERY, "and its key"},
    {"--tlsca", 0, "FILE", SLOT_FLAG, "tls.ca", NULL, EVERY, NULL},
    {"--tlscert", 0, "FILE", SLOT_FLAG, "tls.cert", NULL, EVERY, NULL},
    {"--tlskey", 0, "FILE", SLOT_FLAG, "tls.key", NULL, EVERY, NULL},
    {"--help", 'h', NULL, SLOT_HELP, NULL, NULL, ~0u, NULL},
};

#define SPECS ((int)(sizeof specs / sizeof *specs))

/* --- near misses --- */

#define NAME_MOST 64

static int distance(const char *a, const char *b)
{
    int row[NAME_MOST + 1];
    int a_len = (int)strlen(a), b_len = (int)strlen(b);
    if (a_len > NAME_MOST || b_len > NAME_MOST)
        return NAME_MOST;
    for (int j = 0; j <= b_len; j++)
        row[j] = j;
    for (int i = 1; i <= a_len; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= b_len; j++) {
            int change = diagonal + (a[i - 1] != b[j - 1]);
            int gap = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = change < gap ? change : gap;
        }
    }
    return row[b_len];
}

const char *cli_nearest(const char *name, const char *const *names, int count)
{
    const char *best = NULL;
    int len = (int)strlen(name), least = len < 4 ? (len + 1) / 2 : 2;
    for (int i = 0; i < count; i++) {
        int d = distance(name, names[i]);
        if (d <= least && (!best || d < least)) {
            best = names[i];
            least = d;
        }
    }
    return best;
}

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

/* --- parsing --- */

static int unknown(const struct cli *cli, const char *typed)
{
    const char *names[SPECS];
    int count = 0;
    size_t len = strcspn(typed, "=");
    char name[NAME_MOST];
    snprintf(name, sizeof name, "%.*s", (int)len, typed);
    for (int i = 0; i < SPECS; i++) {
        if (specs[i].commands & cli->command->bit && specs[i].help)
            names[count++] = specs[i].spelling;
    }
    const char *near = cli_nearest(name, names, count);
    if (near)
        return cli_usage(cli, "unknown option %s (did you mean %s?)", typed, near);
    return cli_usage(cli, "unknown option %s (data that begins with '-' goes after --)", typed);
}

static void take(struct cli *cli, const struct option_spec *spec, const char *value)
{
    switch (spec->slot) {
    case SLOT_FLAG:
        cli->flags[cli->flag_count++] =
            (struct config_flag){spec->key, spec->value ? spec->value : value, spec->spelling};
        cli->servers_given = cli->servers_given || strcmp(spec->key, "servers") == 0;
        break;
    case SLOT_CONFIG:
        cli->config_file = value;
        break;
    case SLOT_HEADER:
        cli->headers[cli->header_count++] = value;
        break;
    case SLOT_JETSTREAM:
        cli->jetstream = true;
        break;
    case SLOT_JSON:
        cli->json = true;
        break;
    case SLOT_COUNT:
        cli->count = value;
        break;
    case SLOT_TIMEOUT:
        cli->timeout = value;
        break;
    case SLOT_SUBJECT:
        cli->subject = value;
        break;
    case SLOT_DRY_RUN:
        cli->dry_run = true;
        break;
    case SLOT_NATS_SERVER:
        cli->nats_server = value;
        break;
    case SLOT_NATS_PORT:
        cli->nats_port = value;
        break;
    case SLOT_STORE:
        cli->store = value;
        break;
    case SLOT_HELP:
        break;
    }
}

static const struct option_spec *by_letter(unsigned command, int letter)
{
    for (int i = 0; i < SPECS; i++) {
        if (specs[i].commands & command && specs[i].letter == letter)
            return &specs[i];
    }
    return NULL;
}

/* The two forms that getopt_long wants. letters: room for two of each, and a ':'. */
static void make_options(unsigned command, struct option *longs, char *letters)
{
    *letters++ = ':'; /* a missing value is told apart from an unknown option */
    for (int i = 0; i < SPECS; i++) {
        if (!(specs[i].commands & command))
            continue;
        *longs++ = (struct option){specs[i].spelling + 2,
                                   specs[i].argument ? required_argument : no_argument, NULL,
                                   LONG_BASE + i};
        if (specs[i].letter) {
            *letters++ = specs[i].letter;
            if (specs[i].argument)
                *letters++ = ':';
        }
    }
    *longs = (struct option){0};
    *letters = '\0';
}

/* What getopt_long has stumbled over, as it was typed. */
static int stumble(const struct cli *cli, int found, char **argv)
{
    char letter[3] = {'-', (char)optopt, '\0'};
    const struct option_spec *spec =
        optopt >= LONG_BASE ? &specs[optopt - LONG_BASE] : by_letter(cli->command->bit, optopt);
    if (found == ':')
        return cli_usage(cli, "%s wants a value: %s %s",
                         optopt < LONG_BASE ? letter : spec->spelling, spec->spelling,
                         spec->argument);
    if (spec && optopt)
        return cli_usage(cli, "%s takes no value", spec->spelling);
    return unknown(cli, optopt ? letter : argv[optind - 1]);
}

static int check_args(const struct cli *cli)
{
    const struct cli_command *command = cli->command;
    if (command->missing && cli->arg_count == 0)
        return cli_usage(cli, "%s is missing", command->missing);
    if (command->most_args >= 0 && cli->arg_count > command->most_args)
        return cli_usage(cli, "too many arguments: \"%s\"", cli->args[command->most_args]);
    return 0;
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
    struct option longs[SPECS + 1];
    char letters[2 * SPECS + 2];
    cli->flags = calloc((size_t)argc + 1, sizeof *cli->flags);
    cli->headers = calloc((size_t)argc + 1, sizeof *cli->headers);
    if (!cli->flags || !cli->headers)
        return CLI_USAGE;
    make_options(cli->command->bit, longs, letters);
    optind = 0; /* GNU: begin anew */
    opterr = 0;
    int found;
    while ((found = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        if (found == '?' || found == ':')
            return stumble(cli, found, argv);
        const struct option_spec *spec =
            found >= LONG_BASE ? &specs[found - LONG_BASE] : by_letter(cli->command->bit, found);
        if (spec->slot == SLOT_HELP)
            return -1;
        take(cli, spec, optarg);
    }
    cli->args = argv + optind;
    cli->arg_count = argc - optind;
    return check_args(cli);
}

void cli_clear(struct cli *cli)
{
    free(cli->flags);
    free(cli->headers);
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
    return (struct config_sources){
        .file = cli->config_file, .flags = cli->flags, .flag_count = cli->flag_count};
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

/* --- help --- */

static void print_option(const struct option_spec *spec)
{
    char left[64];
    char letter[5] = "    ";
    if (spec->letter)
        snprintf(letter, sizeof letter, "-%c, ", spec->letter);
    snprintf(left, sizeof left, "%s%s%s%s", letter, spec->spelling, spec->argument ? " " : "",
             spec->argument ? spec->argument : "");
    printf("  %-30s %s\n", left, spec->help);
}

void cli_print_options(const struct cli_command *command)
{
    for (int common = 0; common <= 1; common++) {
        bool any = false;
        for (int i = 0; i < SPECS; i++) {
            const struct option_spec *spec = &specs[i];
            if (!(spec->commands & command->bit) || !spec->help ||
                (spec->commands == EVERY) != common)
                continue;
            if (!any)
                printf(common ? "\nCommon options:\n" : "\nOptions:\n");
            any = true;
            print_option(spec);
        }
    }
}
