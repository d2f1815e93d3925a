/* task_spans - what OpenTelemetry is told of a run: its own span, what it sends, its verdicts.
 * Names, kinds and attributes are OpenTelemetry's for messaging. Without a tracer none of it
 * happens; of a trace that is not recorded there are ids alone. */
#include <stdlib.h>
#include <string.h>

#include "base/container.h"
#include "base/value.h"
#include "bus/bus.h"
#include "bus/consume/deadletter.h"
#include "engine/run/run_trace.h"
#include "engine/run/task.h"
#include "engine/source/handling.h"
#include "engine/source/source.h"
#include "engine/version/script.h"
#include "trace/tracer.h"

static struct tracer *tracer_of(const struct task *task)
{
    return task->instance->scripts->tracer;
}

static const struct delivery *only_message(const struct task *root)
{
    return root->batch ? NULL : root->delivery;
}

/* --- what spans say --- */

static void describe(struct trace_span *span, const char *operation, const char *type,
                     const char *destination)
{
    trace_span_text(span, "messaging.system", "nats");
    trace_span_text(span, "messaging.operation.name", operation);
    trace_span_text(span, "messaging.operation.type", type);
    trace_span_text(span, "messaging.destination.name", destination);
}

static void add_field(struct trace_span *span, const char *key, struct span value)
{
    char text[TRACE_TEXT_MOST + 1];
    if (value.at)
        trace_span_text(span, key, span_text(value, text, sizeof text));
}

/* One name for many subjects: backends count by the names of spans. */
static const char *template_of(const struct registration *registration)
{
    const struct consumer_spec *consumer = &registration->consumer;
    if (registration->subject)
        return registration->subject;
    return consumer->filter_count == 1 ? consumer->filters[0] : consumer->stream;
}

static bool has_wildcard(const char *subject)
{
    size_t len = strlen(subject);
    return strchr(subject, '*') || (len > 0 && subject[len - 1] == '>');
}

/* The span of something that is done with the run's messages. */
static void describe_input(struct trace_span *span, const char *operation, const char *type,
                           const struct task *root)
{
    const struct registration *registration = root->registration;
    const char *template = template_of(registration);
    const struct delivery *message = only_message(root);
    describe(span, operation, type,
             message ? message->packet.subject : registration->consumer.stream);
    if (has_wildcard(template))
        trace_span_text(span, "messaging.destination.template", template);
    trace_span_text(span, "messaging.consumer.group.name",
                    registration->subject ? registration->queue : registration->consumer.durable);
    if (message)
        add_field(span, "messaging.message.id",
                  header_block_find(&message->packet.headers, "Nats-Msg-Id"));
}

/* --- the run --- */

static void link_messages(struct trace_span *span, const struct task *root)
{
    struct trace_context came;
    for (int i = 0; i < root->batch_count; i++) {
        if (run_trace_read(root->batch[i], &came))
            trace_span_link(span, &came, (unsigned)root->batch_count);
    }
}

static void fill_span(struct task *root, const struct run_trace *trace)
{
    struct trace_span *span = trace->span;
    const struct delivery *message = only_message(root);
    if (root->delivery)
        describe_input(span, "process", "process", root);
    if (root->batch) {
        trace_span_number(span, "messaging.batch.message_count", root->batch_count);
        link_messages(span, root);
    }
    add_field(span, "messaging.message.conversation_id", trace->correlation_id);
    trace_span_text(span, "moonbus.script", root->source->script->name);
    if (message)
        trace_span_number(span, "moonbus.queued_ms",
                          (int64_t)(root->started_ns - message->arrived_ns) / NS_PER_MS);
    if (message && message->consumer) {
        trace_span_text(span, "moonbus.stream", message->stream);
        trace_span_number(span, "moonbus.sequence", (int64_t)message->stream_sequence);
        trace_span_number(span, "moonbus.attempt", (int64_t)message->attempt);
    }
}

/* What came, by which it is decided whether the run is recorded: of a batch, one whose sender
 * records it, if there is one. False: nothing came. */
static bool find_parent(const struct task *root, const struct run_trace *trace,
                        struct trace_context *parent)
{
    struct trace_context came;
    bool found = false;
    if (!root->batch)
        *parent = trace->context;
    for (int i = 0; i < root->batch_count; i++) {
        if (!run_trace_read(root->batch[i], &came) || (found && !(came.flags & TRACE_SAMPLED)))
            continue;
        *parent = came;
        found = true;
    }
    return root->batch ? found : trace->known;
}

