/* log_line - how an event is written. The keys of JSON are in one place, put_context. */
#include "base/log_line.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/value.h"

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};
static const char *const level_labels[] = {"DEBUG", "INFO ", "WARN ", "ERROR"};

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

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
    if (context->whole)
        return;
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
    if (context->code && !context->tacit) {
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
static void text_object(struct text *line, const char *json)
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

static void text_fields(struct text *line, const char *fields)
{
    char *clean = fields ? clean_fields(fields) : NULL;
    if (clean)
        text_object(line, clean);
    else
        text_word(line, fields);
    free(clean);
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

void log_line_text(const struct log_line *event, struct text *line)
{
    const struct log_context *context = event->context;
    time_t seconds = (time_t)(event->wall_ns / NS_PER_S);
    struct tm tm;
    localtime_r(&seconds, &tm);
    text_printf(line, "%02d:%02d:%02d.%03d %s", tm.tm_hour, tm.tm_min, tm.tm_sec,
                (int)(event->wall_ns / NS_PER_MS % 1000), level_labels[event->level]);
    text_place(line, context);
    text_puts(line, " ");
    text_escape(line, event->message, event->message_len);
    text_fields(line, context->fields);
    if (context->traceback)
        text_traceback(line, context->traceback);
    text_puts(line, "\n");
}

static void put_duration(struct text *line, const char *key, int64_t ns)
{
    text_printf(line, ",\"%s\":%lld.%03d", key, (long long)(ns / NS_PER_MS),
                (int)(ns % NS_PER_MS / 1000));
}

static void put_fields(struct text *line, const char *fields)
{
    char *clean = fields ? clean_fields(fields) : NULL;
    if (clean) {
        text_puts(line, ",\"fields\":");
        text_json_raw(line, clean, strlen(clean));
    } else {
        text_json_member(line, "fields", fields);
    }
    free(clean);
}

static void put_context(struct text *line, const struct log_context *context)
{
    text_json_member(line, "script", context->script);
    text_json_member(line, "handler", context->handler);
    text_json_count(line, "generation", context->generation);
    text_json_member(line, "stream", context->stream);
    text_json_member(line, "consumer", context->consumer);
    text_json_member(line, "subject", context->subject);
    text_json_count(line, "sequence", context->sequence);
    text_json_count(line, "attempt", context->attempt);
    text_json_count(line, "attempts", context->attempts);
    text_json_member(line, "trace_id", context->trace_id);
    text_json_member(line, "span_id", context->span_id);
    text_json_member(line, "code", context->code);
    text_json_member(line, "verdict", context->verdict);
    if (context->delayed)
        text_printf(line, ",\"delay_ms\":%lld", (long long)(context->delay_ns / NS_PER_MS));
    text_json_member(line, "dead_letter", context->dead_letter);
    if (context->duration_ns > 0)
        put_duration(line, "duration_ms", context->duration_ns);
    text_json_member(line, "file", context->file);
    text_json_count(line, "line", context->line > 0 ? (uint64_t)context->line : 0);
}

void log_time(int64_t wall_ns, char *buf, size_t size)
{
    value_format_time(wall_ns, 3, buf, size);
}

void log_line_json(const struct log_line *event, struct text *line)
{
    char when[40];
    log_time(event->wall_ns, when, sizeof when);
    text_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"msg\":", when,
                level_names[event->level]);
    text_json_string(line, event->message, event->message_len);
    put_context(line, event->context);
    text_json_count(line, "repeated", event->repeated);
    text_json_member(line, "traceback", event->context->traceback);
    put_fields(line, event->context->fields);
    text_puts(line, "}\n");
}
