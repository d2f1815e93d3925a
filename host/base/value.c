/* Parsers of what people write, and their way back into text. */
#include "base/value.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/number.h"

#define NS_PER_MINUTE (60 * NS_PER_S)
#define NS_PER_HOUR (60 * NS_PER_MINUTE)
#define NS_PER_DAY (24 * NS_PER_HOUR)

/* The server ends a connection whose control line is above 4096 bytes; two subjects have to fit. */

#define NAME_MAX_BYTES 255 /* the server's limit; ack_subject has it, too */

__extension__ typedef unsigned __int128 wide;

/* A value as it may stand in an error: quoted, one line, not endless. */
struct quoted {
    char text[200];
};

static const char *quote(struct quoted *quoted, const char *text, size_t len)
{
    const size_t room = sizeof quoted->text - sizeof "...\"" - 4;
    size_t at = 0;
    quoted->text[at++] = '"';
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool starts_sequence = (c & 0xC0) != 0x80;
        if (at >= room - 4 && starts_sequence) {
            at += (size_t)sprintf(quoted->text + at, "...");
            break;
        }
        if (at >= room)
            break;
        if (c < 0x20 || c == 0x7F)
            at += (size_t)sprintf(quoted->text + at, "\\x%02x", c);
        else
            quoted->text[at++] = (char)c;
    }
    quoted->text[at++] = '"';
    quoted->text[at] = '\0';
    return quoted->text;
}

/* "12" or "12.5": the digits of a number, kept exact. */
struct decimal {
    uint64_t whole;
    uint64_t fraction, fraction_of; /* fraction / fraction_of, with fraction_of a power of ten */
    bool overflow;
};

/* Reads digits with an optional fraction at *at; false when there are none. */
static bool read_decimal(const char **at, const char *end, struct decimal *out)
{
    *out = (struct decimal){.fraction_of = 1};
    const char *p = *at;
    if (p == end || !isdigit((unsigned char)*p))
        return false;
    for (; p < end && isdigit((unsigned char)*p); p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (out->whole > (UINT64_MAX - digit) / 10)
            out->overflow = true;
        else
            out->whole = out->whole * 10 + digit;
    }
    if (p < end && *p == '.') {
        p++;
        if (p == end || !isdigit((unsigned char)*p))
            return false;
        for (; p < end && isdigit((unsigned char)*p); p++) {
            if (out->fraction_of >= UINT64_C(1000000000000000000))
                continue;
            out->fraction = out->fraction * 10 + (unsigned)(*p - '0');
            out->fraction_of *= 10;
        }
    }
    *at = p;
    return true;
}

/* number * unit, in *out; false above max. */
static bool scale(const struct decimal *number, int64_t unit, int64_t max, int64_t *out)
{
    if (number->overflow)
        return false;
    wide total = (wide)number->whole * (wide)unit;
    total += (wide)number->fraction * (wide)unit / number->fraction_of;
    if (total > (wide)max)
        return false;
    *out = (int64_t)total;
    return true;
}

static const struct unit {
    const char *name;
    int64_t ns;
} duration_units[] = {
    {"ns", 1},          {"us", 1000},      {"ms", NS_PER_MS}, {"s", NS_PER_S}, {"m", NS_PER_MINUTE},
    {"h", NS_PER_HOUR}, {"d", NS_PER_DAY},
};

/* The unit at *at, moved past it; 0 when it is none. */
static int64_t read_duration_unit(const char **at, const char *end)
{
    const char *start = *at;
    while (*at < end && isalpha((unsigned char)**at))
        ++*at;
    size_t len = (size_t)(*at - start);
    for (size_t i = 0; i < sizeof duration_units / sizeof *duration_units; i++) {
        const struct unit *unit = &duration_units[i];
        if (strlen(unit->name) == len && memcmp(unit->name, start, len) == 0)
            return unit->ns;
    }
    return 0;
}

static int bad_duration(const char *text, size_t len, struct err *err)
{
    struct quoted quoted;
    if (len > 0 && text[0] == '-')
        return err_set(err, ERR_INVALID, "%s: a duration cannot be negative",
                       quote(&quoted, text, len));
    return err_set(
        err, ERR_INVALID,
        "%s is not a duration: write \"250ms\", \"5s\", \"1m30s\", \"2h\" or a number of "
        "seconds",
        quote(&quoted, text, len));
}

static int long_duration(const char *value, bool bare, struct err *err)
{
    if (bare)
        return err_set(err, ERR_INVALID,
                       "%s is more than 10 years: a number counts seconds here (NATS' own JSON "
                       "counts nanoseconds); write \"5s\" or 5",
                       value);
    return err_set(err, ERR_INVALID, "%s is more than 10 years", value);
}

