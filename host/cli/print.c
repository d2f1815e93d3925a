/* print - messages for people and for programs. */
#include "cli/print.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/text.h"
#include "base/utf8.h"
#include "base/value.h"

/* --- fields --- */

struct field_list {
    struct header_field *fields; /* owned */
    size_t count, capacity;
};

static bool add_field(struct field_list *list, struct header_field field)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        struct header_field *more = realloc(list->fields, capacity * sizeof *more);
        if (!more)
            return false;
        list->fields = more;
        list->capacity = capacity;
    }
    list->fields[list->count++] = field;
    return true;
}

struct header_field *print_block_fields(const struct header_block *block, size_t *count)
{
    struct field_list list = {0};
    struct header_field field;
    size_t position = 0;
    while (header_block_next(block, &position, &field) && add_field(&list, field))
        ;
    *count = list.count;
    return list.fields;
}

struct header_field *print_header_fields(const struct headers *headers, size_t *count)
{
    struct field_list list = {0};
    struct header_field field;
    size_t position = 0;
    while (headers_next(headers, &position, &field) && add_field(&list, field))
        ;
    *count = list.count;
    return list.fields;
}

/* By name, then as they came. */
static int compare_fields(const void *a, const void *b)
{
    const struct header_field *one = a, *other = b;
    size_t len = one->name.len < other->name.len ? one->name.len : other->name.len;
    int order = memcmp(one->name.at, other->name.at, len);
    if (order == 0 && one->name.len != other->name.len)
        return one->name.len < other->name.len ? -1 : 1;
    return order ? order : (one->name.at > other->name.at) - (one->name.at < other->name.at);
}

static bool is_other(const struct header_field *field, const struct header_field *before)
{
    return field->name.len != before->name.len ||
           memcmp(field->name.at, before->name.at, field->name.len) != 0;
}

/* --- JSON --- */

static void put_time(struct text *line, int64_t time_ns)
{
    char when[VALUE_TIME_BYTES];
    if (time_ns <= 0)
        return;
    value_format_time(time_ns, 9, when, sizeof when);
    text_json_member(line, "time", when);
}

static void put_data(struct text *line, const char *data, size_t len)
{
    if (utf8_is_valid(data, len)) {
        text_puts(line, ",\"data\":");
        text_json_string(line, data, len);
        return;
    }
    char *encoded = malloc(4 * ((len + 2) / 3) + 1);
    if (!encoded)
        return;
    EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)data, (int)len);
    text_json_member(line, "data_base64", encoded);
    free(encoded);
}

/* "K":["1","2"],... */
static void put_headers(struct text *line, const struct printed *message)
{
    size_t count = message->field_count;
    struct header_field *fields = count ? malloc(count * sizeof *fields) : NULL;
    if (!fields)
        return;
    memcpy(fields, message->fields, count * sizeof *fields);
    qsort(fields, count, sizeof *fields, compare_fields);
    text_puts(line, ",\"headers\":{");
    for (size_t i = 0; i < count; i++) {
        const struct header_field *field = &fields[i];
        if (i == 0 || is_other(field, field - 1)) {
            text_puts(line, i ? "]," : "");
            text_json_string(line, field->name.at, field->name.len);
            text_puts(line, ":[");
        } else {
            text_puts(line, ",");
        }
        text_json_string(line, field->value.at, field->value.len);
    }
    text_puts(line, "]}");
    free(fields);
}

static void put_letter(struct text *line, const struct letter *letter)
{
    text_puts(line, ",\"dead_letter\":{\"subject\":");
    text_json_string(line, letter->subject, strlen(letter->subject));
    text_json_member(line, "stream", letter->stream);
    text_json_member(line, "consumer", letter->consumer);
    text_json_count(line, "sequence", letter->sequence);
    put_time(line, letter->timestamp_ns);
    text_json_count(line, "attempt", letter->attempt);
    text_json_member(line, "code", letter->code);
    text_json_member(line, "error", letter->error);
    text_puts(line, letter->reference ? ",\"reference\":true}" : "}");
}

