/* report - the answers of the admin endpoint, as JSON. On the main thread; the caller owns the
 * result. */
#ifndef MOONBUS_APP_REPORT_H
#define MOONBUS_APP_REPORT_H

#include <stdbool.h>

struct cJSON;

struct app;
struct engine_snapshot;

/* *good: the threads of the process are alive. */
struct cJSON *report_health(struct app *app, bool *good);
/* *good: it is connected, serves everything, and is not stopping. */
struct cJSON *report_ready(struct app *app, bool *good);
/* The same without the reasons. */
bool report_is_healthy(struct app *app);
bool report_is_ready(struct app *app, const struct engine_snapshot *snapshot);
/* quotes: with the texts of handlers' errors, which may quote messages. */
struct cJSON *report_status(struct app *app, bool quotes);
/* What has run for the longest (`most` at most), what went wrong lately, what was reloaded. */
struct cJSON *report_recent(struct app *app, int most);
/* How much the log says, and how. */
struct cJSON *report_log(const struct app *app);

#endif
