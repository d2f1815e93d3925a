#include "bus/retry.h"

#include <sys/random.h>

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
    /* One generator a thread: no lock, and no two threads in step (splitmix64). */
    static _Thread_local uint64_t state;

    if (state == 0 && getrandom(&state, sizeof(state), GRND_NONBLOCK) != (ssize_t)sizeof(state))
        state = (uint64_t)(uintptr_t)&state;
    state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1.0p-53;
}
