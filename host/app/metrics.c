/* The view of the process, and each metric of each thing in it. */
#include "app/metrics.h"

#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "app/metrics_private.h"
#include "app/report.h"

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

/* False: out of memory. */
static bool view_make(struct metrics_view *view, struct app *app)
{
    *view = (struct metrics_view){.app = app, .engine = engine_snapshot(app->engine)};
    if (!view->engine)
        return false;
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
    char name[300];
    metric_label(labels, "script", script);
    if (handler->twin)
        snprintf(name, sizeof name, "%.250s (%u)", handler->handler, handler->twin + 1);
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

static void write_handler(struct metric_out *out, const struct script_stat *script,
                          const struct tally_stat *handler, struct text *labels)
{
    labels->len = 0;
    label_handler(labels, script->name, handler);
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

/* Of a version that has not served yet nothing is shown. */
static bool is_shown(const struct tally_stat *handler)
{
    return handler->handler &&
           (handler->is_live || handler->sum.attempts > 0 || handler->sum.received > 0 ||
            handler->sum.outcomes[OUTCOME_OK] + handler->sum.outcomes[OUTCOME_FAILED] > 0);
}

static void write_handlers(struct metric_out *out, const struct metrics_view *view)
{
    struct text labels;
    text_init(&labels);
    for (int i = 0; i < view->engine->script_count; i++) {
        const struct script_stat *script = &view->engine->scripts[i];
        for (int j = 0; j < script->tally_count; j++) {
            const struct tally_stat *handler = &script->tallies[j];
            if (is_shown(handler) && is_of(out->metric, handler))
                write_handler(out, script, handler, &labels);
        }
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
    engine_snapshot_free(view.engine);
    return !text->failed;
}
