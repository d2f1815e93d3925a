/* A walk over the lines of a header block; nothing is copied. */
#include "bus/header_block.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define VERSION "NATS/1.0"
#define VERSION_LEN (sizeof VERSION - 1)

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct span trim(const char *at, const char *end)
{
    while (at < end && is_blank(*at))
        at++;
    while (at < end && is_blank(end[-1]))
        end--;
    return (struct span){at, (size_t)(end - at)};
}

/* The CR of the next CR and LF; NULL: there is none. */
static const char *line_end(const char *at, const char *end)
{
    while (at < end && (at = memchr(at, '\r', (size_t)(end - at))) != NULL) {
        if (at + 1 < end && at[1] == '\n')
            return at;
        at++;
    }
    return NULL;
}

bool header_block_is(const char *at, size_t len)
{
    if (len <= VERSION_LEN || memcmp(at, VERSION, VERSION_LEN) != 0 ||
        (at[VERSION_LEN] != ' ' && at[VERSION_LEN] != '\r'))
        return false;
    const char *behind = at + VERSION_LEN, *end = line_end(behind, at + len);
    return end && !memchr(behind, '\0', (size_t)(end - behind)) &&
           !memchr(behind, '\n', (size_t)(end - behind));
}

/* Takes the next line off a block. What has no end is a line, too. */
static bool take_line(const struct header_block *block, size_t *position, struct span *line)
{
    if (!block->at || *position >= block->len)
        return false;
    const char *at = block->at + *position, *end = block->at + block->len;
    const char *stop = line_end(at, end);
    *line = (struct span){at, (size_t)((stop ? stop : end) - at)};
    *position = stop ? (size_t)(stop + 2 - block->at) : block->len;
    return true;
}

bool header_block_next(const struct header_block *block, size_t *position,
                       struct header_field *field)
{
    struct span line;
    if (*position == 0 && !take_line(block, position, &line))
        return false;
    while (take_line(block, position, &line)) {
        const char *colon = line.len ? memchr(line.at, ':', line.len) : NULL;
        if (!colon || colon == line.at || is_blank(*line.at))
            continue;
        field->name = (struct span){line.at, (size_t)(colon - line.at)};
        field->value = trim(colon + 1, line.at + line.len);
        return true;
    }
    return false;
}

struct span header_block_find(const struct header_block *block, const char *name)
{
    struct header_field field;
    size_t position = 0;
    while (header_block_next(block, &position, &field)) {
        if (span_is(field.name, name))
            return field.value;
    }
    return (struct span){NULL, 0};
}

struct span header_block_last(const struct header_block *block, const char *name)
{
    struct span last = {NULL, 0};
    struct header_field field;
    size_t position = 0;
    while (header_block_next(block, &position, &field)) {
        if (span_is(field.name, name))
            last = field.value;
    }
    return last;
}

int header_block_status(const struct header_block *block, struct span *description)
{
    struct span line, rest;
    size_t position = 0;
    if (description)
        *description = (struct span){"", 0};
    if (!take_line(block, &position, &line) || line.len < VERSION_LEN)
        return 0;
    rest = trim(line.at + VERSION_LEN, line.at + line.len);
    int code = 0;
    for (size_t i = 0; i < 3; i++) {
        if (i >= rest.len || rest.at[i] < '0' || rest.at[i] > '9')
            return 0;
        code = code * 10 + (rest.at[i] - '0');
    }
    if (rest.len > 3 && !is_blank(rest.at[3]))
        return 0;
    if (description)
        *description = trim(rest.at + 3, rest.at + rest.len);
    return code;
}

static char lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

bool span_same(struct span a, struct span b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        if (lower(a.at[i]) != lower(b.at[i]))
            return false;
    }
    return true;
}

bool span_is(struct span span, const char *name)
{
    return span_same(span, (struct span){name, strlen(name)});
}

bool span_begins(struct span span, const char *prefix)
{
    size_t len = strlen(prefix);
    return span.len >= len && span_same((struct span){span.at, len}, (struct span){prefix, len});
}

bool span_equals(struct span span, const char *text)
{
    return span.at && span.len == strlen(text) && memcmp(span.at, text, span.len) == 0;
}

bool span_number(struct span span, unsigned long long *out)
{
    unsigned long long number = 0;
    for (size_t i = 0; i < span.len; i++) {
        unsigned digit = (unsigned)(span.at[i] - '0');
        if (digit > 9)
            return false;
        number = number > (ULLONG_MAX - digit) / 10 ? ULLONG_MAX : number * 10 + digit;
    }
    *out = number;
    return span.len > 0;
}

char *span_text(struct span span, char *out, size_t size)
{
    size_t len = span.len < size ? span.len : size - 1;
    if (len)
        memcpy(out, span.at, len);
    out[len] = '\0';
    return out;
}

void header_block_clear(struct header_block *block)
{
    free(block->owned);
    *block = (struct header_block){NULL, 0, NULL};
}
