/* What bus/wire.h reads of a message.
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

#include "fuzz.h"

/* --- the reply subject --- */

static void write_ack(const struct ack_subject *ack, bool whole, char *out, size_t size)
{
    snprintf(out, size,
             "$JS.ACK.%s%s%s.%s.%" PRIu64 ".%" PRIu64 ".%" PRIu64 ".%" PRId64 ".%" PRIu64 "%s",
             whole ? (ack->domain[0] ? ack->domain : "_") : "", whole ? ".HASH." : "", ack->stream,
             ack->consumer, ack->delivered, ack->stream_sequence, ack->consumer_sequence,
             ack->timestamp_ns, ack->pending, whole ? ".more" : "");
}

static bool same_ack(const struct ack_subject *a, const struct ack_subject *b, bool domain)
{
    return strcmp(a->stream, b->stream) == 0 && strcmp(a->consumer, b->consumer) == 0 &&
           (!domain || strcmp(a->domain, b->domain) == 0) && a->delivered == b->delivered &&
           a->stream_sequence == b->stream_sequence &&
           a->consumer_sequence == b->consumer_sequence && a->pending == b->pending &&
           a->timestamp_ns == b->timestamp_ns;
}

static void ack_subject(const char *text)
{
    struct ack_subject ack, again;
    char written[1024];
    if (!wire_parse_ack_subject(text, &ack))
        return;
    /* Sequences count from 1, and so do deliveries; 0 would stand for "none" further in. */
    MUST(ack.delivered > 0 && ack.stream_sequence > 0 && ack.consumer_sequence > 0);
    MUST(ack.timestamp_ns >= 0);
    MUST(*ack.stream && *ack.consumer && !strchr(ack.stream, '.') && !strchr(ack.consumer, '.'));
    write_ack(&ack, false, written, sizeof written);
    MUST(wire_parse_ack_subject(written, &again) && same_ack(&ack, &again, false));
    write_ack(&ack, true, written, sizeof written);
    MUST(wire_parse_ack_subject(written, &again) && same_ack(&ack, &again, true));
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

static void check_walk(const struct headers *headers)
{
    size_t position = 0, size = 0;
    unsigned count = 0;
    const char *name, *value;
    while (headers_next(headers, &position, &name, &value)) {
        MUST(*name && strpbrk(name, ": \r\n\t") == NULL && strpbrk(value, "\r\n") == NULL);
        MUST(strcasecmp(name, "x") != 0 || headers_get(headers, "X") != NULL);
        size += strlen(name) + strlen(": ") + strlen(value) + strlen("\r\n");
        count++;
    }
    MUST(count == headers->count);
    MUST(headers_wire_size(headers) == (count ? size + strlen("NATS/1.0\r\n\r\n") : 0));
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
            MUST(headers.count == before + 1 && headers_get(&headers, name) != NULL);
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
