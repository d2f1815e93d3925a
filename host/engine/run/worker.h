/* worker - the threads that run Lua. Each takes some messages of a source, or one instance's
 * mailbox, from the ready queue, runs them to their next wait or end, and comes back.
 *
 * When every worker has been in one resume for more than 20 ms and work is ready, a spare one is
 * started, up to twice the number that was asked for: a handler that burns CPU makes nobody wait.
 * A spare stays: it costs a sleeping thread, and where it was needed once it is needed again. */
#ifndef MOONBUS_ENGINE_RUN_WORKER_H
#define MOONBUS_ENGINE_RUN_WORKER_H

#include <stdint.h>

#include "base/err.h"

struct clock;
struct dispatch;
struct source;
struct workers;

/* Starts them. clock and dispatch, which has its watchdog, are not owned. NULL with err. */
struct workers *workers_new(struct clock *clock, struct dispatch *dispatch, int count,
                            struct err *err);

/* What lost threads had, outside of all locks: nak, for it is not known whose fault it is. */
void workers_hand_back(struct workers *workers, int64_t delay_ns);

/* Logs each lost thread that is not logged yet. most: limits.max_stuck. */
void workers_log_lost(struct workers *workers, int most);

/* With the dispatch lock held: how many of them run something of this source. *oldest_ns becomes
 * when the first of them began, if that was earlier. */
int workers_stuck(const struct workers *workers, const struct source *source, uint64_t *oldest_ns);

/* How many threads have something to do; *count: how many there are. */
int workers_busy(struct workers *workers, int *count);

/* How many threads are lost to handlers that nothing could stop, and have not come back. */
int workers_lost(struct workers *workers);

/* Blocks up to deadline_ns: ends the threads (dispatch.stopping is set). How many would not end:
 * they are stuck in Lua, and are left behind. */
int workers_stop(struct workers *workers, uint64_t deadline_ns);

/* When workers_stop returned 0. */
void workers_free(struct workers *workers);

#endif
