/* metrics - GET /metrics: the snapshot of the engine, and what else the process has to say, in the
 * text formats of Prometheus (0.0.4) and of OpenMetrics (1.0.0).
 *
 *   metrics_view (the snapshot, connections, the process ...) ──▶ rows ──▶ text
 *
 * One row is one metric: its name, its type, what it says, and the function that reads it. Rows are
 * in metrics_scripts.c (scripts, handlers, durables) and metrics_process.c (everything else);
 * docs/METRICS.md is their list. On the main thread. */
#ifndef MOONBUS_APP_METRICS_H
#define MOONBUS_APP_METRICS_H

#include <stdbool.h>

struct app;
struct text;

enum metrics_format { METRICS_TEXT, METRICS_OPEN };

/* Which of the two the header Accept asks for; NULL: there is none. Pure. */
enum metrics_format metrics_format(const char *accept);
/* Its Content-Type; static. */
const char *metrics_content_type(enum metrics_format format);

/* Adds all of it. False: out of memory. */
bool metrics_write(struct app *app, enum metrics_format format, struct text *text);

#endif
