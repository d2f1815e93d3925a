#include "bus/wire.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* No server takes more. The values of a list may be one large string many times. */
#define HEADERS_MAX ((size_t)64 << 20)

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

/* --- headers of a received message --- */

const char *wire_header(natsMsg *msg, const char *name)
{
    const char *value = NULL;
    if (natsMsgHeader_Get(msg, name, &value) == NATS_OK)
        return value;
    const char **keys = NULL;
    int count = 0;
    if (natsMsgHeader_Keys(msg, &keys, &count) != NATS_OK)
        return NULL;
    for (int i = 0; i < count && !value; i++) {
        if (strcasecmp(keys[i], name) == 0 && natsMsgHeader_Get(msg, keys[i], &value) != NATS_OK)
            value = NULL;
    }
    free((void *)keys);
    return value;
}

int wire_status(natsMsg *msg, const char **description)
{
    *description = "";
    if (natsMsg_GetDataLength(msg) != 0)
        return 0;
    const char *status = NULL;
    if (natsMsgHeader_Get(msg, "Status", &status) != NATS_OK || !status)
        return 0;
    int code = 0;
    size_t digits = strspn(status, "0123456789");
    if (digits != 3 || status[3] != '\0')
        return 0;
    for (size_t i = 0; i < digits; i++)
        code = code * 10 + (status[i] - '0');
    const char *text = NULL;
    if (natsMsgHeader_Get(msg, "Description", &text) == NATS_OK && text)
        *description = text;
    return code;
}

int wire_pending(natsMsg *msg)
{
    const char *text = wire_header(msg, "Nats-Pending-Messages");
    size_t digits = text ? strspn(text, "0123456789") : 0;
    if (digits == 0 || text[digits] != '\0')
        return -1;
    errno = 0;
    unsigned long number = strtoul(text, NULL, 10);
    return errno || number > INT_MAX ? INT_MAX : (int)number;
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

static bool token_number(struct token token, uint64_t *out)
{
    uint64_t number = 0;
    if (token.len <= SAFE_DIGITS) {
        unsigned wrong = 0;
        for (size_t i = 0; i < token.len; i++) {
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

/* JetStream's err_codes (nats-server, server/errors.json) that mean more than their HTTP code. */
enum {
    JS_NOT_ENABLED_FOR_ACCOUNT = 10039,
    JS_TOO_LARGE = 10054,
    JS_WRONG_LAST_MSG_ID = 10070,
    JS_WRONG_LAST_SEQUENCE = 10071,
    JS_NOT_ENABLED = 10076,
    JS_HEADERS_TOO_LARGE = 10097,
    JS_SEALED = 10109,
    JS_WRONG_LAST_SEQUENCE_CONSTANT = 10164,
};

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
    /* 5xx is a state of the server or of the stream (no leader, full, no space), which can pass;
     * 4xx is about this message. */
    *transient = http >= 500;
    switch (*api_code) {
    case JS_WRONG_LAST_MSG_ID:
    case JS_WRONG_LAST_SEQUENCE:
    case JS_WRONG_LAST_SEQUENCE_CONSTANT:
        *transient = false;
        return err_set(err, ERR_WRONG_SEQUENCE, "%s", text);
    case JS_TOO_LARGE:
    case JS_HEADERS_TOO_LARGE:
        *transient = false;
        return err_set(err, ERR_TOO_LARGE, "%s", text);
    case JS_NOT_ENABLED_FOR_ACCOUNT:
    case JS_NOT_ENABLED:
    case JS_SEALED:
        *transient = false;
        break;
    default:
        break;
    }
    return err_set(err, ERR_API, "%s (JetStream error %d)", text, *api_code);
}

static int puback_receipt(const cJSON *root, struct receipt *out, bool *transient, struct err *err)
{
    const char *stream = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(root, "stream"));
    const cJSON *seq = cJSON_GetObjectItemCaseSensitive(root, "seq");
    if (!stream || !*stream || strlen(stream) >= sizeof out->stream || !cJSON_IsNumber(seq) ||
        !(seq->valuedouble >= 0 && seq->valuedouble < 18446744073709551616.0))
        return err_set(err, ERR_API,
                       "the answer is no PubAck: a service listens on the subject, "
                       "and no stream answered first");
    if (seq->valuedouble < 1) {
        /* A cluster says so for a duplicate whose first copy is still being agreed on. */
        *transient = true;
        return err_set(err, ERR_API, "stream \"%s\" confirmed without a sequence", stream);
    }
    memcpy(out->stream, stream, strlen(stream) + 1);
    out->sequence = (uint64_t)seq->valuedouble;
    out->duplicate = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "duplicate"));
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
    for (; at < end && *at >= '0' && *at <= '9' && digits < 16; digits++)
        sequence = sequence * 10 + (uint64_t)(*at++ - '0');
    if (sequence == 0 || end - at != 1 || *at != '}')
        return false;
    memcpy(out->stream, stream, name);
    out->stream[name] = '\0';
    out->sequence = sequence;
    out->duplicate = false;
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
