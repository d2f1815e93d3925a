/* $JS.API.>: one row an operation (ADR-1, and the server's own errors). */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/value.h"
#include "broker/broker_private.h"

#define API_PREFIX "$JS.API."
#define TYPE_PREFIX "io.nats.jetstream.api.v1."
#define PAGE 1024 /* names in one answer */

/* A call: what was asked, and the answer that is being made. */
struct broker_call {
    struct broker *broker;
    const struct broker_message *message;
    char stream_name[256], consumer_name[256]; /* from the subject; "" for none */
    struct broker_stream *stream;              /* NULL: there is none of that name */
    struct broker_consumer *consumer;
    cJSON *request; /* owned; {} when there is no JSON object */
    cJSON *answer;  /* owned */
};

static void fail(struct broker_call *call, int code, int err_code, const char *description)
{
    cJSON *error = cJSON_AddObjectToObject(call->answer, "error");
    cJSON_AddNumberToObject(error, "code", code);
    cJSON_AddNumberToObject(error, "err_code", err_code);
    cJSON_AddStringToObject(error, "description", description);
}

static void fail_as(struct broker_call *call, const struct broker_error *error)
{
    fail(call, error->code, error->err_code, error->description);
}

static void add_copy(cJSON *object, const char *name, const cJSON *item)
{
    cJSON_AddItemToObject(object, name, cJSON_Duplicate(item, true));
}

/* --- what is told of a stream and of a consumer --- */

static void add_pair(cJSON *answer, const char *name, uint64_t consumer, uint64_t stream)
{
    cJSON *pair = cJSON_AddObjectToObject(answer, name);
    broker_json_add_count(pair, "consumer_seq", consumer);
    broker_json_add_count(pair, "stream_seq", stream);
}

static void describe_consumer(cJSON *answer, const struct broker_consumer *consumer)
{
    const struct broker_request *request;
    int waiting = 0;
    uint64_t redelivered = 0;
    LL_COUNT(consumer->waiting, request, waiting);
    for (size_t i = 0; i < consumer->pending_count; i++)
        redelivered += consumer->pending[i].attempts > 1;
    cJSON_AddStringToObject(answer, "stream_name", consumer->stream->name);
    cJSON_AddStringToObject(answer, "name", consumer->name);
    broker_json_add_time(answer, "created", consumer->created_ns);
    add_copy(answer, "config", consumer->config);
    add_pair(answer, "delivered", consumer->delivered_consumer, consumer->delivered);
    add_pair(answer, "ack_floor", consumer->floor_consumer, consumer->floor);
    broker_json_add_count(answer, "num_ack_pending", consumer->pending_count);
    broker_json_add_count(answer, "num_redelivered", redelivered);
    broker_json_add_count(answer, "num_waiting", (uint64_t)waiting);
    broker_json_add_count(answer, "num_pending", broker_consumer_unseen(consumer));
}

/* --- streams --- */

static bool subjects_overlap(const struct broker_call *call, const cJSON *config)
{
    const struct broker_stream *stream;
    const cJSON *subject;
    LL_FOREACH(call->broker->streams, stream) {
        if (stream == call->stream)
            continue;
        cJSON_ArrayForEach(subject, cJSON_GetObjectItemCaseSensitive(config, "subjects")) {
            for (char **other = stream->settings.subjects; *other; other++) {
                if (broker_accept_overlap(subject->valuestring, *other))
                    return true;
            }
        }
    }
    return false;
}

/* The caller's; NULL: refused, and said. */
static cJSON *read_stream_config(struct broker_call *call)
{
    struct broker_error error;
    cJSON *config = cJSON_Duplicate(call->request, true);
    if (!broker_settings_readable(config))
        fail(call, 400, 10025, "invalid JSON");
    else if (strcmp(broker_json_text(config, "name"), call->stream_name) != 0)
        fail(call, 400, 10056, "stream name in subject does not match request");
    else if (!broker_settings_complete_stream(config, &error))
        fail_as(call, &error);
    else
        return config;
    cJSON_Delete(config);
    return NULL;
}

static void stream_create(struct broker_call *call)
{
    cJSON *config = read_stream_config(call);
    if (!config)
        return;
    if (call->stream && !cJSON_Compare(config, call->stream->config, true)) {
        fail(call, 400, 10058, "stream name already in use with a different configuration");
    } else if (call->stream) {
        broker_state_describe(call->answer, call->stream);
    } else if (subjects_overlap(call, config)) {
        fail(call, 400, 10065, "subjects overlap with an existing stream");
    } else {
        struct broker_stream *stream = broker_stream_make(call->broker, config);
        config = NULL;
        if (stream)
            broker_state_describe(call->answer, stream);
        else
            fail(call, 500, 10023, "insufficient resources");
    }
    cJSON_Delete(config);
}

