/* The process's settings: the config file, the environment, and the URLs of servers.
 *
 *   f TEXT                     a config file
 *   t KEY KIND VALUE\n...      a config file that is made here of its settings; KIND: s text,
 *                              n number, b boolean, l list of texts, x Lua
 *   e NAME=VALUE\n...          the environment
 *   u URL                      a server
 *   k TEXT, c TEXT             the file of an nkey's seed, or of credentials */
#include "app/config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api/api.h"
#include "base/value.h"
#include "bus/link/link_url.h"
#include "bus/link/nats_options.h"
#include "fuzz.h"
#include "vm/vm.h"

#define OWN_LIMIT_NS (100 * NS_PER_MS) /* of code that may loop for ever */
#define LIMIT_NS (60 * NS_PER_S)       /* of ours, on a busy machine */
#define VARIABLES_MOST 16

static bool says_so; /* the input itself holds what a fault of ours would show */

/* --- the settings that were taken --- */

static void check_line(const char *text)
{
    for (; text && *text; text++)
        MUST(*text != '\n' && *text != '\r');
}

static void check_servers(const struct config *config)
{
    struct bus_options options;
    natsOptions *nats = NULL;
    char *shown = NULL;
    struct err err;
    config_bus_options(config, &options);
    if (config->creds || config->nkey || config->tls_ca || config->tls_cert || config->tls_key)
        return; /* files that are read then */
    MUST(nats_options_make(&options.link, &nats, &err) == 0);
    MUST(link_url_list(options.link.servers, options.link.server_count, &shown, &err) == 0);
    MUST(shown && *shown && !strchr(shown, '@'));
    natsOptions_Destroy(nats);
    free(shown);
}

/* What handlers read as bus.settings is read as any other JSON. */
static void check_settings(const char *json)
{
    static struct vm *vm; /* as long as the process */
    struct err err;
    if (!json)
        return;
    if (!vm) {
        MUST((vm = vm_new(0, NULL, &err)) != NULL);
        lua_newtable(vm->L);
        api_json_open(vm->L);
    }
    MUST(api_json_decode(vm->L, json, strlen(json), NULL, &err) == 0);
    MUST(lua_istable(vm->L, -1));
    lua_settop(vm->L, 0);
}

static void check_taken(const struct config *config)
{
    const char *const lines[] = {config->name,  config->user,         config->password,
                                 config->token, config->domain,       config->api_prefix,
                                 config->admin, config->inbox_prefix, config->admin_token};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        check_line(lines[i]);
    for (int i = 0; i < config->server_count; i++)
        check_line(config->servers[i]);
    MUST(config->server_count >= 1 && config->handler_count >= 1 && config->lib_count >= 1);
    MUST(config->workers >= 1 && config->workers <= 256);
    MUST(config->connect_timeout_ns >= NS_PER_MS);
    MUST(config->connect_timeout_ns <= VALUE_DURATION_MAX_NS);
    MUST(config->ping_interval_ns >= 100 * NS_PER_MS);
    MUST(config->max_pings_out >= 1 && config->max_pings_out <= 1000);
    MUST(config->reconnect_wait_ns <= config->reconnect_max_wait_ns);
    MUST(config->publish_backoff_min_ns <= config->publish_backoff_max_ns);
    MUST(config->publish_attempts >= 1);
    MUST(config->graceful_timeout_ns >= NS_PER_MS);
    MUST(config->limit_memory_bytes >= 1 << 20);
    MUST(config->limit_cpu_ns >= 10 * NS_PER_MS);
    MUST(!config->tls_cert == !config->tls_key);
    MUST(!config->password || config->user);
    MUST(!!config->creds + !!config->user + !!config->token + !!config->nkey <= 1);
    check_servers(config);
    check_settings(config->settings_json);
}

/* source: what an error must name, being the only place where it can come from. own: it is written
 * by somebody's own Lua, which says what it likes. */
static void load(const char *file, const char *source, bool own)
{
    struct err err = {.code = ERR_NONE};
    const struct config_sources sources = {.file = file,
                                           .no_selected = true, /* this machine's */
                                           .file_limit_ns = own ? OWN_LIMIT_NS : LIMIT_NS};
    struct config *config = config_load(&sources, &err);
    if (config) {
        check_taken(config);
        config_free(config);
        return;
    }
    fuzz_check_err(&err, (int)err.code);
    if (own)
        return;
    MUST(err.code == ERR_INVALID);
    MUST(strstr(err.message, source) != NULL);
    /* A fault of ours would name the place in our Lua. */
    MUST(says_so || strstr(err.message, "moonbus.config") == NULL);
}

/* --- the file --- */

static void with_file(const char *text, size_t len, bool own)
{
    char path[64];
    int fd = memfd_create("moonbus.lua", 0);
    MUST(fd >= 0);
    MUST(write(fd, text, len) == (ssize_t)len);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    load(path, path, own);
    close(fd);
}

static void any_file(struct input *input)
{
    size_t len;
    char *text = input_rest(input, &len);
    with_file(text, len, true);
    free(text);
}

/* A Lua string of any bytes. */
static void put_quoted(FILE *out, const char *text, size_t len)
{
    fputc('"', out);
    for (size_t i = 0; i < len; i++)
        fprintf(out, "\\%03u", (unsigned char)text[i]);
    fputc('"', out);
}

