/* run_trace - the trace that a run belongs to: what came with its message goes along with all that
 * it sends, and stands in its lines of the log.
 *
 *   headers of its message ─▶ run_trace ─▶ run_trace_carry ─▶ headers of publishes, requests,
 *   (traceparent, tracestate,     │                           replies
 *    correlation_id)              └─▶ run_trace_log ─▶ trace_id, span_id
 *
 * Without a tracer the context is what came, and headers are read when somebody asks for the first
 * time: a run whose message has none, or that sends nothing, costs nothing. With one each run has a
 * span of its own (task_spans.c), and that is the context. A batch has several messages, so nothing
 * of them goes along, but where the handler says which one something comes from.
 *
 * Owner: the root of the run, one block; what it spawns asks for its root's. The worker. */
#ifndef MOONBUS_ENGINE_RUN_RUN_TRACE_H
#define MOONBUS_ENGINE_RUN_RUN_TRACE_H

#include "bus/wire.h"
#include "trace/trace_context.h"

struct delivery;
struct log_context;
struct trace_span;

/* To be freed by free, without its span. */
struct run_trace {
    bool known; /* there is a context */
    struct trace_context context;
    struct trace_span *span;    /* owned; of the run, while it goes on; NULL: none is recorded */
    struct span correlation_id; /* borrowed from the message; {NULL, 0}: it has none */
    char trace_id[33], span_id[17];
    char state[]; /* tracestate; "": none */
};

/* The trace of a run, whose place is *kept: filled when it is asked for first. message: the run's;
 * NULL: it has none, or several. NULL: it has no trace, or there is no memory for it. */
const struct run_trace *run_trace_of(struct run_trace **kept, const struct delivery *message);

/* The same, but never NULL unless there is no memory; its context may be set by
 * run_trace_set. */
struct run_trace *run_trace_make(struct run_trace **kept, const struct delivery *message);
void run_trace_set(struct run_trace *trace, const struct trace_context *context);

/* What came with a message; false: nothing. */
bool run_trace_read(const struct delivery *message, struct trace_context *out);

/* Adds traceparent, tracestate and correlation_id to what is to be sent, but for those that its
 * sender has set; nothing when that would be more than `room` bytes. trace: NULL: there is none.
 * as: the context that goes along; NULL: the trace's. */
void run_trace_carry(const struct run_trace *trace, const struct trace_context *as, size_t room,
                     struct headers *headers);

/* The same of a message that is one of several. as: in the place of its own context. */
void run_trace_carry_from(const struct delivery *message, const struct trace_context *as,
                          size_t room, struct headers *headers);

/* Puts the ids in, borrowed. trace: NULL: there is none. */
void run_trace_log(const struct run_trace *trace, struct log_context *context);

#endif
