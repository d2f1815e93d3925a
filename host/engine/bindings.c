/* bindings - from the task that runs to the parts of the engine and the bus. */
#include "engine/bindings.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/log.h"
#include "base/value.h"
#include "bus/bus.h"
#include "bus/consume/delivery.h"
#include "engine/engine_private.h"
#include "engine/run/run_trace.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/policy.h"
#include "trace/tracer.h"

static struct engine *engine_of(const struct instance *instance)
{
    return container_of(instance->scripts, struct engine, scripts);
}

static struct bus *bus_of(const struct instance *instance)
{
    return instance->scripts->bus;
}

static struct link_flow *flow_of(const struct instance *instance)
{
    return instance->generation->script->flow;
}

const char *binding_script_name(const struct instance *instance)
{
    return instance->generation->script->name;
}

unsigned binding_generation(const struct instance *instance)
{
    return instance->generation->number;
}

const char *binding_settings(const struct instance *instance)
{
    return instance->generation->policy->settings_json;
}

const char *binding_version(const struct instance *instance)
{
    const char *version = engine_of(instance)->version;
    return version ? version : "";
}

struct http *binding_http(const struct instance *instance)
{
    return engine_of(instance)->http;
}

int64_t binding_request_timeout_ns(const struct instance *instance)
{
    return atomic_load(&engine_of(instance)->request_timeout_ns);
}

enum number_big binding_json_big(const struct instance *instance)
{
    return (enum number_big)atomic_load(&engine_of(instance)->json_big);
}

int binding_send(struct task *task, struct link_frame *frame, struct err *err)
{
    frame->flow = flow_of(task->instance);
    return link_send(bus_of(task->instance)->publish, LANE_BULK, frame, err);
}

void binding_leave(const struct instance *instance, struct link_frame *frame)
{
    frame->flow = flow_of(instance);
    link_send(bus_of(instance)->publish, LANE_BULK, frame, NULL);
}

static const struct run_trace *trace_of(struct task *task)
{
    struct task *root = task->root;
    return run_trace_of(&root->trace, root->batch ? NULL : root->delivery);
}

/* No stream stores a message with more headers than 65535 bytes (JetStream's error 10097). */
#define HEADERS_BYTES_MOST 60000
/* For what the outbox adds: its message id. */
#define ID_ROOM 1400

static size_t trace_room(const struct task *task, size_t len, const struct headers *headers)
{
    size_t used = headers->len ? headers_wire_size(headers) : 0;
    size_t most = link_max_payload(bus_of(task->instance)->publish);
    size_t room = used < HEADERS_BYTES_MOST ? HEADERS_BYTES_MOST - used : 0;
    size_t left = used + len + ID_ROOM < most ? most - used - len - ID_ROOM : 0;
    return room < left ? room : left;
}

/* Most runs have nothing that goes along, and are not recorded: that is all they pay. */
static bool has_trace(const struct task *task, const struct delivery *from)
{
    const struct task *root = task->root;
    return task->instance->scripts->tracer || root->trace || from ||
           (root->delivery && root->delivery->packet.headers.at);
}

void binding_carry_trace(struct task *task, size_t len, struct headers *headers)
{
    if (!has_trace(task, NULL))
        return;
    run_trace_carry(trace_of(task), NULL, trace_room(task, len, headers), headers);
}

struct trace_span *binding_trace_send(struct task *task, struct task_sending *sending,
                                      struct headers *headers)
{
    if (!has_trace(task, sending->from))
        return NULL;
    sending->room = trace_room(task, sending->len, headers);
    return task_trace_send(task, sending, headers);
}

void binding_end_span(struct task *task, struct trace_span *span, const struct err *err)
{
    if (!span)
        return;
    if (err)
        trace_span_fail(span, err_name(err->code), err->message);
    tracer_end(task->instance->scripts->tracer, span);
}

void binding_end_op_span(struct op *op, const struct err *err)
{
    struct trace_span *span = op->span;
    op->span = NULL;
    if (span && err)
        trace_span_fail(span, err_name(err->code), err->message);
    if (span)
        tracer_end(op->instance->scripts->tracer, span);
}

void binding_name_span(struct op *op, struct span id)
{
    char text[1400];
    if (!op->span || trace_span_has(op->span, "messaging.message.id"))
        return;
    trace_span_text(op->span, "messaging.message.id", span_text(id, text, sizeof text));
}

void binding_fail_span(struct op *op, const struct err *err)
{
    if (op->span && !op->span->error)
        trace_span_fail(op->span, err_name(err->code), err->message);
}

bool binding_trace_texts(struct task *task, char *parent, const char **state)
{
    const struct run_trace *trace = trace_of(task);
    _Static_assert(BINDING_PARENT_SIZE == TRACE_PARENT_SIZE, "it has room");
    if (!trace || !trace->known)
        return false;
    trace_context_format(&trace->context, parent);
    *state = trace->state;
    return true;
}

