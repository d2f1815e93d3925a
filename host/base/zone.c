/* zone - TZif files, and the rule at their end. */
#include "base/zone.h"

#include <ctype.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/regular.h"

#define FOLDER "/usr/share/zoneinfo/"
#define LOCAL "/etc/localtime"
#define NAME_MOST 64
/* The largest file of the database has 4 KB. */
#define FILE_MOST ((size_t)256 * 1024)
#define HEADER_BYTES 44
#define DAY_S INT64_C(86400)
/* So far is a footer's rule worked out. */
#define LAST_YEAR 2200

struct zone_change {
    int64_t at, offset; /* from then on */
};

struct zone {
    atomic_int references;
    char name[NAME_MOST + 1];
    int64_t first_offset; /* before the first change */
    size_t count, capacity;
    struct zone_change *changes; /* owned; in order */
};

/* --- dates --- */

int64_t zone_day_of(int64_t year, int month, int day)
{
    /* Years that begin in March: the day that is there or not comes last. */
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

void zone_date_of(int64_t day, int64_t *year, int *month, int *day_of_month)
{
    int64_t z = day + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t of_era = z - era * 146097;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t from_march = (5 * of_year + 2) / 153;
    *day_of_month = (int)(of_year - (153 * from_march + 2) / 5 + 1);
    *month = (int)(from_march < 10 ? from_march + 3 : from_march - 9);
    *year = year_of_era + era * 400 + (*month <= 2);
}

int zone_weekday(int64_t day)
{
    int64_t weekday = (day + 4) % 7; /* 1970-01-01 was a Thursday */
    return (int)(weekday < 0 ? weekday + 7 : weekday);
}

/* --- changes --- */

static bool add_change(struct zone *zone, int64_t at, int64_t offset)
{
    if (zone->count == zone->capacity) {
        size_t capacity = zone->capacity ? 2 * zone->capacity : 64;
        struct zone_change *changes = realloc(zone->changes, capacity * sizeof *changes);
        if (!changes)
            return false;
        zone->changes = changes;
        zone->capacity = capacity;
    }
    zone->changes[zone->count++] = (struct zone_change){at, offset};
    return true;
}

/* Drops those at which no clock is changed, but only its name or what it is called. */
static void drop_idle(struct zone *zone)
{
    size_t kept = 0;
    int64_t offset = zone->first_offset;
    for (size_t i = 0; i < zone->count; i++) {
        if (kept && zone->changes[kept - 1].at == zone->changes[i].at) {
            kept--; /* it held for no time at all */
            offset = kept ? zone->changes[kept - 1].offset : zone->first_offset;
        }
        if (zone->changes[i].offset == offset)
            continue;
        offset = zone->changes[i].offset;
        zone->changes[kept++] = zone->changes[i];
    }
    zone->count = kept;
}

struct zone_span zone_span_at(const struct zone *zone, int64_t time)
{
    size_t low = 0, high = zone->count; /* how many changes have been */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->changes[middle].at <= time)
            low = middle + 1;
        else
            high = middle;
    }
    struct zone_span span = {.from = ZONE_FROM_EVER, .to = ZONE_FOR_EVER};
    span.offset = low ? zone->changes[low - 1].offset : zone->first_offset;
    span.offset_before = span.offset;
    if (low) {
        span.from = zone->changes[low - 1].at;
        span.offset_before = low > 1 ? zone->changes[low - 2].offset : zone->first_offset;
    }
    if (low < zone->count)
        span.to = zone->changes[low].at;
    return span;
}

/* --- the rule of a footer: "CET-1CEST,M3.5.0,M10.5.0/3" --- */

struct rule {
    enum { RULE_MONTH, RULE_JULIAN, RULE_DAY } kind;
    int month, week, day; /* MONTH: the week-th weekday `day`; else day alone */
    int64_t time;         /* of local time, seconds after midnight; may be negative */
};

