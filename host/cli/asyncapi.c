/* asyncapi - the document, written of what was checked.
 * https://www.asyncapi.com/docs/reference/specification/v3.0.0; of NATS its bindings know the queue
 * alone (0.1.0), so the rest is under x-moonbus. */
#include "cli/asyncapi.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/check.h"
#include "app/config.h"
#include "base/json.h"
#include "base/text.h"
#include "base/value.h"

#define BINDING_VERSION "0.1.0"
#define ID_MOST 200
#define REPLIES "replies"

struct document {
    const struct judge_facts *facts;
    cJSON *channels, *operations;
};

/* A name for the subject that a reference may have: "greet.*" is "greet_any". */
static void make_id(const char *prefix, const char *subject, char *id, size_t size)
{
    struct text text;
    text_init(&text);
    text_puts(&text, prefix);
    for (const char *at = subject; *at; at++) {
        if (*at == '*')
            text_puts(&text, "any");
        else if (*at == '>')
            text_puts(&text, "rest");
        else
            text_printf(&text, "%c", isalnum((unsigned char)*at) || *at == '-' ? *at : '_');
    }
    snprintf(id, size, "%.*s", (int)text.len, text.bytes);
    text_clear(&text);
}

/* One that is not taken in the object: with a number, if need be. */
static void make_free(const cJSON *object, char *id, size_t size)
{
    char first[ID_MOST];
    snprintf(first, sizeof first, "%s", id);
    for (int i = 2; json_field(object, id); i++)
        snprintf(id, size, "%.180s_%d", first, i);
}

/* --- channels --- */

/* "greet.*.>" is "greet.{token2}.{rest}", with a parameter for each. */
static void add_address(cJSON *channel, const char *subject)
{
    struct text address;
    char name[32];
    int number = 1;
    text_init(&address);
    for (const char *token = subject; *token; number++) {
        size_t len = strcspn(token, ".");
        bool wild = len == 1 && (*token == '*' || *token == '>');
        snprintf(name, sizeof name, *token == '>' ? "rest" : "token%d", number);
        if (wild) {
            cJSON *parameters = cJSON_GetObjectItemCaseSensitive(channel, "parameters");
            if (!parameters)
                parameters = cJSON_AddObjectToObject(channel, "parameters");
            cJSON *parameter = cJSON_AddObjectToObject(parameters, name);
            cJSON_AddStringToObject(parameter, "description",
                                    *token == '>' ? "one or more tokens" : "one token");
            text_printf(&address, "{%s}", name);
        } else {
            text_add(&address, token, len);
        }
        token += len;
        if (*token)
            text_add(&address, token++, 1);
    }
    cJSON_AddStringToObject(channel, "address", address.bytes);
    text_clear(&address);
}

/* The channel of a subject, made if need be; its id. */
static void add_channel(struct document *document, const char *subject, char *id, size_t size)
{
    const cJSON *known;
    cJSON_ArrayForEach(known, document->channels) {
        if (strcmp(json_text_or(known, "x-subject", ""), subject) == 0) {
            snprintf(id, size, "%s", known->string);
            return;
        }
    }
    make_id("", subject, id, size);
    make_free(document->channels, id, size);
    cJSON *channel = cJSON_AddObjectToObject(document->channels, id);
    add_address(channel, subject);
    cJSON_AddStringToObject(channel, "x-subject", subject);
}

static void add_reference(cJSON *object, const char *name, const char *channel)
{
    char reference[ID_MOST + 32];
    snprintf(reference, sizeof reference, "#/channels/%s", channel);
    cJSON_AddStringToObject(cJSON_AddObjectToObject(object, name), "$ref", reference);
}

/* Where they go is known with each request only: a channel without an address. */
static void add_reply(struct document *document, cJSON *operation)
{
    if (!json_field(document->channels, REPLIES)) {
        cJSON *channel = cJSON_AddObjectToObject(document->channels, REPLIES);
        cJSON_AddNullToObject(channel, "address");
        cJSON_AddStringToObject(channel, "description", "the reply subject of each request");
    }
    add_reference(cJSON_AddObjectToObject(operation, "reply"), "channel", REPLIES);
}

