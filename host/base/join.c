/* Appending to a buffer, without the price of snprintf. */
#include "base/join.h"

#include <string.h>

struct join join_in(char *buf, size_t size)
{
    buf[0] = '\0';
    return (struct join){.at = buf, .end = buf + size - 1};
}

static void join_bytes(struct join *join, const char *text, size_t len)
{
    size_t room = (size_t)(join->end - join->at);
    if (len > room) {
        join->cut = true;
        len = room;
    }
    memcpy(join->at, text, len);
    join->at += len;
    *join->at = '\0';
}

void join_text(struct join *join, const char *text)
{
    join_bytes(join, text, strlen(text));
}

/* Inlined, so that the base is a constant: no division. */
static inline __attribute__((always_inline)) void add_number(struct join *join, uint64_t number,
                                                             unsigned base)
{
    char digits[24], *first = digits + sizeof digits;
    do {
        *--first = "0123456789abcdef"[number % base];
        number /= base;
    } while (number);
    join_bytes(join, first, (size_t)(digits + sizeof digits - first));
}

void join_number(struct join *join, uint64_t number)
{
    add_number(join, number, 10);
}

void join_hex(struct join *join, uint64_t number)
{
    add_number(join, number, 16);
}

bool join_cut(const struct join *join)
{
    return join->cut;
}
