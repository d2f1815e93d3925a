/* Messages of a file, of another server, or made by a template. */
#include "cli/tune/messages.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/value.h"
#include "bus/letter.h"
#include "cli/jetstream.h"

/* --- the list --- */

static void clear_message(struct tune_message *message)
{
    free(message->subject.text);
    free(message->data.text);
    headers_clear(&message->headers);
}

void tune_messages_clear(struct tune_messages *messages)
{
    for (int i = 0; i < messages->count; i++)
        clear_message(&messages->list[i]);
    free(messages->list);
    *messages = (struct tune_messages){0};
}

/* A new one at the end; NULL: no memory. */
static struct tune_message *add_message(struct tune_messages *messages)
{
    if (messages->count == messages->capacity) {
        int capacity = messages->capacity ? 2 * messages->capacity : 64;
        struct tune_message *more =
            realloc(messages->list, (size_t)capacity * sizeof *messages->list);
        if (!more)
            return NULL;
        messages->list = more;
        messages->capacity = capacity;
    }
    struct tune_message *message = &messages->list[messages->count++];
    *message = (struct tune_message){0};
    return message;
}

static char *copy_bytes(const char *bytes, size_t len)
{
    char *copy = malloc(len + 1);
    if (!copy)
        return NULL;
    memcpy(copy, bytes, len);
    copy[len] = '\0';
    return copy;
}

static int no_memory(struct err *err)
{
    return err_set(err, ERR_MEMORY, "out of memory");
}

static int set_subject(struct tune_message *message, const char *subject, struct err *err)
{
    int code = subject_check(subject, strlen(subject), SUBJECT_PUBLISH, err);
    if (code)
        return code;
    message->subject.text = strdup(subject);
    return message->subject.text ? 0 : no_memory(err);
}

/* What is no text is JSON. */
static int set_data(struct tune_message *message, const char *bytes, size_t len, struct err *err)
{
    message->data.text = copy_bytes(bytes, len);
    message->len = len;
    return message->data.text ? 0 : no_memory(err);
}

/* --- a file --- */

static int read_base64(struct tune_message *message, const char *text, struct err *err)
{
    size_t len = strlen(text);
    char *bytes = malloc(3 * (len / 4) + 4);
    if (!bytes)
        return no_memory(err);
    int got = len % 4 == 0
                  ? EVP_DecodeBlock((unsigned char *)bytes, (const unsigned char *)text, (int)len)
                  : -1;
    if (got < 0) {
        free(bytes);
        return err_set(err, ERR_INVALID, "data_base64 is no Base64");
    }
    for (size_t i = len; i > 0 && text[i - 1] == '='; i--)
        got--;
    message->data.text = bytes;
    message->len = (size_t)got;
    return 0;
}

static int read_data(struct tune_message *message, const cJSON *line, struct err *err)
{
    const cJSON *data = json_field(line, "data");
    const char *encoded = json_text(line, "data_base64");
    if (encoded)
        return read_base64(message, encoded, err);
    if (!data)
        return set_data(message, "", 0, err);
    if (cJSON_IsString(data))
        return set_data(message, data->valuestring, strlen(data->valuestring), err);
    char *json = cJSON_PrintUnformatted(data);
    int code = json ? set_data(message, json, strlen(json), err) : no_memory(err);
    cJSON_free(json);
    return code;
}

static int add_header(struct tune_message *message, const char *name, const cJSON *value,
                      struct err *err)
{
    if (!cJSON_IsString(value))
        return err_set(err, ERR_INVALID, "the header %s must be a text, or a list of texts", name);
    return headers_add(&message->headers, name, value->valuestring, strlen(value->valuestring),
                       err);
}

static int read_headers(struct tune_message *message, const cJSON *line, struct err *err)
{
    const cJSON *headers = json_field(line, "headers"), *field, *value;
    int code = 0;
    if (headers && !cJSON_IsObject(headers))
        return err_set(err, ERR_INVALID, "headers must be an object");
    cJSON_ArrayForEach(field, headers) {
        if (!cJSON_IsArray(field) && !code)
            code = add_header(message, field->string, field, err);
        else if (cJSON_IsArray(field))
            cJSON_ArrayForEach(value, field)
                code = code ? code : add_header(message, field->string, value, err);
    }
    return code;
}

static const char *subject_in_turn(const cJSON *subjects, int index)
{
    int count = cJSON_GetArraySize(subjects);
    return count ? cJSON_GetArrayItem(subjects, index % count)->valuestring : NULL;
}

