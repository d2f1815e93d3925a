/* Exponential backoff, with jitter. */
#include "bus/retry.h"

#include "base/random.h"

int64_t backoff_delay_ns(const struct backoff *backoff, uint64_t attempt, double random01)
{
    double max = (double)backoff->max_ns, delay = (double)backoff->min_ns;
    /* Multiplied step by step and left at the bound: pow() of a large attempt is infinite, and
     * with a factor of 1 the loop must not run for as many attempts as there were. */
    if (backoff->factor > 1)
        for (uint64_t i = 1; i < attempt && delay > 0 && delay < max; i++)
            delay *= backoff->factor;
    if (delay > max)
        delay = max;

    delay += delay * backoff->jitter * (2 * random01 - 1);
    return delay > 0 ? (int64_t)delay : 0;
}

double retry_random(void)
{
    return (double)(random_number() >> 11) * 0x1.0p-53;
}
