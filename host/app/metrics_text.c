/* Samples as the text formats of Prometheus and OpenMetrics have them, which differ in little: a
 * counter's own lines are without _total in the second, units are told, and it has an end. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/metrics_private.h"
#include "base/join.h"
#include "base/value.h"

/* --- labels --- */

/* What is no UTF-8, or a control character, is shown as text first. */
static void add_escaped(struct text *text, const char *value)
{
    struct text clean;
    text_init(&clean);
    text_escape(&clean, value, strlen(value));
    for (size_t i = 0; i < clean.len; i++) {
        if (clean.bytes[i] == '\\' || clean.bytes[i] == '"')
            text_add(text, "\\", 1);
        text_add(text, &clean.bytes[i], 1);
    }
    text->failed |= clean.failed;
    text_clear(&clean);
}

void metric_label(struct text *labels, const char *name, const char *value)
{
    if (labels->len)
        text_add(labels, ",", 1);
    text_puts(labels, name);
    text_add(labels, "=\"", 2);
    add_escaped(labels, value ? value : "");
    text_add(labels, "\"", 1);
}

void metric_set_labels(struct metric_out *out, struct text *labels)
{
    text_add(labels, "", 1); /* its NUL */
    out->text->failed |= labels->failed;
    out->labels = labels->failed ? "" : labels->bytes;
}

/* --- lines --- */

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name), end_len = strlen(end);
    return len > end_len && strcmp(name + len - end_len, end) == 0;
}

void metric_begin(struct metric_out *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    const struct metric *metric = out->metric;
    bool open = out->format == METRICS_OPEN;
    const char *total = metric->type == COUNTER && !open ? "_total" : "";
    const char *unit = ends_with(metric->name, "_seconds") ? "seconds"
                       : ends_with(metric->name, "_bytes") ? "bytes"
                                                           : NULL;
    text_printf(out->text, "# HELP %s%s %s\n", metric->name, total, metric->help);
    text_printf(out->text, "# TYPE %s%s %s\n", metric->name, total, types[metric->type]);
    if (unit && open)
        text_printf(out->text, "# UNIT %s %s\n", metric->name, unit);
}

/* Numbers are written for each of thousands of samples: printf would take most of the time. */
struct figure {
    char text[64];
};

static struct figure figure_of_count(uint64_t count)
{
    struct figure figure;
    struct join join = join_in(figure.text, sizeof figure.text);
    join_number(&join, count);
    return figure;
}

/* With as many digits as there are: 0.25, 12.0 */
static struct figure figure_of_seconds(uint64_t ns)
{
    struct figure figure;
    char digits[] = "000000000";
    uint64_t rest = ns % NS_PER_S;
    for (int i = 8; i >= 0; i--, rest /= 10)
        digits[i] = (char)('0' + rest % 10);
    for (int i = 8; i > 0 && digits[i] == '0'; i--)
        digits[i] = '\0';
    struct join join = join_in(figure.text, sizeof figure.text);
    join_number(&join, ns / NS_PER_S);
    join_text(&join, ".");
    join_text(&join, digits);
    return figure;
}

/* suffix: of a histogram; label: one more, or NULL. */
static void add_sample(struct metric_out *out, const char *suffix, const char *label,
                       const char *value, const char *number)
{
    struct text *text = out->text;
    text_puts(text, out->metric->name);
    text_puts(text, suffix);
    if (*out->labels || label)
        text_add(text, "{", 1);
    text_puts(text, out->labels);
    if (label) {
        if (*out->labels)
            text_add(text, ",", 1);
        text_puts(text, label);
        text_add(text, "=\"", 2);
        text_puts(text, value);
        text_add(text, "\"", 1);
    }
    if (*out->labels || label)
        text_add(text, "}", 1);
    text_add(text, " ", 1);
    text_puts(text, number);
    text_add(text, "\n", 1);
}

