/* See replay.h; and moonbus replay: the code on one stored message. */
#include "cli/replay/replay.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "base/random.h"
#include "base/value.h"
#include "cli/replay/server.h"
#include "cli/say.h"
#include "cli/test/files.h"
#include "cli/test/stage.h"
#include "sim/sim.h"
#include "vm/vm.h"

#define SEQUENCE_MOST (INT64_C(1) << 53)
#define ATTEMPT_MOST 1000000L

/* --- what both commands share --- */

void replay_put(lua_State *L, const char *key, const char *value)
{
    lua_pushstring(L, value); /* NULL: nil */
    lua_setfield(L, -2, key);
}

void replay_put_list(lua_State *L, const char *key, char *const *list, int count)
{
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_pushstring(L, list[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, key);
}

struct replay_job {
    struct replay_command *command;
    struct sim_settings *settings;
    struct replay_server server;
};

static void put_common(lua_State *L, const struct replay_command *command)
{
    const struct cli *cli = command->cli;
    const struct config *config = command->config;
    replay_put_list(L, "handlers", config->handlers, config->handler_count);
    replay_put_list(L, "secrets", config->secrets, config->secret_count);
    replay_put(L, "inbox", config->inbox_prefix);
    replay_put(L, "stub", cli->replay.stub);
    replay_put(L, "handler", cli->replay.handler);
    lua_pushboolean(L, cli->json);
    lua_setfield(L, -2, "json");
    lua_pushboolean(L, cli->servers_given || cli->context);
    lua_setfield(L, -2, "connects");
}

static int open_stage(lua_State *L)
{
    const struct replay_job *job = lua_touserdata(L, lua_upvalueindex(1));
    stage_open(L, job->settings);
    return 1;
}

/* upvalue: what the module's functions find; NULL: none. */
static void preload(lua_State *L, const char *name, lua_CFunction open, void *upvalue)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushlightuserdata(L, upvalue);
    lua_pushcclosure(L, open, 1);
    lua_setfield(L, -2, name);
    lua_pop(L, 2);
}

static int fail(const struct cli *cli, const char *why)
{
    say_error(cli, "%s", why);
    return CLI_FAILED;
}

static int run_module(struct vm *vm, struct replay_job *job)
{
    struct failure failure = {0};
    struct replay_command *command = job->command;
    preload(vm->L, "moonbus.test.stage", open_stage, job);
    preload(vm->L, "moonbus.test.files", files_open, NULL);
    preload(vm->L, "moonbus.core", api_open_values, NULL);
    preload(vm->L, "moonbus.replay.server", replay_server_open, &job->server);
    if (vm_module(vm, command->module, &failure)) {
        int status = fail(command->cli, failure.err.message);
        failure_clear(&failure);
        return status;
    }
    lua_newtable(vm->L);
    put_common(vm->L, command);
    command->put(vm->L, command);
    if (lua_pcall(vm->L, 1, 1, 0) != 0)
        return fail(command->cli, lua_tostring(vm->L, -1));
    return (int)lua_tointeger(vm->L, -1);
}

/* In a handler of signals. */
static void on_lost(void)
{
    static const char said[] =
        "moonbus: the handler computes in a function written in C that never "
        "comes back: nothing can end it (limits.cpu)\n";
    if (write(STDERR_FILENO, said, sizeof said - 1) < 0)
        _exit(CLI_FAILED);
    _exit(CLI_FAILED);
}

int replay_run(struct replay_command *command)
{
    /* One worker: a script's locals are the same for each message. */
    static const struct config_flag forced[] = {
        {"admin", "off", "replay"}, {"watch", "false", "replay"}, {"workers", "1", "replay"}};
    const struct cli *cli = command->cli;
    struct err err;
    struct config_flag flags[cli->flag_count + 3];
    struct config_sources sources = cli_sources(cli);
    memcpy(flags, cli->flags, (size_t)cli->flag_count * sizeof *flags);
    memcpy(flags + cli->flag_count, forced, sizeof forced);
    sources.flags = flags;
    sources.flag_count = cli->flag_count + 3;
    struct config *config = config_load(&sources, &err);
    if (!config) {
        say_error(cli, "%s", err.message);
        return CLI_USAGE;
    }
    command->config = config;
    struct replay_job job = {
        .command = command, .settings = sim_settings_of(config), .server = {.cli = cli}};
    job.server.format = config->log_format == LOG_JSON ? LOG_JSON : LOG_TEXT;
    if (!job.settings) {
        config_free(config);
        return fail(cli, "no memory");
    }
    struct vm *vm = vm_new(0, NULL, &err);
    sim_watch_cpu(NULL, on_lost);
    int status = vm ? run_module(vm, &job) : fail(cli, err.message);
    replay_server_close(&job.server);
    if (vm)
        vm_free(vm);
    sim_settings_free(job.settings);
    return status;
}

