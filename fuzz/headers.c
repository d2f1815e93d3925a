/* The header block of a received message: bus/header_block.h, and bus/wire.h's statuses.
 *
 *   b BLOCK               any bytes as a block
 *   f NAME\nVALUE\n...    a block made here of these fields, and what is read of it
 *   m SUBJECT\nREPLY\n..  a message of the library with these fields, read by
 * bus/link/nats_received.h r SUBJECT\nREPLY\nBLOCK  a message as the library receives it, with this
 * block */
#include "bus/header_block.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/link/nats_fields.h"
#include "bus/link/nats_received.h"
#include "fuzz.h"

static bool within(const struct header_block *block, struct span span)
{
    return span.at >= block->at && span.len <= block->len &&
           (size_t)(span.at - block->at) <= block->len - span.len;
}

static bool has_line_end(struct span span)
{
    return span.len && memmem(span.at, span.len, "\r\n", 2) != NULL;
}

static void check_field(const struct header_block *block, const struct header_field *field)
{
    struct span name = field->name, value = field->value;
    char *text = malloc(name.len + 1), small[4];
    MUST(text != NULL);
    MUST(within(block, name) && within(block, value));
    MUST(name.len > 0 && !memchr(name.at, ':', name.len));
    MUST(!has_line_end(name) && !has_line_end(value));
    MUST(value.len == 0 || (*value.at != ' ' && value.at[value.len - 1] != '\t'));
    MUST(strlen(span_text(name, small, sizeof small)) < sizeof small);
    span_text(name, text, name.len + 1);
    if (strlen(text) == name.len) {
        MUST(span_is(name, text));
        struct span first = header_block_find(block, text), last = header_block_last(block, text);
        MUST(first.at != NULL && first.at <= value.at && value.at <= last.at);
    }
    free(text);
}

static void check_statuses(const struct header_block *block)
{
    struct wire_status status;
    struct span description;
    int code = header_block_status(block, &description);
    MUST(code >= 0 && code <= 999 && description.at != NULL && !has_line_end(description));
    bool is_status = wire_status(block, 0, &status);
    MUST(!code || (is_status && status.code == code));
    if (is_status) {
        MUST(status.code <= 999 && status.pending >= -1);
        MUST(strlen(status.description) < sizeof status.description);
    }
    MUST(!wire_no_responders(block, 0) || (is_status && status.code == 503));
    MUST(!wire_status(block, 1, &status) && !wire_no_responders(block, 1));
}

static size_t check_walk(const struct header_block *block)
{
    struct header_field field;
    size_t position = 0, before = 0, count = 0;
    while (header_block_next(block, &position, &field)) {
        MUST(position > before && position <= block->len);
        before = position;
        check_field(block, &field);
        count++;
    }
    return count;
}

/* In a block of its own size, so that AddressSanitizer sees who reads past its end. */
static void any_block(const char *text, size_t len)
{
    char *bytes = malloc(len ? len : 1);
    MUST(bytes != NULL);
    memcpy(bytes, text, len);
    struct header_block block = {bytes, len, NULL};
    MUST(!header_block_is(bytes, len) || memcmp(bytes, "NATS/1.0", 8) == 0);
    check_walk(&block);
    check_statuses(&block);
    free(bytes);
}

/* --- what was written is read --- */

struct written {
    struct headers fields;
    size_t count;
};

static void read_fields(struct input *input, struct written *written)
{
    while (input_left(input) > 0) {
        size_t len;
        char *name = input_line(input, NULL), *value = input_line(input, &len);
        bool trimmed =
            len && strchr(" \t", *value) == NULL && strchr(" \t", value[len - 1]) == NULL;
        if ((len == 0 || trimmed) && headers_add(&written->fields, name, value, len, NULL) == 0)
            written->count++;
        free(name);
        free(value);
    }
}