void binding_log_trace(struct task *task, struct log_context *context)
{
    run_trace_log(trace_of(task), context);
}

bool binding_may_log_full(struct task *task)
{
    return script_may_log_full(task->instance->generation->script);
}

/* Nothing has begun that would complete it. */
static int not_begun(struct op *op, const struct err *err)
{
    op_release(op);
    return err->code;
}

static void on_request_gone(void *owner)
{
    op_release(owner);
}

int binding_request(struct op *op, struct link_frame *frame, int64_t timeout_ns, inbox_fn on_reply,
                    struct err *err)
{
    frame->flow = flow_of(op->instance);
    op->began_ns = clock_now_ns();
    uint64_t until_ns = op->began_ns + (uint64_t)timeout_ns;
    op_retain(op); /* for who completes it, */
    op_retain(op); /* and until the request is gone */
    uint64_t id = inbox_request_in(bus_of(op->instance)->inbox, op_more(op), frame, until_ns,
                                   on_reply, on_request_gone, op, err);
    if (!id)
        return not_begun(op, err);
    op->handle = id;
    return 0;
}

void binding_cancel_request(struct op *op)
{
    if (inbox_cancel(bus_of(op->instance)->inbox, op->handle))
        op_release(op);
}

struct replies *binding_replies(struct task *task, struct link_frame *frame,
                                const struct replies_options *options, struct err *err)
{
    frame->flow = flow_of(task->instance);
    return replies_ask(bus_of(task->instance)->inbox, task->instance->scripts->clock, frame,
                       options, err);
}

void binding_count_publish(struct task *task)
{
    stat_add(&task->instance->calls.published, 1);
}

void binding_count_request(const struct op *op, enum err_code code)
{
    struct tally_calls *calls = &op->instance->calls;
    stat_add(&calls->requests[-code], 1);
    stat_observe(&calls->request_duration, clock_now_ns() - op->began_ns);
}

bool binding_is_servers_own(const struct task *task, const char *subject)
{
    return subject[0] == '$' || jsapi_owns(bus_of(task->instance)->jsapi, subject);
}

bool binding_may_log_kept(const struct task *root)
{
    return !atomic_exchange(&root->source->kept_logged, true);
}

bool binding_is_retired(const struct instance *instance)
{
    dispatch_lock(instance->scripts->dispatch);
    bool retired = instance->generation->retired;
    dispatch_unlock(instance->scripts->dispatch);
    return retired;
}

int binding_js_level(const struct instance *instance)
{
    const struct bus *bus = bus_of(instance);
    return bus ? jslevel_now(bus->jslevel) : -1;
}

int binding_js_require(const struct instance *instance, int level, const char *what,
                       struct err *err)
{
    const struct bus *bus = bus_of(instance);
    return bus ? jslevel_require(bus->jslevel, level, what, err)
               : jslevel_check(-1, level, what, err);
}

void binding_later_serve(struct instance *instance)
{
    const struct bus *bus = bus_of(instance);
    if (bus)
        later_serve(bus->later);
}

void binding_service_data(struct instance *instance, const char *service, const char *endpoint,
                          const char *text)
{
    discovery_set_data(instance->scripts->discovery, service, endpoint, text);
}

static void on_publish_gone(struct publish *publish)
{
    op_release(publish->owner);
}

int binding_publish(struct op *op, char *bytes, struct outbox_message *message, outbox_fn on_result,
                    struct err *err)
{
    message->flow = flow_of(op->instance);
    message->account = op->instance->generation->script->account;
    op_retain(op); /* for who completes it, */
    op_retain(op); /* and until the publish is gone */
    int code = outbox_publish_in(bus_of(op->instance)->outbox, op_more(op), bytes, message,
                                 on_result, on_publish_gone, op, err);
    return code ? not_begun(op, err) : 0;
}

void binding_cancel_publish(struct op *op)
{
    if (outbox_cancel(bus_of(op->instance)->outbox, op_more(op)))
        op_release(op);
}

int binding_js_api(struct op *op, const char *operation, const char *data, size_t len,
                   int64_t timeout_ns, inbox_fn on_reply, struct err *err)
{
    struct link_frame frame = {.data = data, .len = len, .flow = flow_of(op->instance)};
    uint64_t until_ns = clock_now_ns() + (uint64_t)timeout_ns;
    uint64_t id = jsapi_request(bus_of(op->instance)->jsapi, operation, &frame, until_ns, on_reply,
                                NULL, op_retain(op), err);
    if (!id)
        return not_begun(op, err);
    op->handle = id;
    return 0;
}

struct tidying {
    struct jsapi *jsapi; /* not owned; only the inbox that outlives it calls back */
    atomic_int references;
    bool again;
    size_t len;
    char *operation, *data; /* in this block */
};

static void tidy(struct tidying *tidying);

static void release_tidying(struct tidying *tidying)
{
    if (atomic_fetch_sub(&tidying->references, 1) == 1)
        free(tidying);
}

/* What was published before may have taken another connection, and be stored behind the first one:
 * so after an answer it is sent once more. */