/* Reads a whole number of at most `most`; false: there is none. */
static bool read_number(const char **text, int most, int *number)
{
    int value = 0;
    if (!isdigit((unsigned char)**text))
        return false;
    while (isdigit((unsigned char)**text)) {
        value = value * 10 + (*(*text)++ - '0');
        if (value > most)
            return false;
    }
    *number = value;
    return true;
}

/* [+-]hh[:mm[:ss]] */
static bool read_clock(const char **text, int64_t *seconds)
{
    int hours, minutes = 0, rest = 0;
    bool negative = **text == '-';
    if (**text == '-' || **text == '+')
        (*text)++;
    if (!read_number(text, 167, &hours))
        return false;
    if (**text == ':' && ((*text)++, !read_number(text, 59, &minutes)))
        return false;
    if (**text == ':' && ((*text)++, !read_number(text, 59, &rest)))
        return false;
    *seconds = (int64_t)hours * 3600 + minutes * 60 + rest;
    if (negative)
        *seconds = -*seconds;
    return true;
}

/* A name of a zone's time: letters, or anything in <>. */
static bool skip_name(const char **text)
{
    const char *start = *text;
    if (**text == '<') {
        *text = strchr(*text, '>');
        if (!*text)
            return false;
        (*text)++;
        return true;
    }
    while (isalpha((unsigned char)**text))
        (*text)++;
    return *text != start;
}

/* ,M3.5.0/2 or ,J60 or ,59 */
static bool read_rule(const char **text, struct rule *rule)
{
    *rule = (struct rule){.time = 7200};
    if (*(*text)++ != ',')
        return false;
    if (**text == 'M') {
        (*text)++;
        rule->kind = RULE_MONTH;
        if (!read_number(text, 12, &rule->month) || rule->month < 1 || *(*text)++ != '.' ||
            !read_number(text, 5, &rule->week) || rule->week < 1 || *(*text)++ != '.' ||
            !read_number(text, 6, &rule->day))
            return false;
    } else {
        rule->kind = **text == 'J' ? RULE_JULIAN : RULE_DAY;
        *text += **text == 'J';
        if (!read_number(text, 365, &rule->day))
            return false;
    }
    if (**text != '/')
        return true;
    (*text)++;
    return read_clock(text, &rule->time);
}

static bool is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* In local time, as seconds since 1970 there. */
static int64_t rule_in(const struct rule *rule, int64_t year)
{
    int64_t day = zone_day_of(year, 1, 1);
    if (rule->kind == RULE_DAY) {
        day += rule->day;
    } else if (rule->kind == RULE_JULIAN) {
        day += rule->day - 1 + (rule->day >= 60 && is_leap(year)); /* February 29 has no number */
    } else {
        int64_t first = zone_day_of(year, rule->month, 1);
        int64_t next =
            rule->month == 12 ? zone_day_of(year + 1, 1, 1) : zone_day_of(year, rule->month + 1, 1);
        day = first + (rule->day - zone_weekday(first) + 7) % 7 + (rule->week - 1) * 7;
        while (day >= next)
            day -= 7;
    }
    return day * DAY_S + rule->time;
}

static bool add_ruled(struct zone *zone, int64_t after, int64_t at, int64_t offset)
{
    return at <= after || add_change(zone, at, offset);
}

/* What comes after the last change of the file. False: no memory, or no such rule. */
static bool add_footer(struct zone *zone, const char *text)
{
    int64_t standard, summer, year, after = zone->count ? zone->changes[zone->count - 1].at : 0;
    int month, day;
    struct rule begins, ends;
    if (!*text)
        return true;
    if (!skip_name(&text) || !read_clock(&text, &standard))
        return false;
    standard = -standard; /* west of Greenwich is positive there */
    if (!*text) /* A zone without summer time: the last change has the same, or there is none. */
        return zone->count || add_change(zone, 0, standard);
    summer = standard + 3600;
    if (!skip_name(&text))
        return false;
    if (*text != ',') {
        if (!read_clock(&text, &summer))
            return false;
        summer = -summer;
    }
    if (!read_rule(&text, &begins) || !read_rule(&text, &ends) || *text)
        return false;
    zone_date_of(after / DAY_S, &year, &month, &day);
    for (bool ok; year <= LAST_YEAR; year++) {
        int64_t on = rule_in(&begins, year) - standard, off = rule_in(&ends, year) - summer;
        if (on < off)
            ok = add_ruled(zone, after, on, summer) && add_ruled(zone, after, off, standard);
        else
            ok = add_ruled(zone, after, off, standard) && add_ruled(zone, after, on, summer);
        if (!ok)
            return false;
    }
    return true;
}