/* --- moonbus replay --- */

/* Of all chance in the simulated hosts: ids that are random must not come again in the next run,
 * where they would make what is sent for real a duplicate. */
static void put_seed(lua_State *L)
{
    uint32_t seed;
    random_bytes(&seed, sizeof seed);
    lua_pushnumber(L, (double)seed * 1000);
    lua_setfield(L, -2, "seed");
}

static void put_replay(lua_State *L, const struct replay_command *command)
{
    const struct cli *cli = command->cli;
    put_seed(L);
    if (!cli->replay.dead && !cli->replay.file)
        replay_put(L, "stream", cli->args[0]);
    replay_put(L, "dead", cli->replay.dead);
    replay_put(L, "file", cli->replay.file);
    replay_put(L, "save", cli->replay.save);
    if (cli->replay.against) {
        const char *paths[] = {cli->replay.against};
        replay_put_list(L, "handlers", (char *const *)paths, 1);
    }
    if (command->sequence > 0) {
        lua_pushnumber(L, command->sequence);
        lua_setfield(L, -2, "sequence");
    }
    if (command->attempt > 0) {
        lua_pushnumber(L, command->attempt);
        lua_setfield(L, -2, "attempt");
    }
    lua_pushboolean(L, cli->replay.for_real);
    lua_setfield(L, -2, "for_real");
}

static int check_name(const struct cli *cli, const char *name)
{
    struct err err;
    if (name_check("stream name", name, strlen(name), &err) != 0)
        return cli_usage(cli, "%s", err.message);
    return CLI_OK;
}

/* Which of the three forms it is, and what goes with it. */
static int check_form(const struct cli *cli)
{
    const struct cli_replay *replay = &cli->replay;
    if (replay->dead && replay->file)
        return cli_usage(cli, "--dead and --file exclude each other");
    if (replay->file && cli->arg_count > 0)
        return cli_usage(cli, "\"%s\" and --file exclude each other", cli->args[0]);
    if (replay->file && replay->for_real && !cli->servers_given && !cli->context)
        return cli_usage(cli, "--file with --for-real: to which server? state it with -s URL or "
                              "--context NAME");
    if (replay->last && !replay->dead)
        return cli_usage(cli, "--last is the last dead letter: --dead STREAM --last");
    if (replay->last && cli->arg_count > 0)
        return cli_usage(cli, "--last and the sequence %s exclude each other", cli->args[0]);
    if (replay->dead && cli->arg_count > 1)
        return cli_usage(cli, "too many arguments: \"%s\" (with --dead, one: the sequence)",
                         cli->args[1]);
    if (replay->file || replay->dead)
        return replay->dead ? check_name(cli, replay->dead) : CLI_OK;
    if (cli->arg_count == 0)
        return cli_usage(cli, "which message? STREAM SEQ, --dead STREAM or --file FILE");
    if (cli->arg_count == 1)
        return cli_usage(cli, "SEQ is missing: the message's sequence in %s", cli->args[0]);
    return check_name(cli, cli->args[0]);
}

static int check_numbers(struct replay_command *command, const struct cli *cli)
{
    const char *sequence = cli->replay.dead && cli->arg_count > 0    ? cli->args[0]
                           : !cli->replay.file && cli->arg_count > 1 ? cli->args[1]
                                                                     : NULL;
    if (sequence &&
        (command->sequence = (double)cli_number(cli, "SEQ", sequence, 1, SEQUENCE_MOST)) < 0)
        return CLI_USAGE;
    if (cli->replay.attempt && (command->attempt = (double)cli_number(
                                    cli, "--attempt", cli->replay.attempt, 1, ATTEMPT_MOST)) < 0)
        return CLI_USAGE;
    return CLI_OK;
}

int cli_replay(struct cli *cli)
{
    struct replay_command command = {.cli = cli, .module = "moonbus.replay", .put = put_replay};
    int status = check_form(cli);
    if (!status)
        status = check_numbers(&command, cli);
    return status ? status : replay_run(&command);
}
