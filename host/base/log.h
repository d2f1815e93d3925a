/* log - one event, one line (and a traceback under it in text), to standard error.
 *
 * Text, for people:  14:02:07.123 ERROR orders.lua ORDERS/billing #4711 2/5 orders.lua:14: no_...
 * JSON, for machines: {"time":"2026-01-01T14:02:07.123Z","level":"error","msg":"...",...}
 * with a key for each field of struct log_context that is there (log_line.h), and the user's own
 * under "fields".
 *
 *   log_event ─▶ log_enabled? ─▶ log_storm ─▶ log_line ─▶ log_output
 *                                   └─ said often enough: counted; the count is a line, each 10 s
 *
 * Below its level an event costs one comparison, and takes no lock. Lines of threads never mix, and
 * nobody waits for who reads them (log_output.h). Control characters and bytes that are not UTF-8
 * are escaped: a payload cannot forge a line. Any thread. The log is one of the two globals of the
 * process. */
#ifndef MOONBUS_BASE_LOG_H
#define MOONBUS_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };
enum log_format { LOG_AUTO, LOG_TEXT, LOG_JSON }; /* auto: text on a terminal, else JSON */

/* Where an event belongs, and what became of its message. Everything may be NULL or 0: then it is
 * left out. All strings are borrowed for the call. */
struct log_context {
    const char *script;  /* "orders.lua" */
    const char *handler; /* "ORDERS/billing", "greet.*", "every 10s" */
    const char *stream, *consumer, *subject;
    uint64_t sequence;
    unsigned attempt, attempts;
    unsigned generation;            /* of the script */
    const char *trace_id, *span_id; /* in hex digits; in JSON alone */
    const char *code;               /* err_name() */
    bool tacit;                     /* the sentence says what the code does: text leaves it out */
    bool whole;                     /* the sentence names everything: text has nothing before it */
    const char *verdict; /* how it ended: "ack", "nak", "retry", "term", "dead_letter", ... */
    bool delayed;        /* after a nak or retry: delay_ns is until it comes again */
    int64_t delay_ns;
    const char *dead_letter; /* the subject that it goes to */
    int64_t duration_ns;     /* of the handler's run */
    const char *file;        /* of the line that failed */
    int line;
    const char *traceback;
    const char *fields; /* the user's fields: a JSON object, already encoded */
    bool verbatim;      /* the user's own words: equal to others only where every byte is */
    bool only_trace;    /* it tells of a loss that nothing else will: it is never only counted */
};

/* Until it is called: info, auto. Not while other threads log. */
void log_setup(enum log_level level, enum log_format format);
bool log_enabled(enum log_level level);
/* Any thread, any time. */
void log_set_level(enum log_level level);
enum log_level log_level(void);
/* As it was set up; LOG_AUTO has become one of the others. */
enum log_format log_format(void);

/* From now on each line goes to `write` alone, whose thread logged it; NULL: to standard error
 * again. Not while other threads log. For specs. */
void log_divert(void (*write)(void *owner, const char *line, size_t len), void *owner);

/* From now on `hear` is called with each line of that level or above as JSON, by the thread that
 * logged it; one at a time, and it must not log. NULL: nobody listens; when this returns, nobody is
 * in it any more. There is one listener. */
void log_listen(enum log_level least, void (*hear)(void *owner, const char *line, size_t len),
                void *owner);

/* A time as the log writes it in JSON: "2026-01-01T14:02:07.123Z". */
void log_time(int64_t wall_ns, char *buf, size_t size);

void log_event(enum log_level level, const struct log_context *context, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An error of the process: its code, and its sentence, which says it all. */
void log_err(const struct err *err);

/* Writes what has been counted of repeated events and not been said. Before the process ends. */
void log_tell_counts(void);

#define log_debug(...) log_event(LOG_DEBUG, NULL, __VA_ARGS__)
#define log_info(...) log_event(LOG_INFO, NULL, __VA_ARGS__)
#define log_warn(...) log_event(LOG_WARN, NULL, __VA_ARGS__)
#define log_error(...) log_event(LOG_ERROR, NULL, __VA_ARGS__)

/* Parses "debug" "info" "warn" "error" "off"; false for anything else. */
bool log_parse_level(const char *name, enum log_level *level);
bool log_parse_format(const char *name, enum log_format *format);
/* The same backwards; static. */
const char *log_level_name(enum log_level level);
const char *log_format_name(enum log_format format);

#endif
