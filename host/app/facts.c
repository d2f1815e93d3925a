/* facts - made of registrations and the config: who registers what, and for how long. What a server
 * is asked for is in facts_ask.c. */
#include "app/facts.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "app/app_private.h"
#include "app/words.h"
#include "base/json.h"
#include "bus/consume/consumer.h"
#include "bus/request/jslevel.h"
#include "vm/texts.h"

/* --- scripts --- */

/* A script that never says the word does not do it. */
static void find_words(void *owner, const char *path, const char *text, size_t len)
{
    struct judge_script *script = owner;
    (void)path;
    if (!text)
        return;
    script->requests |= words_calls_without(text, len, "request", "timeout");
    script->publishes |= words_has(text, len, "publish");
    script->naks |= words_has(text, len, ":nak");
}

/* Of a stream that a script states. */
struct stream_words {
    const struct judge_stream *stream;
    struct words_use use;
};

static void find_use(void *owner, const char *path, const char *text, size_t len)
{
    struct stream_words *words = owner;
    (void)path;
    if (text)
        words_look(text, len, json_text_or(words->stream->config, "name", ""),
                   json_field(words->stream->config, "subjects"), &words->use);
}

static void describe_streams(struct script *script, struct judge_stream *streams, int count)
{
    struct texts *texts = script_texts(script);
    for (int i = 0; i < count; i++) {
        struct stream_words words = {.stream = &streams[i]};
        texts_each(texts, find_use, &words);
        streams[i].only_read = words_only_reads(&words.use);
    }
    texts_release(texts);
}

static void describe_script(struct script *script, int registrations, struct judge_script *out)
{
    struct texts *texts = script_texts(script);
    *out = (struct judge_script){.name = script_name(script), .registrations = registrations};
    texts_each(texts, find_words, out);
    texts_release(texts);
}

/* --- handlers and streams --- */

static struct judge_place place_of(const struct registration_view *view)
{
    return (struct judge_place){
        .script = view->script, .handler = view->handler, .file = view->file, .line = view->line};
}

static enum judge_update update_of(const struct registration_view *view)
{
    return view->update          ? JUDGE_UPDATE_YES
           : view->update_stated ? JUDGE_UPDATE_NO
                                 : JUDGE_UPDATE_UNSTATED;
}

static void describe_durable(const struct registration_view *view, struct judge_handler *out)
{
    const struct consumer_spec *spec = view->consumer;
    out->stream = spec->stream;
    out->durable = spec->durable;
    out->filters = spec->filters;
    out->filter_count = spec->filter_count;
    out->ack_wait_ns = spec->ack_wait_ns;
    out->attempts = view->attempts;
    out->backoff_stated = view->backoff_stated;
    out->order_token = view->order_token;
    out->retries_ns = view->retries_ns;
    out->backoff_max_ns = view->backoff_max_ns;
    out->longest_retry_ns = view->longest_retry_ns;
    out->park_after_ns = view->park_after_ns;
    out->messages = spec->concurrency;
    out->max_ack_pending = spec->max_ack_pending;
    out->dead_letter = view->dead_letter;
    out->drops = view->drops;
    out->ordered = spec->ordered;
    out->headers_only = json_true(spec->extra, "headers_only");
    out->bind = spec->bind;
    out->from_start = spec->deliver == DELIVER_ALL;
    out->update = update_of(view);
}

static enum judge_kind kind_of(const struct registration_view *view)
{
    return view->consumer                              ? JUDGE_CONSUME
           : view->subject                             ? JUDGE_SUBSCRIBE
           : view->service                             ? JUDGE_SERVICE
           : strcmp(view->binding, "bus.offload") == 0 ? JUDGE_OFFLOAD
                                                       : JUDGE_OTHER;
}

/* Of the first nats-server 2.x with that API level. */
static int minor_of(int level)
{
    int minor = 0;
    sscanf(jslevel_release(level), "2.%d", &minor);
    return minor;
}