/* --- the file --- */

static int64_t read_integer(const unsigned char *bytes, int size)
{
    uint64_t value = bytes[0] & 0x80 ? UINT64_MAX : 0;
    for (int i = 0; i < size; i++)
        value = value << 8 | bytes[i];
    return (int64_t)value;
}

struct header {
    size_t utc_flags, standard_flags, leaps, times, types, chars;
    size_t bytes; /* of what follows, with times of so many bytes each */
};

static bool read_header(const unsigned char *bytes, size_t len, int time_bytes,
                        struct header *header)
{
    size_t counts[6];
    if (len < HEADER_BYTES || memcmp(bytes, "TZif", 4) != 0)
        return false;
    for (int i = 0; i < 6; i++) {
        int64_t count = read_integer(bytes + 20 + 4 * i, 4);
        if (count < 0 || (size_t)count > FILE_MOST)
            return false;
        counts[i] = (size_t)count;
    }
    *header = (struct header){counts[0], counts[1], counts[2], counts[3], counts[4], counts[5], 0};
    header->bytes = header->times * (size_t)(time_bytes + 1) + header->types * 6 + header->chars +
                    header->leaps * (size_t)(time_bytes + 4) + header->standard_flags +
                    header->utc_flags;
    return header->types > 0 && header->bytes <= len - HEADER_BYTES;
}

/* The changes of a block whose header has been read. */
static bool read_changes(struct zone *zone, const unsigned char *bytes, const struct header *header,
                         int time_bytes)
{
    const unsigned char *times = bytes + HEADER_BYTES;
    const unsigned char *places = times + header->times * (size_t)time_bytes;
    const unsigned char *types = places + header->times;
    int64_t before = INT64_MIN;
    zone->first_offset = read_integer(types, 4);
    for (size_t i = 0; i < header->times; i++) {
        int64_t at = read_integer(times + i * (size_t)time_bytes, time_bytes);
        if (places[i] >= header->types || at < before)
            return false;
        if (!add_change(zone, at, read_integer(types + (size_t)places[i] * 6, 4)))
            return false;
        before = at;
    }
    return true;
}

static bool are_believable(const struct zone *zone)
{
    for (size_t i = 0; i < zone->count; i++) {
        if (zone->changes[i].offset < -26 * 3600 || zone->changes[i].offset > 26 * 3600)
            return false;
        if (i > 0 && zone->changes[i].at < zone->changes[i - 1].at)
            return false; /* a rule whose summers overlap */
    }
    return zone->first_offset >= -26 * 3600 && zone->first_offset <= 26 * 3600;
}

static bool parse(struct zone *zone, const unsigned char *bytes, size_t len)
{
    struct header header;
    char footer[128];
    if (!read_header(bytes, len, 4, &header))
        return false;
    if (bytes[4] < '2') /* The first version: times of 32 bits, and no footer. */
        return !header.leaps && read_changes(zone, bytes, &header, 4);
    size_t skipped = HEADER_BYTES + header.bytes;
    bytes += skipped;
    len -= skipped;
    if (!read_header(bytes, len, 8, &header) || header.leaps ||
        !read_changes(zone, bytes, &header, 8))
        return false;
    const char *start = (const char *)bytes + HEADER_BYTES + header.bytes;
    size_t rest = len - HEADER_BYTES - header.bytes;
    const char *end = rest > 1 && *start == '\n' ? memchr(start + 1, '\n', rest - 1) : NULL;
    if (!end || (size_t)(end - start) > sizeof footer)
        return false;
    memcpy(footer, start + 1, (size_t)(end - start) - 1);
    footer[end - start - 1] = '\0';
    return add_footer(zone, footer);
}