void print_json(const struct printed *message)
{
    struct text line;
    text_init(&line);
    text_puts(&line, "{\"subject\":");
    text_json_string(&line, message->subject, strlen(message->subject));
    text_json_member(&line, "stream", message->stream);
    text_json_count(&line, "sequence", message->sequence);
    put_time(&line, message->time_ns);
    put_data(&line, message->data, message->len);
    put_headers(&line, message);
    text_json_member(&line, "reply", message->reply);
    if (message->letter)
        put_letter(&line, message->letter);
    text_puts(&line, "}\n");
    fwrite(line.bytes, 1, line.len, stdout);
    text_clear(&line);
}

/* --- for people --- */

void print_data(const char *data, size_t len, bool sole)
{
    fwrite(data, 1, len, stdout);
    if (sole && !isatty(STDOUT_FILENO))
        return;
    if (len == 0 || data[len - 1] != '\n')
        putchar('\n');
}

/* What strangers wrote steers no terminal. Line breaks and tabs stay. */
static void show_bytes(const char *bytes, size_t len)
{
    struct text shown;
    if (!isatty(STDOUT_FILENO)) {
        fwrite(bytes, 1, len, stdout);
        return;
    }
    text_init(&shown);
    for (size_t at = 0; at < len; at++) {
        size_t part = 0;
        while (at + part < len && bytes[at + part] != '\n' && bytes[at + part] != '\t')
            part++;
        text_escape(&shown, bytes + at, part);
        at += part;
        if (at < len)
            text_add(&shown, bytes + at, 1);
    }
    fwrite(shown.bytes, 1, shown.len, stdout);
    text_clear(&shown);
}

void print_shown(const char *data, size_t len)
{
    show_bytes(data, len);
    if (len == 0 || data[len - 1] != '\n')
        putchar('\n');
}

void print_reason(struct text *line, const struct letter *letter)
{
    text_printf(line, "%s%s%s", letter->code ? letter->code : "died", letter->error ? ": " : "",
                letter->error ? letter->error : "");
    if (letter->attempt)
        text_printf(line, ", attempt %llu", (unsigned long long)letter->attempt);
    if (letter->consumer)
        text_printf(line, " of %s/%s", letter->stream ? letter->stream : "?", letter->consumer);
}

static void print_letter(const struct letter *letter)
{
    struct text plain, line;
    text_init(&plain);
    text_init(&line);
    text_printf(&plain, "dead letter of %s", letter->subject);
    if (letter->sequence)
        text_printf(&plain, " #%llu", (unsigned long long)letter->sequence);
    text_puts(&plain, ": ");
    print_reason(&plain, letter);
    if (letter->reference)
        text_puts(&plain, " (only a reference: the message itself is not in the letter)");
    text_escape(&line, plain.bytes, plain.len);
    text_puts(&line, "\n");
    fwrite(line.bytes, 1, line.len, stdout);
    text_clear(&plain);
    text_clear(&line);
}

/* What print_letter has said. */
static bool is_said(const struct printed *message, const struct header_field *field)
{
    static const char *const said[] = {"Moonbus-Stream",  "Moonbus-Consumer", "Moonbus-Sequence",
                                       "Moonbus-Subject", "Moonbus-Attempt",  "Moonbus-Timestamp",
                                       "Moonbus-Code",    "Moonbus-Error",    "Moonbus-Reference"};
    for (size_t i = 0; message->letter && i < sizeof said / sizeof *said; i++) {
        if (span_is(field->name, said[i]))
            return true;
    }
    return false;
}

static void print_fields(const struct printed *message)
{
    for (size_t i = 0; i < message->field_count; i++) {
        const struct header_field *field = &message->fields[i];
        if (is_said(message, field))
            continue;
        show_bytes(field->name.at, field->name.len);
        fputs(": ", stdout);
        show_bytes(field->value.at, field->value.len);
        putchar('\n');
    }
}

void print_plain(const struct printed *message, bool times)
{
    char when[VALUE_TIME_BYTES] = "";
    if (message->time_ns > 0 && (times || message->stream))
        value_format_time(message->time_ns, 3, when, sizeof when);
    if (message->stream)
        printf("#%llu %s ", (unsigned long long)message->sequence, when);
    else
        printf("[%ld] %s%s", message->number, when, *when ? " " : "");
    show_bytes(message->subject, strlen(message->subject));
    if (!message->stream && message->reply) {
        fputs(" reply ", stdout);
        show_bytes(message->reply, strlen(message->reply));
    }
    putchar('\n');
    if (message->letter)
        print_letter(message->letter);
    print_fields(message);
    print_shown(message->data, message->len);
}
