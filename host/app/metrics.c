/* The view of the process, and each metric of each thing in it. */
#include "app/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "app/metrics_private.h"
#include "app/report.h"
#include "base/hash.h"

/* The longest name that differs from others: a subject, or a stream and a durable. */
#define HANDLER_MOST 4096

/* --- what there is --- */

static void view_bus(struct metrics_view *view, const struct bus *bus)
{
    struct link *links[] = {bus->consume, bus->publish};
    view->links[0].name = "consume";
    view->links[1].name = "publish";
    view->link_count = 2;
    for (int i = 0; i < 2; i++) {
        link_stat(links[i], &view->links[i].stat);
        link_ask_rtt(links[i]);
    }
    view->publishes_pending = outbox_pending(bus->outbox);
}

/* Of a version that has not served yet nothing is shown. */
static bool is_shown(const struct tally_stat *handler)
{
    return handler->handler &&
           (handler->is_live || handler->sum.attempts > 0 || handler->sum.received > 0 ||
            handler->sum.outcomes[OUTCOME_OK] + handler->sum.outcomes[OUTCOME_FAILED] > 0);
}

static bool same_labels(const struct metric_handler *a, const struct metric_handler *b)
{
    return a->hash == b->hash && a->stat->twin == b->stat->twin &&
           strcmp(a->stat->handler, b->stat->handler) == 0 && strcmp(a->script, b->script) == 0;
}

/* What is counted is kept for handlers of versions that are gone, too, and labels do not say the
 * kind: when a subscription has the name that a hook had, two have equal labels. The one that
 * serves is shown; else the later one. */
static void add_handler(struct metrics_view *view, const char *script,
                        const struct tally_stat *stat)
{
    struct metric_handler handler = {.script = script, .stat = stat};
    handler.hash = hash_add(HASH_START, script, strlen(script) + 1);
    handler.hash = hash_add(handler.hash, stat->handler, strlen(stat->handler));
    for (int i = 0; i < view->handler_count; i++) {
        struct metric_handler *other = &view->handlers[i];
        if (!same_labels(other, &handler))
            continue;
        if (stat->is_live || !other->stat->is_live)
            *other = handler;
        return;
    }
    view->handlers[view->handler_count++] = handler;
}

/* False: out of memory. */
static bool view_handlers(struct metrics_view *view)
{
    size_t most = 1;
    for (int i = 0; i < view->engine->script_count; i++)
        most += (size_t)view->engine->scripts[i].tally_count;
    view->handlers = calloc(most, sizeof *view->handlers);
    for (int i = 0; view->handlers && i < view->engine->script_count; i++) {
        const struct script_stat *script = &view->engine->scripts[i];
        for (int j = 0; j < script->tally_count; j++) {
            if (is_shown(&script->tallies[j]))
                add_handler(view, script->name, &script->tallies[j]);
        }
    }
    return view->handlers;
}

static void view_clear(struct metrics_view *view)
{
    free(view->handlers);
    engine_snapshot_free(view->engine);
}

/* False: out of memory. */
static bool view_make(struct metrics_view *view, struct app *app)
{
    *view = (struct metrics_view){.app = app, .engine = engine_snapshot(app->engine)};
    if (!view->engine || !view_handlers(view)) {
        view_clear(view);
        return false;
    }
    engine_ask_lag(app->engine);
    view->ready = report_is_ready(app, view->engine);
    view->healthy = report_is_healthy(app);
    if (app->bus)
        view_bus(view, app->bus);
    if (app->http)
        http_count(app->http, &view->http);
    if (app->tracer)
        tracer_count(app->tracer, &view->traces);
    process_stat(&view->process);
    return true;
}

/* --- what it is of --- */

/* Of several handlers with one name the second is "orders.* (2)". */
static void label_handler(struct text *labels, const char *script, const struct tally_stat *handler)
{
    char name[HANDLER_MOST];
    metric_label(labels, "script", script);
    if (handler->twin)
        snprintf(name, sizeof name, "%s (%u)", handler->handler, handler->twin + 1);
    metric_label(labels, "handler", handler->twin ? name : handler->handler);
}

static const struct script_stat *stat_of(const struct engine_snapshot *snapshot, const char *name)
{
    for (int i = 0; i < snapshot->script_count; i++) {
        if (strcmp(snapshot->scripts[i].name, name) == 0)
            return &snapshot->scripts[i];
    }
    return NULL;
}

/* --- one metric --- */

static void write_links(struct metric_out *out, const struct metrics_view *view)
{
    struct text labels;
    text_init(&labels);
    for (int i = 0; i < view->link_count; i++) {
        labels.len = 0;
        metric_label(&labels, "connection", view->links[i].name);
        metric_set_labels(out, &labels);
        out->metric->of_link(out, &view->links[i]);
    }
    text_clear(&labels);
}

static void write_scripts(struct metric_out *out, const struct metrics_view *view)
{
    const struct handler_file *file;
    struct text labels;
    text_init(&labels);
    LL_FOREACH(view->app->files, file) {
        struct metric_script script = {file, stat_of(view->engine, file->name)};
        if (!script.stat && change_is_over(&file->change))
            continue;
        labels.len = 0;
        metric_label(&labels, "script", file->name);
        metric_set_labels(out, &labels);
        out->metric->of_script(out, &script);
    }
    text_clear(&labels);
}

static void write_handler(struct metric_out *out, const char *script,
                          const struct tally_stat *handler, struct text *labels)
{
    labels->len = 0;
    label_handler(labels, script, handler);
    if (out->metric->of_durable) {
        metric_label(labels, "stream", handler->stream);
        metric_label(labels, "consumer", handler->durable);
    }
    metric_set_labels(out, labels);
    if (out->metric->of_durable)
        out->metric->of_durable(out, handler);
    else if (out->metric->of_taker)
        out->metric->of_taker(out, handler);
    else
        out->metric->of_handler(out, handler);
}

static bool is_of(const struct metric *metric, const struct tally_stat *handler)
{
    return (!metric->of_durable || handler->durable) &&
           (!metric->of_taker || handler->takes_messages);
}

static void write_handlers(struct metric_out *out, const struct metrics_view *view)
{
    struct text labels;
    text_init(&labels);
    for (int i = 0; i < view->handler_count; i++) {
        const struct metric_handler *handler = &view->handlers[i];
        if (is_of(out->metric, handler->stat))
            write_handler(out, handler->script, handler->stat, &labels);
    }
    text_clear(&labels);
}

static void write_metric(struct metric_out *out, const struct metrics_view *view)
{
    const struct metric *metric = out->metric;
    metric_begin(out);
    out->labels = "";
    if (metric->of_process)
        metric->of_process(out, view);
    else if (metric->of_link)
        write_links(out, view);
    else if (metric->of_script)
        write_scripts(out, view);
    else
        write_handlers(out, view);
}

static void write_table(const struct metric *table, int count, const struct metrics_view *view,
                        enum metrics_format format, struct text *text)
{
    for (int i = 0; i < count; i++) {
        struct metric_out out = {.text = text, .format = format, .metric = &table[i]};
        write_metric(&out, view);
    }
}

bool metrics_write(struct app *app, enum metrics_format format, struct text *text)
{
    struct metrics_view view;
    if (!view_make(&view, app))
        return false;
    write_table(metrics_process, metrics_process_count, &view, format, text);
    write_table(metrics_scripts, metrics_scripts_count, &view, format, text);
    if (format == METRICS_OPEN)
        text_puts(text, "# EOF\n");
    view_clear(&view);
    return !text->failed;
}
