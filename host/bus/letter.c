/* Base64, times and headers of a stored message, and the dead letter's own headers undone. */
#include "bus/letter.h"

#include <cjson/cJSON.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/value.h"

#define OURS "Moonbus-"
#define MSG_SIZE "Nats-Msg-Size"
#define ORIGINAL LETTER_ORIGINAL

/* ---- a stored message ---- */

int64_t stored_time(const char *text)
{
    struct tm tm = {0};
    const char *rest = text ? strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
    int64_t fraction = 0, unit = NS_PER_S;
    if (!rest)
        return 0;
    if (*rest == '.') {
        for (rest++; *rest >= '0' && *rest <= '9' && unit > 1; rest++) {
            unit /= 10;
            fraction += (*rest - '0') * unit;
        }
    }
    int64_t seconds = strcmp(rest, "Z") == 0 ? (int64_t)timegm(&tm) : 0;
    return seconds > 0 && seconds < INT64_MAX / NS_PER_S ? seconds * NS_PER_S + fraction : 0;
}

/* Of base64, with a NUL after it. NULL: out of memory, or no base64. */
static char *decode_base64(const char *text, size_t *len)
{
    size_t size = strlen(text);
    char *bytes = malloc(size / 4 * 3 + 1);
    int got = bytes
                  ? EVP_DecodeBlock((unsigned char *)bytes, (const unsigned char *)text, (int)size)
                  : -1;
    if (got < 0) {
        free(bytes);
        return NULL;
    }
    *len = (size_t)got;
    for (size_t i = 1; i <= 2 && i <= size && text[size - i] == '='; i++)
        --*len;
    bytes[*len] = '\0';
    return bytes;
}

/* One that cannot be sent is an error, the first of them; the others are there all the same. */
static int parse_headers(struct headers *headers, const char *bytes, size_t len, struct err *err)
{
    const struct header_block block = {bytes, len, NULL};
    struct header_field field;
    size_t position = 0;
    int first = 0;
    while ((first == 0 || first == ERR_INVALID) && header_block_next(&block, &position, &field)) {
        int code = headers_add_received(headers, field.name, field.value, first ? NULL : err);
        first = first ? first : code;
    }
    return first;
}

