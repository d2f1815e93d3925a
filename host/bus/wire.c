/* Parsers of statuses and PubAcks; writers of headers. */
#include "bus/wire.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "bus/jscode.h"

/* No server takes more. The values of a list may be one large string many times. */
#define HEADERS_MAX ((size_t)64 << 20)

/* To a list of one name nats.c adds by walking to its end, on the writer's thread: 1000 values take
 * it 0.7 ms, 4096 65 ms, 13,000 more than a second. */
#define FIELDS_MAX 4096

#define BEGIN_LEN (sizeof HEADERS_BEGIN - 1)
#define END_LEN (sizeof HEADERS_END - 1)
#define DRESSING (sizeof ": \r\n" - 1) /* of a field */

/* --- headers to be sent --- */

static bool field_name_ok(struct span name)
{
    if (!name.len)
        return false;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.at[i];
        if (c <= ' ' || c >= 0x7f || c == ':')
            return false;
    }
    return true;
}

static bool headers_reserve(struct headers *headers, size_t more)
{
    if (headers->capacity - headers->len >= more)
        return true;
    size_t capacity = headers->capacity ? headers->capacity * 2 : 256;
    while (capacity - headers->len < more)
        capacity *= 2;
    bool fixed = headers->bytes && headers->bytes == headers->fixed;
    char *bytes = fixed ? malloc(capacity) : realloc(headers->bytes, capacity);
    if (!bytes)
        return false;
    if (fixed)
        memcpy(bytes, headers->bytes, headers->len);
    headers->bytes = bytes;
    headers->capacity = capacity;
    return true;
}

/* For a message: of a long name its beginning. */
static int name_shown(struct span name)
{
    return (int)(name.len < 64 ? name.len : 64);
}

static int append_field(struct headers *headers, struct span name, struct span value,
                        struct err *err)
{
    size_t size = name.len + value.len + DRESSING;
    if (value.len > HEADERS_MAX || headers->len + size > HEADERS_MAX)
        return err_set(err, ERR_INVALID, "header \"%.*s\": headers of more than 64MB",
                       name_shown(name), name.at);
    if (headers->count >= FIELDS_MAX)
        return err_set(err, ERR_INVALID, "header \"%.*s\": more than %d headers", name_shown(name),
                       name.at, FIELDS_MAX);
    if (!headers_reserve(headers, size))
        return err_set(err, ERR_MEMORY, "header \"%.*s\": out of memory", name_shown(name),
                       name.at);
    char *at = headers->bytes + headers->len;
    memcpy(at, name.at, name.len);
    at += name.len;
    *at++ = ':';
    *at++ = ' ';
    if (value.len)
        memcpy(at, value.at, value.len);
    at += value.len;
    *at++ = '\r';
    *at = '\n';
    headers->len += size;
    headers->count++;
    return 0;
}

int headers_add_own(struct headers *headers, struct span name, struct span value, struct err *err)
{
    if (value.len && (memchr(value.at, '\r', value.len) || memchr(value.at, '\n', value.len) ||
                      memchr(value.at, '\0', value.len)))
        return err_set(err, ERR_INVALID,
                       "header \"%.*s\": its value must not hold line breaks or NUL", (int)name.len,
                       name.at);
    return append_field(headers, name, value, err);
}

int headers_add(struct headers *headers, const char *name, const char *value, size_t value_len,
                struct err *err)
{
    if (!field_name_ok(span_of(name)))
        return err_set(err, ERR_INVALID,
                       "header name \"%s\": want printable ASCII without spaces and ':'", name);
    return headers_add_own(headers, span_of(name), (struct span){value, value_len}, err);
}

int headers_add_received(struct headers *headers, struct span name, struct span value,
                         struct err *err)
{
    if (!field_name_ok(name))
        return err_set(err, ERR_INVALID, "the header name \"%.*s\" cannot be sent",
                       name_shown(name), name.at);
    if (value.len && memchr(value.at, '\0', value.len))
        return err_set(err, ERR_INVALID, "header \"%.*s\": its value holds a NUL", name_shown(name),
                       name.at);
    int code = append_field(headers, name, value, err);
    if (code)
        return code;
    char *at = headers->bytes + headers->len - value.len - 2;
    for (size_t i = 0; i < value.len; i++)
        at[i] = (char)(at[i] == '\r' || at[i] == '\n' ? ' ' : at[i]);
    return 0;
}

