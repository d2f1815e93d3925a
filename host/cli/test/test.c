/* test - moonbus test: handler tests, without a server. The runner (lua/moonbus/test/runner.lua)
 * has a Lua state of its own, and so has each file of tests (session.h); the scripts under test run
 * in simulated worlds (sim/sim.h), each in states of the host as anywhere else. */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/value.h"
#include "cli/cli.h"
#include "cli/test/again.h"
#include "cli/test/coverage.h"
#include "cli/test/files.h"
#include "cli/test/live.h"
#include "cli/test/session.h"
#include "sim/sim.h"
#include "vm/vm.h"

#define RUNNER "moonbus.test.runner"
/* Of a test, if nothing else is said; sanitizers make all of it ten times as slow. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LIMIT_NS (50 * NS_PER_S)
#else
#define LIMIT_NS (5 * NS_PER_S)
#endif

static void put_list(lua_State *L, const char *key, char *const *list, int count)
{
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_pushstring(L, list[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, key);
}

struct test_command {
    const struct cli *cli;
    const struct config *config;
    struct session_settings session;
    int64_t seed; /* of properties; -1: by chance */
};

static void preload(lua_State *L, const char *name, lua_CFunction open)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 2);
}

/* Pushes what was asked for. */
static void push_options(lua_State *L, const struct test_command *command)
{
    char timeout[32];
    value_format_duration(command->session.limit_ns, timeout, sizeof timeout);
    lua_newtable(L);
    put_list(L, "paths", command->cli->args, command->cli->arg_count);
    put_list(L, "handlers", command->config->handlers, command->config->handler_count);
    lua_pushstring(L, command->cli->filter);
    lua_setfield(L, -2, "filter");
    lua_pushstring(L, command->cli->junit);
    lua_setfield(L, -2, "junit");
    if (command->seed >= 0) {
        lua_pushnumber(L, (double)command->seed);
        lua_setfield(L, -2, "seed");
    }
    lua_pushboolean(L, command->cli->coverage);
    lua_setfield(L, -2, "coverage");
    lua_pushstring(L, timeout);
    lua_setfield(L, -2, "timeout");
}

static int fail(const char *why)
{
    fprintf(stderr, "moonbus test: %s\n", why);
    return CLI_FAILED;
}

/* Calls the runner; it returns the exit status. Its own call is not guarded: those of tests are. */
static int run_tests(struct vm *vm, const struct test_command *command)
{
    struct failure failure = {0};
    preload(vm->L, "moonbus.test.session", session_open);
    preload(vm->L, "moonbus.test.files", files_open);
    if (vm_module(vm, RUNNER, &failure)) {
        int status = fail(failure.err.message);
        failure_clear(&failure);
        return status;
    }
    push_options(vm->L, command);
    if (lua_pcall(vm->L, 1, 1, 0) != 0)
        return fail(lua_tostring(vm->L, -1));
    return (int)lua_tointeger(vm->L, -1);
}

/* --- the command --- */

/* 0, or what to end with. */
static int prepare(struct cli *cli, struct test_command *command)
{
    /* One worker: a script's locals are the same for each message. */
    static const struct config_flag forced[] = {
        {"admin", "off", "test"}, {"watch", "false", "test"}, {"workers", "1", "test"}};
    struct err err;
    struct config_sources sources = cli_sources(cli);
    sources.flags = forced;
    sources.flag_count = sizeof forced / sizeof *forced;
    command->session.limit_ns = LIMIT_NS;
    if (cli->timeout &&
        (command->session.limit_ns = cli_duration(cli, "--timeout", cli->timeout)) < 0)
        return CLI_USAGE;
    command->seed = cli->test_seed ? cli_number(cli, "--seed", cli->test_seed, 0, UINT32_MAX) : -1;
    if (cli->test_seed && command->seed < 0)
        return CLI_USAGE;
    struct config *config = config_load(&sources, &err);
    if (!config) {
        fail(err.message);
        return CLI_USAGE;
    }
    command->config = config;
    command->session.sim = sim_settings_of(config);
    if (command->session.sim)
        return 0;
    config_free(config);
    return fail("no memory");
}

static int run_once(struct cli *cli)
{
    struct err err;
    struct test_command command = {.cli = cli};
    int status = prepare(cli, &command);
    if (status)
        return status;
    struct vm *vm = vm_new(0, NULL, &err);
    if (vm) {
        session_watch(&command.session);
        if (cli->coverage)
            coverage_start();
        status = run_tests(vm, &command);
        coverage_end();
        session_end_watch();
        vm_free(vm);
    } else {
        status = fail(err.message);
    }
    sim_settings_free(command.session.sim);
    return status;
}

static int run_with_server(struct cli *cli)
{
    return live_run(cli, run_once);
}

int cli_test(struct cli *cli)
{
    if (cli->test_server && cli->coverage)
        return cli_usage(cli, "--coverage counts in simulated time, not with --server");
    int (*once)(struct cli * cli) = cli->test_server ? run_with_server : run_once;
    return cli->watch ? again_run(cli, once) : once(cli);
}