int value_duration(const char *text, size_t len, int64_t *ns, struct err *err)
{
    const char *at = text, *end = text + len;
    struct quoted quoted;
    int64_t total = 0, last_unit = INT64_MAX;
    do {
        struct decimal number;
        if (!read_decimal(&at, end, &number))
            return bad_duration(text, len, err);
        bool bare = at == end && last_unit == INT64_MAX;
        int64_t unit = bare ? NS_PER_S : read_duration_unit(&at, end);
        /* Falling units: "1m30s"; "5s5s" and "30s1m" are slips of the pen. */
        if (unit == 0 || unit >= last_unit)
            return bad_duration(text, len, err);
        last_unit = unit;
        int64_t part;
        if (!scale(&number, unit, VALUE_DURATION_MAX_NS - total, &part))
            return long_duration(quote(&quoted, text, len), bare, err);
        total += part;
    } while (at < end);
    *ns = total;
    return 0;
}

int value_seconds(double seconds, int64_t *ns, struct err *err)
{
    char value[NUMBER_SHOWN];
    number_show(seconds, value);
    if (isnan(seconds))
        return err_set(err, ERR_INVALID, "nan is not a duration: a number of seconds is wanted");
    if (seconds < 0)
        return err_set(err, ERR_INVALID, "%s: a duration cannot be negative", value);
    double exact = seconds * (double)NS_PER_S;
    if (exact > (double)VALUE_DURATION_MAX_NS)
        return long_duration(value, true, err);
    *ns = llround(exact);
    return 0;
}

/* "", "B", "K", "KB", "KiB"... in any case; 0 for what is no unit. */
static int64_t size_unit(const char *text, size_t len)
{
    if (len == 0 || (len == 1 && toupper((unsigned char)text[0]) == 'B'))
        return 1;
    bool long_form = (len == 2 && strncasecmp(text + 1, "B", 1) == 0) ||
                     (len == 3 && strncasecmp(text + 1, "iB", 2) == 0);
    if (len != 1 && !long_form)
        return 0;
    switch (toupper((unsigned char)text[0])) {
    case 'K':
        return INT64_C(1) << 10;
    case 'M':
        return INT64_C(1) << 20;
    case 'G':
        return INT64_C(1) << 30;
    case 'T':
        return INT64_C(1) << 40;
    }
    return 0;
}

int value_size(const char *text, size_t len, int64_t *bytes, struct err *err)
{
    const char *at = text, *end = text + len;
    struct quoted quoted;
    struct decimal number;
    int64_t unit = 0;
    if (read_decimal(&at, end, &number))
        unit = size_unit(at, (size_t)(end - at));
    if (unit == 0 || (unit == 1 && number.fraction_of > 1))
        return err_set(err, ERR_INVALID,
                       "%s is not a size: write \"64KB\", \"64MB\", \"1GB\" or a number of bytes",
                       quote(&quoted, text, len));
    int64_t total;
    if (!scale(&number, unit, INT64_MAX, &total))
        return err_set(err, ERR_INVALID, "%s is more bytes than a machine can count",
                       quote(&quoted, text, len));
    *bytes = total;
    return 0;
}

/* Appends "<count><unit>", with the fraction that `rest` of `per` makes; returns the new end. */
static size_t put_part(char *buf, size_t size, size_t at, uint64_t count, uint64_t rest,
                       uint64_t per, const char *unit)
{
    int wrote = 0;
    if (at < size && rest == 0)
        wrote = snprintf(buf + at, size - at, "%llu%s", (unsigned long long)count, unit);
    else if (at < size) {
        int places = 0;
        for (uint64_t scaled = per; scaled > 1; scaled /= 10)
            places++;
        for (; rest % 10 == 0; rest /= 10)
            places--;
        wrote = snprintf(buf + at, size - at, "%llu.%0*llu%s", (unsigned long long)count, places,
                         (unsigned long long)rest, unit);
    }
    return at + (size_t)(wrote > 0 ? wrote : 0);
}

char *value_format_duration(int64_t ns, char *buf, size_t size)
{
    uint64_t left = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    size_t at = 0;
    if (size == 0)
        return buf;
    buf[0] = '\0';
    if (ns < 0 && size > 1)
        buf[at++] = '-';
    if (left == 0)
        put_part(buf, size, at, 0, 0, 1, "s");
    else if (left < 1000)
        put_part(buf, size, at, left, 0, 1, "ns");
    else if (left < (uint64_t)NS_PER_MS)
        put_part(buf, size, at, left / 1000, left % 1000, 1000, "us");
    else if (left < (uint64_t)NS_PER_S)
        put_part(buf, size, at, left / NS_PER_MS, left % NS_PER_MS, NS_PER_MS, "ms");
    else if (left % NS_PER_DAY == 0)
        put_part(buf, size, at, left / NS_PER_DAY, 0, 1, "d");
    else {
        uint64_t hours = left / NS_PER_HOUR, minutes = left % NS_PER_HOUR / NS_PER_MINUTE;
        left %= NS_PER_MINUTE;
        if (hours)
            at = put_part(buf, size, at, hours, 0, 1, "h");
        if (minutes)
            at = put_part(buf, size, at, minutes, 0, 1, "m");
        if (left)
            put_part(buf, size, at, left / NS_PER_S, left % NS_PER_S, NS_PER_S, "s");
    }
    return buf;
}