/* --- operations --- */

static bool is_called(const cJSON *item, const char *name)
{
    return item->string && strcmp(item->string, name) == 0;
}

/* A schema's references are to places in itself: in the document they begin with where it lies.
 * by_name: what is in it has names of its author's. */
static void move_references(cJSON *schema, const char *place, bool by_name)
{
    cJSON *reference = by_name ? NULL : cJSON_GetObjectItemCaseSensitive(schema, "$ref");
    if (cJSON_IsString(reference) && *reference->valuestring == '#') {
        char *moved = NULL;
        if (asprintf(&moved, "%s%s", place, reference->valuestring + 1) >= 0)
            cJSON_SetValuestring(reference, moved);
        free(moved);
    }
    cJSON *inner;
    cJSON_ArrayForEach(inner, schema) {
        bool is_value = !by_name && (is_called(inner, "default") || is_called(inner, "enum"));
        if (!is_value)
            move_references(inner, place,
                            !by_name &&
                                (is_called(inner, "properties") || is_called(inner, "$defs")));
    }
}

/* What the handler's schema says of a payload: a message of the channel, that the operation gets.
 */
static void add_message(struct document *document, cJSON *operation, const char *channel,
                        const struct judge_handler *handler)
{
    char id[ID_MOST], reference[2 * ID_MOST + 32];
    cJSON *schema = cJSON_Parse(handler->schema);
    if (!schema)
        return;
    cJSON *at = cJSON_GetObjectItemCaseSensitive(document->channels, channel);
    cJSON *messages = cJSON_GetObjectItemCaseSensitive(at, "messages");
    if (!messages)
        messages = cJSON_AddObjectToObject(at, "messages");
    make_id("", handler->place.handler, id, sizeof id);
    make_free(messages, id, sizeof id);
    cJSON *message = cJSON_AddObjectToObject(messages, id);
    cJSON_AddStringToObject(message, "contentType", "application/json");
    cJSON_AddItemToObject(message, "payload", schema);
    cJSON *link = cJSON_CreateObject();
    snprintf(reference, sizeof reference, "#/channels/%s/messages/%s/payload", channel, id);
    move_references(schema, reference, false);
    snprintf(reference, sizeof reference, "#/channels/%s/messages/%s", channel, id);
    cJSON_AddStringToObject(link, "$ref", reference);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(operation, "messages"), link);
}

static cJSON *add_operation(struct document *document, const char *action, const char *subject,
                            const struct judge_handler *handler)
{
    char channel[ID_MOST], id[ID_MOST];
    add_channel(document, subject, channel, sizeof channel);
    make_id(strcmp(action, "send") == 0 ? "send_" : "receive_", subject, id, sizeof id);
    make_free(document->operations, id, sizeof id);
    cJSON *operation = cJSON_AddObjectToObject(document->operations, id);
    cJSON_AddStringToObject(operation, "action", action);
    add_reference(operation, "channel", channel);
    if (handler->schema && strcmp(action, "receive") == 0)
        add_message(document, operation, channel, handler);
    cJSON *ours = cJSON_AddObjectToObject(operation, "x-moonbus");
    cJSON_AddStringToObject(ours, "script", handler->place.script);
    cJSON_AddStringToObject(ours, "handler", handler->place.handler);
    return operation;
}

static void add_duration(cJSON *object, const char *name, int64_t ns)
{
    char shown[32];
    cJSON_AddStringToObject(object, name, value_format_duration(ns, shown, sizeof shown));
}

