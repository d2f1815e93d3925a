/* The table of options, and the parser of a command line. */
#include <getopt.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

#define LONG_BASE 256 /* above every letter */

/* Where an option is kept. */
enum slot {
    SLOT_FLAG,   /* it sets a config leaf */
    SLOT_SWITCH, /* a bool, which becomes true */
    SLOT_TEXT,   /* the value, as typed; the last one counts */
    SLOT_LIST,   /* one more of an array */
    SLOT_START,  /* where to begin */
    SLOT_HELP,
};

/* The columns of that in the table, by the member of struct cli. */
#define SWITCH(member) SLOT_SWITCH, offsetof(struct cli, member), 0
#define TEXT(member) SLOT_TEXT, offsetof(struct cli, member), 0
#define LIST(member, number) SLOT_LIST, offsetof(struct cli, member), offsetof(struct cli, number)
#define FLAG SLOT_FLAG, 0, 0
#define START SLOT_START, 0, 0
#define HELP SLOT_HELP, 0, 0

struct option_spec {
    const char *spelling; /* "--server" */
    char letter;          /* or 0 */
    const char *argument; /* for the help; NULL: takes none */
    enum slot slot;
    size_t offset;     /* SWITCH, TEXT, LIST: of the member */
    size_t count;      /* LIST: of the number of its items */
    const char *key;   /* FLAG: the config leaf */
    const char *value; /* FLAG without an argument: what it sets */
    unsigned commands;
    const char *help; /* NULL: another spelling, not listed */
};

#define EVERY (CLI_HOST | CLI_CLIENT | CLI_CHECK)

