/* log_level - who has the last word on how much the log says. */
#include "app/log_level.h"

#include "app/app_private.h"

/* The least severe that shows at this level; it is for people who run the host. */
static enum log_level shown_at(enum log_level level)
{
    return level < LOG_INFO ? LOG_INFO : level;
}

void log_level_set(enum log_level level, const char *by)
{
    enum log_level before = log_level();
    if (level == before)
        return;
    bool more = level < before;
    if (more)
        log_set_level(level);
    log_event(shown_at(more ? level : before), NULL, "log.level: %s -> %s, by %s",
              log_level_name(before), log_level_name(level), by);
    log_set_level(level);
}

void log_level_toggle(const struct app *app, const char *by)
{
    enum log_level configured = app->config->log_level;
    enum log_level calm = configured == LOG_DEBUG ? LOG_INFO : configured;
    log_level_set(log_level() == LOG_DEBUG ? calm : LOG_DEBUG, by);
}

void log_level_reconfigured(const struct app *app, const struct config *fresh)
{
    bool changed = fresh->log_level != app->config->log_level;
    log_setup(changed ? fresh->log_level : log_level(), fresh->log_format);
}
