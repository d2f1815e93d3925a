/* bug - see bug.h. */
#include "base/bug.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void report_plainly(const char *text)
{
    fprintf(stderr, "%s\n", text);
}

static void (*_Atomic report_it)(const char *text) = report_plainly;

void bug_report_to(void (*report)(const char *text))
{
    report_it = report;
}

void bug_found(const char *file, int line, const char *condition)
{
    static _Atomic time_t last;
    char text[512];
    snprintf(text, sizeof text, "BUG at %s:%d: %s; please report it, with what is logged before",
             file, line, condition);
    time_t now = time(NULL);
    if (atomic_exchange(&last, now) != now)
        report_it(text);
#ifdef BUG_CHECKED
    abort();
#endif
}
