/* config_read - runs the config file, and moonbus.config, which judges it. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "app/config_private.h"
#include "app/context.h"
#include "base/cpus.h"
#include "base/value.h"
#include "vm/aside.h"
#include "vm/loader.h"

#define DEFAULT_WORKERS_MOST 4
#define CONFIG_MEMORY_BYTES (64u << 20)
#define LOAD_DEADLINE_NS (5 * NS_PER_S)
#define ADVICE "a config file only returns a table"

/* --- what config.lua asks of C: the same judgement as everywhere --- */

/* Leaves the value, or nil and the sentence. */
static int answer(lua_State *L, int code, double value, const struct err *err)
{
    if (code) {
        lua_pushnil(L);
        lua_pushstring(L, err->message);
        return 2;
    }
    lua_pushnumber(L, value);
    return 1;
}

static int host_duration(lua_State *L)
{
    struct err err;
    int64_t ns = 0;
    int code;
    if (lua_type(L, 1) == LUA_TNUMBER) {
        code = value_seconds(lua_tonumber(L, 1), &ns, &err);
    } else {
        size_t len;
        const char *text = luaL_checklstring(L, 1, &len);
        code = value_duration(text, len, &ns, &err);
    }
    return answer(L, code, (double)ns, &err);
}

static int host_size(lua_State *L)
{
    struct err err;
    int64_t bytes = 0;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len); /* a number of bytes reads the same */
    int code = value_size(text, len, &bytes, &err);
    return answer(L, code, (double)bytes, &err);
}

static int host_subject(lua_State *L)
{
    struct err err;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    return answer(L, subject_check(text, len, SUBJECT_PUBLISH, &err), 1, &err);
}

static int host_name(lua_State *L)
{
    struct err err;
    size_t len;
    const char *what = luaL_checkstring(L, 1), *text = luaL_checklstring(L, 2, &len);
    return answer(L, name_check(what, text, len, &err), 1, &err);
}

/* As handlers will read it. */
static int host_json(lua_State *L)
{
    struct err err;
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    return answer(L, api_json_decode(L, text, len, NULL, &err), 1, &err);
}

/* --- contexts --- */

static void push_context(lua_State *L, const struct context *context)
{
    lua_createtable(L, 0, 3);
    lua_pushstring(L, context->name);
    lua_setfield(L, -2, "name");
    lua_pushstring(L, context->unknown);
    lua_setfield(L, -2, "unknown");
    lua_createtable(L, context->count, 0);
    for (int i = 0; i < context->count; i++) {
        const struct context_value *value = &context->values[i];
        lua_createtable(L, 0, 3);
        lua_pushstring(L, value->key);
        lua_setfield(L, -2, "key");
        lua_pushstring(L, value->field);
        lua_setfield(L, -2, "field");
        lua_pushstring(L, value->text);
        lua_setfield(L, -2, "text");
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "values");
}

/* (name or nil: the selected one): the context; nil: there is none; nil and the sentence. Out of
 * memory in Lua, what was read stays behind: the process does not start then. */
static int host_context(lua_State *L)
{
    char selected[NAME_MAX + 1];
    struct context context;
    struct err err;
    const char *name = luaL_optstring(L, 1, NULL);
    if (!name && !context_selected(selected, sizeof selected))
        return 0;
    int code = context_load(name ? name : selected, &context, &err);
    if (code) {
        context_clear(&context);
        return answer(L, code, 0, &err);
    }
    push_context(L, &context);
    context_clear(&context);
    return 1;
}

/* --- handing over --- */

static void set_string(lua_State *L, const char *key, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, key);
}

static void push_flags(lua_State *L, const struct config_flag *flags, int count)
{
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_createtable(L, 0, 3);
        set_string(L, "key", flags[i].key);
        set_string(L, "value", flags[i].value);
        set_string(L, "spelling", flags[i].spelling);
        lua_rawseti(L, -2, i + 1);
    }
}

static void push_environment(lua_State *L)
{
    lua_newtable(L);
    for (char **variable = environ; *variable; variable++) {
        const char *equals = strchr(*variable, '=');
        bool ours = strncmp(*variable, "MOONBUS_", 8) == 0 || strncmp(*variable, "NATS_", 5) == 0 ||
                    strncmp(*variable, "OTEL_", 5) == 0;
        if (!equals || !ours)
            continue;
        lua_pushlstring(L, *variable, (size_t)(equals - *variable));
        lua_pushstring(L, equals + 1);
        lua_rawset(L, -3);
    }
}