static void describe(const struct registration_view *view, struct judge_handler *out)
{
    *out = (struct judge_handler){
        .place = place_of(view),
        .kind = kind_of(view),
        .what = view->what,
        .timeout_ns = view->timeout_ns,
        .timeout_stated = view->timeout_stated,
        .concurrency = view->concurrency,
        .subject = view->subject,
        .queue = view->queue,
        .looks_on = view->looks_on,
        .is_endpoint = view->service && view->subject,
        .next_s = view->next_s,
        .zone = view->zone,
        .schema = view->schema,
        .needs = view->needs,
        .needs_minor = view->needs ? minor_of(view->needs_level) : 0,
    };
    if (view->consumer)
        describe_durable(view, out);
}

static void add_registration(struct facts *facts, const struct registration_view *view)
{
    struct judge_facts *judged = &facts->judged;
    if (view->stream) {
        facts->streams[judged->stream_count++] = (struct judge_stream){
            .place = place_of(view), .config = view->stream, .update = update_of(view)};
        return;
    }
    facts->specs[judged->handler_count] = view->consumer;
    describe(view, &facts->handlers[judged->handler_count++]);
}

/* --- all of it --- */

static int count_registrations(struct app *app, struct script *script)
{
    struct registration_view view;
    int count = 0;
    while (engine_registration(app->engine, script, count, &view))
        count++;
    return count;
}

static void add_script(struct facts *facts, struct app *app, struct script *script)
{
    struct registration_view view;
    int count = 0, before = facts->judged.stream_count;
    for (; engine_registration(app->engine, script, count, &view); count++)
        add_registration(facts, &view);
    describe_streams(script, facts->streams + before, facts->judged.stream_count - before);
    describe_script(script, count, &facts->scripts[facts->judged.script_count++]);
    facts_buckets_find(facts, script);
}

/* It serves, or nothing is known against it yet; and it does not go in this very change, as the
 * old name of a file does. */
static bool counts(const struct handler_file *file)
{
    return file->script && (script_serves(file->script) || !file->last_error) &&
           file->change.verdict != CHANGE_UNLOADED && !change_leaves(&file->change);
}

static bool make_room(struct facts *facts, int scripts, int registrations, int filters)
{
    facts->filters = calloc((size_t)filters + 1, sizeof *facts->filters);
    facts->scripts = calloc((size_t)scripts + 1, sizeof *facts->scripts);
    facts->handlers = calloc((size_t)registrations + 1, sizeof *facts->handlers);
    facts->specs = calloc((size_t)registrations + 1, sizeof *facts->specs);
    facts->streams = calloc((size_t)registrations + 1, sizeof *facts->streams);
    facts->judged.scripts = facts->scripts;
    facts->judged.handlers = facts->handlers;
    facts->judged.streams = facts->streams;
    facts->kept = cJSON_CreateArray();
    return facts->scripts && facts->handlers && facts->specs && facts->streams && facts->kept &&
           facts->filters;
}

/* Of the config, those that cannot be read. */
static void find_unreadable(const struct config *config, struct judge_settings *settings)
{
    const struct judge_file files[] = {{"auth.creds", config->creds},
                                       {"auth.nkey", config->nkey},
                                       {"tls.ca", config->tls_ca},
                                       {"tls.cert", config->tls_cert},
                                       {"tls.key", config->tls_key}};
    _Static_assert(sizeof files == sizeof settings->unreadable, "each has room");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (files[i].path && access(files[i].path, R_OK) != 0)
            settings->unreadable[settings->unreadable_count++] = files[i];
    }
}

static struct judge_settings settings_of(const struct app *app)
{
    const struct config *config = app->config;
    struct judge_settings settings = {
        .graceful_timeout_ns = config->graceful_timeout_ns,
        .request_timeout_ns = config->request_timeout_ns,
        .publish_timeout_ns = config->publish_timeout_ns,
        .ping_interval_ns = config->ping_interval_ns,
        .max_pings_out = config->max_pings_out,
        .reconnect_wait_ns = config->reconnect_wait_ns,
        .reconnect_jitter_ns = config->reconnect_jitter_ns,
        .private_server = app->options->child != NULL,
    };
    find_unreadable(config, &settings);
    return settings;
}

