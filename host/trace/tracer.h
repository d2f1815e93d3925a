/* tracer - which traces are recorded, and the queue of their spans.
 *
 *   any thread ── tracer_end ─▶ queue (bounded) ── tracer_take ─▶ the exporter's thread
 *
 * Who ends a span never waits: a queue that is full drops it, and counts that. */
#ifndef MOONBUS_TRACE_TRACER_H
#define MOONBUS_TRACE_TRACER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "trace/trace_sampler.h"
#include "trace/trace_span.h"

struct tracer;

/* Why spans are dropped. */
enum tracer_drop {
    TRACER_FULL,     /* the queue had no room */
    TRACER_MEMORY,   /* no memory: for a span, or to send a batch */
    TRACER_REFUSED,  /* the collector does not want them */
    TRACER_GIVEN_UP, /* it was tried for long enough to send them */
    TRACER_ENDED,    /* the host ended before they were sent */
    TRACER_DROPS
};

struct tracer_counts {
    uint64_t recorded; /* ended, and put into the queue */
    uint64_t exported, dropped[TRACER_DROPS];
    unsigned queued; /* now */
};

/* most: spans in the queue. batch: so many wake who waits in tracer_take. NULL, with err. */
struct tracer *tracer_new(const struct trace_sampler *sampler, unsigned most, unsigned batch,
                          struct err *err);
/* With what is queued. NULL is allowed. */
void tracer_free(struct tracer *tracer);

/* Is a run recorded whose span this will be? parent: what came; NULL: nothing. Any thread. */
bool tracer_takes(const struct tracer *tracer, const struct trace_context *trace,
                  const struct trace_context *parent);

/* The span is over, now at the latest; it is the tracer's from here on. NULL: there was no memory
 * for it, which counts as dropped. Any thread; never blocks. */
void tracer_end(struct tracer *tracer, struct trace_span *span);

/* Blocks until there is a batch, or until_ns (monotonic), or somebody hurries; then takes a batch
 * at most. A list, the caller's; NULL: there is nothing. *count: how many. One thread. */
struct trace_span *tracer_take(struct tracer *tracer, uint64_t until_ns, unsigned *count);
/* From now on tracer_take does not wait. Any thread. */
void tracer_hurry(struct tracer *tracer);

/* What became of spans that were taken. */
void tracer_note_exported(struct tracer *tracer, unsigned count);
void tracer_note_dropped(struct tracer *tracer, enum tracer_drop why, unsigned count);
/* Any thread. */
void tracer_count(struct tracer *tracer, struct tracer_counts *counts);

/* Frees a list of them. */
void tracer_free_spans(struct trace_span *spans);

#endif