int headers_copy(struct headers *headers, struct span name, struct span value, struct err *err)
{
    return append_field(headers, name, value, err);
}

bool headers_next(const struct headers *headers, size_t *position, struct header_field *field)
{
    if (*position >= headers->len)
        return false;
    const char *at = headers->bytes + *position, *end = headers->bytes + headers->len;
    const char *colon = memchr(at, ':', (size_t)(end - at));
    const char *value = colon + 2, *stop = memchr(value, '\r', (size_t)(end - value));
    field->name = (struct span){at, (size_t)(colon - at)};
    field->value = (struct span){value, (size_t)(stop - value)};
    *position = (size_t)(stop + 2 - headers->bytes);
    return true;
}

struct span headers_get(const struct headers *headers, const char *name)
{
    size_t position = 0;
    struct header_field field;
    while (headers_next(headers, &position, &field)) {
        if (span_is(field.name, name))
            return field.value;
    }
    return (struct span){NULL, 0};
}

size_t headers_wire_size(const struct headers *headers)
{
    return headers->count ? BEGIN_LEN + headers->len + END_LEN : 0;
}

char *headers_write(const struct headers *headers, char *to)
{
    memcpy(to, HEADERS_BEGIN, BEGIN_LEN);
    memcpy(to + BEGIN_LEN, headers->bytes, headers->len);
    to += BEGIN_LEN + headers->len;
    memcpy(to, HEADERS_END, END_LEN);
    return to + END_LEN;
}

/* Walking writes nothing, so that the cast is harmless. */
struct headers headers_of_block(const char *block, size_t len)
{
    struct headers headers = {0};
    if (len) {
        headers.bytes = headers.fixed = (char *)block + BEGIN_LEN;
        headers.len = headers.capacity = len - BEGIN_LEN - END_LEN;
    }
    return headers;
}

void headers_clear(struct headers *headers)
{
    if (headers->bytes != headers->fixed)
        free(headers->bytes);
    *headers = (struct headers){0};
}

/* --- statuses --- */

static int status_code(const struct header_block *headers, struct span *description)
{
    int code = header_block_status(headers, description);
    struct span field = header_block_find(headers, "Status");
    unsigned long long number;
    if (code || field.len != 3 || !span_number(field, &number))
        return code;
    *description = header_block_find(headers, "Description");
    return (int)number;
}

static int pending_of(const struct header_block *headers)
{
    unsigned long long number;
    if (!span_number(header_block_find(headers, "Nats-Pending-Messages"), &number))
        return -1;
    return number > INT_MAX ? INT_MAX : (int)number;
}

bool wire_status(const struct header_block *headers, size_t data_len, struct wire_status *out)
{
    struct span description;
    out->code = data_len == 0 ? status_code(headers, &description) : 0;
    if (!out->code)
        return false;
    span_text(description, out->description, sizeof out->description);
    out->pending = pending_of(headers);
    return true;
}

bool wire_no_responders(const struct header_block *headers, size_t data_len)
{
    struct span description;
    struct header_field field;
    size_t position = 0;
    if (data_len != 0 || status_code(headers, &description) != 503)
        return false;
    while (header_block_next(headers, &position, &field)) {
        if (!span_is(field.name, "Status") && !span_is(field.name, "Nats-Subject"))
            return false;
    }
    return true;
}

/* The server's own stands behind all that the publisher wrote. */
unsigned long long wire_left_out(const struct header_block *headers, size_t data_len)
{
    unsigned long long size = 0;
    if (data_len > 0 || !span_number(header_block_last(headers, "Nats-Msg-Size"), &size))
        return 0;
    return size;
}

/* --- the PubAck --- */

static int number_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valueint : 0;
}