static int read_line(struct tune_messages *messages, const char *text, const cJSON *subjects,
                     struct err *err)
{
    cJSON *line = cJSON_Parse(text);
    const cJSON *stated = json_field(line, "subject");
    const char *subject =
        stated ? cJSON_GetStringValue(stated) : subject_in_turn(subjects, messages->count);
    struct tune_message *message = add_message(messages);
    int code = 0;
    if (!message)
        code = no_memory(err);
    else if (!cJSON_IsObject(line))
        code = err_set(err, ERR_INVALID,
                       "is no JSON object; wanted: {\"subject\": \"...\", \"data\": ..., "
                       "\"headers\": {...}}");
    else if (!subject)
        code = err_set(err, ERR_INVALID, "subject must be a text");
    if (!code)
        code = set_subject(message, subject, err);
    if (!code)
        code = read_data(message, line, err);
    if (!code)
        code = read_headers(message, line, err);
    cJSON_Delete(line);
    return code;
}

static bool is_blank(const char *line)
{
    return line[strspn(line, " \t\r\n")] == '\0';
}

int tune_messages_read(struct tune_messages *messages, const char *path, const cJSON *subjects,
                       struct err *err)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (!file)
        return err_set(err, ERR_INVALID, "cannot read %s: %s", path, strerror(errno));
    char *line = NULL;
    size_t size = 0;
    int code = 0;
    for (int number = 1; !code && getline(&line, &size, file) >= 0; number++) {
        if (!is_blank(line) && (code = read_line(messages, line, subjects, err)) != 0) {
            char place[512];
            snprintf(place, sizeof place, "%s:%d", path, number);
            err_prefix(err, "%s", place);
        }
    }
    if (!code && ferror(file))
        code = err_set(err, ERR_INVALID, "cannot read %s: %s", path, strerror(errno));
    else if (!code && messages->count == 0)
        code = err_set(err, ERR_INVALID, "%s: there is no message in it", path);
    free(line);
    if (file != stdin)
        fclose(file);
    return code;
}

/* --- another server --- */

/* Without what JetStream would act upon: an old id, an expected sequence. */
static int copy_headers(struct tune_message *message, const struct headers *headers,
                        struct err *err)
{
    size_t position = 0;
    struct header_field field;
    int code = 0;
    while (!code && headers_next(headers, &position, &field)) {
        if (!letter_acted_upon(field.name))
            code = headers_copy(&message->headers, field.name, field.value, err);
    }
    return code;
}

static int take_stored(struct tune_messages *messages, const struct stored_message *stored,
                       struct err *err)
{
    struct tune_message *message = add_message(messages);
    int code = message ? set_subject(message, stored->subject, err) : no_memory(err);
    if (!code)
        code = set_data(message, stored->data, stored->len, err);
    return code ? code : copy_headers(message, &stored->headers, err);
}

static int copy_from(struct tune_messages *messages, struct jetstream *js, const char *stream,
                     uint64_t from, long count, struct err *err)
{
    int code = 0;
    while (!code && messages->count < count && !jetstream_stopped(js)) {
        struct stored_message stored;
        code = jetstream_read(js, stream, from, ">", &stored, err);
        from = stored.sequence + 1;
        if (!code)
            code = take_stored(messages, &stored, err);
        stored_clear(&stored);
    }
    return code == ERR_NOT_FOUND && messages->count > 0 ? 0 : code; /* behind the last one */
}

static int copy_stream(struct tune_messages *messages, struct client *client, const char *stream,
                       long count, cJSON **settings)
{
    struct jetstream js;
    struct err err = {0};
    char operation[300];
    if (jetstream_open(&js, client) != CLI_OK)
        return CLI_FAILED;
    snprintf(operation, sizeof operation, "STREAM.INFO.%s", stream);
    cJSON *info = jetstream_call(&js, operation, NULL, NULL, &err);
    int code = info ? 0 : (int)err.code;
    if (info) {
        const cJSON *state = json_field(info, "state");
        uint64_t last = json_unsigned(state, "last_seq", 0);
        uint64_t first = json_unsigned(state, "first_seq", 1);
        uint64_t from = last >= (uint64_t)count ? last - (uint64_t)count + 1 : 1;
        code = copy_from(messages, &js, stream, from > first ? from : first, count, &err);
        *settings = cJSON_DetachItemFromObject(info, "config");
        if (!code && messages->count == 0)
            code = err_set(&err, ERR_NOT_FOUND, "it holds no message");
    }
    bool stopped = js.stopped;
    cJSON_Delete(info);
    jetstream_close(&js);
    if (stopped)
        return client_failed(client, "stopped");
    return code ? client_failed(client, "copying from the stream %s: %s", stream, err.message)
                : CLI_OK;
}

