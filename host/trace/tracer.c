/* tracer - a queue under a lock that is held for a moment. */
#include "trace/tracer.h"

#include <stdlib.h>

#include "base/sync.h"

struct tracer {
    struct trace_sampler sampler; /* never changes, as these */
    unsigned most, batch;

    struct mutex lock;
    struct cond wanted; /* there is a batch, or somebody hurries */
    struct trace_span *first, *last;
    struct tracer_counts counts;
    bool hurried;
};

struct tracer *tracer_new(const struct trace_sampler *sampler, unsigned most, unsigned batch,
                          struct err *err)
{
    struct tracer *tracer = calloc(1, sizeof *tracer);
    if (!tracer) {
        err_set(err, ERR_MEMORY, "no memory for traces");
        return NULL;
    }
    tracer->sampler = *sampler;
    tracer->most = most;
    tracer->batch = batch;
    mutex_init_spinning(&tracer->lock);
    cond_init(&tracer->wanted);
    return tracer;
}

void tracer_free_spans(struct trace_span *spans)
{
    while (spans) {
        struct trace_span *next = spans->next;
        trace_span_free(spans);
        spans = next;
    }
}

void tracer_free(struct tracer *tracer)
{
    if (!tracer)
        return;
    tracer_free_spans(tracer->first);
    cond_destroy(&tracer->wanted);
    mutex_destroy(&tracer->lock);
    free(tracer);
}

bool tracer_takes(const struct tracer *tracer, const struct trace_context *trace,
                  const struct trace_context *parent)
{
    return trace_sampler_takes(&tracer->sampler, trace, parent);
}

/* False: there is no room. */
static bool put_span(struct tracer *tracer, struct trace_span *span)
{
    must_hold(&tracer->lock);
    struct tracer_counts *counts = &tracer->counts;
    if (!span || counts->queued == tracer->most) {
        counts->dropped[span ? TRACER_FULL : TRACER_MEMORY]++;
        return false;
    }
    if (tracer->last)
        tracer->last->next = span;
    else
        tracer->first = span;
    tracer->last = span;
    counts->recorded++;
    if (++counts->queued == tracer->batch)
        cond_signal(&tracer->wanted);
    return true;
}

void tracer_end(struct tracer *tracer, struct trace_span *span)
{
    if (span) {
        trace_span_stop(span);
        span->next = NULL;
    }
    mutex_lock(&tracer->lock);
    bool put = put_span(tracer, span);
    mutex_unlock(&tracer->lock);
    if (!put)
        trace_span_free(span);
}

struct trace_span *tracer_take(struct tracer *tracer, uint64_t until_ns, unsigned *count)
{
    mutex_lock(&tracer->lock);
    while (tracer->counts.queued < tracer->batch && !tracer->hurried &&
           cond_wait_until(&tracer->wanted, &tracer->lock, until_ns))
        ;
    struct trace_span *taken = tracer->first, *last = NULL;
    *count = 0;
    while (tracer->first && *count < tracer->batch) {
        last = tracer->first;
        tracer->first = last->next;
        ++*count;
    }
    if (last)
        last->next = NULL;
    if (!tracer->first)
        tracer->last = NULL;
    tracer->counts.queued -= *count;
    mutex_unlock(&tracer->lock);
    return taken;
}

void tracer_hurry(struct tracer *tracer)
{
    mutex_lock(&tracer->lock);
    tracer->hurried = true;
    cond_broadcast(&tracer->wanted);
    mutex_unlock(&tracer->lock);
}

void tracer_note_exported(struct tracer *tracer, unsigned count)
{
    mutex_lock(&tracer->lock);
    tracer->counts.exported += count;
    mutex_unlock(&tracer->lock);
}

void tracer_note_dropped(struct tracer *tracer, enum tracer_drop why, unsigned count)
{
    mutex_lock(&tracer->lock);
    tracer->counts.dropped[why] += count;
    mutex_unlock(&tracer->lock);
}

void tracer_count(struct tracer *tracer, struct tracer_counts *counts)
{
    mutex_lock(&tracer->lock);
    *counts = tracer->counts;
    mutex_unlock(&tracer->lock);
}
