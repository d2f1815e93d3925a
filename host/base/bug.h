/* bug - what must be true, whatever comes from outside; when it is not, the host is wrong.
 *
 *   BUG_ON(queue->len < 0);
 *
 * logs the place and the condition. With a sanitizer and in a debug build it ends the process with
 * abort(), so that specs fail; what serves in production goes on, for a count that is wrong is
 * better than no service. So it is no way to handle an error, and what stands behind it must be
 * safe without it. */
#ifndef MOONBUS_BASE_BUG_H
#define MOONBUS_BASE_BUG_H

#ifndef NDEBUG
#define BUG_CHECKED
#endif

#define BUG_ON(condition)                                                                          \
    do {                                                                                           \
        if (__builtin_expect(!!(condition), 0))                                                    \
            bug_found(__FILE__, __LINE__, #condition);                                             \
    } while (0)

/* Reports it, once in a second at most. Any thread; a lock of the log may not be held. */
void bug_found(const char *file, int line, const char *condition);

/* What reports it: the log, which stands above this unit and sets itself here (log_setup). Until
 * then a line goes to standard error. text has no line break. */
void bug_report_to(void (*report)(const char *text));

#endif