char *value_format_time(int64_t wall_ns, int digits, char *buf, size_t size)
{
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm utc;
    char fraction[24];
    gmtime_r(&seconds, &utc);
    size_t len = strftime(buf, size, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(fraction, sizeof fraction, ".%09lld", (long long)(wall_ns % NS_PER_S));
    snprintf(buf + len, size - len, "%.*sZ", digits ? digits + 1 : 0, fraction);
    return buf;
}

static bool is_blank(char c)
{
    return (unsigned char)c <= ' ' || c == 0x7F;
}

/* What is wrong with one token, or NULL. */
static const char *token_fault(const char *token, size_t len, bool last, enum subject_use use)
{
    if (len == 0)
        return "a token is empty (two dots, or one at an end)";
    for (size_t i = 0; i < len; i++) {
        if (is_blank(token[i]))
            return "it holds white space or a control character";
    }
    if (!memchr(token, '*', len) && !memchr(token, '>', len))
        return NULL;
    /* For the server, these are ordinary characters inside a token, so a message may have such a
     * subject. In a subscription they are a mistake. */
    if (use == SUBJECT_PUBLISH && len > 1)
        return NULL;
    if (use == SUBJECT_PUBLISH)
        return "wildcards (\"*\" and \">\") are not allowed here";
    if (len > 1)
        return "a wildcard must be a token of its own";
    if (token[0] == '>' && !last)
        return "\">\" must be the last token";
    return NULL;
}

/* Nothing in it that any use could mind: no wildcards, no blanks, no empty token. Nearly all
 * are such, and one pass sees it. */
static bool is_plain_subject(const char *subject, size_t len)
{
    enum { OTHER = 1, DOT = 2 };
    static const unsigned char kinds[256] = {
        [0 ... ' '] = OTHER, [0x7F] = OTHER, ['*'] = OTHER, ['>'] = OTHER, ['.'] = DOT};
    unsigned char before = DOT, wrong = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char kind = kinds[(unsigned char)subject[i]];
        wrong |= kind & (before | OTHER);
        before = kind;
    }
    return !wrong && before != DOT && len <= SUBJECT_MAX_BYTES;
}

int subject_check(const char *subject, size_t len, enum subject_use use, struct err *err)
{
    const char *at = subject, *end = subject + len, *fault = NULL;
    if (is_plain_subject(subject, len))
        return 0;
    if (len == 0)
        return err_set(err, ERR_INVALID, "\"\" is not a subject: it is empty");
    struct quoted quoted;
    if (len > SUBJECT_MAX_BYTES)
        return err_set(err, ERR_INVALID, "%s is not a valid subject: it is longer than %d bytes",
                       quote(&quoted, subject, len), SUBJECT_MAX_BYTES);
    while (!fault) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        fault = token_fault(at, (size_t)((dot ? dot : end) - at), !dot, use);
        if (!dot)
            break;
        at = dot + 1;
    }
    if (!fault)
        return 0;
    return err_set(err, ERR_INVALID, "%s is not a valid subject: %s", quote(&quoted, subject, len),
                   fault);
}

int name_check(const char *what, const char *name, size_t len, struct err *err)
{
    struct quoted quoted;
    if (len == 0)
        return err_set(err, ERR_INVALID, "\"\" is not a valid %s: it is empty", what);
    if (len > NAME_MAX_BYTES)
        return err_set(err, ERR_INVALID, "%s is not a valid %s: it is longer than %d bytes",
                       quote(&quoted, name, len), what, NAME_MAX_BYTES);
    for (size_t i = 0; i < len; i++) {
        if (is_blank(name[i]))
            return err_set(err, ERR_INVALID,
                           "%s is not a valid %s: it holds white space or a control character",
                           quote(&quoted, name, len), what);
        if (strchr(".*>/\\", name[i]))
            return err_set(err, ERR_INVALID, "%s is not a valid %s: \"%c\" is not allowed in it",
                           quote(&quoted, name, len), what, name[i]);
    }
    return 0;
}

bool subject_matches(const char *pattern, const char *subject)
{
    for (;;) {
        if (pattern[0] == '>' && pattern[1] == '\0')
            return true;
        if (pattern[0] == '*' && (pattern[1] == '.' || pattern[1] == '\0')) {
            pattern++;
            while (*subject && *subject != '.')
                subject++;
        } else {
            while (*pattern == *subject && *pattern && *pattern != '.') {
                pattern++;
                subject++;
            }
        }
        if (*pattern != *subject || *pattern == '\0')
            return *pattern == *subject;
        pattern++;
        subject++;
    }
}

bool subject_overlaps(const char *a, const char *b)
{
    for (;;) {
        if (strcmp(a, ">") == 0 || strcmp(b, ">") == 0)
            return true;
        size_t len_a = strcspn(a, "."), len_b = strcspn(b, ".");
        bool any = (len_a == 1 && *a == '*') || (len_b == 1 && *b == '*');
        if (!any && (len_a != len_b || memcmp(a, b, len_a) != 0))
            return false;
        a += len_a;
        b += len_b;
        if (*a == '\0' || *b == '\0')
            return *a == *b;
        a++;
        b++;
    }
}
