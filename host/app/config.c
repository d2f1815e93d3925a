#include "app/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/api.h"
#include "app/cpus.h"
#include "base/value.h"
#include "vm/loader.h"
#include "vm/vm.h"

#define DEFAULT_FILE "moonbus.lua"
#define DEFAULT_WORKERS_MOST 4
#define CONFIG_MEMORY_BYTES (64u << 20)
#define LOAD_DEADLINE_NS (5 * NS_PER_S)

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
    return answer(L, api_json_decode(L, text, len, &err), 1, &err);
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
        bool ours = strncmp(*variable, "MOONBUS_", 8) == 0 || strncmp(*variable, "NATS_", 5) == 0;
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
        {"duration", host_duration}, {"size", host_size}, {"subject", host_subject},
        {"name", host_name},         {"json", host_json}, {NULL, NULL},
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

/* --- taking over: the result is on top of the stack --- */

static char *get_string(lua_State *L, const char *key)
{
    lua_getfield(L, -1, key);
    const char *text = lua_tostring(L, -1);
    char *copy = text ? strdup(text) : NULL;
    lua_pop(L, 1);
    return copy;
}

static double get_number(lua_State *L, const char *key)
{
    lua_getfield(L, -1, key);
    double number = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return number;
}

static int64_t get_ns(lua_State *L, const char *key)
{
    return (int64_t)get_number(L, key);
}

static int get_int(lua_State *L, const char *key)
{
    return (int)get_number(L, key);
}

