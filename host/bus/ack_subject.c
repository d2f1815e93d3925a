/* The names before the numbers, and the numbers. */
#include "bus/ack_subject.h"

#include <endian.h>
#include <string.h>

#define BEGIN "$JS.ACK."

/* A server takes no longer names. */
#define NAME_BYTES 255

/* --- the numbers --- */

/* So many digits always fit. */
#define SAFE_DIGITS 19

#define EACH_BYTE(byte) (UINT64_C(0x0101010101010101) * (byte))

/* The number that eight digits are, in one word: neighbours are joined to pairs, pairs to fours,
 * and those to one. A timestamp has 19 digits, and each message has one. False: not all are digits.
 */
static bool eight_digits(const char *at, uint64_t *out)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    word = le64toh(word); /* the first digit lowest, as the steps below want it */
    /* A digit is 0x30 to 0x39: 3 above, and no carry into that from below when 6 is added. */
    if ((word & EACH_BYTE(0xf0)) != EACH_BYTE(0x30) ||
        ((word + EACH_BYTE(0x06)) & EACH_BYTE(0xf0)) != EACH_BYTE(0x30))
        return false;
    word -= EACH_BYTE(0x30);
    word = (word * 10 + (word >> 8)) & UINT64_C(0x00ff00ff00ff00ff);
    word = (word * 100 + (word >> 16)) & UINT64_C(0x0000ffff0000ffff);
    *out = (word * 10000 + (word >> 32)) & UINT64_C(0xffffffff);
    return true;
}

/* The number that these digits are; false: it has more than 64 bits. */
static bool long_number(const char *at, const char *end, uint64_t *out)
{
    uint64_t number = 0;
    for (; at < end; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (number > (UINT64_MAX - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    *out = number;
    return true;
}

/* Reads the digits that begin here. is_long: most likely they are many, and as long as
 * there are eight bytes up to `end`, eight are read at a time. Returns what is behind them; NULL:
 * there are none, or they are more than 64 bits. */
static inline const char *read_number(const char *at, const char *end, bool is_long, uint64_t *out)
{
    const char *began = at;
    uint64_t number = 0, eight;
    while (is_long && end - at >= 8 && eight_digits(at, &eight)) {
        number = number * 100000000 + eight;
        at += 8;
    }
    for (unsigned digit; (digit = (unsigned)*at - '0') <= 9; at++)
        number = number * 10 + digit;
    *out = number;
    if (at - began > SAFE_DIGITS)
        return long_number(began, at, out) ? at : NULL;
    return at == began ? NULL : at;
}

/* Tokens up to the end, none of which is empty. */
static bool are_tokens(const char *at)
{
    for (;;) {
        size_t len = (size_t)(strchrnul(at, '.') - at);
        if (len == 0)
            return false;
        if (!at[len])
            return true;
        at += len + 1;
    }
}

/* From <delivered> to the end. is_long: something may follow. */
static bool read_numbers(const char *at, bool is_long, struct ack_subject *out)
{
    enum { DELIVERED, STREAM_SEQUENCE, CONSUMER_SEQUENCE, TIMESTAMP, PENDING, NUMBERS };
    uint64_t numbers[NUMBERS];
    const char *end = at + strlen(at);
    for (int i = 0; i < NUMBERS; i++) {
        at = read_number(at, end, i == TIMESTAMP, &numbers[i]);
        if (!at || (i < PENDING && *at++ != '.'))
            return false;
    }
    if (at != end && !(is_long && *at == '.' && are_tokens(at + 1)))
        return false;
    if (!numbers[DELIVERED] || !numbers[STREAM_SEQUENCE] || !numbers[CONSUMER_SEQUENCE] ||
        numbers[TIMESTAMP] > INT64_MAX)
        return false;
    out->delivered = numbers[DELIVERED];
    out->stream_sequence = numbers[STREAM_SEQUENCE];
    out->consumer_sequence = numbers[CONSUMER_SEQUENCE];
    out->timestamp_ns = (int64_t)numbers[TIMESTAMP];
    out->pending = numbers[PENDING];
    return true;
}

/* --- the names --- */

static int count_tokens(const char *subject)
{
    int count = 1;
    for (; *subject; subject++)
        count += *subject == '.';
    return count;
}

/* The token that begins here; *at is behind the dot that ends it. False: it is empty, too long, or
 * the last one. */
static bool read_name(const char **at, struct span *out)
{
    size_t len = (size_t)(strchrnul(*at, '.') - *at);
    if (len == 0 || len > NAME_BYTES || !(*at)[len])
        return false;
    *out = (struct span){*at, len};
    *at += len + 1;
    return true;
}

/* Returns where the numbers begin; NULL: it does not begin as it should. */
static const char *read_names(const char *reply, bool *is_long, struct ack_subject *out)
{
    enum { SHORT_FORM = 9, LONG_FORM = 11 };
    if (!reply || strncmp(reply, BEGIN, strlen(BEGIN)) != 0)
        return NULL;
    const char *at = reply + strlen(BEGIN);
    int count = count_tokens(reply);
    *is_long = count >= LONG_FORM;
    out->domain = (struct span){NULL, 0};
    if (*is_long) {
        struct span account;
        if (!read_name(&at, &out->domain) || !read_name(&at, &account))
            return NULL;
        if (out->domain.len == 1 && out->domain.at[0] == '_')
            out->domain = (struct span){NULL, 0};
    } else if (count != SHORT_FORM) {
        return NULL;
    }
    return read_name(&at, &out->stream) && read_name(&at, &out->consumer) ? at : NULL;
}

bool ack_subject_read(const char *reply, struct ack_subject *out)
{
    bool is_long;
    const char *numbers = read_names(reply, &is_long, out);
    return numbers && read_numbers(numbers, is_long, out);
}

/* The same part of the copy. */
static struct span moved(struct span span, const char *from, const char *to)
{
    return span.at ? (struct span){to + (span.at - from), span.len} : span;
}

static void keep_names(struct ack_names *names, const char *reply, size_t len, bool is_long,
                       const struct ack_subject *from)
{
    names->len = 0;
    if (len > sizeof names->text)
        return;
    memcpy(names->text, reply, len);
    names->len = len;
    names->is_long = is_long;
    names->stream = moved(from->stream, reply, names->text);
    names->consumer = moved(from->consumer, reply, names->text);
    names->domain = moved(from->domain, reply, names->text);
}

bool ack_subject_read_next(struct ack_names *names, const char *reply, struct ack_subject *out)
{
    if (reply && names->len && strncmp(reply, names->text, names->len) == 0 &&
        read_numbers(reply + names->len, names->is_long, out)) {
        out->stream = names->stream;
        out->consumer = names->consumer;
        out->domain = names->domain;
        return true;
    }
    bool is_long;
    const char *numbers = read_names(reply, &is_long, out);
    if (!numbers || !read_numbers(numbers, is_long, out))
        return false;
    keep_names(names, reply, (size_t)(numbers - reply), is_long, out);
    return true;
}