static int puback_error(const cJSON *error, int *api_code, bool *transient, struct err *err)
{
    int http = number_of(error, "code");
    *api_code = number_of(error, "err_code");
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "description"));
    if (!text)
        text = "JetStream refused without saying why";
    enum jscode meaning = jscode_meaning(http, *api_code);
    /* What the table does not know of 5xx is a state of the server or of the stream (full, no
     * space); attempts bound it. */
    *transient = meaning == JSCODE_PASSES || meaning == JSCODE_UNKNOWN;
    if (meaning == JSCODE_EXPECTED)
        return err_set(err, ERR_WRONG_SEQUENCE, "%s", text);
    if (meaning == JSCODE_TOO_LARGE)
        return err_set(err, ERR_TOO_LARGE, "%s", text);
    const char *remedy = jscode_remedy(*api_code);
    return err_set(err, ERR_API, "%s (JetStream error %d)%s%s", text, *api_code, remedy ? ": " : "",
                   remedy ? remedy : "");
}

static int puback_receipt(const cJSON *root, struct receipt *out, bool *transient, struct err *err)
{
    const char *stream = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "stream"));
    const cJSON *seq = cJSON_GetObjectItemCaseSensitive(root, "seq");
    if (!stream || !*stream || strlen(stream) >= sizeof out->stream || !cJSON_IsNumber(seq) ||
        !(seq->valuedouble >= 0 && seq->valuedouble < 18446744073709551616.0))
        return err_set(err, ERR_API,
                       "the answer is no PubAck: a service on this subject replied before the "
                       "stream");
    if (seq->valuedouble < 1) {
        /* A cluster says so for a duplicate whose first copy is still being agreed on; 2.10 also
         * for one that it could not store. */
        *transient = true;
        memcpy(out->stream, stream, strlen(stream) + 1);
        return err_set(err, ERR_UNAVAILABLE,
                       "stream \"%s\" says that it knows the message id, but not where the message "
                       "is",
                       stream);
    }
    memcpy(out->stream, stream, strlen(stream) + 1);
    out->sequence = (uint64_t)seq->valuedouble;
    out->duplicate = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "duplicate"));
    const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "val"));
    if (value && strlen(value) < sizeof out->value)
        memcpy(out->value, value, strlen(value) + 1);
    return 0;
}

/* What every server sends for a message that it has stored: {"stream":"OUT", "seq":7}, with or
 * without the space. Anything else is left to the parser of JSON, which
 * costs twenty times as much. */
static bool plain_puback(const char *data, size_t len, struct receipt *out)
{
    static const char begin[] = "{\"stream\":\"", middle[] = "\"seq\":";
    const char *at = data + sizeof begin - 1, *end = data + len;
    if (len < sizeof begin || memcmp(data, begin, sizeof begin - 1) != 0)
        return false;
    size_t name = 0;
    while (at + name < end && (unsigned char)at[name] >= ' ' && at[name] != '"' && at[name] != '\\')
        name++;
    if (name == 0 || name >= sizeof out->stream || at + name + 2 >= end || at[name] != '"' ||
        at[name + 1] != ',')
        return false;
    const char *stream = at;
    at += name + 2;
    if (at < end && *at == ' ')
        at++;
    if ((size_t)(end - at) < sizeof middle || memcmp(at, middle, sizeof middle - 1) != 0)
        return false;
    at += sizeof middle - 1;
    uint64_t sequence = 0;
    int digits = 0;
    for (; at < end && *at >= '0' && *at <= '9' && digits < 19; digits++) /* fits 64 bits */
        sequence = sequence * 10 + (uint64_t)(*at++ - '0');
    if (sequence == 0 || end - at != 1 || *at != '}')
        return false;
    memcpy(out->stream, stream, name);
    out->stream[name] = '\0';
    out->sequence = sequence;
    out->duplicate = false;
    out->value[0] = '\0';
    return true;
}

int wire_parse_puback(const char *data, size_t len, struct receipt *out, int *api_code,
                      bool *transient, struct err *err)
{
    *api_code = 0;
    *transient = false;
    if (plain_puback(data, len, out))
        return 0;
    *out = (struct receipt){0};
    cJSON *root = len ? cJSON_ParseWithLength(data, len) : NULL;
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(root, "error");
    int code;
    if (cJSON_IsObject(error))
        code = puback_error(error, api_code, transient, err);
    else
        code = puback_receipt(root, out, transient, err);
    cJSON_Delete(root);
    return code;
}