static const struct option_spec specs[] = {
    {"--header", 'H', "'K: V'", LIST(headers, header_count), NULL, NULL, CLI_PUB | CLI_REQ,
     "a header; may be repeated"},
    {"--jetstream", 'J', NULL, SWITCH(jetstream), NULL, NULL, CLI_PUB,
     "wait until a stream has stored it, and print where"},
    {"--count", 0, "N", TEXT(count), NULL, NULL, CLI_PUB,
     "publish it N times; {{n}} in subject, headers and data is 1, 2, 3..."},
    {"--count", 0, "N", TEXT(count), NULL, NULL, CLI_SUB, "end after N messages"},
    {"--timeout", 0, "5s", TEXT(timeout), NULL, NULL, CLI_REQ, "how long to wait for the reply"},
    {"--replies", 0, "N", TEXT(replies), NULL, NULL, CLI_REQ,
     "wait for N replies; 0: all that come in time"},
    {"--raw", 0, NULL, SWITCH(raw), NULL, NULL, CLI_REQ,
     "exactly the reply's bytes, without a line break, where standard output is no terminal"},
    {"--timeout", 0, "5s", TEXT(timeout), NULL, NULL, CLI_SUB, "end after this time"},
    {"--json", 0, NULL, SWITCH(json), NULL, NULL, CLI_SUB, "one JSON object for each message"},
    {"--raw", 0, NULL, SWITCH(raw), NULL, NULL, CLI_SUB, "the data alone"},
    {"--timestamp", 't', NULL, SWITCH(timestamps), NULL, NULL, CLI_SUB, "when each message came"},
    {"--queue", 0, "NAME", TEXT(queue), NULL, NULL, CLI_SUB,
     "share the messages with all others of this queue group"},
    {"--stream", 0, "NAME", TEXT(stream), NULL, NULL, CLI_SUB,
     "print what is stored in this stream; SUBJECT is then a filter"},
    {"--subject", 0, "FILTER", TEXT(subject), NULL, NULL, CLI_SUB, "the same filter, as an option"},
    {"--all", 0, NULL, START, NULL, NULL, CLI_SUB,
     "of a stream: from its first message on (the default)"},
    {"--last", 0, NULL, START, NULL, NULL, CLI_SUB, "from its last message on"},
    {"--new", 0, NULL, START, NULL, NULL, CLI_SUB, "only what is stored from now on"},
    {"--start-sequence", 0, "N", START, NULL, NULL, CLI_SUB, "from this sequence on"},
    {"--since", 0, "1h", START, NULL, NULL, CLI_SUB, "from what was stored so long ago on"},
    {"--follow", 'f', NULL, SWITCH(follow), NULL, NULL, CLI_SUB,
     "of a stream: wait for more when all that was there is printed"},
    {"--timeout", 0, "1m", TEXT(timeout), NULL, NULL, CLI_EVAL, "how long the chunk may run"},
    {"--count", 0, "N", TEXT(count), NULL, NULL, CLI_REDRIVE, "take only the first N dead letters"},
    {"--subject", 0, "FILTER", TEXT(subject), NULL, NULL, CLI_REDRIVE,
     "only letters whose own or original subject matches; wildcards allowed"},
    {"--dry-run", 0, NULL, SWITCH(dry_run), NULL, NULL, CLI_REDRIVE,
     "print what would be done, and do nothing"},
    {"--force", 0, NULL, SWITCH(force), NULL, NULL, CLI_REDRIVE,
     "put back even what a newer message has superseded"},
    {"--each", 0, NULL, SWITCH(each), NULL, NULL, CLI_RELOAD,
     "each script by itself, instead of all or none"},
    {"--strict", 0, NULL, SWITCH(strict), NULL, NULL, CLI_CHECK, "exit 1 when there is a warning"},
    {"--json", 0, NULL, SWITCH(json), NULL, NULL, CLI_CHECK, "one JSON object, for programs"},
    {"--asyncapi", 0, NULL, SWITCH(asyncapi), NULL, NULL, CLI_CHECK,
     "an AsyncAPI 3 document of what is registered"},

    {"--example", 0, "NAME", TEXT(example), NULL, NULL, CLI_INIT,
     "with the handlers of this example"},
    {"--types", 0, NULL, SWITCH(types), NULL, NULL, CLI_INIT,
     "write only types/, what editors know of moonbus, anew: after an update"},
    {"--filter", 0, "PATTERN", TEXT(filter), NULL, NULL, CLI_TEST,
     "only tests whose full name matches this Lua pattern"},
    {"--watch", 0, NULL, SWITCH(watch), NULL, NULL, CLI_TEST,
     "run them again when a file changes, until Ctrl-C"},
    {"--coverage", 0, NULL, SWITCH(coverage), NULL, NULL, CLI_TEST,
     "count which lines of the handlers they run"},
    {"--server", 0, NULL, SWITCH(test_server), NULL, NULL, CLI_TEST,
     "against a private nats-server, in real time; what needs simulated time is not run"},
    {"--timeout", 0, "5s", TEXT(timeout), NULL, NULL, CLI_TEST,
     "how long a test may compute; 0: as long as it wants (default: 5s)"},
    {"--seed", 0, "N", TEXT(test_seed), NULL, NULL, CLI_TEST,
     "of the values of properties, as a failure names it (default: another each time)"},
    {"--junit", 0, "FILE", TEXT(junit), NULL, NULL, CLI_TEST,
     "also write the results there, as JUnit's XML"},
    {"--config", 'c', "FILE", TEXT(config_file), NULL, NULL, CLI_TEST,
     "the config file (default: ./moonbus.lua, if it exists)"},

    {"--workers", 0, "N", FLAG, "workers", NULL, CLI_HOST,
     "Lua threads (default: CPUs or the container's quota, at most 4)"},
    {"--watch", 0, NULL, FLAG, "watch", "true", CLI_HOST, "reload a script when its file changes"},
    {"--no-watch", 0, NULL, FLAG, "watch", "false", CLI_HOST, "do not (run: the default)"},
    {"--graceful-timeout", 0, "25s", FLAG, "graceful_timeout", NULL, CLI_HOST,
     "how long a stop may take, in all"},
    {"--admin", 0, "ADDR:PORT|off", FLAG, "admin", NULL, CLI_HOST,
     "where to listen for reload, status and drain (default: 127.0.0.1:8223)"},
    {"--admin", 0, "ADDR:PORT", FLAG, "admin", NULL, CLI_ADMIN,
     "where the host listens (default: the config's, else 127.0.0.1:8223)"},
    {"--timeout", 0, "1m", TEXT(timeout), NULL, NULL, CLI_ADMIN,
     "how long to wait for the verdict"},
    {"--json", 0, NULL, SWITCH(json), NULL, NULL, CLI_STATUS, "all of it, as JSON"},
    {"--watch", 0, NULL, SWITCH(watch), NULL, NULL, CLI_STATUS,
     "again each second, in place on a terminal, until Ctrl-C"},
    {"--unserved", 0, NULL, SWITCH(unserved), NULL, NULL, CLI_STATUS,
     "also the durables on the server that moonbus made and nothing serves any more"},
    {"--health", 0, NULL, SWITCH(health), NULL, NULL, CLI_STATUS,
     "only whether it is healthy, ready or not: for whoever would start it again if it is not"},
    {"--config", 'c', "FILE", TEXT(config_file), NULL, NULL, CLI_ADMIN,
     "the config file (default: ./moonbus.lua, if it exists)"},
    {"--stream", 0, "STREAM", TEXT(stream), NULL, NULL, CLI_TUNE,
     "the stream that messages are played into"},
    {"--input", 0, "FILE", TEXT(tune.input), NULL, NULL, CLI_TUNE,
     "play these: a JSON object a line, with subject, data, headers (-: standard input)"},
    {"--copy-from", 0, "URL", TEXT(tune.copy_from), NULL, NULL, CLI_TUNE,
     "play messages of the stream of that name there, which is only read"},
    {"--count", 0, "N", TEXT(count), NULL, NULL, CLI_TUNE,
     "copy the last N of them (default: 1000)"},
    {"--generate", 0, "TEMPLATE", TEXT(tune.generate), NULL, NULL, CLI_TUNE,
     "play these: '{\"id\":{{n}}}'; {{n}}, {{random}}, {{uuid}}, {{time}}"},
    {"--subject", 0, "SUBJECT", TEXT(subject), NULL, NULL, CLI_TUNE,
     "where an input names none (default: the handlers' filters in turn)"},
    {"--rate", 0, "R|ramp", TEXT(tune.rate), NULL, NULL, CLI_TUNE,
     "messages in a second; ramp, the default, finds the highest that holds"},
    {"--for", 0, "30s", TEXT(tune.length), NULL, NULL, CLI_TUNE, "how long to play, in all"},
    {"--wait", 0, "500ms", TEXT(tune.wait), NULL, NULL, CLI_TUNE,
     "a rate holds while 99 % of the messages wait no longer for their handler"},
    {"--try", 0, "SETTING=VALUE", LIST(tune.tries, tune.try_count), NULL, NULL, CLI_TUNE,
     "play --rate once with this (concurrency=8, timeout=2s...); may be repeated"},
    {"--output", 0, "SUBJECT", LIST(tune.outputs, tune.output_count), NULL, NULL, CLI_TUNE,
     "a stream for what handlers publish there; wildcards allowed; may be repeated"},
    {"--allow-http", 0, NULL, SWITCH(tune.allow_http), NULL, NULL, CLI_TUNE,
     "bus.http calls real servers, at the rate that is played"},
    {"--json", 0, NULL, SWITCH(json), NULL, NULL, CLI_TUNE, "all of it, as JSON"},
    {"--as-host", 0, "JSON", TEXT(tune.as_host), NULL, NULL, CLI_TUNE, NULL},
    {"--dead", 0, "STREAM", TEXT(replay.dead), NULL, NULL, CLI_REPLAY,
     "the message that a dead letter of this stream is of: of sequence SEQ, or the last one"},
    {"--last", 0, NULL, SWITCH(replay.last), NULL, NULL, CLI_REPLAY,
     "with --dead: the last dead letter (the default)"},
    {"--file", 0, "FILE", TEXT(replay.file), NULL, NULL, CLI_REPLAY,
     "the message of a file that --save wrote; no server is needed"},
    {"--save", 0, "FILE", TEXT(replay.save), NULL, NULL, CLI_REPLAY,
     "also write the message there, for --file and for tests"},
    {"--against", 0, "PATH", TEXT(replay.against), NULL, NULL, CLI_REPLAY,
     "handlers: a file or a folder (default: the config's, else ./handlers)"},
    {"--handler", 0, "NAME", TEXT(replay.handler), NULL, NULL, CLI_REPLAY,
     "only this one: a durable, STREAM/DURABLE, or a subscription's subject"},
    {"--attempt", 0, "N", TEXT(replay.attempt), NULL, NULL, CLI_REPLAY,
     "which delivery it is (default: the letter's, else 1)"},
    {"--stub", 0, "FILE", TEXT(replay.stub), NULL, NULL, CLI_REPLAY | CLI_SHADOW,
     "Lua that answers requests and HTTP calls: local script = ...; script:stub(...)"},
    {"--for-real", 0, NULL, SWITCH(replay.for_real), NULL, NULL, CLI_REPLAY,
     "publish, ask and call for real; the message itself stays as it is"},
    {"--json", 0, NULL, SWITCH(json), NULL, NULL, CLI_REPLAY, "one JSON object, for programs"},
    {"--stream", 0, "STREAM", TEXT(stream), NULL, NULL, CLI_SHADOW,
     "where the inputs are; only read"},
    {"--since", 0, "1h", TEXT(replay.since), NULL, NULL, CLI_SHADOW,
     "inputs that were stored so long ago or later (default: 1h)"},
    {"--count", 0, "N", TEXT(count), NULL, NULL, CLI_SHADOW,
     "at most the first N of them (default: 10000)"},
    {"--durable", 0, "NAME", TEXT(replay.handler), NULL, NULL, CLI_SHADOW,
     "the handler, where PATH has several for the stream"},
    {"--output", 0, "STREAM", LIST(replay.outputs, replay.output_count), NULL, NULL, CLI_SHADOW,
     "also compare with this stream, to which the new code publishes nothing; may be repeated"},
    {"--ignore", 0, "FIELD", LIST(replay.ignored, replay.ignored_count), NULL, NULL, CLI_SHADOW,
     "do not compare this: a path of the data (items[1].at), or header:NAME; may be repeated"},
    {"--json", 0, NULL, SWITCH(json), NULL, NULL, CLI_SHADOW, "all of it, as JSON"},
    {"--nats-server", 0, "PATH", TEXT(nats_server), NULL, NULL, CLI_DEV | CLI_TUNE | CLI_TEST,
     "the server to start (default: nats-server in PATH)"},
    {"--nats-port", 0, "N", TEXT(nats_port), NULL, NULL, CLI_DEV,
     "its port (default: 4222 if free, else a free one)"},
    {"--store", 0, "DIR", TEXT(store), NULL, NULL, CLI_DEV,
     "where it keeps its data (default: .moonbus/ beside the handlers)"},

    {"--config", 'c', "FILE", TEXT(config_file), NULL, NULL, EVERY,
     "the config file (default: ./moonbus.lua, if it exists)"},
    {"--log-level", 0, "LEVEL", FLAG, "log.level", NULL, EVERY,
     "debug, info, warn, error or off (default: info)"},
    {"--log-format", 0, "FORMAT", FLAG, "log.format", NULL, EVERY | CLI_ADMIN,
     "auto, text or json (auto: text on a terminal)"},

    {"--server", 's', "URL", FLAG, "servers", NULL, EVERY,
     "nats://host:4222 or tls://...; may be repeated"},
    {"--context", 0, "NAME", TEXT(context), NULL, NULL, EVERY,
     "a context of the nats command line, or its file"},
    {"--creds", 0, "FILE", FLAG, "auth.creds", NULL, EVERY, "a credentials file (JWT and seed)"},
    {"--user", 0, "NAME", FLAG, "auth.user", NULL, EVERY, "user name; goes with --password"},
    {"--password", 0, "TEXT", FLAG, "auth.password", NULL, EVERY,
     "better: $NATS_PASSWORD, which `ps` does not show"},
    {"--token", 0, "TEXT", FLAG, "auth.token", NULL, EVERY, "better: $NATS_TOKEN"},
    {"--nkey", 0, "FILE", FLAG, "auth.nkey", NULL, EVERY, "a file with the user's seed (SU...)"},
    {"--jwt", 0, "TEXT", FLAG, "auth.jwt", NULL, EVERY, "the user's JWT; goes with --seed"},
    {"--seed", 0, "TEXT", FLAG, "auth.seed", NULL, EVERY, "the user's seed; better: $NATS_SEED"},
    {"--tls-ca", 0, "FILE", FLAG, "tls.ca", NULL, EVERY, "the authorities to trust"},
    {"--tls-cert", 0, "FILE", FLAG, "tls.cert", NULL, EVERY, "our certificate"},
    {"--tls-key", 0, "FILE", FLAG, "tls.key", NULL, EVERY, "and its key"},
    {"--tls-first", 0, NULL, FLAG, "tls.first", "true", EVERY,
     "begin with TLS, before the server says anything"},
    {"--tlsfirst", 0, NULL, FLAG, "tls.first", "true", EVERY, NULL},
    {"--tlsca", 0, "FILE", FLAG, "tls.ca", NULL, EVERY, NULL},
    {"--tlscert", 0, "FILE", FLAG, "tls.cert", NULL, EVERY, NULL},
    {"--tlskey", 0, "FILE", FLAG, "tls.key", NULL, EVERY, NULL},
    {"--js-domain", 0, "NAME", FLAG, "jetstream.domain", NULL, EVERY, "JetStream's domain"},
    {"--js-api-prefix", 0, "PREFIX", FLAG, "jetstream.api_prefix", NULL, EVERY,
     "where JetStream's API is, if not at $JS.API"},
    {"--inbox-prefix", 0, "PREFIX", FLAG, "inbox_prefix", NULL, EVERY,
     "of the subjects of replies (default: _INBOX)"},
    {"--connection-name", 0, "NAME", FLAG, "name", NULL, EVERY,
     "the name that the server shows (default: moonbus)"},
    {"--help", 'h', NULL, HELP, NULL, NULL, ~0u, NULL},
};

