/* log_level - how much the log says, changed while the host runs: by POST /log, by SIGUSR1, by the
 * config file.
 *
 * What was set by hand holds until it is set again, until log.level in the config becomes another
 * one, or until the process ends; a reload of an unchanged log.level leaves it. Each change is a
 * line of the log, at the more talkative of the two levels. The main thread's. */
#ifndef MOONBUS_APP_LOG_LEVEL_H
#define MOONBUS_APP_LOG_LEVEL_H

#include "base/log.h"

struct app;
struct config;

/* by: who wants it, for the log. */
void log_level_set(enum log_level level, const char *by);

/* Debug; where it is debug already the configured level, or info if that is debug. */
void log_level_toggle(const struct app *app, const char *by);

/* Sets the log up as a config says that was just read. */
void log_level_reconfigured(const struct app *app, const struct config *fresh);

#endif
