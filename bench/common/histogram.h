/* histogram - times by how long they were, in a few KB, however many there are: each power of two
 * is divided into 32 equal parts, so what it tells is at most 3 % above what was. Of one thread at
 * a time. */
#ifndef MOONBUS_BENCH_HISTOGRAM_H
#define MOONBUS_BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_PARTS 32
#define HISTOGRAM_POWERS 36 /* up to 18 minutes in nanoseconds; what is longer counts as that */

/* All zero: empty. */
struct histogram {
    uint32_t counts[HISTOGRAM_POWERS * HISTOGRAM_PARTS];
    int64_t count, max_ns;
};

/* A time below 0 counts as 0. */
void histogram_add(struct histogram *histogram, int64_t ns);

/* The time that the given share of all did not exceed; 0 when there are none. share: 0 to 1. */
int64_t histogram_percentile(const struct histogram *histogram, double share);

#endif
