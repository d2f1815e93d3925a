/* log - levels and formats, and the way of an event to its line, or to a count. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bug.h"
#include "base/clock.h"
#include "base/log_line.h"
#include "base/log_output.h"
#include "base/log_storm.h"
#include "base/sync.h"
#include "base/text.h"
#include "base/thread.h"
#include "base/value.h"

#define OUTPUT STDERR_FILENO

static struct {
    _Atomic int level, format;
} settings = {LOG_INFO, LOG_AUTO};

static struct {
    void (*write)(void *owner, const char *line, size_t len); /* NULL: none */
    void *owner;
} diversion;

static struct {
    struct mutex lock; /* guards the rest, and is held while it hears */
    void (*hear)(void *owner, const char *line, size_t len); /* NULL: nobody listens */
    void *owner;
    _Atomic int least; /* read without the lock, by those who log what nobody wants to hear */
} listener = {.lock = MUTEX_STATIC, .least = LOG_OFF};

static struct {
    struct mutex lock;    /* guards the rest; under it log_output's and the listener's */
    struct cond more;     /* a count is due before those that the thread knows of */
    struct storms storms; /* of warnings and errors, unless debug is logged */
    bool started, broken; /* the thread that writes the counts; or it could not be */
} counting = {.lock = MUTEX_STATIC, .more = COND_STATIC};

static const char *const format_names[] = {"auto", "text", "json"};

static void report_bug(const char *text)
{
    log_error("%s", text);
}

void log_setup(enum log_level level, enum log_format format)
{
    bug_report_to(report_bug);
    tzset();
    if (format == LOG_AUTO)
        format = isatty(OUTPUT) ? LOG_TEXT : LOG_JSON;
    settings.level = level;
    settings.format = format;
}

void log_listen(enum log_level least, void (*hear)(void *owner, const char *line, size_t len),
                void *owner)
{
    mutex_lock(&listener.lock);
    listener.hear = hear;
    listener.owner = owner;
    listener.least = hear ? least : LOG_OFF;
    mutex_unlock(&listener.lock);
}

void log_set_level(enum log_level level)
{
    settings.level = level;
}

enum log_level log_level(void)
{
    return (enum log_level)settings.level;
}

enum log_format log_format(void)
{
    return (enum log_format)settings.format;
}

void log_divert(void (*write)(void *owner, const char *line, size_t len), void *owner)
{
    diversion.write = write;
    diversion.owner = owner;
}

bool log_enabled(enum log_level level)
{
    return level < LOG_OFF && (int)level >= settings.level;
}

