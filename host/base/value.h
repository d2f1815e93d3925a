/* value - the values that people write: durations, sizes, subjects, names.
 *
 * Pure functions, any thread. Every error names the value and the form that is wanted;
 * callers put the field's name before it (err_prefix). */
#ifndef MOONBUS_BASE_VALUE_H
#define MOONBUS_BASE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

/* The longest duration that is believed: 10 years. Above it, someone meant nanoseconds. */
#define VALUE_DURATION_MAX_NS (INT64_C(10) * 365 * 24 * 3600 * NS_PER_S)

/* Parses "250ms", "5s", "2m", "1h", "1m30s", "1.5s", or a bare number of seconds ("30").
 * Units: ns us ms s m h d, falling where there are several. Not negative. text need not end in NUL.
 */
int value_duration(const char *text, size_t len, int64_t *ns, struct err *err);

/* A number of seconds as a duration; refuses NaN, negatives, and more than
 * VALUE_DURATION_MAX_NS with a hint that NATS' JSON counts nanoseconds but moonbus seconds. */
int value_seconds(double seconds, int64_t *ns, struct err *err);

/* Parses "64KB", "64MB", "1GB", "512B" (1024-based; "K" "KiB" are understood too) or bytes. */
int value_size(const char *text, size_t len, int64_t *bytes, struct err *err);

/* Writes a duration as people write it ("1m30s", "250ms", "0s") to buf (32 bytes are enough).
 * Exact: value_duration reads it back as the same; round what was computed before showing it.
 * Returns buf. */
char *value_format_duration(int64_t ns, char *buf, size_t size);

/* Room for a time with all nine digits. */
#define VALUE_TIME_BYTES 40

/* Writes a time of the wall clock as of RFC 3339, in UTC: "2026-01-02T03:04:05.678Z"; with so many
 * digits of the second's fraction, 0 to 9. Returns buf. */
char *value_format_time(int64_t wall_ns, int digits, char *buf, size_t size);

#define SUBJECT_MAX_BYTES 2000

enum subject_use {
    SUBJECT_PUBLISH,   /* no wildcards; inside a token "*" and ">" are none */
    SUBJECT_SUBSCRIBE, /* "*" and a last ">" are allowed */
};

/* Checks a subject: not empty, at most 2000 bytes, no empty token, no white space or control
 * character, wildcards only as whole tokens and only where `use` allows them. The error names the
 * subject. */
int subject_check(const char *subject, size_t len, enum subject_use use, struct err *err);

/* Checks the name of a stream, consumer or queue: not empty, at most 255 bytes, no white space or
 * control character, no '.', '*', '>', '/' or '\\' (ADR-6). what: "stream name", for the error. */
int name_check(const char *what, const char *name, size_t len, struct err *err);

/* Does the pattern (with wildcards) take the subject? Both must have passed subject_check. */
bool subject_matches(const char *pattern, const char *subject);

/* Is there a subject that both take? Either may have wildcards; both must have passed
 * subject_check. */
bool subject_overlaps(const char *a, const char *b);

#endif
