/* log - one event, one line (and a traceback under it in text), to standard error.
 *
 * Text, for people:  14:02:07.123 ERROR orders.lua ORDERS/billing #4711 2/5 orders.lua:14: no_...
 * JSON, for machines: {"time":"2026-01-01T14:02:07.123Z","level":"error","msg":"...",...}
 * with the keys time level msg script handler stream consumer subject sequence attempt code file
 * line traceback; the user's own under "fields". Absent keys are left out.
 *
 * Lines of threads never mix, and nobody waits for who reads them (log_output.h). Control
 * characters and bytes that are not UTF-8 are escaped: a payload cannot forge a line. Any thread.
 * The log is one of the two globals of the process. */
#ifndef MOONBUS_BASE_LOG_H
#define MOONBUS_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };
enum log_format { LOG_AUTO, LOG_TEXT, LOG_JSON }; /* auto: text on a terminal, else JSON */

/* Where an event belongs. Everything may be NULL or 0: then it is left out. All strings are
 * borrowed for the call. */
struct log_context {
    const char *script;  /* "orders.lua" */
    const char *handler; /* "ORDERS/billing", "greet.*", "every 10s" */
    const char *stream, *consumer, *subject;
    uint64_t sequence;
    unsigned attempt, attempts;
    const char *code; /* err_name() */
    const char *file; /* of the line that failed */
    int line;
    const char *traceback;
    const char *fields; /* the user's fields: a JSON object, already encoded */
};

/* Until it is called: info, auto. Not while other threads log. */
void log_setup(enum log_level level, enum log_format format);
bool log_enabled(enum log_level level);

void log_event(enum log_level level, const struct log_context *context, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_debug(...) log_event(LOG_DEBUG, NULL, __VA_ARGS__)
#define log_info(...) log_event(LOG_INFO, NULL, __VA_ARGS__)
#define log_warn(...) log_event(LOG_WARN, NULL, __VA_ARGS__)
#define log_error(...) log_event(LOG_ERROR, NULL, __VA_ARGS__)

/* Parses "debug" "info" "warn" "error" "off"; false for anything else. */
bool log_parse_level(const char *name, enum log_level *level);
bool log_parse_format(const char *name, enum log_format *format);

#endif
