/* cron - reading a line, and looking for its next time. */
#include "base/cron.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/join.h"
#include "base/value.h"
#include "base/zone.h"

#define DAY_S INT64_C(86400)
/* A day of the week on a day of February recurs within 12 years. */
#define HORIZON_S (30 * 366 * DAY_S)
#define LINE_MOST 200

/* --- reading --- */

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                          "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

struct cron_field {
    const char *name;
    int min, max;
    const char *const *names; /* NULL: it has none */
    int name_count;
    bool may_be_open; /* "?" */
};

enum { SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS };

/* 7 is Sunday, too. */
static const struct cron_field fields[FIELDS] = {
    [SECOND] = {"second", 0, 59, NULL, 0, false},
    [MINUTE] = {"minute", 0, 59, NULL, 0, false},
    [HOUR] = {"hour", 0, 23, NULL, 0, false},
    [DAY] = {"day of month", 1, 31, NULL, 0, true},
    [MONTH] = {"month", 1, 12, month_names, 12, false},
    [WEEKDAY] = {"day of week", 0, 7, weekday_names, 7, true},
};

struct word {
    const char *text;
    size_t len;
};

static int refuse(const struct cron_field *field, struct word part, const char *what,
                  struct err *err)
{
    return err_set(err, ERR_INVALID, "%s: \"%.*s\" %s", field->name,
                   (int)(part.len < 40 ? part.len : 40), part.text, what);
}

/* A number or a name, from the start of rest, which it leaves. False: there is none, or it is out
 * of range. */
static bool take_value(const struct cron_field *field, struct word *rest, int *value)
{
    size_t len = 0;
    if (rest->len > 0 && isdigit((unsigned char)*rest->text)) {
        int number = 0;
        for (; len < rest->len && isdigit((unsigned char)rest->text[len]); len++) {
            number = number * 10 + (rest->text[len] - '0');
            if (number > 1000)
                return false;
        }
        *value = number;
    } else {
        while (len < rest->len && isalpha((unsigned char)rest->text[len]))
            len++;
        *value = -1;
        for (int i = 0; len == 3 && i < field->name_count; i++) {
            if (strncasecmp(rest->text, field->names[i], 3) == 0)
                *value = i + field->min;
        }
    }
    rest->text += len;
    rest->len -= len;
    return *value >= field->min && *value <= field->max;
}

static bool take_sign(struct word *rest, char sign)
{
    if (rest->len == 0 || *rest->text != sign)
        return false;
    rest->text++;
    rest->len--;
    return true;
}

/* The step behind a slash; false: none, or none that can be. */
static bool take_step(const struct cron_field *field, struct word *rest, int *step)
{
    struct cron_field counts = {.min = 1, .max = field->max - field->min + 1};
    return rest->len > 0 && isdigit((unsigned char)*rest->text) && take_value(&counts, rest, step);
}

/* One part of a list: "*", "5", "1-5", each with a step behind it. */
static int read_part(const struct cron_field *field, struct word part, uint64_t *bits,
                     struct err *err)
{
    struct word rest = part;
    int first = field->min, last = field->max, step = 1;
    bool open = take_sign(&rest, '*') || (field->may_be_open && take_sign(&rest, '?'));
    if (open && field == &fields[WEEKDAY])
        last = 6;
    if (!open && !take_value(field, &rest, &first)) {
        char wanted[96];
        snprintf(wanted, sizeof wanted, "is not within %d to %d%s", field->min, field->max,
                 field->names ? ", and no name of three letters" : "");
        return refuse(field, part, wanted, err);
    }
    bool range = !open && take_sign(&rest, '-');
    if (range && !take_value(field, &rest, &last))
        return refuse(field, part, "is a range without a valid end", err);
    if (range && last < first)
        return refuse(field, part, "ends before it begins: write two ranges", err);
    bool stepped = take_sign(&rest, '/');
    if (stepped && !take_step(field, &rest, &step))
        return refuse(field, part, "has no valid step behind its slash", err);
    if (rest.len > 0)
        return refuse(field, part, "is neither a value, a range nor a step", err);
    if (!open && !range && !stepped)
        last = first;
    else if (!open && !range && field == &fields[WEEKDAY])
        last = first > 6 ? 7 : 6;
    for (int value = first; value <= last; value += step)
        *bits |= UINT64_C(1) << value;
    return 0;
}

