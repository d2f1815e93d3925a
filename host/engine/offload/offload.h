/* offload - blocking work of handlers, on threads of its own (limits.offload_threads). Each has its
 * own Lua state with the whole library; arguments and results are plain values, copied.
 *
 *   handler ─ offload_submit ─▶ queue (bounded) ─▶ thread: module, function ─▶ op completes
 *                 └ no room ─▶ line, without arguments ─▶ a place: op completes, submit again
 *
 * A call has one end: done, timed out (the clock), or given up by its handler. What then still runs
 * for nobody is stopped as the watchdog stops handlers, and its result dropped. A thread that is in
 * C and does not come back is lost: another one takes its place, up to as many as there are
 * threads. It ends when it returns, and its place is free again.
 *
 * Threads start when there is work for them. They hold no lock while Lua runs, and touch no
 * instance: a call knows the names of what it needs, not the generation that asked. Lock: one
 * mutex, after the dispatch lock, before the clock's. */
#ifndef MOONBUS_ENGINE_OFFLOAD_OFFLOAD_H
#define MOONBUS_ENGINE_OFFLOAD_OFFLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/offload/offload_stat.h"
#include "engine/run/op.h"
#include "vm/plain.h"
#include "vm/vm.h"

struct clock;
struct offload;
struct offload_call;
struct policy;
struct watchdog;

/* Starts no thread yet. clock and watchdog are not owned. NULL when out of memory. */
struct offload *offload_new(struct clock *clock, struct watchdog *watchdog);

struct offload_stand_in;
/* Before the first call: who answers in the place of threads. Not owned. */
void offload_set_stand_in(struct offload *offload, const struct offload_stand_in *stand_in);

/* From now on so many threads; those that are too many end after their call. Any thread. */
void offload_set_threads(struct offload *offload, int threads);

/* Blocks, until deadline_ns at most: no call begins any more, what runs is stopped, the threads
 * end. The clock must still run. Returns how many did not: they are left behind. Again: counts
 * again. */
int offload_stop(struct offload *offload, uint64_t deadline_ns);

/* When offload_stop has returned 0, or there never was a call. NULL is allowed. */
void offload_free(struct offload *offload);

/* Any thread: how it is. */
void offload_stat(struct offload *offload, struct offload_stat *stat);

/* What is to be called. All strings are copied. */
struct offload_target {
    const char *script, *path; /* as messages call the script; its file, for its folder */
    const char *module, *function;
    struct policy *policy; /* lib, and the memory of a state; retained */
    int64_t timeout_ns;
    const char *trace_id, *span_id; /* of the run that calls, for the log; NULL: it has none */
};

/* How its arguments and results are copied; each: "argument", "result". */
struct plain_rules offload_rules(const struct policy *policy, const char *each);

/* A call that is not under way yet; one reference. NULL when out of memory. */
struct offload_call *offload_call_new(struct offload *offload, const struct offload_target *target);
struct offload_call *offload_call_retain(struct offload_call *call);
void offload_call_release(struct offload_call *call); /* NULL is allowed */

/* The worker: begins the call for op, and owns op's other reference unless it fails. Owns the
 * arguments in any case. When there is no room for them they are released, and the op completes as
 * soon as there is: offload_outcome then says OFFLOAD_TURN, and the call has to be submitted once
 * more. Its timeout runs from the first time. 0; ERR_CLOSED, ERR_TIMEOUT. */
int offload_submit(struct offload_call *call, struct op *op, struct plain *arguments,
                   struct err *err);

/* The worker: nobody waits for it any more. True: op will not complete, its reference is the
 * caller's. op NULL: it has its turn, and will not be submitted. */
bool offload_cancel(struct offload_call *call, struct op *op);

enum offload_outcome { OFFLOAD_TURN, OFFLOAD_RESULTS, OFFLOAD_FAILED };

/* After its op has completed. results: with the call's reference; failure: borrowed. */
enum offload_outcome offload_outcome(struct offload_call *call, struct plain **results,
                                     const struct failure **failure);

#endif