static bool decide(const struct task *root, struct trace_context *context,
                   const struct trace_context *parent)
{
    bool takes = tracer_takes(tracer_of(root), context, parent);
    context->flags = (uint8_t)((context->flags & ~TRACE_SAMPLED) | (takes ? TRACE_SAMPLED : 0));
    return takes;
}

/* A hook may be a loop for as long as its version serves: it has no span, and each thing that it
 * sends begins a trace. */
void task_begin_span(struct task *root)
{
    struct trace_context context, parent;
    enum source_brings brings = root->source->state.brings;
    if (brings == SOURCE_BRINGS_START || brings == SOURCE_BRINGS_STOP)
        return;
    struct run_trace *trace = run_trace_make(&root->trace, only_message(root));
    if (!trace)
        return;
    bool came = find_parent(root, trace, &parent), is_child = came && !root->batch;
    if (is_child)
        trace_context_child(&parent, &context);
    else
        trace_context_begin(&context);
    bool takes = decide(root, &context, came ? &parent : NULL);
    run_trace_set(trace, &context);
    if (!takes)
        return;
    trace->span =
        root->delivery
            ? trace_span_new(&context, is_child ? &parent : NULL, TRACE_CONSUMER, "process",
                             template_of(root->registration))
            : trace_span_new(&context, NULL, TRACE_INTERNAL, root->registration->handler, NULL);
    if (!trace->span)
        return;
    trace_span_state(trace->span, trace->state);
    if (is_child) {
        trace->span->remote = true;
        trace_span_link(trace->span, &parent, 1);
    }
    fill_span(root, trace);
}

/* --- verdicts --- */

static const char *const verdict_names[] = {
    [VERDICT_NONE] = NULL, [VERDICT_ACK] = "ack", [VERDICT_NAK] = "nak", [VERDICT_TERM] = "term"};

static struct trace_span *verdict_span(struct task *root, const struct trace_context *of,
                                       enum verdict verdict)
{
    struct trace_context context;
    trace_context_child(of, &context);
    struct trace_span *span = trace_span_new(&context, of, TRACE_CLIENT, verdict_names[verdict],
                                             template_of(root->registration));
    if (span)
        describe_input(span, verdict_names[verdict], "settle", root);
    return span;
}

static bool is_recorded(const struct task *root)
{
    return root->trace && root->trace->known && (root->trace->context.flags & TRACE_SAMPLED) &&
           tracer_of(root);
}

struct trace_span *task_trace_verdict(struct task *root, struct delivery *delivery,
                                      enum verdict verdict)
{
    if (!is_recorded(root) || handling_of(delivery)->traced)
        return NULL;
    handling_of(delivery)->traced = true;
    return verdict_span(root, &root->trace->context, verdict);
}

/* Those that nobody has recorded: a span for each sort of verdict. */
static void record_verdicts(struct task *root)
{
    int counts[VERDICT_TERM + 1] = {0};
    struct delivery *one = root->delivery, **all = root->batch ? root->batch : &one;
    int count = root->batch ? root->batch_count : one && one->consumer;
    for (int i = 0; i < count; i++) {
        /* A letter has a span of its own, and so has its end. */
        if (!handling_of(all[i])->traced && !delivery_is_letters(all[i]))
            counts[delivery_verdict(all[i])]++;
    }
    for (enum verdict verdict = VERDICT_ACK; verdict <= VERDICT_TERM; verdict++) {
        struct trace_span *span =
            counts[verdict] ? verdict_span(root, &root->trace->context, verdict) : NULL;
        if (span && root->batch)
            trace_span_number(span, "messaging.batch.message_count", counts[verdict]);
        if (counts[verdict])
            tracer_end(tracer_of(root), span);
    }
}

static const char *verdict_of(const struct delivery *delivery)
{
    if (delivery_is_letters(delivery))
        return "dead_letter";
    enum verdict verdict = delivery_verdict(delivery);
    return verdict == VERDICT_NONE ? "again" : verdict_names[verdict];
}

void task_end_span(struct task *root)
{
    struct run_trace *trace = root->trace;
    struct trace_span *span = trace ? trace->span : NULL;
    const struct delivery *message = only_message(root);
    if (!span)
        return;
    record_verdicts(root);
    trace->span = NULL;
    if (message && message->consumer)
        trace_span_text(span, "moonbus.verdict", verdict_of(message));
    if (root->failure)
        trace_span_fail(span, err_name(root->failure->err.code), root->failure->err.message);
    tracer_end(tracer_of(root), span);
}

