/* report - what the admin endpoint tells, as JSON. The main thread's; the caller owns the result.
 */
#ifndef MOONBUS_APP_REPORT_H
#define MOONBUS_APP_REPORT_H

#include <cjson/cJSON.h>
#include <stdbool.h>

struct admin;
struct app;

/* *good: the threads of the process live. */
cJSON *report_health(struct app *app, const struct admin *admin, bool *good);
/* *good: it is connected, everything is served, and it does not stop. */
cJSON *report_ready(struct app *app, bool *good);
cJSON *report_status(struct app *app, const struct admin *admin);

#endif