static void push_input(lua_State *L, const struct config_sources *sources, const char *file)
{
    static const luaL_Reg host[] = {
        {"duration", host_duration},
        {"size", host_size},
        {"subject", host_subject},
        {"name", host_name},
        {"json", host_json},
        {"context", host_context},
        {NULL, NULL},
    };
    int cpus = cpus_available();
    lua_newtable(L);
    api_json_open(L);
    lua_pop(L, 1);
    lua_newtable(L);
    if (file)
        set_string(L, "file", file);
    lua_pushinteger(L, cpus < DEFAULT_WORKERS_MOST ? cpus : DEFAULT_WORKERS_MOST);
    lua_setfield(L, -2, "workers");
    if (sources->context)
        set_string(L, "context", sources->context);
    lua_pushboolean(L, sources->no_selected);
    lua_setfield(L, -2, "no_selected_context");
    push_environment(L);
    lua_setfield(L, -2, "environment");
    push_flags(L, sources->flags, sources->flag_count);
    lua_setfield(L, -2, "flags");
    push_flags(L, sources->defaults, sources->default_count);
    lua_setfield(L, -2, "defaults");
    lua_newtable(L);
    for (const luaL_Reg *function = host; function->name; function++) {
        lua_pushcfunction(L, function->func);
        lua_setfield(L, -2, function->name);
    }
    lua_setfield(L, -2, "host");
}

/* --- running it --- */

/* The file is read aside: whatever it does must not keep the caller. */
struct reading {
    struct aside aside;                   /* first */
    struct vm *vm;                        /* owned */
    const struct config_sources *sources; /* not owned; used before the file runs */
    const char *file;
    int code; /* 0: the result is on the stack of vm */
    struct err err;
    enum log_format format; /* else: of the log, as far as it was stated */
};

static int64_t limit_of(const struct config_sources *sources)
{
    return sources->file_limit_ns > 0 ? sources->file_limit_ns : LOAD_DEADLINE_NS;
}

/* Runs moonbus.config; its result is left on the stack. */
static int judge_config(struct vm *vm, const struct config_sources *sources, const char *file,
                        enum log_format *format, struct err *err)
{
    struct failure failure = {0};
    int code = vm_module(vm, "moonbus.config", &failure);
    if (!code) {
        lua_getfield(vm->L, -1, "load");
        push_input(vm->L, sources, file);
        code = loader_call_within(vm, limit_of(sources), ADVICE, 1, 3, &failure);
    }
    if (code) {
        char place[300] = "";
        if (failure.file)
            snprintf(place, sizeof place, "%s:%d: ", failure.file, failure.line);
        err_set(err, ERR_INVALID, "%s%s", place, failure.err.message);
        failure_clear(&failure);
        return ERR_INVALID;
    }
    if (lua_isnil(vm->L, -3)) {
        log_parse_format(lua_tostring(vm->L, -1), format);
        return err_set(err, ERR_INVALID, "%s", lua_tostring(vm->L, -2));
    }
    lua_pop(vm->L, 2);
    return 0;
}

static void on_read(struct aside *aside)
{
    struct reading *reading = (struct reading *)aside;
    reading->code =
        judge_config(reading->vm, reading->sources, reading->file, &reading->format, &reading->err);
}

static void reading_free(struct reading *reading)
{
    if (reading->vm)
        vm_free(reading->vm);
    free(reading);
}

static void on_late(struct aside *aside)
{
    reading_free((struct reading *)aside);
}

enum log_format config_stated_format(const struct config_sources *sources)
{
    enum log_format format = LOG_AUTO;
    const char *variable = getenv("MOONBUS_LOG_FORMAT");
    for (int i = 0; i < sources->default_count; i++) {
        if (strcmp(sources->defaults[i].key, "log.format") == 0)
            log_parse_format(sources->defaults[i].value, &format);
    }
    if (variable)
        log_parse_format(variable, &format);
    for (int i = 0; i < sources->flag_count; i++) {
        if (strcmp(sources->flags[i].key, "log.format") == 0)
            log_parse_format(sources->flags[i].value, &format);
    }
    return format;
}

struct vm *config_read(const struct config_sources *sources, const char *file,
                       enum log_format *format, struct err *err)
{
    char limit[32];
    struct reading *reading = calloc(1, sizeof *reading);
    struct vm *vm = reading ? vm_new(CONFIG_MEMORY_BYTES, NULL, err) : NULL;
    if (!vm) {
        free(reading);
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    *reading = (struct reading){.aside = {.run = on_read, .late = on_late},
                                .vm = vm,
                                .sources = sources,
                                .file = file,
                                .format = config_stated_format(sources)};
    *format = reading->format;
    enum aside_end end = aside_run(&reading->aside, err);
    if (end == ASIDE_LEFT) {
        value_format_duration(limit_of(sources), limit, sizeof limit);
        err_set(err, ERR_INVALID,
                "%s: still loading after %s, in a call that nothing interrupts: " ADVICE,
                file ? file : "the environment", limit);
        return NULL;
    }
    if (end == ASIDE_ENDED && reading->code)
        *err = reading->err;
    if (end == ASIDE_ENDED)
        *format = reading->format;
    if (vm->broken && file) /* then its place is not known */
        err_prefix(err, "%s", file);
    if (end == ASIDE_ENDED && reading->code == 0)
        reading->vm = NULL;
    else
        vm = NULL;
    reading_free(reading);
    return vm;
}