static bool get_bool(lua_State *L, const char *key)
{
    lua_getfield(L, -1, key);
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

static char **get_list(lua_State *L, const char *key, int *count)
{
    *count = 0;
    lua_getfield(L, -1, key);
    int length = (int)lua_objlen(L, -1);
    char **list = calloc((size_t)length + 1, sizeof *list);
    for (int i = 0; list && i < length; i++) {
        lua_rawgeti(L, -1, i + 1);
        list[i] = strdup(lua_tostring(L, -1));
        lua_pop(L, 1);
        if (!list[i])
            break;
        ++*count;
    }
    lua_pop(L, 1);
    return list;
}

static void take_reach(struct config *config, lua_State *L)
{
    config->servers = get_list(L, "servers", &config->server_count);
    config->servers_stated = get_bool(L, "servers_stated");
    config->servers_given = get_bool(L, "servers_given");
    config->name = get_string(L, "name");
    config->creds = get_string(L, "auth.creds");
    config->user = get_string(L, "auth.user");
    config->password = get_string(L, "auth.password");
    config->token = get_string(L, "auth.token");
    config->nkey = get_string(L, "auth.nkey");
    config->tls = get_bool(L, "tls");
    config->tls_ca = get_string(L, "tls.ca");
    config->tls_cert = get_string(L, "tls.cert");
    config->tls_key = get_string(L, "tls.key");
    config->tls_verify = get_bool(L, "tls.verify");
    config->domain = get_string(L, "jetstream.domain");
    config->api_prefix = get_string(L, "jetstream.api_prefix");
    config->inbox_prefix = get_string(L, "inbox_prefix");
    config->connect_timeout_ns = get_ns(L, "connect_timeout");
    config->ping_interval_ns = get_ns(L, "ping_interval");
    config->max_pings_out = get_int(L, "max_pings_out");
    config->reconnect_wait_ns = get_ns(L, "reconnect.wait");
    config->reconnect_max_wait_ns = get_ns(L, "reconnect.max_wait");
    config->reconnect_jitter_ns = get_ns(L, "reconnect.jitter");
    config->request_timeout_ns = get_ns(L, "request_timeout");
    config->publish_timeout_ns = get_ns(L, "publish.timeout");
    config->publish_attempts = get_int(L, "publish.attempts");
    config->publish_backoff_min_ns = get_ns(L, "publish.backoff.min");
    config->publish_backoff_max_ns = get_ns(L, "publish.backoff.max");
}

static void take_host(struct config *config, lua_State *L)
{
    config->handlers = get_list(L, "handlers", &config->handler_count);
    config->lib = get_list(L, "lib", &config->lib_count);
    config->workers = get_int(L, "workers");
    config->graceful_timeout_ns = get_ns(L, "graceful_timeout");
    double memory = get_number(L, "limits.memory"); /* what cannot be counted is no limit at all */
    config->limit_memory_bytes = memory < 0x1p62 ? (int64_t)memory : INT64_C(1) << 62;
    config->limit_cpu_ns = get_ns(L, "limits.cpu");
    config->limit_max_stuck = get_int(L, "limits.max_stuck");
    config->limit_offload_threads = get_int(L, "limits.offload_threads");
    config->watch = get_bool(L, "watch");
    config->trust = get_bool(L, "trust");
    config->admin = get_string(L, "admin");
    config->admin_given = get_bool(L, "admin_given");
    config->admin_token = get_string(L, "admin_token");
    config->settings_json = get_string(L, "settings");
    config->warnings = get_list(L, "warnings", &config->warning_count);
    char *level = get_string(L, "log.level"), *format = get_string(L, "log.format");
    if (!level || !log_parse_level(level, &config->log_level))
        config->log_level = LOG_INFO;
    if (!format || !log_parse_format(format, &config->log_format))
        config->log_format = LOG_AUTO;
    free(level);
    free(format);
}

static enum config_takes takes_of(const char *text)
{
    static const char *const names[] = {"now", "scripts", "start", "server"};
    for (int i = 0; text && i < TAKES_SERVER; i++) {
        if (strcmp(names[i], text) == 0)
            return (enum config_takes)i;
    }
    return TAKES_SERVER;
}

static void take_leaves(struct config *config, lua_State *L)
{
    lua_getfield(L, -1, "leaves");
    int count = (int)lua_objlen(L, -1);
    config->leaves = calloc((size_t)count + 1, sizeof *config->leaves);
    for (int i = 0; config->leaves && i < count; i++) {
        struct config_leaf *leaf = &config->leaves[i];
        lua_rawgeti(L, -1, i + 1);
        char *takes = get_string(L, "takes");
        leaf->key = get_string(L, "key");
        leaf->value = get_string(L, "value");
        leaf->shown = get_string(L, "shown");
        leaf->takes = takes_of(takes);
        free(takes);
        lua_pop(L, 1);
        config->leaf_count++;
    }
    lua_pop(L, 1);
}

/* Runs moonbus.config; its result is left on the stack. */
static int judge(struct vm *vm, const struct config_sources *sources, const char *file,
                 struct err *err)
{
    struct failure failure = {0};
    int code = vm_module(vm, "moonbus.config", &failure);
    if (!code) {
        lua_getfield(vm->L, -1, "load");
        push_input(vm->L, sources, file);
        code = loader_call_within(
            vm, sources->file_limit_ns > 0 ? sources->file_limit_ns : LOAD_DEADLINE_NS,
            "a config file only returns a table", 1, 2, &failure);
    }
    if (code) {
        char place[300] = "";
        if (failure.file)
            snprintf(place, sizeof place, "%s:%d: ", failure.file, failure.line);
        err_set(err, ERR_INVALID, "%s%s", place, failure.err.message);
        failure_clear(&failure);
        return ERR_INVALID;
    }
    if (lua_isnil(vm->L, -2))
        return err_set(err, ERR_INVALID, "%s", lua_tostring(vm->L, -1));
    lua_pop(vm->L, 1);
    return 0;
}

const char *config_path(const struct config_sources *sources)
{
    return sources->file ? sources->file : DEFAULT_FILE;
}

/* A link that leads nowhere is there, and so is what we may not look at: that is for open to
 * complain of. */
static bool is_there(const char *file)
{
    struct stat info;
    return lstat(file, &info) == 0 || errno != ENOENT;
}

struct config *config_load(const struct config_sources *sources, struct err *err)
{
    const char *file = sources->file;
    if (sources->no_file)
        file = NULL;
    else if (!file && is_there(DEFAULT_FILE))
        file = DEFAULT_FILE;
    struct vm *vm = vm_new(CONFIG_MEMORY_BYTES, NULL, err);
    if (!vm)
        return NULL;
    struct config *config = NULL;
    if (judge(vm, sources, file, err) == 0) {
        config = calloc(1, sizeof *config);
        if (config) {
            take_reach(config, vm->L);
            take_host(config, vm->L);
            take_leaves(config, vm->L);
            config->file = file ? strdup(file) : NULL;
        } else {
            err_set(err, ERR_MEMORY, "out of memory");
        }
    }
    vm_free(vm);
    return config;
}

static void free_list(char **list, int count)
{
    for (int i = 0; i < count; i++)
        free(list[i]);
    free(list);
}

static void free_leaves(struct config *config)
{
    for (int i = 0; i < config->leaf_count; i++) {
        struct config_leaf *leaf = &config->leaves[i];
        free(leaf->key);
        free(leaf->value);
        free(leaf->shown);
        free(leaf->started_value);
        free(leaf->started_shown);
    }
    free(config->leaves);
}

static void forget(char **text)
{
    free(*text);
    *text = NULL;
}

static void forget_auth(struct config *config)
{
    char **texts[] = {&config->creds,  &config->user,      &config->password, &config->token,
                      &config->nkey,   &config->tls_ca,    &config->tls_cert, &config->tls_key,
                      &config->domain, &config->api_prefix};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        forget(texts[i]);
}

void config_free(struct config *config)
{
    if (!config)
        return;
    forget_auth(config);
    free_leaves(config);
    free_list(config->servers, config->server_count);
    free_list(config->handlers, config->handler_count);
    free_list(config->lib, config->lib_count);
    free_list(config->warnings, config->warning_count);
    free(config->name);
    free(config->inbox_prefix);
    free(config->admin);
    free(config->admin_token);
    free(config->settings_json);
    free(config->file);
    free(config);
}

void config_announce(const struct config *config)
{
    log_setup(config->log_level, config->log_format);
    for (int i = 0; i < config->warning_count; i++)
        log_warn("%s", config->warnings[i]);
}

void config_warn(struct config *config, const char *format, ...)
{
    char **more =
        realloc(config->warnings, ((size_t)config->warning_count + 1) * sizeof *config->warnings);
    char *text = NULL;
    va_list args;
    if (more)
        config->warnings = more;
    va_start(args, format);
    if (more && vasprintf(&text, format, args) >= 0)
        config->warnings[config->warning_count++] = text;
    va_end(args);
}

int config_use_server(struct config *config, const char *url, struct err *err)
{
    char **servers = calloc(1, sizeof *servers);
    char *copy = strdup(url);
    if (!servers || !copy) {
        free(servers);
        free(copy);
        return err_set(err, ERR_MEMORY, "out of memory");
    }
    forget_auth(config);
    free_list(config->servers, config->server_count);
    servers[0] = copy;
    config->servers = servers;
    config->server_count = 1;
    config->tls = false;
    return 0;
}
