/* Appending to a buffer, without the price of snprintf. */
#include "base/join.h"

#include <string.h>

struct join join_in(char *buf, size_t size)
{
    buf[0] = '\0';
    return (struct join){.at = buf, .end = buf + size - 1};
}

void join_text(struct join *join, const char *text)
{
    join_bytes(join, text, strlen(text));
}

#define TEN(n) #n "0" #n "1" #n "2" #n "3" #n "4" #n "5" #n "6" #n "7" #n "8" #n "9"
static const char two_digits[] =
    TEN(0) TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9);

#define DIGITS_MOST 20

/* Two digits for each division: a timestamp has nineteen. */
void join_number(struct join *join, uint64_t number)
{
    if (number < 10) {
        join_char(join, (char)('0' + number));
        return;
    }
    char digits[2 * DIGITS_MOST], *end = digits + DIGITS_MOST, *first = end;
    while (number >= 100) {
        first -= 2;
        memcpy(first, two_digits + 2 * (number % 100), 2);
        number /= 100;
    }
    if (number >= 10) {
        first -= 2;
        memcpy(first, two_digits + 2 * number, 2);
    } else {
        *--first = (char)('0' + number);
    }
    if (join->end - join->at < DIGITS_MOST) {
        join_bytes(join, first, (size_t)(end - first));
        return;
    }
    memcpy(join->at, first, DIGITS_MOST); /* of a known size: two moves */
    join->at += end - first;
    *join->at = '\0';
}

void join_hex(struct join *join, uint64_t number)
{
    int shift = number ? (63 - __builtin_clzll(number)) & ~3 : 0;
    for (; shift >= 0; shift -= 4)
        join_char(join, "0123456789abcdef"[number >> shift & 15]);
}

bool join_cut(const struct join *join)
{
    return join->cut;
}