static int read_field(const struct cron_field *field, struct word word, uint64_t *bits,
                      struct err *err)
{
    struct word rest = word;
    *bits = 0;
    for (;;) {
        const char *comma = memchr(rest.text, ',', rest.len);
        struct word part = {rest.text, comma ? (size_t)(comma - rest.text) : rest.len};
        if (part.len == 0)
            return refuse(field, word, "has nothing between two commas, or at an end", err);
        int code = read_part(field, part, bits, err);
        if (code || !comma)
            return code;
        rest.len -= part.len + 1;
        rest.text = comma + 1;
    }
}

static bool begins_open(struct word word)
{
    return *word.text == '*' || *word.text == '?';
}

static int read_line(struct word *words, int count, struct cron *cron, struct err *err)
{
    uint64_t bits[FIELDS] = {[SECOND] = 1};
    int first = count == FIELDS ? SECOND : MINUTE;
    if (count != FIELDS && count != FIELDS - 1)
        return err_set(err, ERR_INVALID,
                       "it has %d field%s: a line has 5 (minute, hour, day of month, month, day of "
                       "week), or 6 with the second before them",
                       count, count == 1 ? "" : "s");
    for (int i = first; i < FIELDS; i++) {
        int code = read_field(&fields[i], words[i - first], &bits[i], err);
        if (code)
            return code;
    }
    *cron = (struct cron){
        .seconds = bits[SECOND],
        .minutes = bits[MINUTE],
        .hours = (uint32_t)bits[HOUR],
        .days = (uint32_t)bits[DAY],
        .months = (uint32_t)bits[MONTH],
        .weekdays = (uint32_t)((bits[WEEKDAY] | bits[WEEKDAY] >> 7) & 0x7f),
        .any_day = begins_open(words[DAY - first]),
        .any_weekday = begins_open(words[WEEKDAY - first]),
        .by_clock = begins_open(words[MINUTE - first]) || begins_open(words[HOUR - first]),
    };
    return 0;
}

static int split(const char *text, size_t len, struct word *words)
{
    int count = 0;
    for (size_t i = 0; i < len;) {
        size_t start = i;
        while (i < len && text[i] != ' ' && text[i] != '\t')
            i++;
        if (i > start && count++ < FIELDS)
            words[count - 1] = (struct word){text + start, i - start};
        while (i < len && (text[i] == ' ' || text[i] == '\t'))
            i++;
    }
    return count;
}

static int read_every(struct word word, struct cron *cron, struct err *err)
{
    int64_t ns;
    int code = value_duration(word.text, word.len, &ns, err);
    if (code) {
        err_prefix(err, "@every");
        return code;
    }
    if (ns < NS_PER_S || ns % NS_PER_S)
        return err_set(err, ERR_INVALID, "@every: \"%.*s\" is not a whole number of seconds",
                       (int)(word.len < 40 ? word.len : 40), word.text);
    *cron = (struct cron){.every_s = ns / NS_PER_S};
    return 0;
}

static bool word_is(struct word word, const char *text)
{
    return word.len == strlen(text) && strncasecmp(word.text, text, word.len) == 0;
}

