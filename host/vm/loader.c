/* The C side of a script's environment: finding, reading and running files. */
#include "vm/loader.h"

#include <luajit.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/strand.h"
#include "base/sync.h"
#include "base/table.h"
#include "base/value.h"
#include "vm/guard.h"

struct name {
    UT_hash_handle hh;
    char text[];
};

struct loader_names {
    struct mutex lock;  /* guards the table; a leaf */
    struct name *table; /* owned; at most LOADER_NAMES_MOST, each cut by lua/moonbus/loader.lua */
    long beyond;        /* writes to further names */
};

struct loader_names *loader_names_new(void)
{
    struct loader_names *names = calloc(1, sizeof *names);
    if (names)
        mutex_init(&names->lock);
    return names;
}

void loader_names_free(struct loader_names *names)
{
    if (!names)
        return;
    struct name *name, *next;
    HASH_ITER(hh, names->table, name, next) {
        HASH_DEL(names->table, name);
        free(name);
    }
    mutex_destroy(&names->lock);
    free(names);
}

/* A name that is new: 0. Of one that is known -1; of one for which there is no room, how many such
 * writes there were. */
static long names_add(struct loader_names *names, const char *text)
{
    struct name *name;
    long result = -1;
    mutex_lock(&names->lock);
    HASH_FIND_STR(names->table, text, name);
    if (!name && HASH_COUNT(names->table) >= LOADER_NAMES_MOST) {
        result = ++names->beyond;
    } else if (!name) {
        result = 0;
        if ((name = malloc(sizeof *name + strlen(text) + 1))) {
            strcpy(name->text, text);
            HASH_ADD_STR(names->table, text, name);
            if (!table_has(name))
                free(name);
        }
    }
    mutex_unlock(&names->lock);
    return result;
}

static bool is_power_of_ten(long number)
{
    while (number >= 10 && number % 10 == 0)
        number /= 10;
    return number == 1;
}

/* Lua: warn(global, file, line, bytes that are left out of the name). Upvalues: the shared names,
 * the script's name. */
static int warn_global(lua_State *L)
{
    struct loader_names *warned = lua_touserdata(L, lua_upvalueindex(1));
    const char *name = luaL_checkstring(L, 1);
    struct log_context context = {
        .script = lua_tostring(L, lua_upvalueindex(2)),
        .file = luaL_checkstring(L, 2),
        .line = (int)luaL_checkinteger(L, 3),
        .verbatim = true, /* each name is told, once */
    };
    const char *more = luaL_checkinteger(L, 4) > 0 ? "..." : "";
    long beyond = warned ? names_add(warned, name) : 0;
    if (beyond == 0)
        log_event(LOG_WARN, &context,
                  "write to the undeclared global \"%s%s\": did you mean local?", name, more);
    else if (beyond > 0 && is_power_of_ten(beyond))
        log_event(LOG_WARN, &context,
                  "write to the undeclared global \"%s%s\": more than %d such names; of %ld writes "
                  "to others not each is logged",
                  name, more, LOADER_NAMES_MOST, beyond);
    return 0;
}

/* Every LuaJIT state starts with the same random numbers. */
static double random_seed(void)
{
    uint32_t seed;
    random_bytes(&seed, sizeof seed);
    return seed;
}

struct run_args {
    const char *path, *name;
    const struct loader_options *options;
};

