/* facts_ask - what a server has of what scripts state and name: its streams, its durables, and how
 * new it is. Nothing is created or changed. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/facts.h"
#include "base/json.h"
#include "base/log.h"
#include "bus/bus.h"
#include "bus/consume/consumer.h"

/* One questioning. What is answered is the facts'. */
struct asking {
    struct facts *facts;
    struct bus *bus;
    uint64_t deadline_ns;
    cJSON *streams;   /* by name: what STREAM.INFO said; null: it is not there */
    cJSON *consumers; /* a list of what CONSUMER.INFO said */
    bool blind;       /* this user may not see everything */
    struct err *err;
};

/* NULL: it is not there, or this user may not ask. A server that does not answer is an error. */
static cJSON *ask(struct asking *asking, const char *operation, const cJSON *request)
{
    struct err err = {0};
    if (asking->err->code)
        return NULL; /* nor will it answer this */
    cJSON *reply =
        jsapi_wait(asking->bus->jsapi, operation, request, asking->deadline_ns, NULL, &err);
    if (!reply && err.code != ERR_NOT_FOUND)
        log_debug("cannot tell what the server has: %s", err.message);
    asking->blind |= err.code == ERR_PERMISSION;
    if (!reply && (err_passes(err.code) || err.code == ERR_NO_RESPONDERS))
        *asking->err = err;
    return reply;
}

/* --- streams --- */

static void ask_stream(struct asking *asking, const char *name)
{
    char operation[300];
    if (!*name || json_field(asking->streams, name))
        return;
    jsapi_stream("INFO", name, operation, sizeof operation);
    cJSON *info = ask(asking, operation, NULL);
    cJSON_AddItemToObject(asking->streams, name, info ? info : cJSON_CreateNull());
}

/* Those that store something of the subject. */
static void ask_subject(struct asking *asking, const char *subject)
{
    cJSON *request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "subject", subject);
    cJSON *reply = ask(asking, "STREAM.NAMES", request);
    const cJSON *name;
    cJSON_ArrayForEach(name, json_field(reply, "streams")) {
        if (cJSON_IsString(name))
            ask_stream(asking, name->valuestring);
    }
    cJSON_Delete(reply);
    cJSON_Delete(request);
}

/* A stream that is stated and not there may not be created, because another one has its subjects.
 */
static void ask_rivals(struct asking *asking, const struct judge_stream *stream)
{
    const char *name = json_text_or(stream->config, "name", "");
    const cJSON *subjects = json_field(stream->config, "subjects"), *subject;
    if (cJSON_IsObject(json_field(asking->streams, name)))
        return;
    cJSON_ArrayForEach(subject, subjects) {
        if (cJSON_IsString(subject))
            ask_subject(asking, subject->valuestring);
    }
    if (cJSON_GetArraySize(subjects) == 0)
        ask_subject(asking, name);
}

static void ask_streams(struct asking *asking)
{
    const struct judge_facts *judged = &asking->facts->judged;
    for (int i = 0; i < judged->stream_count; i++)
        ask_stream(asking, json_text_or(judged->streams[i].config, "name", ""));
    for (int i = 0; i < judged->stream_count; i++)
        ask_rivals(asking, &judged->streams[i]);
    for (int i = 0; i < judged->handler_count; i++) {
        const struct judge_handler *handler = &judged->handlers[i];
        if (handler->kind == JUDGE_CONSUME)
            ask_stream(asking, handler->stream);
        if (handler->kind == JUDGE_CONSUME && handler->dead_letter)
            ask_subject(asking, handler->dead_letter);
        if (handler->kind == JUDGE_SUBSCRIBE && !handler->looks_on)
            ask_subject(asking, handler->subject);
    }
    for (int i = 0; i < judged->bucket_count; i++)
        ask_stream(asking, judged->buckets[i].stream);
}