static const char *string_of(const cJSON *object, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static int parse_parts(const cJSON *message, struct stored_message *out, struct err *err)
{
    const char *data = string_of(message, "data"), *hdrs = string_of(message, "hdrs");
    size_t len = 0;
    out->subject = strdup(string_of(message, "subject"));
    out->data = decode_base64(data ? data : "", &out->len);
    if (!out->subject || !out->data)
        return err_set(err, ERR_API, "a stored message cannot be read");
    char *text = hdrs ? decode_base64(hdrs, &len) : NULL;
    if (hdrs && !text)
        return err_set(err, ERR_API, "the headers of a stored message cannot be read");
    out->block = (struct header_block){text, len, text};
    return text ? parse_headers(&out->headers, text, len, err) : 0;
}

int stored_parse(const cJSON *reply, struct stored_message *out, struct err *err)
{
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(reply, "message");
    const cJSON *seq = cJSON_GetObjectItemCaseSensitive(message, "seq");
    *out = (struct stored_message){0};
    if (!string_of(message, "subject") || !cJSON_IsNumber(seq) ||
        !(seq->valuedouble >= 1 && seq->valuedouble < 0x1p64))
        return err_set(err, ERR_API, "the answer holds no message");
    out->sequence = (uint64_t)seq->valuedouble;
    out->timestamp_ns = stored_time(string_of(message, "time"));
    return parse_parts(message, out, err);
}

void stored_clear(struct stored_message *stored)
{
    free(stored->subject);
    free(stored->data);
    headers_clear(&stored->headers);
    header_block_clear(&stored->block);
    *stored = (struct stored_message){0};
}

/* ---- what JetStream acts upon ---- */

bool letter_acted_upon(struct span name)
{
    static const char *const prefixes[] = {"Nats-Expected-", "Nats-Schedule", "Nats-Batch-",
                                           "Nats-Trace-"};
    static const char *const names[] = {
        "Nats-Msg-Id",          "Nats-Rollup",        "Nats-TTL",          "Nats-Incr",
        "Nats-Counter-Sources", "Nats-Stream-Source", "Nats-Marker-Reason"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        if (span_begins(name, prefixes[i]))
            return true;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (span_is(name, names[i]))
            return true;
    }
    return false;
}

bool letter_renames(struct span name)
{
    return letter_acted_upon(name) || span_begins(name, OURS) || span_is(name, MSG_SIZE);
}

/* Without the prefixes that it got in each letter but the last; *depth: how many. */
static struct span strip(struct span name, unsigned *depth)
{
    const size_t len = strlen(ORIGINAL);
    for (*depth = 0; span_begins(name, ORIGINAL); ++*depth) {
        name.at += len;
        name.len -= len;
    }
    return name;
}

unsigned letter_hops(const struct header_block *headers)
{
    enum { HOPS_MOST = 1000000 };
    struct header_field field;
    size_t position = 0;
    unsigned hops = 0, depth;
    while (header_block_next(headers, &position, &field)) {
        unsigned long long count = 0;
        struct span name = strip(field.name, &depth);
        if (span_is(name, OURS "Consumer"))
            count = 1;
        else if (!span_is(name, LETTER_HOPS) || !span_number(field.value, &count))
            continue;
        count = count < HOPS_MOST ? count : HOPS_MOST;
        if (count + depth > hops)
            hops = (unsigned)count + depth;
    }
    return hops;
}

/* Most of them had their effect when the original was stored, and must not have it again: a rollup
 * would remove newer messages, an expectation cannot be met, the id would be a duplicate. A TTL
 * stays: the message begins to wait again. A marker's field stays: it makes the message a marker.
 */
static bool comes_back(struct span name)
{
    return !letter_acted_upon(name) || span_is(name, "Nats-TTL") ||
           span_is(name, "Nats-Marker-Reason");
}

/* ---- a dead letter ---- */

/* The letter's own fields stand after those that the original may have had of the same name,
 * being a dead letter itself. */
static struct span last_of(const struct headers *headers, const char *wanted, int *count)
{
    size_t position = 0;
    struct header_field field;
    struct span last = {NULL, 0};
    *count = 0;
    while (headers_next(headers, &position, &field)) {
        if (span_is(field.name, wanted)) {
            last = field.value;
            ++*count;
        }
    }
    return last;
}

static bool number_of(const struct headers *headers, const char *name, uint64_t *out)
{
    int count;
    unsigned long long number = 0;
    bool is_number = span_number(last_of(headers, name, &count), &number);
    *out = is_number ? number : 0;
    return is_number;
}

/* An older host buried only the headers of what a headers_only consumer had delivered. */
static bool was_cut(const struct stored_message *stored)
{
    uint64_t size;
    return stored->len == 0 && number_of(&stored->headers, MSG_SIZE, &size) && size > 0;
}

/* The texts of a letter, in one block. */
static int copy_texts(const struct headers *headers, struct letter *out, struct err *err)
{
    const struct {
        const char *name, **text;
    } fields[] = {{OURS "Subject", &out->subject},
                  {OURS "Stream", &out->stream},
                  {OURS "Consumer", &out->consumer},
                  {OURS "Code", &out->code},
                  {OURS "Error", &out->error}};
    enum { FIELDS = sizeof fields / sizeof *fields };
    struct span values[FIELDS];
    size_t size = 0;
    int count;
    for (int i = 0; i < FIELDS; i++) {
        values[i] = last_of(headers, fields[i].name, &count);
        size += values[i].at ? values[i].len + 1 : 0;
    }
    char *at = out->texts = malloc(size);
    if (!at)
        return err_set(err, ERR_MEMORY, "out of memory");
    for (int i = 0; i < FIELDS; i++) {
        if (!values[i].at)
            continue;
        *fields[i].text = span_text(values[i], at, values[i].len + 1);
        at += values[i].len + 1;
    }
    return 0;
}

int letter_read(const struct stored_message *stored, struct letter *out, struct err *err)
{
    const struct headers *headers = &stored->headers;
    int journeys, count;
    uint64_t timestamp = 0;
    *out = (struct letter){0};
    if (!last_of(headers, OURS "Subject", &journeys).at)
        return 0;
    int code = copy_texts(headers, out, err);
    if (code)
        return code;
    if (subject_check(out->subject, strlen(out->subject), SUBJECT_PUBLISH, err) != 0)
        return err_prefix(err, OURS "Subject");
    /* A reference has no headers of its original: in a letter of a letter it is the inner one's. */
    out->reference =
        (journeys == 1 && last_of(headers, OURS "Reference", &count).at) || was_cut(stored);
    if (out->stream && name_check("stream name", out->stream, strlen(out->stream), NULL) != 0)
        out->stream = NULL;
    number_of(headers, OURS "Sequence", &out->sequence);
    number_of(headers, OURS "Attempt", &out->attempt);
    if (number_of(headers, OURS "Timestamp", &timestamp) && timestamp <= INT64_MAX)
        out->timestamp_ns = (int64_t)timestamp;
    if (out->reference && (!out->stream || !out->sequence || !out->timestamp_ns))
        return err_set(err, ERR_INVALID,
                       "a reference without " OURS "Stream, " OURS "Sequence and " OURS
                       "Timestamp");
    return 1;
}

void letter_clear(struct letter *letter)
{
    free(letter->texts);
    *letter = (struct letter){0};
}

/* Does another field of that name follow after position? */
static bool repeated(const struct headers *headers, size_t position, struct span wanted)
{
    struct header_field field;
    while (headers_next(headers, &position, &field)) {
        if (span_same(field.name, wanted))
            return true;
    }
    return false;
}

/* What the field of a letter before position is called in the original; {NULL, 0}: it was not
 * there. */
static struct span original_name(const struct headers *headers, size_t position, struct span name,
                                 bool nested)
{
    const struct span none = {NULL, 0};
    const size_t prefix = strlen(ORIGINAL);
    if (!span_begins(name, OURS))
        return comes_back(name) ? name : none;
    if (!span_begins(name, ORIGINAL))
        return repeated(headers, position, name) ? name : none;
    const struct span bare = {name.at + prefix, name.len - prefix};
    if (!nested)
        return bare.len && comes_back(bare) ? bare : none;
    /* Only the id, which each letter has, says which of the two it belongs to. */
    bool own = span_is(bare, "Nats-Msg-Id") && !repeated(headers, position, name);
    return own ? none : name;
}

int letter_restore(const struct stored_message *stored, struct headers *out, struct err *err)
{
    const struct headers *headers = &stored->headers;
    size_t position = 0;
    struct header_field field;
    int journeys, code = 0;
    last_of(headers, OURS "Subject", &journeys);
    while (code == 0 && headers_next(headers, &position, &field)) {
        struct span original = original_name(headers, position, field.name, journeys > 1);
        if (original.at)
            code = headers_copy(out, original, field.value, err);
    }
    return code;
}

int letter_restore_original(const struct letter *letter, const struct stored_message *original,
                            struct headers *out, struct err *err)
{
    size_t position = 0;
    struct header_field field;
    int code = 0;
    if (original->timestamp_ns != letter->timestamp_ns ||
        strcmp(original->subject, letter->subject) != 0)
        return err_set(err, ERR_NOT_FOUND, "another message has that place by now");
    while (code == 0 && headers_next(&original->headers, &position, &field)) {
        if (comes_back(field.name))
            code = headers_copy(out, field.name, field.value, err);
    }
    return code;
}