bool log_parse_level(const char *name, enum log_level *level)
{
    for (int i = LOG_DEBUG; i <= LOG_OFF; i++) {
        if (strcmp(name, log_level_name((enum log_level)i)) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_parse_format(const char *name, enum log_format *format)
{
    for (int i = LOG_AUTO; i <= LOG_JSON; i++) {
        if (strcmp(name, format_names[i]) == 0) {
            *format = (enum log_format)i;
            return true;
        }
    }
    return false;
}

const char *log_format_name(enum log_format format)
{
    return format_names[format];
}

static bool wants_text(void)
{
    int format = settings.format;
    return format == LOG_TEXT || (format == LOG_AUTO && isatty(OUTPUT));
}

/* Without the line break at its end. A piece of a line is no JSON: it is left out. */
static void tell_listener(const struct log_line *event)
{
    struct text line;
    if ((int)event->level < listener.least)
        return;
    text_init(&line);
    log_line_json(event, &line);
    mutex_lock(&listener.lock);
    if (listener.hear && !line.failed)
        listener.hear(listener.owner, line.bytes, line.len - 1);
    mutex_unlock(&listener.lock);
    text_clear(&line);
}

static void write_line(const struct log_line *event)
{
    struct text line;
    text_init(&line);
    if (wants_text())
        log_line_text(event, &line);
    else
        log_line_json(event, &line);
    if (diversion.write)
        diversion.write(diversion.owner, line.bytes, line.len);
    else
        log_output_write(line.bytes, line.len);
    text_clear(&line);
    tell_listener(event);
}

/* --- what is counted --- */

static void write_count(const struct storm_count *count)
{
    struct text message;
    char span[32];
    int64_t tenths = (int64_t)(count->span_ns + 50 * NS_PER_MS) / (100 * NS_PER_MS);
    text_init(&message);
    text_printf(&message, "%llu more in %s, the last: %s", (unsigned long long)count->held,
                value_format_duration(tenths * 100 * NS_PER_MS, span, sizeof span),
                count->last->message ? count->last->message : "");
    const struct log_line event = {
        .level = count->level,
        .context = &count->last->context,
        .message = message.bytes,
        .message_len = message.len,
        .wall_ns = clock_wall_ns(),
        .repeated = count->held,
    };
    if (log_enabled(count->level))
        write_line(&event);
    text_clear(&message);
}

static void *write_counts(void *arg)
{
    struct storm_count count;
    (void)arg;
    mutex_lock(&counting.lock);
    for (;;) {
        uint64_t next_ns = storms_next_ns(&counting.storms);
        if (next_ns == UINT64_MAX)
            cond_wait(&counting.more, &counting.lock);
        else
            cond_wait_until(&counting.more, &counting.lock, next_ns);
        while (storms_due(&counting.storms, clock_now_ns(), &count))
            write_count(&count);
    }
    return NULL;
}

void log_tell_counts(void)
{
    struct storm_count count;
    mutex_lock(&counting.lock);
    while (storms_rest(&counting.storms, clock_now_ns(), &count))
        write_count(&count);
    mutex_unlock(&counting.lock);
}

/* Its first call starts the thread that writes the counts. False: there is none. */
static bool has_writer(void)
{
    struct thread thread;
    must_hold(&counting.lock);
    if (!counting.started) {
        counting.started = true;
        counting.broken = thread_start(&thread, "log counts", write_counts, NULL, NULL) != 0;
        if (!counting.broken)
            thread_detach(thread);
    }
    return !counting.broken;
}

/* True: it is counted instead. At debug everything is wanted; what is diverted is for specs. */
static bool hold(const struct log_line *event, const char *format)
{
    if (event->level < LOG_WARN || event->context->only_trace || log_enabled(LOG_DEBUG) ||
        diversion.write)
        return false;
    mutex_lock(&counting.lock);
    uint64_t next_ns = storms_next_ns(&counting.storms);
    bool held =
        !counting.broken && storms_hold(&counting.storms, event->level, event->context, format,
                                        event->message, event->message_len, clock_now_ns());
    if (held && !has_writer()) {
        storms_clear(&counting.storms);
        held = false;
    } else if (held && storms_next_ns(&counting.storms) < next_ns) {
        cond_signal(&counting.more);
    }
    mutex_unlock(&counting.lock);
    return held;
}

/* --- events --- */

/* In the place where the lines are missing. */
static void tell_lost(void)
{
    static const struct log_context lines = {.only_trace = true};
    uint64_t lost = log_output_take_lost();
    if (lost > 0)
        log_event(LOG_WARN, &lines,
                  "%llu events are missing here: the log was not read fast enough",
                  (unsigned long long)lost);
}

void log_err(const struct err *err)
{
    log_event(LOG_ERROR, &(struct log_context){.code = err_name(err->code), .whole = true}, "%s",
              err->message);
}

void log_event(enum log_level level, const struct log_context *context, const char *format, ...)
{
    static const struct log_context nowhere;
    if (!log_enabled(level))
        return;
    int saved_errno = errno;
    tell_lost();
    struct text message;
    text_init(&message);
    va_list args;
    va_start(args, format);
    text_vprintf(&message, format, args);
    va_end(args);

    const struct log_line event = {
        .level = level,
        .context = context ? context : &nowhere,
        .message = message.bytes,
        .message_len = message.len,
        .wall_ns = clock_wall_ns(),
    };
    if (!hold(&event, format))
        write_line(&event);
    text_clear(&message);
    errno = saved_errno;
}