static int read_name(struct word *words, int count, struct cron *cron, struct err *err)
{
    static const struct {
        const char *name, *line;
    } known[] = {
        {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
        {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
        {"@hourly", "0 * * * *"},
    };
    if (word_is(words[0], "@every") && count == 2)
        return read_every(words[1], cron, err);
    for (size_t i = 0; count == 1 && i < sizeof known / sizeof *known; i++) {
        struct word parts[FIELDS];
        if (word_is(words[0], known[i].name))
            return read_line(parts, split(known[i].line, strlen(known[i].line), parts), cron, err);
    }
    return err_set(err, ERR_INVALID,
                   "there are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly "
                   "and \"@every 5m\"%s",
                   word_is(words[0], "@reboot") ? "; what runs at the start is bus.on(\"start\")"
                                                : "");
}

/* --- looking --- */

static int lowest(uint64_t bits, int from)
{
    if (from > 63)
        return -1;
    bits = bits >> from << from;
    return bits ? __builtin_ctzll(bits) : -1;
}

/* The first second of a day from that one on; -1: none. */
static int64_t time_from(const struct cron *cron, int64_t second)
{
    int hour = (int)(second / 3600), minute = (int)(second / 60 % 60), rest = (int)(second % 60);
    for (int h = lowest(cron->hours, hour); h >= 0; h = lowest(cron->hours, h + 1)) {
        if (h > hour)
            minute = rest = 0;
        for (int m = lowest(cron->minutes, minute); m >= 0; m = lowest(cron->minutes, m + 1)) {
            int s = lowest(cron->seconds, h == hour && m == minute ? rest : 0);
            if (s >= 0)
                return (int64_t)h * 3600 + m * 60 + s;
        }
    }
    return -1;
}

static bool is_day(const struct cron *cron, int day_of_month, int weekday)
{
    bool day = cron->days >> day_of_month & 1, of_week = cron->weekdays >> weekday & 1;
    return cron->any_day || cron->any_weekday ? day && of_week : day || of_week;
}

/* The first of its times from that one on, all of one clock that is never changed. */
static int64_t plain_next(const struct cron *cron, int64_t from)
{
    int64_t day = from >= 0 ? from / DAY_S : -((-from + DAY_S - 1) / DAY_S);
    int64_t second = from - day * DAY_S, end = day + HORIZON_S / DAY_S;
    while (day < end) {
        int64_t year, at;
        int month, day_of_month;
        zone_date_of(day, &year, &month, &day_of_month);
        if (!(cron->months >> month & 1)) {
            day = month == 12 ? zone_day_of(year + 1, 1, 1) : zone_day_of(year, month + 1, 1);
            second = 0;
            continue;
        }
        if (is_day(cron, day_of_month, zone_weekday(day)) && (at = time_from(cron, second)) >= 0)
            return day * DAY_S + at;
        day++;
        second = 0;
    }
    return CRON_NEVER;
}

/* The same while the zone's clocks go on unchanged, from a time of UTC on. */
static int64_t next_in(const struct cron *cron, const struct zone_span *span, int64_t time)
{
    int64_t from = time + span->offset;
    bool changed = !cron->by_clock && span->from != ZONE_FROM_EVER;
    if (changed && span->offset < span->offset_before) {
        int64_t seen = span->from + span->offset_before; /* on the clock, until it was put back */
        if (from < seen)
            from = seen;
    } else if (changed && time == span->from && span->offset > span->offset_before &&
               plain_next(cron, span->from + span->offset_before) < span->from + span->offset) {
        return span->from;
    }
    int64_t local = plain_next(cron, from);
    return local == CRON_NEVER ? CRON_NEVER : local - span->offset;
}

int64_t cron_next(const struct cron *cron, const struct zone *zone, int64_t after)
{
    int64_t time = after + 1, end = after + HORIZON_S;
    if (cron->every_s) {
        int64_t steps = after / cron->every_s - (after % cron->every_s < 0);
        return (steps + 1) * cron->every_s;
    }
    while (time < end) {
        struct zone_span span = zone_span_at(zone, time);
        int64_t at = next_in(cron, &span, time);
        if (at < span.to)
            return at;
        if (at == CRON_NEVER && span.to == ZONE_FOR_EVER)
            return CRON_NEVER;
        time = span.to;
    }
    return CRON_NEVER;
}

int64_t cron_last(const struct cron *cron, const struct zone *zone, int64_t after, int64_t until)
{
    /* Far enough back that there is one; then the latest moment whose next time is not too late. */
    int64_t back = 1, low, high;
    while (back < HORIZON_S && cron_next(cron, zone, until - back) > until)
        back *= 4;
    low = until - back;
    if (cron_next(cron, zone, low) > until)
        return CRON_NEVER;
    for (high = until; high - low > 1;) {
        int64_t middle = low + (high - low) / 2;
        if (cron_next(cron, zone, middle) <= until)
            low = middle;
        else
            high = middle;
    }
    int64_t last = cron_next(cron, zone, low);
    return last > after ? last : CRON_NEVER;
}

/* What a line is made of; so that it may be quoted as it is. */
static bool is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((text[i] < ' ' && text[i] != '\t') || text[i] > '~')
            return false;
    }
    return true;
}

