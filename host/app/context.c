/* context - finds and reads a context of the nats command line. */
#include "app/context.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"

#define FILE_MOST (1u << 20)              /* bytes */
#define NO_SERVER "nats://127.0.0.1:4222" /* where a context names none */

/* --- texts --- */

static bool is_name(char c, bool first)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (!first && c >= '0' && c <= '9');
}

static const char *home(void)
{
    const char *of_environment = getenv("HOME");
    const struct passwd *entry = of_environment && *of_environment ? NULL : getpwuid(getuid());
    return entry ? entry->pw_dir : of_environment;
}

/* The value of "$NAME" or "${NAME}" at text; what is not set is empty. Returns what follows; text
 * itself: it is neither. */
static const char *put_variable(struct text *out, const char *text)
{
    char name[256];
    bool braced = text[1] == '{';
    const char *begin = text + 1 + braced, *end = begin;
    while (is_name(*end, end == begin))
        end++;
    size_t len = (size_t)(end - begin);
    if (len == 0 || len >= sizeof name || (braced && *end != '}'))
        return text;
    memcpy(name, begin, len);
    name[len] = '\0';
    const char *value = getenv(name);
    text_puts(out, value ? value : "");
    return end + braced;
}

/* The caller's; NULL: out of memory. */
static char *expand(const char *path)
{
    struct text out;
    text_init(&out);
    if (path[0] == '~' && (path[1] == '/' || path[1] == '\0')) {
        text_puts(&out, home() ? home() : "~");
        path++;
    }
    while (*path) {
        const char *next = *path == '$' ? put_variable(&out, path) : path;
        if (next == path)
            text_add(&out, next++, 1);
        path = next;
    }
    char *copy = out.failed ? NULL : strndup(out.bytes, out.len);
    text_clear(&out);
    return copy;
}

/* --- the fields --- */

/* What a field is. */
enum field_kind {
    FIELD_TEXT,
    FIELD_PATH,
    FIELD_AUTH,      /* a way to authenticate; the first of the table that is there counts */
    FIELD_AUTH_PATH, /* the same, in a file */
    FIELD_WITH,      /* goes with the field before it */
    FIELD_SWITCH,
    FIELD_IDLE,   /* of no concern here */
    FIELD_CANNOT, /* it would be wrong to do without what it says */
};

static const struct context_field {
    const char *name, *key;
    enum field_kind kind;
} fields[] = {
    {"url", "servers", FIELD_TEXT},
    /* As the nats command line chooses; user_seed alone is an nkey. */
    {"user", "auth.user", FIELD_AUTH},
    {"password", "auth.password", FIELD_WITH},
    {"creds", "auth.creds", FIELD_AUTH_PATH},
    {"nkey", "auth.nkey", FIELD_AUTH_PATH},
    {"user_jwt", "auth.jwt", FIELD_AUTH},
    {"user_seed", "auth.seed", FIELD_WITH},
    {"token", "auth.token", FIELD_AUTH},
    {"cert", "tls.cert", FIELD_PATH},
    {"key", "tls.key", FIELD_PATH},
    {"ca", "tls.ca", FIELD_PATH},
    {"tls_first", "tls.first", FIELD_SWITCH},
    {"jetstream_domain", "jetstream.domain", FIELD_TEXT},
    {"jetstream_api_prefix", "jetstream.api_prefix", FIELD_TEXT},
    {"inbox_prefix", "inbox_prefix", FIELD_TEXT},
    {"name", NULL, FIELD_IDLE},
    {"description", NULL, FIELD_IDLE},
    {"color_scheme", NULL, FIELD_IDLE},
    {"jetstream_event_prefix", NULL, FIELD_IDLE},
    {"nsc", NULL, FIELD_CANNOT},
    {"socks_proxy", NULL, FIELD_CANNOT},
};

#define FIELDS (sizeof fields / sizeof *fields)

static int add_value(struct context *context, const struct context_field *field, const char *text,
                     struct err *err)
{
    bool path = field->kind == FIELD_PATH || field->kind == FIELD_AUTH_PATH;
    char *copy = path ? expand(text) : strdup(text);
    if (!copy)
        return err_set(err, ERR_MEMORY, "out of memory");
    context->values[context->count++] =
        (struct context_value){.key = field->key, .field = field->name, .text = copy};
    return 0;
}

/* The text of a field; NULL: it says nothing. */
static int read_field(const cJSON *object, const struct context_field *field, const char **text,
                      struct err *err)
{
    const cJSON *item = json_field(object, field->name);
    *text = NULL;
    if (!item || cJSON_IsNull(item) || field->kind == FIELD_IDLE)
        return 0;
    if (field->kind == FIELD_SWITCH) {
        if (!cJSON_IsBool(item))
            return err_set(err, ERR_INVALID, "%s: must be true or false", field->name);
        *text = cJSON_IsTrue(item) ? "true" : NULL;
        return 0;
    }
    const char *value = cJSON_GetStringValue(item);
    if (!value)
        return err_set(err, ERR_INVALID, "%s: must be a text", field->name);
    *text = *value ? value : NULL;
    return 0;
}

static int refuse_field(const struct context_field *field, struct err *err)
{
    if (strcmp(field->name, "nsc") == 0)
        return err_set(err, ERR_INVALID,
                       "nsc: moonbus does not ask nsc; state url and creds in the context (nsc "
                       "generate creds)");
    return err_set(err, ERR_INVALID,
                   "%s: moonbus connects without a proxy; state a server that it can reach with "
                   "-s",
                   field->name);
}

