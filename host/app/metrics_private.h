/* metrics_private - what the files of metrics share; nobody else includes it.
 *
 *   metrics.c          gathers the view, and writes each row for each thing that it is of
 *   metrics_text.c     samples as text; the header Accept
 *   metrics_scripts.c  rows of scripts, handlers and durables
 *   metrics_process.c  rows of the process, its connections, and what it has one of */
#ifndef MOONBUS_APP_METRICS_PRIVATE_H
#define MOONBUS_APP_METRICS_PRIVATE_H

#include <stdint.h>

#include "app/app_private.h"
#include "app/metrics.h"
#include "app/process_stat.h"
#include "base/stat.h"
#include "base/text.h"
#include "bus/link/link.h"
#include "bus/outbox/publish.h"
#include "engine/engine.h"
#include "http/http.h"
#include "trace/tracer.h"

/* A script: its file, and what the engine has of it. */
struct metric_script {
    const struct handler_file *file; /* not owned */
    const struct script_stat *stat;  /* NULL: it has never loaded, or has ended */
};

struct metric_link {
    const char *name;
    struct link_stat stat;
};

/* A handler that has samples. Its labels are those of no other. */
struct metric_handler {
    const char *script;
    const struct tally_stat *stat;
    uint64_t hash; /* of script and handler */
};

/* All that rows read from. Lives for one answer. */
struct metrics_view {
    const struct app *app;
    bool ready, healthy;
    struct engine_snapshot *engine;  /* owned */
    struct metric_handler *handlers; /* owned */
    int handler_count;
    struct metric_link links[2];
    int link_count; /* 0: it is not set up yet */
    int publishes_pending;
    struct http_counts http;
    struct tracer_counts traces; /* all zero: none are recorded */
    struct process_stat process;
};

enum metric_type { COUNTER, GAUGE, HISTOGRAM };

/* Where samples of a row go. */
struct metric_out;

/* One metric. Exactly one of the functions is there: what it has a sample of for each. */
struct metric {
    const char *name; /* without _total, which a counter gets */
    enum metric_type type;
    const char *help;
    void (*of_process)(struct metric_out *out, const struct metrics_view *view);
    void (*of_link)(struct metric_out *out, const struct metric_link *link);
    void (*of_script)(struct metric_out *out, const struct metric_script *script);
    void (*of_handler)(struct metric_out *out, const struct tally_stat *handler);
    void (*of_taker)(struct metric_out *out, const struct tally_stat *taker); /* of messages */
    void (*of_durable)(struct metric_out *out, const struct tally_stat *durable);
};

extern const struct metric metrics_scripts[], metrics_process[];
extern const int metrics_scripts_count, metrics_process_count;

/* --- metrics_text.c: what a row's function calls, as often as it has samples --- */

/* The sample of a counter or gauge. */
void metric_count(struct metric_out *out, uint64_t count);
void metric_number(struct metric_out *out, double number);
void metric_seconds(struct metric_out *out, uint64_t ns);
/* One of several, which a label tells apart. Its value is one of a bounded number, and nothing that
 * came in a message. */
void metric_count_by(struct metric_out *out, const char *label, const char *value, uint64_t count);
/* Of the counts by error code (err.h) those that are not 0; what index 0 is called: NULL, it is
 * left out. */
void metric_count_by_code(struct metric_out *out, const char *label, const char *none,
                          const uint64_t *counts);
void metric_histogram(struct metric_out *out, const struct stat_sum *sum);
/* What is always 1, and is there for its labels: a NULL value is "". NULL-ended. */
void metric_info(struct metric_out *out, ...);

/* --- metrics_text.c, for metrics.c --- */

struct metric_out {
    struct text *text;
    enum metrics_format format;
    const struct metric *metric;
    const char *labels; /* of what it is of: script="orders.lua",handler="x"; "" for none */
};

/* The lines that a metric begins with. */
void metric_begin(struct metric_out *out);
/* Adds a label to some, with its value escaped; no comma before the first. */
void metric_label(struct text *labels, const char *name, const char *value);
/* The next samples have these labels, as long as nothing is added to them. */
void metric_set_labels(struct metric_out *out, struct text *labels);

#endif