struct facts *facts_new(struct app *app)
{
    struct facts *facts = calloc(1, sizeof *facts);
    struct handler_file *file;
    int scripts = 0, registrations = 0;
    LL_FOREACH(app->files, file) {
        scripts += counts(file);
        registrations += counts(file) ? count_registrations(app, file->script) : 0;
    }
    if (!facts || !make_room(facts, scripts, registrations, 0)) {
        facts_free(facts);
        return NULL;
    }
    facts->judged.settings = settings_of(app);
    LL_FOREACH(app->files, file) {
        if (counts(file))
            add_script(facts, app, file->script);
    }
    return facts;
}

void facts_free(struct facts *facts)
{
    if (!facts)
        return;
    free(facts->scripts);
    free(facts->handlers);
    free(facts->filters);
    free(facts->specs);
    free(facts->streams);
    free(facts->buckets);
    cJSON_Delete(facts->kept);
    free(facts);
}

/* --- a copy --- */

cJSON *facts_keep_json(struct facts *facts, cJSON *json)
{
    if (json && cJSON_AddItemToArray(facts->kept, json))
        return json;
    cJSON_Delete(json);
    facts->failed = true;
    return NULL;
}

const char *facts_keep(struct facts *facts, const char *text)
{
    return text ? cJSON_GetStringValue(facts_keep_json(facts, cJSON_CreateString(text))) : NULL;
}

/* Names of scripts live as long as the engine. */
static void keep_place(struct facts *facts, struct judge_place *place)
{
    place->handler = facts_keep(facts, place->handler);
    place->file = facts_keep(facts, place->file);
}

/* room: of facts->filters; returns what is left of it. */
static const char **keep_handler(struct facts *facts, struct judge_handler *handler,
                                 const char **room)
{
    const char **const texts[] = {&handler->what,   &handler->subject, &handler->queue,
                                  &handler->stream, &handler->durable, &handler->dead_letter,
                                  &handler->schema};
    keep_place(facts, &handler->place);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        *texts[i] = facts_keep(facts, *texts[i]);
    for (int i = 0; i < handler->filter_count; i++)
        room[i] = facts_keep(facts, handler->filters[i]);
    handler->filters = room;
    return room + handler->filter_count;
}

static void keep_all(struct facts *facts)
{
    const char **room = facts->filters;
    for (int i = 0; i < facts->judged.handler_count; i++)
        room = keep_handler(facts, &facts->handlers[i], room);
    for (int i = 0; i < facts->judged.stream_count; i++) {
        struct judge_stream *stream = &facts->streams[i];
        keep_place(facts, &stream->place);
        stream->config = facts_keep_json(facts, cJSON_Duplicate(stream->config, true));
    }
    facts_buckets_keep(facts);
}

static int count_filters(const struct judge_facts *judged)
{
    int count = 0;
    for (int i = 0; i < judged->handler_count; i++)
        count += judged->handlers[i].filter_count;
    return count;
}

static void copy_list(void *to, const void *from, int count, size_t size)
{
    if (count > 0)
        memcpy(to, from, (size_t)count * size);
}

struct facts *facts_copy(const struct facts *facts)
{
    const struct judge_facts *from = &facts->judged;
    int registrations = from->handler_count + from->stream_count;
    struct facts *copy = calloc(1, sizeof *copy);
    if (!copy || !make_room(copy, from->script_count, registrations, count_filters(from))) {
        facts_free(copy);
        return NULL;
    }
    struct judge_facts *to = &copy->judged;
    to->settings = from->settings;
    to->settings.unreadable_count = 0; /* the config's texts may go */
    to->script_count = from->script_count;
    to->handler_count = from->handler_count;
    to->stream_count = from->stream_count;
    copy_list(copy->scripts, from->scripts, from->script_count, sizeof *copy->scripts);
    copy_list(copy->handlers, from->handlers, from->handler_count, sizeof *copy->handlers);
    copy_list(copy->streams, from->streams, from->stream_count, sizeof *copy->streams);
    facts_buckets_copy(copy, from);
    keep_all(copy);
    if (!copy->failed)
        return copy;
    facts_free(copy);
    return NULL;
}
