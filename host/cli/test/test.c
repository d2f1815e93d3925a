/* test - moonbus test: handler tests, without a server. The tests have a Lua state of their own, in
 * which lua/moonbus/test/ runs them; the scripts under test run in a simulated world (sim/sim.h),
 * each in states of the host as anywhere else. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/test/stage.h"
#include "sim/sim.h"
#include "vm/embedded.h"

#define RUNNER "moonbus.test.runner"

int luaopen_cjson(lua_State *L);

/* --- the Lua state of the tests --- */

static const struct embedded_module *find_embedded(const char *name)
{
    for (size_t i = 0; i < embedded_module_count; i++) {
        if (strcmp(embedded_modules[i].name, name) == 0)
            return &embedded_modules[i];
    }
    return NULL;
}

/* A searcher of package.loaders. The bindings are the handlers' alone. */
static int search_embedded(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    if (strcmp(name, "moonbus") == 0 || strcmp(name, "moonbus.jetstream") == 0) {
        luaL_where(L, 2); /* who requires it */
        lua_pushfstring(L,
                        "\"%s\" is for handlers: a test has require \"moonbus.test\", and loads "
                        "the script that it tests with load \"handlers/name.lua\"",
                        name);
        lua_concat(L, 2);
        return lua_error(L);
    }
    const struct embedded_module *module = find_embedded(name);
    if (strncmp(name, "moonbus.test", 12) != 0 || !module) {
        lua_pushfstring(L, "\n\tmoonbus test has no module \"%s\"", name);
        return 1;
    }
    lua_pushfstring(L, "=%s", name);
    if (luaL_loadbuffer(L, module->source, module->len, lua_tostring(L, -1)) != 0)
        lua_error(L);
    return 1;
}

static void preload(lua_State *L, const char *name)
{
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, name);
    lua_pop(L, 3);
}

/* While developing, the host's modules come from the folder that MOONBUS_LUA_DIR names. */
static void add_searcher(lua_State *L)
{
    const char *dir = getenv("MOONBUS_LUA_DIR");
    lua_getglobal(L, "package");
    if (dir && *dir) {
        lua_getfield(L, -1, "path");
        lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", dir, dir, lua_tostring(L, -1));
        lua_setfield(L, -3, "path");
        lua_pop(L, 1);
    } else {
        lua_getfield(L, -1, "loaders");
        for (int i = (int)lua_objlen(L, -1); i >= 2; i--) {
            lua_rawgeti(L, -1, i);
            lua_rawseti(L, -2, i + 1);
        }
        lua_pushcfunction(L, search_embedded);
        lua_rawseti(L, -2, 2);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

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
    struct sim_settings *settings;
};

/* Calls the runner with what was asked for; it returns the exit status. */
static int run_tests(lua_State *L)
{
    const struct test_command *command = lua_touserdata(L, 1);
    luaL_openlibs(L);
    lua_pushcfunction(L, luaopen_cjson);
    preload(L, "cjson");
    lua_pushlightuserdata(L, command->settings);
    lua_pushcclosure(L, stage_open, 1);
    preload(L, "moonbus.test.stage");
    add_searcher(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, RUNNER);
    lua_call(L, 1, 1);
    lua_newtable(L);
    put_list(L, "paths", command->cli->args, command->cli->arg_count);
    put_list(L, "handlers", command->config->handlers, command->config->handler_count);
    lua_pushstring(L, command->cli->filter);
    lua_setfield(L, -2, "filter");
    lua_pushstring(L, command->cli->junit);
    lua_setfield(L, -2, "junit");
    lua_call(L, 1, 1);
    return 1;
}

static int traceback(lua_State *L)
{
    if (lua_isstring(L, 1))
        luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

/* --- the command --- */

static int run_in_state(struct test_command *command)
{
    lua_State *L = luaL_newstate();
    if (!L) {
        fprintf(stderr, "moonbus test: no memory\n");
        return CLI_FAILED;
    }
    lua_pushcfunction(L, traceback);
    lua_pushcfunction(L, run_tests);
    lua_pushlightuserdata(L, command);
    int status = CLI_FAILED;
    if (lua_pcall(L, 1, 1, 1) != 0)
        fprintf(stderr, "moonbus test: %s\n", lua_tostring(L, -1));
    else
        status = (int)lua_tointeger(L, -1);
    lua_close(L);
    return status;
}

int cli_test(struct cli *cli)
{
    /* One worker: a script's locals are the same for each message. */
    static const struct config_flag forced[] = {
        {"admin", "off", "test"}, {"watch", "false", "test"}, {"workers", "1", "test"}};
    struct err err;
    struct config_sources sources = cli_sources(cli);
    sources.flags = forced;
    sources.flag_count = sizeof forced / sizeof *forced;
    struct config *config = config_load(&sources, &err);
    if (!config) {
        fprintf(stderr, "moonbus test: %s\n", err.message);
        return CLI_USAGE;
    }
    struct test_command command = {
        .cli = cli, .config = config, .settings = sim_settings_of(config)};
    int status = CLI_FAILED;
    if (command.settings) {
        sim_watch_cpu();
        status = run_in_state(&command);
        sim_settings_free(command.settings);
    } else {
        fprintf(stderr, "moonbus test: no memory\n");
        config_free(config);
    }
    return status;
}
