/* judge_look - questions to the facts. */
#include "judge/judge_look.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "base/json.h"
#include "base/value.h"

/* NATS' own default of duplicate_window. */
#define WINDOW_DEFAULT_NS (120 * NS_PER_S)

bool look_same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* --- streams --- */

const char *look_name(const struct judge_stream *stream)
{
    return json_text_or(stream->config, "name", "");
}

bool look_is_servers(const struct judge_stream *stream)
{
    return !stream->place.script;
}

const struct judge_stream *look_stream(const struct judge_facts *facts, const char *name)
{
    const struct judge_stream *found = NULL;
    for (int i = 0; i < facts->stream_count; i++) {
        const struct judge_stream *stream = &facts->streams[i];
        if (strcmp(look_name(stream), name) == 0 && (!found || look_is_servers(stream)))
            found = stream;
    }
    return found;
}

bool look_stores(const struct judge_stream *stream, const char *subject)
{
    const cJSON *subjects = json_field(stream->config, "subjects"), *each;
    bool fed = json_field(stream->config, "mirror") || json_field(stream->config, "sources");
    if (cJSON_GetArraySize(subjects) == 0)
        return !fed && subject_overlaps(look_name(stream), subject);
    cJSON_ArrayForEach(each, subjects) {
        if (cJSON_IsString(each) && subject_overlaps(each->valuestring, subject))
            return true;
    }
    return false;
}

const struct judge_stream *look_stream_of(const struct judge_facts *facts, const char *subject)
{
    for (int i = 0; i < facts->stream_count; i++) {
        const struct judge_stream *stream = &facts->streams[i];
        if (!look_stores(stream, subject))
            continue;
        stream = look_stream(facts, look_name(stream));
        if (look_stores(stream, subject))
            return stream;
    }
    return NULL;
}

const char *look_retention(const struct judge_stream *stream)
{
    return json_text_or(stream->config, "retention", "limits");
}

bool look_is_work_queue(const struct judge_stream *stream)
{
    return strcmp(look_retention(stream), "workqueue") == 0;
}

int64_t look_window_ns(const struct judge_stream *stream)
{
    int64_t stated_ns = json_integer(stream->config, "duplicate_window", 0);
    int64_t max_age_ns = json_integer(stream->config, "max_age", 0);
    if (stated_ns > 0)
        return stated_ns;
    return max_age_ns > 0 && max_age_ns < WINDOW_DEFAULT_NS ? max_age_ns : WINDOW_DEFAULT_NS;
}

/* --- scripts and handlers --- */

const struct judge_script *look_script(const struct judge_facts *facts, const char *name)
{
    for (int i = 0; i < facts->script_count; i++) {
        if (look_same(facts->scripts[i].name, name))
            return &facts->scripts[i];
    }
    return NULL;
}

bool look_filters_take(const struct judge_handler *handler, const char *subject)
{
    for (int i = 0; i < handler->filter_count; i++) {
        if (subject_overlaps(handler->filters[i], subject))
            return true;
    }
    return handler->filter_count == 0;
}

/* Does the script take messages from it, or send its dead letters there? */
static bool is_spoken_for(const struct judge_facts *facts, const char *script,
                          const struct judge_stream *stream)
{
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind != JUDGE_CONSUME || !look_same(handler->place.script, script))
            continue;
        if (strcmp(handler->stream, look_name(stream)) == 0 ||
            (handler->dead_letter && look_stores(stream, handler->dead_letter)))
            return true;
    }
    return false;
}

/* A bucket has no duplicate_window that one could state, and moonbus.kv knows its writes anyway. */
static bool is_bucket(const struct judge_stream *stream)
{
    return strncmp(look_name(stream), "KV_", 3) == 0;
}

bool look_is_output(const struct judge_facts *facts, const struct judge_handler *handler,
                    const struct judge_stream *stream)
{
    if (!look_same(stream->place.script, handler->place.script) || is_bucket(stream) ||
        stream->only_read)
        return false;
    const struct judge_script *script = look_script(facts, handler->place.script);
    return script && script->publishes && !is_spoken_for(facts, handler->place.script, stream);
}

bool look_is_older(const struct judge_facts *facts, int minor)
{
    return facts->asked && facts->server_major == 2 && facts->server_minor < minor;
}

/* --- words --- */

static char *next_text(struct look_words *words)
{
    return words->texts[words->next++ % (int)(sizeof words->texts / sizeof *words->texts)];
}

const char *look_duration(struct look_words *words, int64_t ns)
{
    return value_format_duration(ns, next_text(words), sizeof words->texts[0]);
}

const char *look_round_up(struct look_words *words, int64_t ns)
{
    int64_t step = ns > 600 * NS_PER_S  ? 60 * NS_PER_S
                   : ns > 10 * NS_PER_S ? 5 * NS_PER_S
                   : ns > 2 * NS_PER_S  ? NS_PER_S
                                        : 100 * NS_PER_MS;
    return look_duration(words, (ns + step - 1) / step * step);
}