static bool may_become(const struct broker_stream *stream, const cJSON *config,
                       struct broker_error *error)
{
    static const char *const fixed[] = {"retention", "storage", NULL};
    for (const char *const *name = fixed; *name; name++) {
        if (strcmp(broker_json_text(stream->config, *name), broker_json_text(config, *name)) != 0) {
            *error = (struct broker_error){.code = 500, .err_code = 10052};
            snprintf(error->description, sizeof error->description,
                     "stream configuration update can not change %s", *name);
            return false;
        }
    }
    return true;
}

static void stream_update(struct broker_call *call)
{
    struct broker_error error;
    cJSON *config = read_stream_config(call);
    if (!config)
        return;
    if (!may_become(call->stream, config, &error)) {
        fail_as(call, &error);
        cJSON_Delete(config);
    } else if (subjects_overlap(call, config)) {
        fail(call, 400, 10065, "subjects overlap with an existing stream");
        cJSON_Delete(config);
    } else if (broker_stream_change(call->stream, config)) {
        broker_state_describe(call->answer, call->stream);
    } else {
        fail(call, 500, 10023, "insufficient resources");
    }
}

static void stream_info(struct broker_call *call)
{
    const char *filter = broker_json_text(call->request, "subjects_filter");
    broker_state_describe(call->answer, call->stream);
    if (*filter)
        broker_state_subjects(call->answer, call->stream, filter,
                              broker_json_integer(call->request, "offset", 0));
}

static void stream_gone(struct broker_call *call)
{
    broker_stream_delete(call->stream);
    cJSON_AddTrueToObject(call->answer, "success");
}

static void stream_purged(struct broker_call *call)
{
    const char *filter = broker_json_text(call->request, "filter");
    if (call->stream->settings.deny_purge) {
        fail(call, 500, 10110, "stream purge not permitted");
        return;
    }
    uint64_t purged = broker_stream_purge(call->stream, *filter ? filter : NULL,
                                          (uint64_t)broker_json_integer(call->request, "seq", 0),
                                          (uint64_t)broker_json_integer(call->request, "keep", 0));
    cJSON_AddTrueToObject(call->answer, "success");
    cJSON_AddNumberToObject(call->answer, "purged", (double)purged);
}

static bool has_subject(const struct broker_stream *stream, const char *subject)
{
    for (char **pattern = stream->settings.subjects; *pattern; pattern++) {
        if (*subject == '\0' || broker_accept_overlap(*pattern, subject))
            return true;
    }
    return false;
}

static void list_streams(struct broker_call *call, const char *field, bool whole)
{
    const char *subject = broker_json_text(call->request, "subject");
    cJSON *list = cJSON_CreateArray();
    int64_t total = 0, offset = broker_json_integer(call->request, "offset", 0);
    const struct broker_stream *stream;
    LL_FOREACH(call->broker->streams, stream) {
        if (!has_subject(stream, subject) || total++ < offset || total - offset > PAGE)
            continue;
        cJSON *item = whole ? cJSON_CreateObject() : cJSON_CreateString(stream->name);
        if (whole)
            broker_state_describe(item, stream);
        cJSON_AddItemToArray(list, item);
    }
    cJSON_AddNumberToObject(call->answer, "total", (double)total);
    cJSON_AddNumberToObject(call->answer, "offset", (double)offset);
    cJSON_AddNumberToObject(call->answer, "limit", PAGE);
    cJSON_AddItemToObject(call->answer, field, list);
}

static void stream_names(struct broker_call *call)
{
    list_streams(call, "streams", false);
}

static void stream_list(struct broker_call *call)
{
    list_streams(call, "streams", true);
}

/* --- one message --- */

static void add_base64(cJSON *object, const char *name, const char *bytes, size_t len)
{
    unsigned char *text = malloc(len / 3 * 4 + 5);
    if (len && text) {
        EVP_EncodeBlock(text, (const unsigned char *)bytes, (int)len);
        cJSON_AddStringToObject(object, name, (char *)text);
    }
    free(text);
}

