/* retry - how long to wait before trying again. Pure; any thread. */
#ifndef MOONBUS_BUS_RETRY_H
#define MOONBUS_BUS_RETRY_H

#include <stdint.h>

struct backoff {
    int64_t min_ns, max_ns;
    double factor; /* >= 1 */
    double jitter; /* 0..1: the share of the delay by which it may differ, either way */
};

/* The delay after the attempt-th failure (counted from 1): min * factor^(attempt-1), at most max,
 * moved by up to jitter. random01: uniform in [0,1). Never negative, never above max*(1+jitter). */
int64_t backoff_delay_ns(const struct backoff *backoff, uint64_t attempt, double random01);

/* A uniform number in [0,1) from a generator of the calling thread. */
double retry_random(void);

#endif