/* --- what is sent --- */

/* The context of something that is sent, which is a child of *parent, or begins a trace. False: it
 * is not recorded. */
static bool send_context(const struct task *root, struct trace_context *context,
                         const struct trace_context **parent)
{
    const struct run_trace *trace = root->trace;
    *parent = trace && trace->known ? &trace->context : NULL;
    if (!*parent) {
        trace_context_begin(context);
        return decide(root, context, NULL);
    }
    bool takes = (trace->context.flags & TRACE_SAMPLED) != 0;
    if (takes)
        trace_context_child(*parent, context);
    else
        *context = **parent;
    return takes;
}

static bool is_below(const char *subject, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(subject, prefix, len) == 0 && subject[len] == '.';
}

/* Subjects of replies are many, and each of them is used once: those of clients with the common
 * prefix, and with the one that is configured here. */
static const char *shown_subject(const struct task *root, const char *subject)
{
    const struct bus *bus = root->instance->scripts->bus;
    const char *prefix = bus ? bus->options.link.inbox_prefix : NULL;
    bool temporary = is_below(subject, "_INBOX") || (prefix && is_below(subject, prefix));
    return temporary ? "(temporary)" : subject;
}

static struct trace_span *sending_span(struct task *root, const struct task_sending *sending,
                                       const struct trace_context *context,
                                       const struct trace_context *parent)
{
    struct trace_span *span = trace_span_new(context, parent, TRACE_PRODUCER, sending->operation,
                                             shown_subject(root, sending->subject));
    if (!span) {
        tracer_end(tracer_of(root), NULL);
        return NULL;
    }
    describe(span, sending->operation, "send", sending->subject);
    trace_span_text(span, "messaging.message.id", sending->id);
    trace_span_number(span, "messaging.message.body.size", (int64_t)sending->len);
    if (root->trace) {
        trace_span_state(span, root->trace->state);
        add_field(span, "messaging.message.conversation_id", root->trace->correlation_id);
    }
    struct trace_context from;
    if (root->batch && sending->from && run_trace_read(sending->from, &from))
        trace_span_link(span, &from, 1);
    return span;
}

struct trace_span *task_trace_send(struct task *task, const struct task_sending *sending,
                                   struct headers *headers)
{
    struct task *root = task->root;
    struct trace_context context;
    const struct trace_context *as = NULL, *parent;
    struct trace_span *span = NULL;
    if (tracer_of(root)) {
        bool takes = send_context(root, &context, &parent);
        as = &context;
        span = takes ? sending_span(root, sending, &context, parent) : NULL;
    }
    if (root->batch && sending->from)
        run_trace_carry_from(sending->from, as, sending->room, headers);
    else
        run_trace_carry(run_trace_of(&root->trace, only_message(root)), as, sending->room, headers);
    return span;
}

/* --- the dead letter --- */

struct letter_spans {
    struct letter_escort escort;
    struct tracer *tracer;      /* not owned */
    struct trace_span *publish; /* owned; NULL: it is not recorded, as */
    struct trace_span *settle;  /* the termination that follows */
};

static void on_letter_end(struct letter_escort *escort, const struct err *err)
{
    struct letter_spans *spans = container_of(escort, struct letter_spans, escort);
    struct trace_span *publish = spans->publish, *settle = spans->settle;
    if (publish && err)
        trace_span_fail(publish, err_name(err->code), err->message);
    if (publish)
        tracer_end(spans->tracer, publish);
    if (settle && !err) {
        settle->start_ns = clock_wall_ns();
        tracer_end(spans->tracer, settle);
    } else {
        trace_span_free(settle);
    }
    free(spans);
}

struct letter_escort *task_trace_letter(struct task *root, const struct delivery *delivery,
                                        const char *subject)
{
    struct trace_context context;
    const struct trace_context *parent;
    if (!tracer_of(root) || !root->trace || !root->trace->known)
        return NULL;
    struct letter_spans *spans = calloc(1, sizeof *spans);
    if (!spans)
        return NULL;
    const struct task_sending sending = {
        .operation = "publish", .subject = subject, .from = delivery, .len = delivery->packet.len};
    if (send_context(root, &context, &parent)) {
        spans->publish = sending_span(root, &sending, &context, parent);
        spans->settle = verdict_span(root, parent, VERDICT_TERM);
    }
    spans->tracer = tracer_of(root);
    spans->escort.on_end = on_letter_end;
    trace_context_format(&context, spans->escort.traceparent);
    return &spans->escort;
}
