/* Parsers of statuses, reply subjects and PubAcks; writers of headers. */
#include "bus/wire.h"

#include <cjson/cJSON.h>
#include <endian.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bus/jscode.h"

/* No server takes more. The values of a list may be one large string many times. */
#define HEADERS_MAX ((size_t)64 << 20)

/* To a list of one name nats.c adds by walking to its end, on the writer's thread: 1000 values take
 * it 0.7 ms, 4096 65 ms, 13,000 more than a second. */
#define FIELDS_MAX 4096

#define WIRE_VERSION_LINE "NATS/1.0\r\n"

/* --- headers to be sent --- */

static bool field_name_ok(const char *name)
{
    if (!*name)
        return false;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
        if (*c <= ' ' || *c >= 0x7f || *c == ':')
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

static int append_field(struct headers *headers, const char *name, const char *value,
                        size_t value_len, struct err *err)
{
    size_t name_len = strlen(name);
    if (value_len > HEADERS_MAX || headers->len + name_len + value_len > HEADERS_MAX)
        return err_set(err, ERR_INVALID, "header \"%.64s\": headers of more than 64MB", name);
    if (headers->count >= FIELDS_MAX)
        return err_set(err, ERR_INVALID, "header \"%.64s\": more than %d headers", name,
                       FIELDS_MAX);
    if (!headers_reserve(headers, name_len + value_len + 2))
        return err_set(err, ERR_MEMORY, "header \"%s\": out of memory", name);
    char *at = headers->bytes + headers->len;
    memcpy(at, name, name_len + 1);
    at += name_len + 1;
    if (value_len)
        memcpy(at, value, value_len);
    at[value_len] = '\0';
    headers->len += name_len + value_len + 2;
    headers->count++;
    return 0;
}

int headers_add(struct headers *headers, const char *name, const char *value, size_t value_len,
                struct err *err)
{
    if (!field_name_ok(name))
        return err_set(err, ERR_INVALID,
                       "header name \"%s\": want printable ASCII without spaces and ':'", name);
    if (value_len && (memchr(value, '\r', value_len) || memchr(value, '\n', value_len) ||
                      memchr(value, '\0', value_len)))
        return err_set(err, ERR_INVALID,
                       "header \"%s\": its value must not hold line breaks or NUL", name);
    return append_field(headers, name, value, value_len, err);
}

int headers_add_received(struct headers *headers, const char *name, struct span value,
                         struct err *err)
{
    if (!field_name_ok(name))
        return err_set(err, ERR_INVALID, "the header name \"%.64s\" cannot be sent", name);
    if (value.len && memchr(value.at, '\0', value.len))
        return err_set(err, ERR_INVALID, "header \"%.64s\": its value holds a NUL", name);
    int code = append_field(headers, name, value.at, value.len, err);
    if (code)
        return code;
    char *at = headers->bytes + headers->len - value.len - 1;
    for (size_t i = 0; i < value.len; i++)
        at[i] = (char)(at[i] == '\r' || at[i] == '\n' ? ' ' : at[i]);
    return 0;
}

int headers_copy(struct headers *headers, const char *name, const char *value, struct err *err)
{
    return append_field(headers, name, value, strlen(value), err);
}

bool headers_next(const struct headers *headers, size_t *position, const char **name,
                  const char **value)
{
    if (*position >= headers->len)
        return false;
    *name = headers->bytes + *position;
    *value = *name + strlen(*name) + 1;
    *position = (size_t)(*value + strlen(*value) + 1 - headers->bytes);
    return true;
}

const char *headers_get(const struct headers *headers, const char *name)
{
    size_t position = 0;
    const char *field, *value;
    while (headers_next(headers, &position, &field, &value)) {
        if (strcasecmp(field, name) == 0)
            return value;
    }
    return NULL;
}

size_t headers_wire_size(const struct headers *headers)
{
    if (!headers->count)
        return 0;
    /* On the wire a field is "name: value\r\n", four bytes of dressing; here it has two NULs. */
    return strlen(WIRE_VERSION_LINE) + headers->len + 2 * (size_t)headers->count + 2;
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

/* --- the reply subject of a JetStream message --- */

struct token {
    const char *at;
    size_t len;
};

/* Splits at '.'. Returns how many tokens there are, of which at most max are kept; 0 when one of
 * them is empty. */
static int split(const char *subject, struct token *tokens, int max)
{
    int count = 0;
    for (;;) {
        size_t len = (size_t)(strchrnul(subject, '.') - subject);
        if (len == 0)
            return 0;
        if (count < max)
            tokens[count] = (struct token){subject, len};
        count++;
        if (!subject[len])
            return count;
        subject += len + 1;
    }
}

static bool token_copy(struct token token, char *out, size_t size)
{
    if (token.len >= size)
        return false;
    memcpy(out, token.at, token.len);
    out[token.len] = '\0';
    return true;
}

/* So many digits always fit. */
#define SAFE_DIGITS 19

#define EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* The number that eight digits are, in one word: neighbours are joined to pairs, pairs to fours,
 * and those to one. A timestamp has 19 digits, and each message has one. False: not all are digits.
 */
static bool eight_digits(const char *at, uint64_t *out)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    word = le64toh(word); /* the first digit lowest, as the steps below want it */
    /* A digit is 0x30 to 0x39: 3 above, and no carry into that from below when 6 is added. */
    if ((word & EACH_BYTE(0xf0)) != EACH_BYTE(0x30) ||
        ((word + EACH_BYTE(0x06)) & EACH_BYTE(0xf0)) != EACH_BYTE(0x30))
        return false;
    word -= EACH_BYTE(0x30);
    word = (word * 10 + (word >> 8)) & UINT64_C(0x00ff00ff00ff00ff);
    word = (word * 100 + (word >> 16)) & UINT64_C(0x0000ffff0000ffff);
    *out = (word * 10000 + (word >> 32)) & UINT64_C(0xffffffff);
    return true;
}

static bool token_number(struct token token, uint64_t *out)
{
    uint64_t number = 0;
    if (token.len <= SAFE_DIGITS) {
        unsigned wrong = 0;
        size_t i = 0;
        for (uint64_t eight; token.len - i >= 8; i += 8) {
            if (!eight_digits(token.at + i, &eight))
                return false;
            number = number * 100000000 + eight;
        }
        for (; i < token.len; i++) {
            unsigned digit = (unsigned)(token.at[i] - '0');
            wrong |= digit > 9;
            number = number * 10 + digit;
        }
        *out = number;
        return !wrong;
    }
    for (size_t i = 0; i < token.len; i++) {
        unsigned digit = (unsigned)(token.at[i] - '0');
        if (digit > 9 || number > (UINT64_MAX - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    *out = number;
    return true;
}

bool wire_parse_ack_subject(const char *reply, struct ack_subject *out)
{
    enum { SHORT_FORM = 9, LONG_FORM = 11 };
    struct token tokens[LONG_FORM];
    out->domain[0] = '\0'; /* each field is set below: they are large, and each message has them */
    if (!reply || strncmp(reply, "$JS.ACK.", 8) != 0)
        return false;
    int count = split(reply, tokens, LONG_FORM);
    const struct token *at = tokens + 2;
    if (count >= LONG_FORM) {
        if (!(at[0].len == 1 && at[0].at[0] == '_') &&
            !token_copy(at[0], out->domain, sizeof out->domain))
            return false;
        at += 2;
    } else if (count != SHORT_FORM) {
        return false;
    }
    uint64_t timestamp = 0;
    if (!token_copy(at[0], out->stream, sizeof out->stream) ||
        !token_copy(at[1], out->consumer, sizeof out->consumer) ||
        !token_number(at[2], &out->delivered) || !token_number(at[3], &out->stream_sequence) ||
        !token_number(at[4], &out->consumer_sequence) || !token_number(at[5], &timestamp) ||
        timestamp > INT64_MAX || !token_number(at[6], &out->pending))
        return false;
    if (!out->delivered || !out->stream_sequence || !out->consumer_sequence)
        return false;
    out->timestamp_ns = (int64_t)timestamp;
    return true;
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
