/* zone - a time zone: by how much its clocks differ from UTC, and when that changes. Read from the
 * system's tz database (TZif, RFC 9636), by its name of IANA; neither TZ nor the C library's own
 * zone is looked at, so any thread may.
 *
 * Immutable once it is open, with references. The rule of a file's footer is worked out to the year
 * 2200; from then on the last offset stays. */
#ifndef MOONBUS_BASE_ZONE_H
#define MOONBUS_BASE_ZONE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct zone;

/* Opens "Europe/Berlin", "UTC", or "local": what /etc/localtime is. The caller's reference. NULL,
 * with err: no such zone, or its file cannot be read. Reads a small file. */
struct zone *zone_open(const char *name, struct err *err);
/* From the bytes of a TZif file; for zone_open, and specs. */
struct zone *zone_parse(const char *name, const unsigned char *bytes, size_t len, struct err *err);

struct zone *zone_retain(struct zone *zone);
/* NULL is allowed. */
void zone_release(struct zone *zone);

const char *zone_name(const struct zone *zone);

#define ZONE_FROM_EVER INT64_MIN
#define ZONE_FOR_EVER INT64_MAX

/* A time during which nothing changes. Seconds; times are of UTC, since 1970. */
struct zone_span {
    int64_t from, to;      /* from is in it, to is not */
    int64_t offset;        /* local time is UTC plus this */
    int64_t offset_before; /* until `from`; the same when from is ZONE_FROM_EVER */
};

struct zone_span zone_span_at(const struct zone *zone, int64_t time);

/* Days since 1970-01-01 of a date (month 1 to 12) in the Gregorian calendar, and back. */
int64_t zone_day_of(int64_t year, int month, int day);
void zone_date_of(int64_t day, int64_t *year, int *month, int *day_of_month);
/* 0: Sunday. */
int zone_weekday(int64_t day);

#endif
