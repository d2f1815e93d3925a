#include "base/log.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_output.h"
#include "base/text.h"
#include "base/value.h"

#define OUTPUT STDERR_FILENO

static struct {
    _Atomic int level, format;
} settings = {LOG_INFO, LOG_AUTO};

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};
static const char *const level_labels[] = {"DEBUG", "INFO ", "WARN ", "ERROR"};
static const char *const format_names[] = {"auto", "text", "json"};

void log_setup(enum log_level level, enum log_format format)
{
    tzset();
    if (format == LOG_AUTO)
        format = isatty(OUTPUT) ? LOG_TEXT : LOG_JSON;
    settings.level = level;
    settings.format = format;
}

bool log_enabled(enum log_level level)
{
    return level < LOG_OFF && (int)level >= settings.level;
}

static bool find_name(const char *name, const char *const *names, size_t count, size_t *at)
{
    for (*at = 0; *at < count; ++*at) {
        if (strcmp(name, names[*at]) == 0)
            return true;
    }
    return false;
}

bool log_parse_level(const char *name, enum log_level *level)
{
    size_t at;
    if (!find_name(name, level_names, sizeof level_names / sizeof *level_names, &at))
        return false;
    *level = (enum log_level)at;
    return true;
}

bool log_parse_format(const char *name, enum log_format *format)
{
    size_t at;
    if (!find_name(name, format_names, sizeof format_names / sizeof *format_names, &at))
        return false;
    *format = (enum log_format)at;
    return true;
}

/* An event on its way to a line. */
struct event {
    enum log_level level;
    const struct log_context *context;
    const struct text *message;
    int64_t wall_ns;
    char *fields; /* owned, without white space; NULL for none, or when they are no JSON object */
};

/* The user's fields as they are to be shown: their bytes are kept, because cJSON would round
 * numbers above 15 digits. */
static char *clean_fields(const char *json)
{
    cJSON *parsed = cJSON_ParseWithOpts(json, NULL, true);
    char *clean = cJSON_IsObject(parsed) ? strdup(json) : NULL;
    cJSON_Delete(parsed);
    if (clean)
        cJSON_Minify(clean);
    return clean;
}

/* How far the JSON value (or key) at the start reaches. */
static size_t json_extent(const char *json)
{
    size_t depth = 0, i;
    bool in_string = false;
    for (i = 0; json[i]; i++) {
        char c = json[i];
        if (in_string && c == '\\' && json[i + 1])
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (in_string)
            continue;
        else if (depth == 0 && strchr(",:}]", c))
            break;
        else if (c == '{' || c == '[')
            depth++;
        else if (c == '}' || c == ']')
            depth--;
    }
    return i;
}

static void escape(struct text *line, const char *string)
{
    text_escape(line, string, strlen(string));
}

/* " <string>", nothing for NULL. */
static void text_word(struct text *line, const char *string)
{
    if (!string)
        return;
    text_puts(line, " ");
    escape(line, string);
}

static void text_place(struct text *line, const struct log_context *context)
{
    text_word(line, context->script);
    if (context->handler) {
        text_word(line, context->handler);
    } else if (context->stream) {
        text_word(line, context->stream);
        if (context->consumer) {
            text_puts(line, "/");
            escape(line, context->consumer);
        }
    }
    if (context->sequence)
        text_printf(line, " #%llu", (unsigned long long)context->sequence);
    if (context->attempt && context->attempts)
        text_printf(line, " %u/%u", context->attempt, context->attempts);
    else if (context->attempt)
        text_printf(line, " %u", context->attempt);
    if (!context->stream && !context->sequence)
        text_word(line, context->subject);
    if (context->file) {
        text_word(line, context->file);
        if (context->line > 0)
            text_printf(line, ":%d", context->line);
        text_puts(line, ":");
    }
    if (context->code) {
        text_word(line, context->code);
        text_puts(line, ":");
    }
}

/* A key or value of the user's, without its quotes where that cannot be misread. */
static void text_token(struct text *line, const char *json, size_t len)
{
    bool bare = len > 2 && json[0] == '"';
    for (size_t i = 1; bare && i + 1 < len; i++)
        bare = !strchr(" =\\", json[i]);
    if (bare)
        text_escape(line, json + 1, len - 2);
    else
        text_json_raw(line, json, len);
}

