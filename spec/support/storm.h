/* storm - threads that take and give back locks and tokens of the process all the time. */
#ifndef SPEC_SUPPORT_STORM_H
#define SPEC_SUPPORT_STORM_H

#include "base/clock.h"
#include "engine/limiters.h"
#include "engine/permits.h"

struct storm_result {
    int taken, timeouts, left_waiting; /* how takes ended */
    int most;                          /* who held the same permit at a time, at most */
    int unanswered;                    /* waits that nobody has ended */
};

/* So many threads, each so many times: takes one of 3 permits with so many places, waiting for
 * nothing, 1 to 3 ms, or for ever; some stop waiting by themselves. ttl_ns: as of a wish. */
struct storm_result storm_permits(struct permits *permits, int threads, int times, int places,
                                  int64_t ttl_ns);

/* So many threads, each so many times: one token of the limit; some do not wait for it. How many
 * tokens were taken; *unanswered as above. */
int storm_limiter(struct limiters *limiters, double rate, double burst, int threads, int times,
                  int *unanswered);

#endif