#define SPECS ((int)(sizeof specs / sizeof *specs))

/* --- parsing --- */

#define NAME_MOST 64

/* The first command that has that option; NULL: none has. */
static const char *other_command(const char *name)
{
    for (int i = 0; i < SPECS; i++) {
        const char letter[] = {'-', specs[i].letter, '\0'};
        if (strcmp(name, specs[i].spelling) != 0 && strcmp(name, letter) != 0)
            continue;
        for (int k = 0; k < cli_command_count; k++) {
            if (cli_commands[k].bit & specs[i].commands)
                return cli_commands[k].name;
        }
    }
    return NULL;
}

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
    const char *near = cli_nearest(name, names, count), *other = other_command(name);
    if (near)
        return cli_usage(cli, "unknown option %s (did you mean %s?)", typed, near);
    if (other)
        return cli_usage(cli, "unknown option %s: it is one of moonbus %s", typed, other);
    return cli_usage(cli, "unknown option %s (data that begins with '-' goes after --)", typed);
}

static void take_start(struct cli *cli, const struct option_spec *spec, const char *value)
{
    if (cli->start && strcmp(cli->start, spec->spelling) != 0)
        cli->first_start = cli->start;
    if (!cli->start || strcmp(cli->start, spec->spelling) != 0)
        cli->starts++;
    cli->start = spec->spelling;
    cli->start_value = value;
}