/* order=17 name="Ada L." items=[1,2] */
static void text_fields(struct text *line, const char *json)
{
    for (json++; *json && *json != '}'; json += *json == ',') {
        size_t len = json_extent(json);
        text_puts(line, " ");
        text_token(line, json, len);
        text_puts(line, "=");
        json += len + 1;
        len = json_extent(json);
        text_token(line, json, len);
        json += len;
    }
}

static void text_traceback(struct text *line, const char *traceback)
{
    while (*traceback) {
        size_t len = strcspn(traceback, "\n");
        size_t indent = strspn(traceback, "\t");
        if (indent > len)
            indent = len;
        text_puts(line, "\n    ");
        for (size_t i = 0; i < indent; i++)
            text_puts(line, "  ");
        text_escape(line, traceback + indent, len - indent);
        traceback += len + (traceback[len] == '\n');
    }
}

static void write_text(struct text *line, const struct event *event)
{
    const struct log_context *context = event->context;
    time_t seconds = (time_t)(event->wall_ns / NS_PER_S);
    struct tm tm;
    localtime_r(&seconds, &tm);
    text_printf(line, "%02d:%02d:%02d.%03d %s", tm.tm_hour, tm.tm_min, tm.tm_sec,
                (int)(event->wall_ns / NS_PER_MS % 1000), level_labels[event->level]);
    text_place(line, context);
    text_puts(line, " ");
    text_escape(line, event->message->bytes, event->message->len);
    if (event->fields)
        text_fields(line, event->fields);
    else
        text_word(line, context->fields);
    if (context->traceback)
        text_traceback(line, context->traceback);
    text_puts(line, "\n");
}

/* ,"key":"string", nothing for NULL. */
static void json_string(struct text *line, const char *key, const char *string)
{
    if (!string)
        return;
    text_printf(line, ",\"%s\":", key);
    text_json_string(line, string, strlen(string));
}

static void json_number(struct text *line, const char *key, uint64_t number)
{
    if (number > 0)
        text_printf(line, ",\"%s\":%llu", key, (unsigned long long)number);
}

static void json_fields(struct text *line, const struct event *event)
{
    if (event->fields) {
        text_puts(line, ",\"fields\":");
        text_json_raw(line, event->fields, strlen(event->fields));
    } else {
        json_string(line, "fields", event->context->fields);
    }
}

static void write_json(struct text *line, const struct event *event)
{
    const struct log_context *context = event->context;
    time_t seconds = (time_t)(event->wall_ns / NS_PER_S);
    struct tm tm;
    char when[40];
    gmtime_r(&seconds, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    text_printf(line, "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"msg\":", when,
                (int)(event->wall_ns / NS_PER_MS % 1000), level_names[event->level]);
    text_json_string(line, event->message->bytes, event->message->len);
    json_string(line, "script", context->script);
    json_string(line, "handler", context->handler);
    json_string(line, "stream", context->stream);
    json_string(line, "consumer", context->consumer);
    json_string(line, "subject", context->subject);
    json_number(line, "sequence", context->sequence);
    json_number(line, "attempt", context->attempt);
    json_string(line, "code", context->code);
    json_string(line, "file", context->file);
    json_number(line, "line", context->line > 0 ? (uint64_t)context->line : 0);
    json_string(line, "traceback", context->traceback);
    json_fields(line, event);
    text_puts(line, "}\n");
}

static bool wants_text(void)
{
    int format = settings.format;
    return format == LOG_TEXT || (format == LOG_AUTO && isatty(OUTPUT));
}

/* In the place where the lines are missing. */
static void tell_lost(void)
{
    uint64_t lost = log_output_take_lost();
    if (lost > 0)
        log_event(LOG_WARN, NULL, "%llu events are missing here: who reads the log did not keep up",
                  (unsigned long long)lost);
}

void log_event(enum log_level level, const struct log_context *context, const char *format, ...)
{
    static const struct log_context nowhere;
    if (!log_enabled(level))
        return;
    int saved_errno = errno;
    tell_lost();
    struct text message, line;
    text_init(&message);
    text_init(&line);
    va_list args;
    va_start(args, format);
    text_vprintf(&message, format, args);
    va_end(args);

    struct event event = {
        .level = level,
        .context = context ? context : &nowhere,
        .message = &message,
        .wall_ns = clock_wall_ns(),
    };
    if (event.context->fields)
        event.fields = clean_fields(event.context->fields);
    if (wants_text())
        write_text(&line, &event);
    else
        write_json(&line, &event);
    log_output_write(line.bytes, line.len);

    free(event.fields);
    text_clear(&message);
    text_clear(&line);
    errno = saved_errno;
}
