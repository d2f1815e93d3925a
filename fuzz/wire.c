/* What bus/ack_subject.h and bus/wire.h read of a message.
 *
 *   a SUBJECT                  the reply subject of a JetStream message
 *   p JSON                     the answer to a publish
 *   h NAME\nVALUE\nNAME\n...   header fields, to be sent */
#include "bus/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bus/ack_subject.h"
#include "fuzz.h"

/* --- the reply subject --- */

static void write_ack(const struct ack_subject *ack, bool whole, char *out, size_t size)
{
    struct span domain = ack->domain.at ? ack->domain : (struct span){"_", 1};
    snprintf(out, size,
             "$JS.ACK.%.*s%s%.*s.%.*s.%" PRIu64 ".%" PRIu64 ".%" PRIu64 ".%" PRId64 ".%" PRIu64
             "%s",
             whole ? (int)domain.len : 0, domain.at, whole ? ".HASH." : "", (int)ack->stream.len,
             ack->stream.at, (int)ack->consumer.len, ack->consumer.at, ack->delivered,
             ack->stream_sequence, ack->consumer_sequence, ack->timestamp_ns, ack->pending,
             whole ? ".more" : "");
}

static bool same_text(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static bool same_ack(const struct ack_subject *a, const struct ack_subject *b, bool domain)
{
    return same_text(a->stream, b->stream) && same_text(a->consumer, b->consumer) &&
           (!domain || same_text(a->domain, b->domain)) && a->delivered == b->delivered &&
           a->stream_sequence == b->stream_sequence &&
           a->consumer_sequence == b->consumer_sequence && a->pending == b->pending &&
           a->timestamp_ns == b->timestamp_ns;
}

static bool is_token(struct span span)
{
    return span.len > 0 && !memchr(span.at, '.', span.len);
}

/* Whatever came before, it is the same. */
static void check_next(const char *text, const char *before)
{
    struct ack_names names = {0};
    struct ack_subject ack, next;
    ack_subject_read_next(&names, before, &next);
    bool is_one = ack_subject_read(text, &ack);
    for (int i = 0; i < 2; i++) {
        MUST(ack_subject_read_next(&names, text, &next) == is_one);
        MUST(!is_one || same_ack(&ack, &next, true));
    }
}

static void ack_subject(const char *text)
{
    struct ack_subject ack, again;
    char written[1400], longer[1400];
    check_next(text, "$JS.ACK.S.c.1.2.3.4.5");
    if (!ack_subject_read(text, &ack))
        return;
    /* Sequences count from 1, and so do deliveries; 0 would stand for "none" further in. */
    MUST(ack.delivered > 0 && ack.stream_sequence > 0 && ack.consumer_sequence > 0);
    MUST(ack.timestamp_ns >= 0);
    MUST(is_token(ack.stream) && is_token(ack.consumer));
    write_ack(&ack, false, written, sizeof written);
    MUST(ack_subject_read(written, &again) && same_ack(&ack, &again, false));
    write_ack(&ack, true, longer, sizeof longer);
    MUST(ack_subject_read(longer, &again) && same_ack(&ack, &again, true));
    check_next(text, written);
    check_next(text, longer);
    check_next(written, longer);
    check_next(longer, written);
}

/* --- the PubAck --- */

/* With a space behind it, it is read by another way: by the parser of JSON, whose numbers are exact
 * up to 2^53. */
static void check_same_puback(const char *text, size_t len, const struct receipt *receipt)
{
    struct receipt other;
    int api_code;
    bool transient;
    char *spaced = malloc(len + 1);
    MUST(spaced != NULL);
    memcpy(spaced, text, len);
    spaced[len] = ' ';
    MUST(wire_parse_puback(spaced, len + 1, &other, &api_code, &transient, NULL) == 0);
    MUST(strcmp(receipt->stream, other.stream) == 0 && receipt->duplicate == other.duplicate);
    MUST(receipt->sequence > UINT64_C(1) << 53 || receipt->sequence == other.sequence);
    free(spaced);
}

static void puback(const char *text, size_t len)
{
    struct receipt receipt;
    struct err err;
    int api_code = -1;
    bool transient = true;
    int code = wire_parse_puback(text, len, &receipt, &api_code, &transient, &err);
    if (code) {
        fuzz_check_err(&err, code);
        return;
    }
    MUST(receipt.sequence > 0 && *receipt.stream);
    MUST(strlen(receipt.stream) < sizeof receipt.stream);
    MUST(!transient && api_code == 0);
    check_same_puback(text, len, &receipt);
}

/* --- header fields --- */

static bool has_any(struct span span, const char *bytes)
{
    for (; *bytes; bytes++) {
        if (span.len && memchr(span.at, *bytes, span.len))
            return true;
    }
    return false;
}

/* What is sent, as whoever receives it reads it: the same fields, values without blanks around. */
static void check_block(const struct headers *headers)
{
    size_t size = headers_wire_size(headers), position = 0, at = 0;
    char *block = malloc(size);
    struct header_field field, received;
    MUST(block != NULL && headers_write(headers, block) == block + size);
    const struct header_block came = {.at = block, .len = size};
    const struct headers fields = headers_of_block(block, size);
    MUST(header_block_is(block, size) && fields.len == headers->len);
    while (headers_next(&fields, &position, &field)) {
        MUST(header_block_next(&came, &at, &received));
        MUST(span_same(field.name, received.name) && field.value.len >= received.value.len);
    }
    MUST(!header_block_next(&came, &at, &received));
    free(block);
}

static void check_walk(const struct headers *headers)
{
    size_t position = 0, size = 0;
    unsigned count = 0;
    struct header_field field;
    while (headers_next(headers, &position, &field)) {
        const struct span name = field.name, value = field.value;
        MUST(name.len && !has_any(name, ": \r\n\t") && !has_any(value, "\r\n"));
        MUST(!span_is(name, "x") || headers_get(headers, "X").at != NULL);
        size += name.len + strlen(": ") + value.len + strlen("\r\n");
        count++;
    }
    MUST(count == headers->count);
    MUST(headers_wire_size(headers) == (count ? size + strlen("NATS/1.0\r\n\r\n") : 0));
    if (count)
        check_block(headers);
}

static void header_fields(struct input *input)
{
    struct headers headers = {0};
    struct err err;
    while (input_left(input) > 0) {
        size_t len;
        char *name = input_line(input, NULL), *value = input_line(input, &len);
        unsigned before = headers.count;
        int code = headers_add(&headers, name, value, len, &err);
        if (code) {
            fuzz_check_err(&err, code);
            MUST(headers.count == before);
        } else {
            MUST(headers.count == before + 1 && headers_get(&headers, name).at != NULL);
            MUST(strlen(value) == len);
        }
        free(name);
        free(value);
    }
    check_walk(&headers);
    headers_clear(&headers);
    MUST(headers_wire_size(&headers) == 0);
}

void fuzz_wire(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    uint8_t kind = input_byte(&input);
    if (kind == 'h') {
        header_fields(&input);
        return;
    }
    size_t len;
    char *text = input_rest(&input, &len);
    if (kind == 'a')
        ack_subject(text);
    else if (kind == 'p')
        puback(text, len);
    free(text);
}