static void on_tidied(void *owner, struct packet *reply, enum err_code code)
{
    struct tidying *tidying = owner;
    (void)code;
    if (reply && tidying->again) {
        tidying->again = false;
        tidy(tidying);
    } else {
        release_tidying(tidying);
    }
}

/* The request takes over the caller's reference. It may end before it is sent, as the bus stops,
 * and what is sent lies in this block. */
static void tidy(struct tidying *tidying)
{
    enum { PATIENCE_S = 30 };
    struct link_frame frame = {.data = tidying->data, .len = tidying->len};
    uint64_t until_ns = clock_now_ns() + PATIENCE_S * (uint64_t)NS_PER_S;
    atomic_fetch_add(&tidying->references, 1);
    if (!jsapi_request(tidying->jsapi, tidying->operation, &frame, until_ns, on_tidied, NULL,
                       tidying, NULL))
        release_tidying(tidying);
    release_tidying(tidying);
}

void binding_js_tidy(const struct instance *instance, const char *operation, const char *data,
                     size_t len)
{
    size_t name_len = strlen(operation) + 1;
    struct tidying *tidying = malloc(sizeof *tidying + name_len + len);
    if (!tidying)
        return;
    *tidying = (struct tidying){.jsapi = bus_of(instance)->jsapi, .again = true, .len = len};
    atomic_init(&tidying->references, 1);
    tidying->operation = memcpy(tidying + 1, operation, name_len);
    tidying->data = memcpy(tidying->operation + name_len, data, len);
    tidy(tidying);
}

char *binding_js_subject(const struct instance *instance, const char *operation, char *buf,
                         size_t size)
{
    return jsapi_subject(bus_of(instance)->jsapi, operation, buf, size);
}

int binding_js_unanswered(const struct op *op, const char *operation, enum err_code code,
                          struct err *err)
{
    return jsapi_unanswered(bus_of(op->instance)->jsapi, operation, code, err);
}

int binding_ack(struct op *op, struct delivery *delivery, inbox_fn on_reply, struct err *err)
{
    uint64_t until_ns = clock_now_ns() + (uint64_t)binding_request_timeout_ns(op->instance);
    uint64_t id = 0;
    if (delivery_ack_sync(delivery, bus_of(op->instance)->inbox, until_ns, on_reply, op_retain(op),
                          &id, err) != 0)
        return not_begun(op, err);
    op->handle = id;
    return 0;
}

static void on_due(struct deadline *deadline)
{
    op_complete(container_of(deadline, struct op, deadline));
}

void binding_sleep(struct op *op, int64_t ns)
{
    op->deadline.on_due = on_due;
    op_retain(op);
    clock_arm(op->instance->scripts->clock, &op->deadline, clock_now_ns() + (uint64_t)ns);
}

void binding_cancel_sleep(struct op *op)
{
    if (clock_cancel(op->instance->scripts->clock, &op->deadline))
        op_release(op);
}

void binding_cancel_timer(struct instance *instance, int index)
{
    source_cancel_timer(instance, index);
}

struct plain_rules binding_plain_rules(const struct task *task, const char *each)
{
    return offload_rules(task->instance->generation->policy, each);
}

struct offload_call *binding_offload(struct task *task, const char *module, const char *function,
                                     int64_t timeout_ns)
{
    const struct generation *generation = task->instance->generation;
    struct log_context context = {0};
    binding_log_trace(task, &context);
    const struct offload_target target = {
        .script = generation->script->name,
        .path = generation->script->path,
        .module = module,
        .function = function,
        .policy = generation->policy,
        .timeout_ns = timeout_ns,
        .trace_id = context.trace_id,
        .span_id = context.span_id,
    };
    return offload_call_new(engine_of(task->instance)->offload, &target);
}

struct store *binding_store(struct instance *instance, const char *name, size_t size_bytes,
                            enum store_evict evict, struct err *err)
{
    return shared_open(engine_of(instance)->shared, name, size_bytes, evict, err);
}

struct permits *binding_permits(const struct instance *instance)
{
    return engine_of(instance)->permits;
}

struct reader *binding_read(const struct task *task, const struct reader_options *options,
                            struct err *err)
{
    return reader_open(&bus_of(task->instance)->intake, options, err);
}

struct mirror *binding_mirror(const struct instance *instance, const char *stream)
{
    const struct scripts *scripts = instance->scripts;
    return mirror_open(scripts->mirrors, instance->generation->script->name, stream);
}

enum mirror_answer binding_mirror_get(const struct instance *instance, struct mirror *mirror,
                                      const char *subject, const struct mirror_value **value,
                                      bool *stale)
{
    const struct bus *bus = instance->scripts->bus;
    bool connected = bus && link_state(bus->consume) == LINK_CONNECTED;
    return mirror_get(mirror, subject, connected, value, stale);
}

struct limiters *binding_limiters(const struct instance *instance)
{
    return engine_of(instance)->limiters;
}