static void put_list(FILE *out, const char *text, size_t len)
{
    fputc('{', out);
    for (size_t i = 0; i <= len;) {
        const char *comma = i < len ? memchr(text + i, ',', len - i) : NULL;
        size_t part = comma ? (size_t)(comma - text) - i : len - i;
        put_quoted(out, text + i, part);
        fputc(',', out);
        i += part + 1;
    }
    fputc('}', out);
}

/* "limits.memory s 64MB". False: it holds code. */
static bool put_setting(FILE *out, const char *line, size_t len)
{
    const char *space = memchr(line, ' ', len);
    size_t key = space ? (size_t)(space - line) : len;
    size_t at = key + 1 < len ? key + 1 : len;
    char kind = at < len ? line[at] : 'b';
    at = at + 2 < len ? at + 2 : len;
    fputs("set(", out);
    put_quoted(out, line, key);
    fputs(", ", out);
    if (kind == 's')
        put_quoted(out, line + at, len - at);
    else if (kind == 'l')
        put_list(out, line + at, len - at);
    else if (kind == 'n')
        fprintf(out, "%.17g", strtod(line + at, NULL));
    else if (kind == 'x')
        fwrite(line + at, 1, len - at, out);
    else
        fputs(len - at > 0 ? "true" : "false", out);
    fputs(")\n", out);
    return kind == 'x';
}

static void made_file(struct input *input)
{
    static const char preamble[] = "local root = {}\n"
                                   "local function set(key, value)\n"
                                   "  local node, last = root, nil\n"
                                   "  for part in key:gmatch '[^.]+' do\n"
                                   "    if last then\n"
                                   "      if type(node[last]) ~= 'table' then node[last] = {} end\n"
                                   "      node = node[last]\n"
                                   "    end\n"
                                   "    last = part\n"
                                   "  end\n"
                                   "  node[last or ''] = value\n"
                                   "end\n";
    char *text = NULL;
    size_t size = 0;
    bool code = false;
    FILE *out = open_memstream(&text, &size);
    MUST(out != NULL);
    fputs(preamble, out);
    while (input_left(input) > 0) {
        size_t len;
        char *line = input_line(input, &len);
        code = put_setting(out, line, len) || code;
        free(line);
    }
    fputs("return root\n", out);
    fclose(out);
    with_file(text, size, code);
    free(text);
}

/* --- the environment --- */

static void environment(struct input *input)
{
    char *variables[VARIABLES_MOST + 1] = {NULL}, **before = environ;
    int count = 0;
    while (count < VARIABLES_MOST && input_left(input) > 0) {
        variables[count++] = input_line(input, NULL);
        if (strncmp(variables[count - 1], "MOONBUS_LUA_DIR", 15) == 0)
            variables[count - 1][0] = 'm'; /* not a setting: where the host's Lua is */
    }
    environ = variables;
    load("/dev/null/none", "/dev/null/none", true); /* a file that cannot be read */
    load(NULL, "_", false);
    environ = before;
    for (int i = 0; i < count; i++)
        free(variables[i]);
}

/* --- how a server is reached --- */

static void make_options(const struct link_options *options)
{
    natsOptions *nats = NULL;
    char *shown = NULL;
    struct err err;
    int code = nats_options_make(options, &nats, &err);
    if (code) {
        fuzz_check_err(&err, code);
        MUST(!nats);
    }
    natsOptions_Destroy(nats);
    code = link_url_list(options->servers, options->server_count, &shown, &err);
    if (code) {
        fuzz_check_err(&err, code);
        MUST(!shown);
    } else {
        MUST(shown && *shown && !strchr(shown, '@'));
    }
    free(shown);
}

static void server(struct input *input)
{
    char *url = input_rest(input, NULL), text[512];
    const char *const servers[] = {url};
    const struct link_options options = {.servers = servers, .server_count = 1};
    make_options(&options);
    MUST(strchr(link_shown_server(url, text, sizeof text), '@') == NULL);
    free(url);
}

static void secret_file(struct input *input, bool nkey)
{
    static const char *const servers[] = {"a"};
    char path[64], *text;
    size_t len;
    struct link_options options = {.servers = servers, .server_count = 1};
    int fd = memfd_create("secret", 0);
    MUST(fd >= 0);
    text = input_rest(input, &len);
    MUST(write(fd, text, len) == (ssize_t)len);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    *(nkey ? &options.nkey_seed_file : &options.creds_file) = path;
    make_options(&options);
    close(fd);
    free(text);
}

void fuzz_config(const uint8_t *data, size_t size)
{
    static char *nothing[] = {NULL};
    struct input input = {data, data + size};
    char **before = environ;
    environ = nothing; /* of the process that runs this, nothing counts */
    says_so = size > 0 && memmem(data, size, "moonbus.config", 14);
    switch (input_byte(&input)) {
    case 'f':
        any_file(&input);
        break;
    case 't':
        made_file(&input);
        break;
    case 'e':
        environment(&input);
        break;
    case 'u':
        server(&input);
        break;
    case 'k':
    case 'c':
        secret_file(&input, data[0] == 'k');
        break;
    default:
        break;
    }
    environ = before;
}
