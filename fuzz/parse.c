/* What a server sends: bus/link/parse.h. The first byte says how the network cuts the rest. A
 * message's line is read forward as servers write it, and word by word otherwise: both must tell
 * the same. */
#include "bus/link/parse.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define MOST 4096

/* What was read of a stream, so far. */
struct reading {
    const char *at;
    size_t len;
    size_t from, there; /* what is not taken yet */
    size_t wanted, seen;
    struct parsed ops[MOST];
    size_t count;
    bool broken;
};

static void check_span(const struct reading *reading, const struct parsed *op, struct span span)
{
    const char *begin = reading->at + reading->from;
    if (!span.at)
        return;
    MUST(span.at >= begin && span.at + span.len < begin + op->len); /* a byte is behind it */
}

static void check_message(const struct reading *reading, const struct parsed *op)
{
    MUST(op->subject.at && op->subject.len > 0);
    MUST(!memchr(op->subject.at, ' ', op->subject.len));
    MUST(!op->reply.at || op->reply.len > 0);
    MUST(op->data.at != NULL);
    check_span(reading, op, op->subject);
    check_span(reading, op, op->reply);
    check_span(reading, op, op->headers);
    check_span(reading, op, op->data);
}

/* As a reader does it, with so many bytes more. */
static void read_more(struct reading *reading, size_t bytes)
{
    reading->there += bytes;
    while (!reading->broken && reading->there && reading->there >= reading->wanted &&
           reading->count < MOST) {
        struct parsed *op = &reading->ops[reading->count];
        /* In a block of its own size, so that AddressSanitizer sees who reads past its end. */
        char *block = malloc(reading->there);
        MUST(block != NULL);
        memcpy(block, reading->at + reading->from, reading->there);
        parse_next(block, reading->there, reading->seen, op);
        free(block);
        if (op->kind == PARSE_MORE) {
            MUST(op->len > reading->there && op->seen <= reading->there);
            reading->wanted = op->len;
            reading->seen = op->seen;
            return;
        }
        parse_next(reading->at + reading->from, reading->there, 0, op);
        reading->count++;
        reading->wanted = reading->seen = 0;
        reading->broken = op->kind == PARSE_BROKEN;
        MUST(reading->broken == (op->why != NULL));
        if (reading->broken)
            return;
        MUST(op->len > 0 && op->len <= reading->there);
        if (op->kind == PARSE_MESSAGE)
            check_message(reading, op);
        reading->from += op->len;
        reading->there -= op->len;
    }
}

static void same_span(struct span a, struct span b)
{
    MUST(a.at == b.at && a.len == b.len);
}

static void same(const struct parsed *a, const struct parsed *b)
{
    MUST(a->kind == b->kind && a->why == b->why);
    if (a->kind == PARSE_BROKEN)
        return;
    MUST(a->len == b->len && a->sid == b->sid);
    same_span(a->subject, b->subject);
    same_span(a->reply, b->reply);
    same_span(a->headers, b->headers);
    same_span(a->data, b->data);
}

static void same_place(struct span a, const char *a_base, struct span b, const char *b_base)
{
    MUST(!a.at == !b.at && a.len == b.len);
    MUST(!a.at || a.at - a_base == b.at - b_base);
}

/* With a tab behind the operation a line is none that servers write. */
static void check_words(const char *at, const struct parsed *plain)
{
    size_t name = *at == 'M' || *at == 'm' ? 3 : 4;
    struct parsed words;
    char *copy = malloc(plain->len);
    MUST(copy != NULL);
    memcpy(copy, at, plain->len);
    copy[name] = '\t';
    parse_next(copy, plain->len, 0, &words);
    MUST(words.kind == PARSE_MESSAGE && words.len == plain->len && words.sid == plain->sid);
    same_place(plain->subject, at, words.subject, copy);
    same_place(plain->reply, at, words.reply, copy);
    same_place(plain->headers, at, words.headers, copy);
    same_place(plain->data, at, words.data, copy);
    free(copy);
}

void fuzz_parse(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    unsigned cut = 1 + input_byte(&input) % 64;
    size_t len = input_left(&input);
    struct reading *whole = calloc(2, sizeof *whole), *cuts = whole + 1;
    MUST(whole != NULL);
    whole->at = cuts->at = (const char *)input.at;
    whole->len = cuts->len = len;
    read_more(whole, len);
    for (size_t at = 0; at < len; at += cut)
        read_more(cuts, len - at < cut ? len - at : cut);
    MUST(whole->count == cuts->count && whole->broken == cuts->broken);
    const char *at = whole->at;
    for (size_t i = 0; i < whole->count; i++) {
        same(&whole->ops[i], &cuts->ops[i]);
        if (whole->ops[i].kind == PARSE_MESSAGE)
            check_words(at, &whole->ops[i]);
        at += whole->ops[i].len;
    }
    free(whole);
}