static bool begins(struct word word, const char *with)
{
    return word.len >= strlen(with) && memcmp(word.text, with, strlen(with)) == 0;
}

static int parse(const char *text, size_t len, struct cron *cron, struct err *err)
{
    struct word words[FIELDS];
    int count = split(text, len, words), code;
    if (count == 0)
        return err_set(err, ERR_INVALID, "it is empty");
    if (begins(words[0], "TZ=") || begins(words[0], "CRON_TZ="))
        return err_set(err, ERR_INVALID, "a time zone is the option tz, not a part of the line");
    code = *words[0].text == '@' ? read_name(words, count, cron, err)
                                 : read_line(words, count, cron, err);
    if (!code && !cron->every_s && plain_next(cron, 0) == CRON_NEVER)
        code = err_set(err, ERR_INVALID, "it never comes: no month of it has such a day");
    return code;
}

int cron_parse(const char *text, size_t len, struct cron *cron, struct err *err)
{
    if (len > LINE_MOST)
        return err_set(err, ERR_INVALID, "cron line: it is longer than %d bytes", LINE_MOST);
    if (!is_plain(text, len))
        return err_set(
            err, ERR_INVALID,
            "cron line: it has a character that no line has: there are digits, names, and "
            "* , - / ? @");
    int code = parse(text, len, cron, err);
    if (code)
        err_prefix(err, "cron line \"%.*s\"", (int)(len < 80 ? len : 80), text);
    return code;
}

/* --- writing --- */

/* Behind `before`: "*" for all of them, where that may be written; else a list. */
static void add_bits(struct join *join, const char *before, uint64_t bits, int min, int max,
                     bool open)
{
    uint64_t all = ((UINT64_C(1) << (max - min + 1)) - 1) << min;
    if (open && (bits & all) == all) {
        join_text(join, before);
        join_text(join, "*");
        return;
    }
    for (int i = lowest(bits, min); i >= 0; i = lowest(bits, i + 1)) {
        join_text(join, before);
        join_number(join, (uint64_t)i);
        before = ",";
    }
}

bool cron_format(const struct cron *cron, char *line, size_t size)
{
    bool open = cron->any_day || cron->any_weekday;
    struct join join = join_in(line, size);
    if (cron->every_s) {
        char every[32];
        join_text(&join, "@every ");
        join_text(&join, value_format_duration(cron->every_s * NS_PER_S, every, sizeof every));
        return !join_cut(&join);
    }
    if (open && (cron->days & 0xfffffffe) != 0xfffffffe && cron->weekdays != 0x7f)
        return false;
    add_bits(&join, "", cron->seconds, 0, 59, true);
    add_bits(&join, " ", cron->minutes, 0, 59, true);
    add_bits(&join, " ", cron->hours, 0, 23, true);
    add_bits(&join, " ", cron->days, 1, 31, open);
    add_bits(&join, " ", cron->months, 1, 12, true);
    add_bits(&join, " ", cron->weekdays, 0, 6, open);
    return !join_cut(&join);
}