static struct broker_stored *find_message(const struct broker_call *call)
{
    uint64_t sequence = (uint64_t)broker_json_integer(call->request, "seq", 0);
    const char *last = broker_json_text(call->request, "last_by_subj");
    const char *next = broker_json_text(call->request, "next_by_subj");
    if (*last)
        return broker_stream_newest(call->stream, last, NEVER);
    if (!*next)
        return broker_stream_at(call->stream, sequence);
    for (uint64_t at = sequence > 0 ? sequence : 1; at <= call->stream->last; at++) {
        struct broker_stored *stored = broker_stream_at(call->stream, at);
        if (stored && subject_matches(next, stored->subject))
            return stored;
    }
    return NULL;
}

static void message_get(struct broker_call *call)
{
    const struct broker_stored *stored = find_message(call);
    if (!stored) {
        fail(call, 404, 10037, "no message found");
        return;
    }
    cJSON *message = cJSON_AddObjectToObject(call->answer, "message");
    cJSON_AddStringToObject(message, "subject", stored->subject);
    broker_json_add_count(message, "seq", stored->sequence);
    add_base64(message, "hdrs", stored->headers, stored->headers_len);
    add_base64(message, "data", stored->data, stored->len);
    broker_json_add_time(message, "time", stored->timestamp_ns);
}

static void message_delete(struct broker_call *call)
{
    uint64_t sequence = (uint64_t)broker_json_integer(call->request, "seq", 0);
    char text[64];
    if (call->stream->settings.deny_delete) {
        fail(call, 500, 10057, "message delete not permitted");
    } else if (!broker_stream_at(call->stream, sequence)) {
        snprintf(text, sizeof text, "message [%" PRIu64 "] not found", sequence);
        fail(call, 400, 10043, text);
    } else {
        broker_stream_remove(call->stream, sequence);
        cJSON_AddTrueToObject(call->answer, "success");
    }
}

/* --- consumers --- */

static void consumer_create(struct broker_call *call)
{
    static unsigned counter;
    struct broker_error error;
    const cJSON *stated = cJSON_GetObjectItemCaseSensitive(call->request, "config");
    const char *name = broker_json_text(stated, "durable_name");
    char made[32];
    if (!*name)
        name = broker_json_text(stated, "name");
    if (!*name) {
        snprintf(made, sizeof made, "ephemeral%u", ++counter);
        name = made;
    }
    call->consumer = broker_consumer_find(call->stream, name);
    cJSON *config = cJSON_Duplicate(stated, true);
    if (config && !*broker_json_text(config, "name"))
        cJSON_AddStringToObject(config, "name", name);
    if (!config || !broker_settings_complete_consumer(config, &error)) {
        if (config)
            fail_as(call, &error);
        else
            fail(call, 400, 10025, "invalid JSON");
        cJSON_Delete(config);
    } else if (!broker_accept_consumer(call->stream, call->consumer, config, &error)) {
        fail_as(call, &error);
        cJSON_Delete(config);
    } else if (call->consumer) {
        broker_consumer_change(call->consumer, config);
        describe_consumer(call->answer, call->consumer);
    } else {
        call->consumer = broker_consumer_make(call->stream, name, config);
        if (call->consumer)
            describe_consumer(call->answer, call->consumer);
        else
            fail(call, 500, 10023, "insufficient resources");
    }
}

static void consumer_info(struct broker_call *call)
{
    describe_consumer(call->answer, call->consumer);
}

static void consumer_gone(struct broker_call *call)
{
    broker_consumer_delete(call->consumer);
    cJSON_AddTrueToObject(call->answer, "success");
}

static void consumer_names(struct broker_call *call)
{
    cJSON *list = cJSON_CreateArray();
    const struct broker_consumer *consumer;
    LL_FOREACH(call->stream->consumers, consumer)
        cJSON_AddItemToArray(list, cJSON_CreateString(consumer->name));
    cJSON_AddNumberToObject(call->answer, "total", cJSON_GetArraySize(list));
    cJSON_AddNumberToObject(call->answer, "offset", 0);
    cJSON_AddNumberToObject(call->answer, "limit", PAGE);
    cJSON_AddItemToObject(call->answer, "consumers", list);
}

/* --- the table --- */

enum needs { NEEDS_NOTHING, NEEDS_STREAM, NEEDS_CONSUMER };

/* As nats-server 2.12, though it has no atomic batches. */
#define API_LEVEL 2

static void account_info(struct broker_call *call)
{
    cJSON *api = cJSON_AddObjectToObject(call->answer, "api");
    cJSON_AddNumberToObject(api, "level", API_LEVEL);
    cJSON_AddNumberToObject(api, "total", 0);
    cJSON_AddNumberToObject(api, "errors", 0);
}