static bool same_bytes(struct span a, struct span b)
{
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

static void check_same(const struct header_block *block, const struct written *written)
{
    size_t position = 0, at = 0;
    struct header_field sent, field;
    while (headers_next(&written->fields, &position, &sent)) {
        MUST(header_block_next(block, &at, &field));
        MUST(same_bytes(sent.name, field.name) && same_bytes(sent.value, field.value));
    }
    MUST(!header_block_next(block, &at, &field));
}

static void written_block(struct input *input)
{
    struct written written = {0};
    struct header_block block = {0};
    size_t position = 0;
    struct header_field field;
    read_fields(input, &written);
    FILE *out = open_memstream(&block.owned, &block.len);
    MUST(out != NULL);
    fputs("NATS/1.0\r\n", out);
    while (headers_next(&written.fields, &position, &field))
        fprintf(out, "%.*s:%s%.*s\r\n", (int)field.name.len, field.name.at,
                written.count % 2 ? " " : "", (int)field.value.len, field.value.at);
    fputs("\r\n", out);
    fclose(out);
    block.at = block.owned;
    MUST(header_block_is(block.at, block.len));
    MUST(check_walk(&block) == written.count);
    check_same(&block, &written);
    check_statuses(&block);
    headers_clear(&written.fields);
    header_block_clear(&block);
    MUST(block.at == NULL && block.owned == NULL);
}

/* A message that we made has no block: the library is asked, and what it tells is written down. */
static void message(struct input *input)
{
    char *subject = input_line(input, NULL), *reply = input_line(input, NULL);
    struct written written = {0};
    natsMsg *msg = NULL;
    read_fields(input, &written);
    if (natsMsg_Create(&msg, subject, *reply ? reply : NULL, "data", 4) == NATS_OK) {
        MUST(nats_fields_add(msg, &written.fields) == NATS_OK);
        struct header_block block = nats_received_headers(msg);
        check_walk(&block);
        check_statuses(&block);
        header_block_clear(&block);
    }
    natsMsg_Destroy(msg);
    headers_clear(&written.fields);
    free(subject);
    free(reply);
}

/* As nats.c makes one of what it has read. Its own function, which a release may hide. */
static natsMsg *receive(const char *subject, size_t subject_len, const char *reply,
                        size_t reply_len, const char *block, size_t len)
{
    static natsStatus (*create)(natsMsg **, const char *, int, const char *, int, const char *, int,
                                int);
    natsMsg *msg = NULL;
    if (!create)
        *(void **)&create = dlsym(RTLD_DEFAULT, "natsMsg_create");
    if (create)
        create(&msg, subject, (int)subject_len, reply, (int)reply_len, block, (int)len,
               len ? (int)len : -1);
    return msg;
}

static void received(struct input *input)
{
    size_t subject_len, reply_len, len;
    char *subject = input_line(input, &subject_len), *reply = input_line(input, &reply_len);
    char *bytes = input_rest(input, &len);
    natsMsg *msg = receive(subject, subject_len, reply, reply_len, bytes, len);
    if (msg) {
        struct header_block block = nats_received_headers(msg);
        bool plain = strlen(subject) == subject_len && strlen(reply) == reply_len;
        if (plain && header_block_is(bytes, len))
            MUST(!block.owned && block.len == len && memcmp(block.at, bytes, len) == 0);
        check_walk(&block);
        check_statuses(&block);
        header_block_clear(&block);
    }
    natsMsg_Destroy(msg);
    free(subject);
    free(reply);
    free(bytes);
}

void fuzz_headers(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    size_t len;
    uint8_t kind = input_byte(&input);
    if (kind == 'f') {
        written_block(&input);
    } else if (kind == 'm' || kind == 'r') {
        nats_Open(-1); /* once; messages are the library's */
        if (kind == 'm')
            message(&input);
        else
            received(&input);
    } else if (kind == 'b') {
        char *text = input_rest(&input, &len);
        any_block(text, len);
        free(text);
    }
}