static void add_subscription(struct document *document, const struct judge_handler *handler)
{
    cJSON *operation = add_operation(document, "receive", handler->subject, handler);
    add_duration(cJSON_GetObjectItemCaseSensitive(operation, "x-moonbus"), "timeout",
                 handler->timeout_ns);
    if (handler->queue) {
        cJSON *bindings = cJSON_AddObjectToObject(operation, "bindings");
        cJSON *nats = cJSON_AddObjectToObject(bindings, "nats");
        cJSON_AddStringToObject(nats, "queue", handler->queue);
        cJSON_AddStringToObject(nats, "bindingVersion", BINDING_VERSION);
    }
    if (!handler->looks_on)
        add_reply(document, operation);
}

static void add_delivery(struct document *document, const struct judge_handler *handler,
                         const char *subject)
{
    cJSON *operation = add_operation(document, "receive", subject, handler);
    cJSON *ours = cJSON_GetObjectItemCaseSensitive(operation, "x-moonbus");
    cJSON_AddStringToObject(ours, "stream", handler->stream);
    cJSON_AddStringToObject(ours, "durable", handler->durable);
    add_duration(ours, "timeout", handler->timeout_ns);
    add_duration(ours, "ack_wait", handler->ack_wait_ns);
    cJSON_AddNumberToObject(ours, "attempts", handler->attempts);
}

/* Without a filter it gets all subjects of its stream: those that somebody states. */
static void add_durable(struct document *document, const struct judge_handler *handler)
{
    for (int i = 0; i < handler->filter_count; i++)
        add_delivery(document, handler, handler->filters[i]);
    for (int i = 0; i < document->facts->stream_count && handler->filter_count == 0; i++) {
        const struct judge_stream *stream = &document->facts->streams[i];
        const cJSON *subject;
        if (strcmp(json_text_or(stream->config, "name", ""), handler->stream) != 0)
            continue;
        cJSON_ArrayForEach(subject, json_field(stream->config, "subjects")) {
            if (cJSON_IsString(subject))
                add_delivery(document, handler, subject->valuestring);
        }
        break;
    }
    if (handler->dead_letter)
        add_operation(document, "send", handler->dead_letter, handler);
}

/* --- the document --- */

/* Without who logs in. */
static void add_servers(cJSON *document, const struct config *config)
{
    cJSON *servers = cJSON_AddObjectToObject(document, "servers");
    for (int i = 0; i < config->server_count; i++) {
        char id[32];
        const char *url = config->servers[i], *host = strstr(url, "://");
        host = host ? host + 3 : url;
        const char *at = strrchr(host, '@');
        snprintf(id, sizeof id, "nats%d", i + 1);
        cJSON *server = cJSON_AddObjectToObject(servers, id);
        cJSON_AddStringToObject(server, "host", at ? at + 1 : host);
        cJSON_AddStringToObject(server, "protocol", "nats");
    }
}

static void strip(cJSON *channels)
{
    cJSON *channel;
    cJSON_ArrayForEach(channel, channels)
        cJSON_DeleteItemFromObjectCaseSensitive(channel, "x-subject");
}

void asyncapi_print(const struct checked *checked, const struct config *config)
{
    cJSON *all = cJSON_CreateObject();
    cJSON_AddStringToObject(all, "asyncapi", "3.0.0");
    cJSON *info = cJSON_AddObjectToObject(all, "info");
    cJSON_AddStringToObject(info, "title", config->name);
    cJSON_AddStringToObject(info, "version", "0.0.0");
    cJSON_AddStringToObject(info, "description",
                            "What the handlers register, by moonbus check --asyncapi. What they "
                            "publish beside dead letters is not known without running them.");
    add_servers(all, config);
    struct document document = {
        .facts = checked->facts,
        .channels = cJSON_AddObjectToObject(all, "channels"),
        .operations = cJSON_AddObjectToObject(all, "operations"),
    };
    for (int i = 0; i < checked->facts->handler_count; i++) {
        const struct judge_handler *handler = &checked->facts->handlers[i];
        if (handler->kind == JUDGE_SUBSCRIBE)
            add_subscription(&document, handler);
        else if (handler->kind == JUDGE_CONSUME)
            add_durable(&document, handler);
    }
    strip(document.channels);
    char *text = cJSON_Print(all);
    printf("%s\n", text ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(all);
}