/* Behind those that are stated; what differs is noted there. */
static bool add_streams(struct asking *asking)
{
    struct facts *facts = asking->facts;
    struct err why;
    int stated = facts->judged.stream_count, found = cJSON_GetArraySize(asking->streams);
    struct judge_stream *all =
        realloc(facts->streams, ((size_t)stated + (size_t)found + 1) * sizeof *all);
    if (!all)
        return false;
    facts->streams = all;
    facts->judged.streams = all;
    for (int i = 0; i < stated; i++) {
        const cJSON *there = json_field(
            json_field(asking->streams, json_text_or(all[i].config, "name", "")), "config");
        if (there && jsapi_compare(all[i].config, there, NULL, &why) != 0)
            all[i].differs = facts_keep(facts, why.message);
    }
    const cJSON *info;
    cJSON_ArrayForEach(info, asking->streams) {
        if (cJSON_IsObject(info))
            all[facts->judged.stream_count++] = (struct judge_stream){
                .config = json_field(info, "config"),
                .clustered = *json_text_or(json_field(info, "cluster"), "name", ""),
            };
    }
    return true;
}

/* --- durables --- */

static void ask_consumer(struct asking *asking, struct judge_handler *handler,
                         const struct consumer_spec *spec)
{
    char operation[600];
    struct err why;
    if (!cJSON_IsObject(json_field(asking->streams, handler->stream)))
        return;
    jsapi_consumer("INFO", handler->stream, handler->durable, operation, sizeof operation);
    cJSON *info = ask(asking, operation, NULL);
    if (!info)
        return;
    cJSON_AddItemToArray(asking->consumers, info);
    handler->config = json_field(info, "config");
    if (consumer_compare(spec, handler->config, &handler->own, &why) != 0)
        handler->differs = facts_keep(asking->facts, why.message);
}

/* --- how new it is --- */

/* By the API's level (since 2.11), which is that of the whole cluster, unlike the version of the
 * server that we are connected to; before, by what a stream's settings have. */
static int minor_of(const struct asking *asking, int level)
{
    static const int minors[] = {0, 11, 12, 12, 14, 15};
    const cJSON *info;
    if (level > 0)
        return minors[level < 5 ? level : 5];
    cJSON_ArrayForEach(info, asking->streams) {
        if (cJSON_IsObject(info))
            return json_field(json_field(info, "config"), "compression") ? 10 : 9;
    }
    return 0; /* nobody knows */
}

static void ask_level(struct asking *asking)
{
    struct judge_facts *judged = &asking->facts->judged;
    cJSON *info = ask(asking, "INFO", NULL);
    judged->server_minor = minor_of(asking, json_int(json_field(info, "api"), "level", 0));
    judged->server_older = info && judged->server_minor == 0;
    if (judged->server_older)
        judged->server_minor = 10; /* it would have told a level */
    judged->server_major = judged->server_minor > 0 ? 2 : 0;
    cJSON_Delete(info);
}

/* What a host that serves has made sure of by itself. */
static void ask_more(struct asking *asking)
{
    struct facts *facts = asking->facts;
    for (int i = 0; i < facts->judged.handler_count; i++) {
        if (facts->specs[i])
            ask_consumer(asking, &facts->handlers[i], facts->specs[i]);
    }
    ask_level(asking);
}

int facts_ask(struct facts *facts, struct bus *bus, bool all, uint64_t deadline_ns, struct err *err)
{
    *err = (struct err){0};
    struct asking asking = {
        .facts = facts,
        .bus = bus,
        .deadline_ns = deadline_ns,
        .streams = facts_keep_json(facts, cJSON_CreateObject()),
        .consumers = facts_keep_json(facts, cJSON_CreateArray()),
        .err = err,
    };
    if (!asking.streams || !asking.consumers)
        return err_set(err, ERR_MEMORY, "no memory to ask the server");
    ask_streams(&asking);
    if (!err->code && !add_streams(&asking))
        return err_set(err, ERR_MEMORY, "no memory to ask the server");
    if (!err->code && all)
        ask_more(&asking);
    facts->judged.asked = !err->code && !asking.blind;
    return err->code;
}