static int read_fields(const cJSON *object, struct context *out, struct err *err)
{
    bool authenticated = false, before = false; /* before: the field before it counts */
    int code = 0;
    for (size_t i = 0; i < FIELDS && !code; i++) {
        const struct context_field *field = &fields[i];
        const char *text;
        code = read_field(object, field, &text, err);
        if (code || !text) {
            before = before && field->kind == FIELD_WITH;
            continue;
        }
        bool auth = field->kind == FIELD_AUTH || field->kind == FIELD_AUTH_PATH;
        bool counts = field->kind == FIELD_WITH ? before : !(auth && authenticated);
        if (field->kind == FIELD_CANNOT)
            code = refuse_field(field, err);
        else if (counts)
            code = add_value(out, field, text, err);
        authenticated = authenticated || auth;
        before = auth && counts;
    }
    return code;
}

static bool is_known(const char *name)
{
    for (size_t i = 0; i < FIELDS; i++) {
        if (strcmp(name, fields[i].name) == 0)
            return true;
    }
    return false;
}

static bool says_nothing(const cJSON *item)
{
    const char *text = cJSON_GetStringValue(item);
    return cJSON_IsNull(item) || cJSON_IsFalse(item) || (text && !*text);
}

static int list_unknown(const cJSON *object, struct context *out, struct err *err)
{
    struct text list;
    text_init(&list);
    for (const cJSON *item = object->child; item; item = item->next) {
        if (is_known(item->string) || says_nothing(item))
            continue;
        text_puts(&list, list.len ? ", " : "");
        text_escape(&list, item->string, strlen(item->string));
    }
    bool any = list.len > 0;
    out->unknown = any ? strndup(list.bytes, list.len) : NULL;
    text_clear(&list);
    return any && !out->unknown ? err_set(err, ERR_MEMORY, "out of memory") : 0;
}

static bool has_servers(const struct context *context)
{
    return context->count > 0 && strcmp(context->values[0].key, "servers") == 0;
}

int context_parse(const char *text, size_t len, struct context *out, struct err *err)
{
    *out = (struct context){0};
    cJSON *object = cJSON_ParseWithLength(text, len);
    int code = 0;
    if (!cJSON_IsObject(object))
        code = err_set(err, ERR_INVALID, "is no JSON object");
    if (!code)
        code = read_fields(object, out, err);
    if (!code && !has_servers(out))
        code = add_value(out, &fields[0], NO_SERVER, err);
    if (!code)
        code = list_unknown(object, out, err);
    cJSON_Delete(object);
    return code;
}

void context_clear(struct context *context)
{
    for (int i = 0; i < context->count; i++)
        free(context->values[i].text);
    free(context->name);
    free(context->unknown);
    *context = (struct context){0};
}

/* --- the files --- */

/* "~/.config/nats/<tail>"; false: it is too long, or there is no home. */
static bool place(char *path, size_t size, const char *tail)
{
    const char *config = getenv("XDG_CONFIG_HOME");
    bool stated = config && *config;
    const char *root = stated ? config : home();
    if (!root || !*root)
        return false;
    return snprintf(path, size, "%s%s/nats/%s", root, stated ? "" : "/.config", tail) < (int)size;
}

bool context_selected(char *name, size_t size)
{
    char path[PATH_MAX];
    FILE *file = place(path, sizeof path, "context.txt") ? fopen(path, "re") : NULL;
    size_t len = file ? fread(name, 1, size - 1, file) : 0;
    if (file)
        fclose(file);
    while (len > 0 && strchr(" \t\r\n", name[len - 1]))
        len--;
    name[len] = '\0';
    size_t blank = strspn(name, " \t\r\n");
    memmove(name, name + blank, len - blank + 1);
    return *name != '\0';
}

static int find(const char *name, char *path, size_t size, struct err *err)
{
    char tail[NAME_MAX + 16];
    if (strchr(name, '/')) {
        if (snprintf(path, size, "%s", name) >= (int)size)
            return err_set(err, ERR_INVALID, "its path is too long");
        return 0;
    }
    if (!*name || strstr(name, ".."))
        return err_set(err, ERR_INVALID, "is no name of a context");
    int len = snprintf(tail, sizeof tail, "context/%s.json", name);
    if (len >= (int)sizeof tail || !place(path, size, tail))
        return err_set(err, ERR_INVALID, "there is no folder where it could be");
    return 0;
}

static int read_file(const char *path, struct context *out, struct err *err)
{
    FILE *file = fopen(path, "re");
    char *text = file ? malloc(FILE_MOST) : NULL;
    size_t len = text ? fread(text, 1, FILE_MOST, file) : 0;
    int failed = !file || ferror(file) ? errno : 0;
    int code = 0;
    if (failed)
        code = err_set(err, ERR_INVALID, "cannot read %s: %s", path, strerror(failed));
    else if (!text)
        code = err_set(err, ERR_MEMORY, "out of memory");
    else if (len == FILE_MOST)
        code = err_set(err, ERR_INVALID, "%s is too large", path);
    else if (context_parse(text, len, out, err) != 0)
        code = err_prefix(err, "%s", path);
    if (file)
        fclose(file);
    free(text);
    return code;
}

int context_load(const char *name, struct context *out, struct err *err)
{
    char path[PATH_MAX];
    *out = (struct context){0};
    int code = find(name, path, sizeof path, err);
    if (!code)
        code = read_file(path, out, err);
    if (!code && !(out->name = strdup(name)))
        code = err_set(err, ERR_MEMORY, "out of memory");
    return code ? err_prefix(err, "context \"%s\"", name) : 0;
}
