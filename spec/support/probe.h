/* probe - what unit specs need in C, because a Lua callback cannot run on a thread that is not
 * Lua's: deadlines and jobs that count. */
#ifndef MOONBUS_SPEC_PROBE_H
#define MOONBUS_SPEC_PROBE_H

#include "base/clock.h"
#include "base/pool.h"

struct probe;

/* again_ns > 0: each time it is due, it arms itself again that much later. */
struct probe *probe_new(struct clock *clock, uint64_t again_ns);
void probe_free(struct probe *probe);
struct deadline *probe_deadline(struct probe *probe);
/* How often it was due, and when last (0: never). */
int probe_count(struct probe *probe);
uint64_t probe_fired_ns(struct probe *probe);
/* The name of the thread that ran on_due, and whether SIGTERM is blocked there. */
const char *probe_thread(struct probe *probe);
bool probe_signals_blocked(struct probe *probe);

/* count jobs for the pool; each writes down its turn. `children` more are submitted by each. */
struct probe_jobs;
struct probe_jobs *probe_jobs_new(struct pool *pool, int count, int children);
void probe_jobs_free(struct probe_jobs *jobs);
void probe_jobs_submit(struct probe_jobs *jobs);
/* The same, so many of them at a time. */
void probe_jobs_submit_within(struct probe_jobs *jobs, int most);
/* May those that have begun end? At the beginning they may. */
void probe_jobs_let(struct probe_jobs *jobs, bool may);
int probe_jobs_begun(struct probe_jobs *jobs);
int probe_jobs_done(struct probe_jobs *jobs);
/* Which turn (from 1) the job numbered `index` (from 0) had; 0: it has not run. */
int probe_jobs_turn(struct probe_jobs *jobs, int index);

#endif
