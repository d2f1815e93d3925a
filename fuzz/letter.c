/* Messages as JetStream's API hands them out, and the way back of a dead letter.
 *
 *   j JSON                             the reply to STREAM.MSG.GET
 *   l SUBJECT\nTIME\nHEADERS\n\nDATA   the same, made here with base64; HEADERS: K: V lines
 *   t SRC\nDEST\nSUBJECT              a subject transform, backwards */
#include "bus/letter.h"

#include <cjson/cJSON.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/value.h"
#include "bus/transform.h"
#include "fuzz.h"

static bool comes_back(struct span name)
{
    return !letter_acted_upon(name) || span_is(name, "Nats-TTL") ||
           span_is(name, "Nats-Marker-Reason");
}

static void check_restored(const struct headers *headers)
{
    size_t position = 0;
    struct header_field field;
    while (headers_next(headers, &position, &field))
        MUST(comes_back(field.name));
}

static void judge(const struct stored_message *stored)
{
    struct letter letter;
    struct headers headers = {0};
    struct err err;
    int code = letter_read(stored, &letter, &err);
    if (code < 0)
        fuzz_check_err(&err, code);
    if (code == 1) {
        MUST(subject_check(letter.subject, strlen(letter.subject), SUBJECT_PUBLISH, NULL) == 0);
        MUST(!letter.stream || name_check("s", letter.stream, strlen(letter.stream), NULL) == 0);
        MUST(letter.timestamp_ns >= 0);
        MUST(!letter.reference || (letter.stream && letter.sequence && letter.timestamp_ns));
    }
    letter_clear(&letter);
    code = letter_restore(stored, &headers, &err);
    if (code)
        fuzz_check_err(&err, code);
    check_restored(&headers);
    headers_clear(&headers);
    /* The message itself is what lies in its place. */
    letter = (struct letter){.subject = stored->subject, .timestamp_ns = stored->timestamp_ns};
    if (letter_restore_original(&letter, stored, &headers, &err) == 0)
        check_restored(&headers);
    headers_clear(&headers);
}

static bool same_bytes(struct span a, struct span b)
{
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

/* Writes it as bus/consume/deadletter.c does, reads that, and wants the message back. */
static void check_journey(const struct stored_message *message)
{
    struct stored_message dead = {.subject = "dead", .sequence = 1};
    struct headers back = {0};
    size_t position = 0, other_position = 0;
    struct header_field field, other;
    while (headers_next(&message->headers, &position, &field)) {
        char *renamed = malloc(field.name.len + sizeof "Moonbus-Orig-");
        MUST(renamed != NULL);
        sprintf(renamed, "%s%.*s", letter_renames(field.name) ? LETTER_ORIGINAL : "",
                (int)field.name.len, field.name.at);
        MUST(headers_add(&dead.headers, renamed, field.value.at, field.value.len, NULL) == 0);
        free(renamed);
    }
    headers_add(&dead.headers, "Moonbus-Subject", "a", 1, NULL);
    MUST(letter_restore(&dead, &back, NULL) == 0);
    position = 0;
    while (headers_next(&message->headers, &position, &field)) {
        if (!comes_back(field.name))
            continue;
        MUST(headers_next(&back, &other_position, &other));
        MUST(same_bytes(field.name, other.name) && same_bytes(field.value, other.value));
    }
    MUST(!headers_next(&back, &other_position, &other));
    headers_clear(&dead.headers);
    headers_clear(&back);
}

static void reply(const cJSON *json, struct stored_message *stored)
{
    struct err err;
    int code = stored_parse(json, stored, &err);
    if (code) {
        fuzz_check_err(&err, code);
        return;
    }
    MUST(stored->subject && stored->data && stored->sequence > 0 && stored->timestamp_ns >= 0);
    MUST(stored->data[stored->len] == '\0');
    judge(stored);
    check_journey(stored);
}

static void any_reply(struct input *input)
{
    size_t len;
    char *text = input_rest(input, &len);
    struct stored_message stored;
    cJSON *json = cJSON_ParseWithLength(text, len);
    reply(json, &stored);
    stored_clear(&stored);
    cJSON_Delete(json);
    free(text);
}

static void add_base64(cJSON *object, const char *key, const char *bytes, size_t len)
{
    char *text = malloc(len / 3 * 4 + 5);
    MUST(text != NULL);
    EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)bytes, (int)len);
    cJSON_AddStringToObject(object, key, text);
    free(text);
}

/* "NATS/1.0\r\n" and the lines up to an empty one. */
static void add_headers(cJSON *object, struct input *input)
{
    size_t size = input_left(input) * 2 + sizeof "NATS/1.0\r\n\r\n", len = 0;
    char *block = malloc(size);
    MUST(block != NULL);
    len += (size_t)sprintf(block, "NATS/1.0\r\n");
    for (;;) {
        size_t line_len;
        char *line = input_line(input, &line_len);
        memcpy(block + len, line, line_len);
        free(line);
        memcpy(block + len + line_len, "\r\n", 2);
        len += line_len + 2;
        if (line_len == 0)
            break;
    }
    add_base64(object, "hdrs", block, len);
    free(block);
}

static void written_reply(struct input *input)
{
    cJSON *json = cJSON_CreateObject(), *message = cJSON_AddObjectToObject(json, "message");
    char *subject = input_line(input, NULL), *time = input_line(input, NULL);
    struct stored_message stored;
    size_t len;
    cJSON_AddStringToObject(message, "subject", subject);
    cJSON_AddStringToObject(message, "time", time);
    cJSON_AddNumberToObject(message, "seq", 7);
    add_headers(message, input);
    char *data = input_rest(input, &len);
    add_base64(message, "data", data, len);
    reply(json, &stored);
    if (stored.data)
        MUST(stored.len == len && memcmp(stored.data, data, len) == 0);
    stored_clear(&stored);
    cJSON_Delete(json);
    free(subject);
    free(time);
    free(data);
}

static void transform(struct input *input)
{
    char *src = input_line(input, NULL), *dest = input_line(input, NULL);
    char *subject = input_line(input, NULL), out[64] = "";
    struct err err;
    int code = transform_undo(src, dest, subject, out, sizeof out, &err);
    MUST(code == 0 || code == 1 || code == ERR_INVALID);
    if (code < 0)
        fuzz_check_err(&err, code);
    if (code == 1)
        MUST(*out && strlen(out) < sizeof out);
    free(src);
    free(dest);
    free(subject);
}

void fuzz_letter(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    uint8_t kind = input_byte(&input);
    if (kind == 'j')
        any_reply(&input);
    else if (kind == 'l')
        written_reply(&input);
    else if (kind == 't')
        transform(&input);
}