static const char *suffix_of(const struct metric_out *out)
{
    return out->metric->type == COUNTER ? "_total" : "";
}

void metric_count(struct metric_out *out, uint64_t count)
{
    add_sample(out, suffix_of(out), NULL, NULL, figure_of_count(count).text);
}

void metric_number(struct metric_out *out, double number)
{
    char text[64];
    snprintf(text, sizeof text, "%.15g", number);
    add_sample(out, suffix_of(out), NULL, NULL, text);
}

void metric_seconds(struct metric_out *out, uint64_t ns)
{
    add_sample(out, suffix_of(out), NULL, NULL, figure_of_seconds(ns).text);
}

void metric_count_by(struct metric_out *out, const char *label, const char *value, uint64_t count)
{
    add_sample(out, suffix_of(out), label, value, figure_of_count(count).text);
}

void metric_count_by_code(struct metric_out *out, const char *label, const char *none,
                          const uint64_t *counts)
{
    if (none)
        metric_count_by(out, label, none, counts[0]);
    for (int i = 1; i < TALLY_CODES; i++) {
        if (counts[i] > 0)
            metric_count_by(out, label, err_name((enum err_code) - i), counts[i]);
    }
}

void metric_histogram(struct metric_out *out, const struct stat_sum *sum)
{
    uint64_t count = 0;
    for (int i = 0; i < STAT_BUCKETS; i++) {
        struct figure bound = {"+Inf"};
        if (i < STAT_BOUNDS)
            bound = figure_of_seconds(stat_bounds_ns[i]);
        count += sum->buckets[i];
        add_sample(out, "_bucket", "le", bound.text, figure_of_count(count).text);
    }
    add_sample(out, "_sum", NULL, NULL, figure_of_seconds(sum->sum_ns).text);
    add_sample(out, "_count", NULL, NULL, figure_of_count(count).text);
}

void metric_info(struct metric_out *out, ...)
{
    struct text labels;
    const char *before = out->labels, *name;
    va_list args;
    text_init(&labels);
    text_puts(&labels, before);
    va_start(args, out);
    while ((name = va_arg(args, const char *)))
        metric_label(&labels, name, va_arg(args, const char *));
    va_end(args);
    metric_set_labels(out, &labels);
    metric_count(out, 1);
    out->labels = before;
    text_clear(&labels);
}

/* --- which format --- */

#define OPEN_METRICS "application/openmetrics-text"

/* The q of one of the ranges that Accept lists, in thousandths; *at: its end. */
static int quality_of(const char **at)
{
    const char *end = *at + strcspn(*at, ",");
    const char *q = *at;
    int quality = 1000;
    while (q < end && (q = memchr(q, ';', (size_t)(end - q)))) {
        q += 1 + strspn(q + 1, " \t");
        if (strncasecmp(q, "q=", 2) == 0)
            quality = (int)(strtod(q + 2, NULL) * 1000);
    }
    *at = end;
    return quality;
}

static bool is_range(const char *at, const char *name)
{
    size_t len = strlen(name);
    return strncasecmp(at, name, len) == 0 && strchr(",; \t", at[len]);
}

enum metrics_format metrics_format(const char *accept)
{
    int open = 0, plain = 0;
    for (const char *at = accept ? accept : ""; *at; at += strspn(at, ", \t")) {
        bool is_open = is_range(at, OPEN_METRICS), is_plain = is_range(at, "text/plain");
        int quality = quality_of(&at);
        if (is_open && quality > open)
            open = quality;
        if (is_plain && quality > plain)
            plain = quality;
    }
    return open > 0 && open >= plain ? METRICS_OPEN : METRICS_TEXT;
}

const char *metrics_content_type(enum metrics_format format)
{
    return format == METRICS_OPEN ? OPEN_METRICS "; version=1.0.0; charset=utf-8"
                                  : "text/plain; version=0.0.4; charset=utf-8";
}
