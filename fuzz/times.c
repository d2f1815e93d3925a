/* Cron lines, and files of time zones.
 *
 *   c LINE    a cron line      z BYTES   a TZif file */
#include <stdlib.h>
#include <string.h>

#include "base/cron.h"
#include "base/zone.h"
#include "fuzz.h"

#define START INT64_C(1774746000) /* 2026-03-29: Berlin is about to put its clocks forward */
#define DAY_S INT64_C(86400)

static bool is_one_line(const char *text)
{
    for (; *text; text++) {
        if (((unsigned char)*text < ' ' && *text != '\t') || *text == 0x7f)
            return false;
    }
    return true;
}

/* Its times rise, and the last one up to each is that one. */
static void check_times(const struct cron *cron, const struct zone *zone, int64_t start)
{
    int64_t time = start;
    for (int i = 0; i < 5; i++) {
        int64_t next = cron_next(cron, zone, time);
        MUST(next > time);
        if (next == CRON_NEVER)
            return;
        MUST(cron_last(cron, zone, time, next) == next);
        MUST(cron_last(cron, zone, time, next - 1) == CRON_NEVER || next - 1 == time);
        MUST(cron_next(cron, zone, next - 1) == next);
        time = next;
    }
}

/* What NATS is told comes at the same times. */
static void check_format(const struct cron *cron, const struct zone *utc)
{
    char line[CRON_LINE_BYTES];
    struct cron same;
    int64_t time = START;
    if (!cron_format(cron, line, sizeof line))
        return;
    if (strlen(line) > 200) /* longer than people may write them */
        return;
    MUST(cron_parse(line, strlen(line), &same, NULL) == 0);
    for (int i = 0; i < 5 && time != CRON_NEVER; i++) {
        int64_t next = cron_next(cron, utc, time);
        MUST(cron_next(&same, utc, time) == next);
        time = next;
    }
}

static void line(const char *text, size_t len)
{
    struct err err;
    struct cron cron;
    int code = cron_parse(text, len, &cron, &err);
    if (code) {
        fuzz_check_err(&err, code);
        MUST(code == ERR_INVALID && is_one_line(err.message));
        return;
    }
    struct zone *utc = zone_open("UTC", &err);
    MUST(utc);
    check_times(&cron, utc, START);
    check_format(&cron, utc);
    zone_release(utc);
}

static void file(const uint8_t *data, size_t size)
{
    struct err err;
    struct cron cron;
    struct zone *zone = zone_parse("any", data, size, &err);
    if (!zone) {
        fuzz_check_err(&err, err.code);
        return;
    }
    struct zone_span span = zone_span_at(zone, START);
    MUST(span.from <= START && START < span.to);
    for (int i = 0; i < 20 && span.to != ZONE_FOR_EVER; i++) {
        struct zone_span next = zone_span_at(zone, span.to);
        MUST(next.from == span.to && next.offset_before == span.offset);
        MUST(next.offset != span.offset);
        span = next;
    }
    MUST(cron_parse("30 2 * * *", 10, &cron, NULL) == 0);
    check_times(&cron, zone, START);
    zone_release(zone);
}

void fuzz_times(const uint8_t *data, size_t size)
{
    struct input input = {data, data + size};
    uint8_t kind = input_byte(&input);
    if (kind == 'z') {
        file(input.at, input_left(&input));
        return;
    }
    size_t len;
    char *text = input_rest(&input, &len);
    line(text, len);
    free(text);
}