struct zone *zone_parse(const char *name, const unsigned char *bytes, size_t len, struct err *err)
{
    struct zone *zone = calloc(1, sizeof *zone);
    if (!zone) {
        err_set(err, ERR_MEMORY, "no memory for a time zone");
        return NULL;
    }
    atomic_init(&zone->references, 1);
    snprintf(zone->name, sizeof zone->name, "%s", name);
    if (parse(zone, bytes, len) && are_believable(zone)) {
        drop_idle(zone);
        return zone;
    }
    zone_release(zone);
    err_set(err, ERR_INVALID,
            "what is stored of the time zone \"%s\" is no TZif file, or counts leap seconds", name);
    return NULL;
}

/* Names go into a path: only what names of IANA have. */
static bool is_name(const char *name)
{
    size_t len = strlen(name);
    if (len == 0 || len > NAME_MOST || *name == '/' || name[len - 1] == '/')
        return false;
    for (const char *c = name; *c; c++) {
        bool first = c == name || c[-1] == '/';
        if (!isalnum((unsigned char)*c) && (first || !strchr("_+-/", *c)))
            return false;
    }
    return true;
}

/* May it be quoted as it is? */
static bool is_plain(const char *name)
{
    while (*name >= ' ' && *name <= '~')
        name++;
    return !*name;
}

static struct zone *read_zone(const char *name, const char *path, struct err *err)
{
    int error;
    int fd = regular_open(path, &error);
    if (fd < 0) {
        bool none = access(FOLDER, F_OK) != 0;
        err_set(err, ERR_INVALID,
                none ? "the time zone \"%s\" cannot be looked up: there is no " FOLDER
                       " (Debian's package tzdata has it)"
                     : "there is no time zone \"%s\": names are those of IANA, as "
                       "\"Europe/Berlin\" (" FOLDER ")",
                name);
        return NULL;
    }
    unsigned char *bytes = malloc(FILE_MOST);
    size_t len = 0;
    ssize_t got = bytes ? 1 : 0;
    while (got > 0 && len < FILE_MOST) {
        got = read(fd, bytes + len, FILE_MOST - len);
        len += got > 0 ? (size_t)got : 0;
    }
    close(fd);
    struct zone *zone = NULL;
    if (bytes)
        zone = zone_parse(name, bytes, len, err);
    else
        err_set(err, ERR_MEMORY, "no memory for a time zone");
    free(bytes);
    return zone;
}

/* Hosts in containers have UTC, and often no database. */
static struct zone *make_utc(const char *name, struct err *err)
{
    static const unsigned char bytes[HEADER_BYTES + 6] = {'T', 'Z', 'i', 'f', [39] = 1, [43] = 0};
    return zone_parse(name, bytes, sizeof bytes, err);
}

struct zone *zone_open(const char *name, struct err *err)
{
    char path[sizeof FOLDER + NAME_MOST];
    if (strcmp(name, "UTC") == 0)
        return make_utc(name, err);
    if (strcmp(name, "local") == 0)
        return access(LOCAL, F_OK) == 0 ? read_zone(name, LOCAL, err) : make_utc(name, err);
    if (!is_name(name)) {
        err_set(err, ERR_INVALID,
                "\"%.70s\" is no name of a time zone: they are those of IANA, as "
                "\"Europe/Berlin\"",
                is_plain(name) ? name : "...");
        return NULL;
    }
    snprintf(path, sizeof path, FOLDER "%s", name);
    return read_zone(name, path, err);
}

struct zone *zone_retain(struct zone *zone)
{
    atomic_fetch_add(&zone->references, 1);
    return zone;
}

void zone_release(struct zone *zone)
{
    if (!zone || atomic_fetch_sub(&zone->references, 1) > 1)
        return;
    free(zone->changes);
    free(zone);
}

const char *zone_name(const struct zone *zone)
{
    return zone->name;
}
