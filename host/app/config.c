/* Where a setting comes from: the file, the environment and the flags, put together. */
#include "app/config_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/value.h"

#define DEFAULT_FILE "moonbus.lua"

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
    config->jwt = get_string(L, "auth.jwt");
    config->seed = get_string(L, "auth.seed");
    config->tls = get_bool(L, "tls");
    config->tls_ca = get_string(L, "tls.ca");
    config->tls_cert = get_string(L, "tls.cert");
    config->tls_key = get_string(L, "tls.key");
    config->tls_verify = get_bool(L, "tls.verify");
    config->tls_first = get_bool(L, "tls.first");
    config->context_note = get_string(L, "context_note");
    config->domain = get_string(L, "jetstream.domain");
    config->api_prefix = get_string(L, "jetstream.api_prefix");
    config->inbox_prefix = get_string(L, "inbox_prefix");
    config->connect_timeout_ns = get_ns(L, "connect_timeout");
    config->ping_interval_ns = get_ns(L, "ping_interval");
    config->max_pings_out = get_int(L, "max_pings_out");
    char *wire = get_string(L, "wire");
    config->wire_nats = wire && strcmp(wire, "nats.c") == 0;
    free(wire);
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
    config->limit_generations = get_int(L, "limits.generations");
    config->limit_offload_threads = get_int(L, "limits.offload_threads");
    config->http_max_per_host = get_int(L, "http.max_per_host");
    config->watch = get_bool(L, "watch");
    config->trust = get_bool(L, "trust");
    config->admin = get_string(L, "admin");
    config->admin_given = get_bool(L, "admin_given");
    config->admin_stated = get_bool(L, "admin_stated");
    config->admin_token = get_string(L, "admin_token");
    config->settings_json = get_string(L, "settings");
    config->warnings = get_list(L, "warnings", &config->warning_count);
    config->secrets = get_list(L, "secrets", &config->secret_count);
    char *level = get_string(L, "log.level"), *format = get_string(L, "log.format");
    char *big = get_string(L, "json.big");
    if (!level || !log_parse_level(level, &config->log_level))
        config->log_level = LOG_INFO;
    if (!format || !log_parse_format(format, &config->log_format))
        config->log_format = LOG_AUTO;
    if (!big || !number_big_named(big, &config->json_big))
        config->json_big = BIG_ERROR;
    free(level);
    free(format);
    free(big);
}

static void take_telemetry(struct config *config, lua_State *L)
{
    lua_getfield(L, -1, "export");
    config->telemetry.url = get_string(L, "url");
    config->telemetry.service = get_string(L, "service");
    config->telemetry.sampler = get_string(L, "sampler");
    config->telemetry.sample = get_number(L, "sample");
    lua_pop(L, 1);
    config->telemetry.timeout_ns = get_ns(L, "telemetry.timeout");
    config->telemetry.headers = get_list(L, "telemetry.headers", &config->telemetry.header_count);
    config->telemetry.attributes =
        get_list(L, "telemetry.attributes", &config->telemetry.attribute_count);
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
    enum log_format ignored;
    return config_load_as(sources, &ignored, err);
}

/* "moonbus.lua:3: ..." or "moonbus.lua: ..." of the file that is read. */
static bool find_place(const char *message, const char *file, int *line)
{
    size_t len = strlen(file);
    if (strncmp(message, file, len) != 0 || message[len] != ':')
        return false;
    *line = atoi(message + len + 1);
    return true;
}

void config_log_refused(const struct config_sources *sources, const struct err *err,
                        const char *prefix)
{
    int line = 0;
    const char *file = config_path(sources);
    struct log_context context = {.code = err_name(err->code), .whole = true};
    if (find_place(err->message, file, &line)) {
        context.file = file;
        context.line = line;
    }
    log_event(LOG_ERROR, &context, "%s%s", prefix, err->message);
}

struct config *config_load_as(const struct config_sources *sources, enum log_format *format,
                              struct err *err)
{
    const char *file = sources->file;
    if (sources->no_file)
        file = NULL;
    else if (!file && is_there(DEFAULT_FILE))
        file = DEFAULT_FILE;
    struct vm *vm = config_read(sources, file, format, err);
    if (!vm)
        return NULL;
    lua_State *L = vm->L;
    struct config *config = calloc(1, sizeof *config);
    if (config) {
        take_reach(config, L);
        take_host(config, L);
        take_telemetry(config, L);
        take_leaves(config, L);
        config->file = file ? strdup(file) : NULL;
    } else {
        err_set(err, ERR_MEMORY, "out of memory");
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

static void reset_text(char **text)
{
    free(*text);
    *text = NULL;
}

static void reset_auth(struct config *config)
{
    char **texts[] = {&config->creds,       &config->user,    &config->password,
                      &config->token,       &config->nkey,    &config->tls_ca,
                      &config->tls_cert,    &config->tls_key, &config->domain,
                      &config->api_prefix,  &config->jwt,     &config->seed,
                      &config->context_note};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        reset_text(texts[i]);
}

void config_free(struct config *config)
{
    if (!config)
        return;
    reset_auth(config);
    free_leaves(config);
    free_list(config->servers, config->server_count);
    free_list(config->handlers, config->handler_count);
    free_list(config->lib, config->lib_count);
    free_list(config->warnings, config->warning_count);
    free_list(config->secrets, config->secret_count);
    free(config->name);
    free(config->inbox_prefix);
    free(config->admin);
    free(config->admin_token);
    free(config->settings_json);
    free_list(config->telemetry.headers, config->telemetry.header_count);
    free_list(config->telemetry.attributes, config->telemetry.attribute_count);
    free(config->telemetry.url);
    free(config->telemetry.service);
    free(config->telemetry.sampler);
    free(config->file);
    free(config);
}

void config_announce(const struct config *config)
{
    log_setup(config->log_level, config->log_format);
    config_tell_warnings(config);
}

void config_announce_command(const struct config *config)
{
    log_setup(config->log_level, config->log_format == LOG_JSON ? LOG_JSON : LOG_TEXT);
    config_tell_warnings(config);
}

void config_tell_warnings(const struct config *config)
{
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
    reset_auth(config);
    free_list(config->servers, config->server_count);
    servers[0] = copy;
    config->servers = servers;
    config->server_count = 1;
    config->tls = config->tls_first = false;
    return 0;
}