static void take_flag(struct cli *cli, const struct option_spec *spec, const char *value)
{
    cli->flags[cli->flag_count++] =
        (struct config_flag){spec->key, spec->value ? spec->value : value, spec->spelling};
    cli->servers_given = cli->servers_given || strcmp(spec->key, "servers") == 0;
}

static void take_option(struct cli *cli, const struct option_spec *spec, const char *value)
{
    void *member = (char *)cli + spec->offset;
    int *count = (void *)((char *)cli + spec->count);
    switch (spec->slot) {
    case SLOT_FLAG:
        take_flag(cli, spec, value);
        break;
    case SLOT_SWITCH:
        *(bool *)member = true;
        break;
    case SLOT_TEXT:
        *(const char **)member = value;
        break;
    case SLOT_LIST:
        (*(const char ***)member)[(*count)++] = value;
        break;
    case SLOT_START:
        take_start(cli, spec, value);
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

bool cli_only_options(const struct cli_command *command, int argc, char **argv)
{
    struct option longs[SPECS + 1];
    char letters[2 * SPECS + 3] = "+"; /* in their order: nothing is moved to the end */
    char *list[argc + 2];
    int found;
    list[0] = argv[0]; /* getopt_long passes it over */
    memcpy(list + 1, argv, (size_t)argc * sizeof *argv);
    list[argc + 1] = NULL;
    make_options(command->bit, longs, letters + 1);
    optind = 0; /* GNU: begin anew */
    opterr = 0;
    while ((found = getopt_long(argc + 1, list, letters, longs, NULL)) != -1) {
        if (found == '?' || found == ':')
            return false;
    }
    return optind == argc + 1;
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
    struct option longs[SPECS + 1];
    char letters[2 * SPECS + 2];
    cli->flags = calloc((size_t)argc + 1, sizeof *cli->flags);
    cli->headers = calloc((size_t)argc + 1, sizeof *cli->headers);
    cli->tune.tries = calloc((size_t)argc + 1, sizeof *cli->tune.tries);
    cli->tune.outputs = calloc((size_t)argc + 1, sizeof *cli->tune.outputs);
    cli->replay.outputs = calloc((size_t)argc + 1, sizeof *cli->replay.outputs);
    cli->replay.ignored = calloc((size_t)argc + 1, sizeof *cli->replay.ignored);
    if (!cli->flags || !cli->headers || !cli->tune.tries || !cli->tune.outputs ||
        !cli->replay.outputs || !cli->replay.ignored)
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
        take_option(cli, spec, optarg);
    }
    cli->args = argv + optind;
    cli->arg_count = argc - optind;
    return check_args(cli);
}

void cli_clear(struct cli *cli)
{
    free(cli->flags);
    free(cli->headers);
    free(cli->tune.tries);
    free(cli->tune.outputs);
    free(cli->replay.outputs);
    free(cli->replay.ignored);
}

/* --- help --- */

bool cli_option_at(const struct cli_command *command, int i, struct cli_option *out)
{
    for (int k = 0; k < SPECS; k++) {
        const struct option_spec *spec = &specs[k];
        if (!(spec->commands & command->bit) || !spec->help || i-- > 0)
            continue;
        *out = (struct cli_option){.spelling = spec->spelling,
                                   .letter = spec->letter,
                                   .argument = spec->argument,
                                   .help = spec->help,
                                   .common = spec->commands == EVERY};
        return true;
    }
    return false;
}
