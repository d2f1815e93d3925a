/* log_line - an event of the log as a line: text for people, JSON for machines. base/log.h says
 * what they look like, docs/OPERATING.md what each key means.
 *
 * Pure but for the time zone; any thread. */
#ifndef MOONBUS_BASE_LOG_LINE_H
#define MOONBUS_BASE_LOG_LINE_H

#include "base/log.h"
#include "base/text.h"

/* An event on its way to a line. */
struct log_line {
    enum log_level level;
    const struct log_context *context; /* not owned; never NULL */
    const char *message;               /* not owned; may have any bytes, its end does not count */
    size_t message_len;
    int64_t wall_ns;
    uint64_t repeated; /* it stands for so many that were counted; 0: for itself */
};

/* The line, with its end, is added to `line`. */
void log_line_text(const struct log_line *event, struct text *line);
void log_line_json(const struct log_line *event, struct text *line);

#endif
