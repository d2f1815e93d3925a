/* The line of progress. */
#include <stdio.h>
#include <unistd.h>

#include "cli/tune/tune_private.h"

#define BAR 24

static bool is_shown(void)
{
    return isatty(STDERR_FILENO);
}

void tune_progress(const struct tune *tune, const char *title, double rate, double seconds)
{
    double share = (tune->spent + seconds) / tune->budget;
    int full = share < 1 ? (int)(share * BAR) : BAR;
    char bar[BAR + 1];
    if (!is_shown())
        return;
    for (int i = 0; i < BAR; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR] = '\0';
    fprintf(stderr, "\r\033[K[%s] %.0f of %.0f s  %s, %.4g/s", bar, tune->spent + seconds,
            tune->budget, title, rate);
    fflush(stderr);
}

void tune_progress_clear(const struct tune *tune)
{
    (void)tune;
    if (is_shown())
        fprintf(stderr, "\r\033[K");
}
