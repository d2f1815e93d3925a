/* cron - a cron line, and when it comes. Pure; any thread.
 *
 *   [second] minute hour day-of-month month day-of-week      "*", lists, ranges, steps, names
 *   @yearly @annually @monthly @weekly @daily @midnight @hourly, @every 5m
 *
 * As Vixie's cron has it (crontab(5)): when both days are restricted, either is enough; a field
 * that begins with "*" does not restrict. Where clocks are put forward, a line with a fixed time
 * that is left out comes at the first moment after; where they are put back, it comes the first
 * time only. A line whose minutes or hours begin with "*" goes by the clock as it is: it leaves out
 * what is not there, and comes in both of what is there twice.
 *
 * @every counts from 1970 on, so that all hosts mean the same times. */
#ifndef MOONBUS_BASE_CRON_H
#define MOONBUS_BASE_CRON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct zone;

/* With missed = "skip": a time that is older, in seconds, when it could run has been missed. */
#define CRON_LATE_S 120

/* A bit for each value that it takes. */
struct cron {
    uint64_t seconds, minutes;
    uint32_t hours, days, months,
        weekdays;              /* days from 1, months from 1, weekdays from Sunday, 0 */
    bool any_day, any_weekday; /* begins with "*" */
    bool by_clock;             /* its minutes or hours do */
    int64_t every_s;           /* @every; 0: it is a line */
};

/* Refuses what is no line, by the name of the field, and a line that never comes ("0 0 30 2 *"). */
int cron_parse(const char *text, size_t len, struct cron *cron, struct err *err);

#define CRON_NEVER INT64_MAX

/* The first time after that one, in seconds since 1970; CRON_NEVER: not within decades. */
int64_t cron_next(const struct cron *cron, const struct zone *zone, int64_t after);

/* The last time up to `until`, but after `after`; CRON_NEVER: there is none. */
int64_t cron_last(const struct cron *cron, const struct zone *zone, int64_t after, int64_t until);

/* Room for a line of cron_format. */
#define CRON_LINE_BYTES 600

/* The same in the form of NATS' schedules: six fields without names, or "@every 5m". False: there
 * is none, as a day that begins with "*" and leaves some out goes with days of the week. */
bool cron_format(const struct cron *cron, char *line, size_t size);

#endif