/* Protected: (run_args) -> the table that loader.run takes. */
static int push_run_args(lua_State *L)
{
    const struct run_args *args = lua_touserdata(L, 1);
    const struct loader_options *options = args->options;
    lua_newtable(L);
    lua_pushstring(L, args->path);
    lua_setfield(L, -2, "path");
    lua_pushstring(L, args->name);
    lua_setfield(L, -2, "name");
    lua_pushboolean(L, options->trust);
    lua_setfield(L, -2, "trust");
    lua_pushnumber(L, random_seed());
    lua_setfield(L, -2, "seed");
    lua_createtable(L, options->lib_count, 0);
    for (int i = 0; i < options->lib_count; i++) {
        lua_pushstring(L, options->lib[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "lib");
    texts_push_reader(L, options->texts);
    lua_setfield(L, -2, "read");
    lua_pushlightuserdata(L, options->warned);
    lua_pushstring(L, args->name);
    lua_pushcclosure(L, warn_global, 2);
    lua_setfield(L, -2, "warn");
    return 1;
}

/* How often the time is looked at: a thousand instructions are some 10 us. */
#define LOOK_INSTRUCTIONS 1000

/* May raise. Once the time is over it raises at every instruction: no pcall outlives that. */
static void on_count(lua_State *L, lua_Debug *activation)
{
    struct vm *vm = vm_of(L);
    if (activation->event == LUA_HOOKLINE) {
        vm_on_line(L, activation);
        return;
    }
    if (clock_now_ns() < vm->load_until_ns)
        return;
    char limit[32];
    if (!*vm->load_file) /* code that catches it is at another place the next time */
        where_find(L, vm->load_file, sizeof vm->load_file, &vm->load_line);
    lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    value_format_duration(vm->load_limit_ns, limit, sizeof limit);
    lua_createtable(L, 0, 4);
    if (*vm->load_file) {
        lua_pushstring(L, vm->load_file);
        lua_setfield(L, -2, "file");
        lua_pushinteger(L, vm->load_line);
        lua_setfield(L, -2, "line");
    }
    lua_pushstring(L, err_name(ERR_CPU));
    lua_setfield(L, -2, "code");
    lua_pushfstring(L, "still loading after %s: %s", limit, vm->load_advice);
    lua_setfield(L, -2, "message");
    lua_error(L);
}

/* It was stopped by the thread's guard, for it was in a call of the library that saw no hook. */
static int say_stopped(struct vm *vm, struct failure *failure)
{
    char limit[32];
    /* In a simulated world no time has passed: it was limits.cpu. */
    value_format_duration(world_active() ? vm->cpu_ns : vm->load_limit_ns, limit, sizeof limit);
    if (clock_now_ns() < vm->load_until_ns && !world_active())
        return err_set(&failure->err, ERR_CLOSED, "the host is stopping");
    if (!vm->broken)
        return err_set(&failure->err, ERR_CPU, "still loading after %s: %s", limit,
                       vm->load_advice);
    return err_set(&failure->err, ERR_CPU,
                   "still loading after %s, in a call of the library that only ended with its Lua "
                   "state (such as string.find with a hopeless pattern): %s",
                   limit, vm->load_advice);
}

/* Compiled code looks at no hook, so nothing is compiled. */
int loader_call_within(struct vm *vm, int64_t limit_ns, const char *advice, int nargs, int nresults,
                       struct failure *failure)
{
    if (limit_ns <= 0)
        return vm_call(vm, nargs, nresults, failure);
    vm->load_advice = advice;
    vm->load_limit_ns = limit_ns;
    vm->load_file[0] = '\0';
    vm->load_until_ns = clock_now_ns() + (uint64_t)limit_ns;
    luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    lua_sethook(vm->L, on_count, LUA_MASKCOUNT | (vm_on_line ? LUA_MASKLINE : 0),
                LOOK_INSTRUCTIONS);
    guard_set_due(vm->load_until_ns);
    bool stopped;
    int code = vm_call_alone(vm, nargs, nresults, &stopped, failure);
    guard_set_due(0);
    if (stopped)
        code = say_stopped(vm, failure);
    if (vm->broken)
        return code;
    lua_sethook(vm->L, NULL, 0, 0);
    luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_ON);
    return code;
}

int loader_run(struct vm *vm, const char *path, const char *name,
               const struct loader_options *options, struct failure *failure)
{
    lua_State *L = vm->L;
    int top = lua_gettop(L);
    struct run_args run_args = {path, name, options};
    lua_pushcfunction(L, push_run_args);
    lua_pushlightuserdata(L, &run_args);
    int code = vm_call(vm, 1, 1, failure);
    if (code == 0)
        code = vm_module(vm, "moonbus.loader", failure);
    if (code == 0) {
        lua_getfield(L, -1, "run");
        lua_pushvalue(L, top + 1);
        code = loader_call_within(vm, options->deadline_ns, LOADER_ADVICE, 1, 0, failure);
    }
    if (!vm->broken)
        lua_settop(L, top);
    return code;
}
