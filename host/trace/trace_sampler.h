/* trace_sampler - which traces are recorded: by what whoever began them decided, and by ratio.
 *
 * Pure, any thread. */
#ifndef MOONBUS_TRACE_TRACE_SAMPLER_H
#define MOONBUS_TRACE_TRACE_SAMPLER_H

#include <stdbool.h>

#include "trace/trace_context.h"

struct trace_sampler {
    bool by_parent; /* a trace that came is recorded if its sender records it */
    double ratio;   /* of the others, or of all, from 0 to 1 */
};

/* The names of OTEL_TRACES_SAMPLER: always_on, always_off, traceidratio (which takes `ratio`), and
 * the same behind parentbased_. False: it is none of them. */
bool trace_sampler_named(const char *name, double ratio, struct trace_sampler *out);

/* Is this trace recorded? parent: what came; NULL: it begins here. The same trace gets the same
 * answer in each process with the same ratio. */
bool trace_sampler_takes(const struct trace_sampler *sampler, const struct trace_context *trace,
                         const struct trace_context *parent);

#endif