/* ADR-44. What is no number asks for what nobody has. */
static bool asks_too_much(const struct broker_message *message)
{
    const struct header_block block = {.at = message->headers, .len = message->headers_len};
    struct span needed = header_block_find(&block, "Nats-Required-Api-Level");
    unsigned long long level;
    return needed.len > 0 && (!span_number(needed, &level) || level > API_LEVEL);
}

static const struct operation {
    const char *name; /* the subject behind $JS.API., before the names */
    const char *type;
    enum needs needs;
    void (*run)(struct broker_call *call);
} operations[] = {
    {"INFO", "account_info_response", NEEDS_NOTHING, account_info},
    {"STREAM.CREATE", "stream_create_response", NEEDS_NOTHING, stream_create},
    {"STREAM.UPDATE", "stream_update_response", NEEDS_STREAM, stream_update},
    {"STREAM.INFO", "stream_info_response", NEEDS_STREAM, stream_info},
    {"STREAM.DELETE", "stream_delete_response", NEEDS_STREAM, stream_gone},
    {"STREAM.PURGE", "stream_purge_response", NEEDS_STREAM, stream_purged},
    {"STREAM.NAMES", "stream_names_response", NEEDS_NOTHING, stream_names},
    {"STREAM.LIST", "stream_list_response", NEEDS_NOTHING, stream_list},
    {"STREAM.MSG.GET", "stream_msg_get_response", NEEDS_STREAM, message_get},
    {"STREAM.MSG.DELETE", "stream_msg_delete_response", NEEDS_STREAM, message_delete},
    {"CONSUMER.CREATE", "consumer_create_response", NEEDS_STREAM, consumer_create},
    {"CONSUMER.DURABLE.CREATE", "consumer_create_response", NEEDS_STREAM, consumer_create},
    {"CONSUMER.INFO", "consumer_info_response", NEEDS_CONSUMER, consumer_info},
    {"CONSUMER.DELETE", "consumer_delete_response", NEEDS_CONSUMER, consumer_gone},
    {"CONSUMER.NAMES", "consumer_names_response", NEEDS_STREAM, consumer_names},
};

static const struct operation *find_operation(const char *subject, const char **names)
{
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        size_t len = strlen(operations[i].name);
        if (strncmp(subject, operations[i].name, len) == 0 &&
            (subject[len] == '.' || subject[len] == '\0')) {
            *names = subject + len + (subject[len] == '.');
            return &operations[i];
        }
    }
    return NULL;
}

static void find_names(struct broker_call *call, const char *names)
{
    sscanf(names, "%255[^.].%255[^.]", call->stream_name, call->consumer_name);
    call->stream = broker_stream_find(call->broker, call->stream_name);
    call->consumer = call->stream ? broker_consumer_find(call->stream, call->consumer_name) : NULL;
}

static void run_operation(struct broker_call *call, const struct operation *operation)
{
    char type[80];
    snprintf(type, sizeof type, TYPE_PREFIX "%s", operation->type);
    call->answer = cJSON_CreateObject();
    call->request =
        call->message->len ? cJSON_ParseWithLength(call->message->data, call->message->len) : NULL;
    cJSON_AddStringToObject(call->answer, "type", type);
    bool is_json = call->request || call->message->len == 0;
    if (!call->request)
        call->request = cJSON_CreateObject();
    if (asks_too_much(call->message))
        fail(call, 412, 10185, "JetStream minimum api level required");
    else if (!is_json)
        fail(call, 400, 10025, "invalid JSON");
    else if (operation->needs != NEEDS_NOTHING && !call->stream)
        fail(call, 404, 10059, "stream not found");
    else if (operation->needs == NEEDS_CONSUMER && !call->consumer)
        fail(call, 404, 10014, "consumer not found");
    else
        operation->run(call);
    char *text = cJSON_PrintUnformatted(call->answer);
    if (text)
        broker_answer(call->broker, call->message->reply, text, strlen(text));
    cJSON_free(text);
    cJSON_Delete(call->answer);
    cJSON_Delete(call->request);
}

#define NEXT "CONSUMER.MSG.NEXT."

bool broker_api_request(struct broker *broker, const struct broker_message *message)
{
    struct broker_call call = {.broker = broker, .message = message};
    const char *subject = message->subject + strlen(API_PREFIX), *names;
    if (strncmp(subject, NEXT, strlen(NEXT)) == 0) {
        find_names(&call, subject + strlen(NEXT));
        if (call.consumer && message->reply)
            broker_pull_came(call.consumer, message);
        return call.consumer != NULL;
    }
    const struct operation *operation = find_operation(subject, &names);
    if (!operation)
        return true;
    find_names(&call, names);
    run_operation(&call, operation);
    return true;
}