int tune_messages_copy(struct tune_messages *messages, const struct cli *cli, const char *url,
                       const char *stream, long count, cJSON **settings)
{
    struct cli there = *cli;
    struct config_flag flags[cli->flag_count + 1];
    memcpy(flags, cli->flags, (size_t)cli->flag_count * sizeof *flags);
    flags[cli->flag_count] = (struct config_flag){"servers", url, "--copy-from"};
    there.flags = flags;
    there.flag_count = cli->flag_count + 1;
    there.servers_given = true;
    struct client client;
    int status = client_open(&client, &there, true);
    if (status == CLI_OK)
        status = copy_stream(messages, &client, stream, count, settings);
    client_close(&client);
    return status;
}

/* --- templates --- */

int tune_messages_generate(struct tune_messages *messages, const char *data, const cJSON *subjects,
                           struct err *err)
{
    const cJSON *subject;
    int code = tune_template_check(data, err);
    cJSON_ArrayForEach(subject, subjects) {
        struct tune_message *message = code ? NULL : add_message(messages);
        if (!code && !message)
            code = no_memory(err);
        if (!code)
            code = tune_template_check(subject->valuestring, err);
        if (!code)
            code = set_subject(message, subject->valuestring, err);
        if (!code)
            code = set_data(message, data, strlen(data), err);
        if (!code) {
            message->subject.varies = strstr(subject->valuestring, "{{") != NULL;
            message->data.varies = strstr(data, "{{") != NULL;
        }
    }
    return code;
}

/* --- which are wanted --- */

bool tune_handler_takes(const cJSON *handler, const char *subject)
{
    const cJSON *filters = json_field(handler, "filters"), *filter;
    if (cJSON_GetArraySize(filters) == 0)
        return true;
    cJSON_ArrayForEach(filter, filters) {
        if (subject_matches(filter->valuestring, subject))
            return true;
    }
    return false;
}

static bool is_wanted(const struct tune_message *message, const cJSON *handlers)
{
    const cJSON *handler;
    struct text subject;
    bool wanted = false;
    text_init(&subject);
    tune_template_fill(&message->subject, 1, &subject);
    cJSON_ArrayForEach(handler, handlers)
        wanted = wanted || tune_handler_takes(handler, subject.bytes);
    text_clear(&subject);
    return wanted;
}

int tune_messages_sift(struct tune_messages *messages, const cJSON *handlers, struct err *err)
{
    int kept = 0;
    char first[256] = "";
    for (int i = 0; i < messages->count; i++) {
        struct tune_message *message = &messages->list[i];
        if (is_wanted(message, handlers)) {
            messages->list[kept++] = *message;
            continue;
        }
        if (messages->unwanted++ == 0)
            snprintf(first, sizeof first, "%s", message->subject.text);
        clear_message(message);
    }
    messages->count = kept;
    return kept > 0 ? 0
                    : err_set(err, ERR_NOT_FOUND,
                              "no handler of the stream takes any of the messages (the first is to "
                              "\"%s\"): --subject SUBJECT, or another input",
                              first);
}

/* Tokens that vary are wildcards. */
static void put_pattern(const char *subject, struct text *out)
{
    while (*subject) {
        size_t len = strcspn(subject, ".");
        bool varies = memmem(subject, len, "{{", 2) != NULL;
        text_add(out, varies ? "*" : subject, varies ? 1 : len);
        subject += len;
        if (*subject)
            text_add(out, subject++, 1);
    }
}

cJSON *tune_messages_subjects(const struct tune_messages *messages)
{
    cJSON *seen = cJSON_CreateObject(), *list = cJSON_CreateArray();
    for (int i = 0; i < messages->count; i++) {
        struct text pattern;
        text_init(&pattern);
        put_pattern(messages->list[i].subject.text, &pattern);
        if (!cJSON_GetObjectItemCaseSensitive(seen, pattern.bytes)) {
            cJSON_AddTrueToObject(seen, pattern.bytes);
            cJSON_AddItemToArray(list, cJSON_CreateString(pattern.bytes));
        }
        text_clear(&pattern);
    }
    cJSON_Delete(seen);
    return list;
}
