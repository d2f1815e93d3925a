#include "common/histogram.h"

#include <math.h>
#include <stddef.h>

#define CELLS (HISTOGRAM_POWERS * HISTOGRAM_PARTS)

/* The first 32 cells are of 1 ns each; from there on each 32 cells are as wide as all before. */
static size_t cell_of(uint64_t ns)
{
    if (ns < HISTOGRAM_PARTS)
        return (size_t)ns;
    int power = 63 - __builtin_clzll(ns) - 5; /* 32 to 63: 0 */
    size_t cell = (size_t)(power + 1) * HISTOGRAM_PARTS + (size_t)(ns >> power) - HISTOGRAM_PARTS;
    return cell < CELLS ? cell : CELLS - 1;
}

/* The longest time of a cell. */
static int64_t end_of(size_t cell)
{
    if (cell < HISTOGRAM_PARTS)
        return (int64_t)cell;
    size_t power = cell / HISTOGRAM_PARTS - 1;
    return (int64_t)((cell % HISTOGRAM_PARTS + HISTOGRAM_PARTS + 1) << power) - 1;
}

void histogram_add(struct histogram *histogram, int64_t ns)
{
    if (ns < 0)
        ns = 0;
    histogram->counts[cell_of((uint64_t)ns)]++;
    histogram->count++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

int64_t histogram_percentile(const struct histogram *histogram, double share)
{
    int64_t wanted = (int64_t)ceil(share * (double)histogram->count), seen = 0;
    if (wanted < 1)
        wanted = 1;
    for (size_t cell = 0; cell < CELLS; cell++) {
        seen += histogram->counts[cell];
        if (seen >= wanted)
            return end_of(cell) < histogram->max_ns ? end_of(cell) : histogram->max_ns;
    }
    return 0;
}
