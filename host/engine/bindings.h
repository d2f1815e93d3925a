/* bindings - what a binding may do: the one header of the engine that the floor of bindings
 * includes. It has the task that runs, the ops that it waits for, and its requests to NATS, the
 * clock, the offload threads and the stores.
 *
 * A function that waits gets its op; the other side holds a reference to that from then on:
 *
 *   op_new ─▶ binding_request(op, ...) ─▶ 0: task_wait
 *                                     └─▶ an error: nothing has begun; the op is the caller's still
 *
 * Each has a function to cancel it, in the form that op_new takes. The worker that has the
 * instance. */
#ifndef MOONBUS_ENGINE_BINDINGS_H
#define MOONBUS_ENGINE_BINDINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/number.h"
#include "bus/consume/reader.h"
#include "bus/link/link.h"
#include "bus/outbox/publish.h"
#include "bus/request/inbox.h"
#include "bus/request/replies.h"
#include "engine/hooks.h"
#include "engine/kinds/kinds.h"
#include "engine/kinds/spec.h"
#include "engine/limiters.h"
#include "engine/offload/offload.h"
#include "engine/permits.h"
#include "engine/run/op.h"
#include "engine/run/task.h"
#include "engine/shared.h"
#include "engine/source/handling.h"
#include "engine/source/mirror.h"
#include "engine/version/instance.h"
#include "engine/version/registration.h"

struct log_context;

/* --- the running task --- */

const char *binding_script_name(const struct instance *instance);
/* Of the script: which of its versions this is, from 1. */
unsigned binding_generation(const struct instance *instance);
/* bus.settings, as JSON; the host's version. */
const char *binding_settings(const struct instance *instance);
const char *binding_version(const struct instance *instance);
/* What the config says of a request that states no timeout, and of integers beyond 2^53. */
int64_t binding_request_timeout_ns(const struct instance *instance);
enum number_big binding_json_big(const struct instance *instance);

/* --- core NATS --- */

/* Hands a frame over to the publish connection; its flow is set here. 0, or as of link_send. */
int binding_send(struct task *task, struct link_frame *frame, struct err *err);
/* The same for what a task leaves behind that has ended: nobody hears what becomes of it. */
void binding_leave(const struct instance *instance, struct link_frame *frame);
/* Adds the trace of the run (engine/run/run_trace.h) to the headers of so many bytes of data, where
 * there is room: for a reply. */
void binding_carry_trace(struct task *task, size_t len, struct headers *headers);
/* The same for anything else, with a span of its own: task_trace_send, with the room filled in. The
 * span goes to the op, or to binding_end_span. */
struct trace_span *binding_trace_send(struct task *task, struct task_sending *sending,
                                      struct headers *headers);
/* err: NULL: it worked. span: NULL: nothing happens. */
void binding_end_span(struct task *task, struct trace_span *span, const struct err *err);
/* The same for the op's. Its owner. */
void binding_end_op_span(struct op *op, const struct err *err);
/* The id that the outbox gave to a message which came without one. The side that completes it. */
void binding_name_span(struct op *op, struct span id);
/* The op has failed in a way that its code does not tell. */
void binding_fail_span(struct op *op, const struct err *err);
/* The same as texts, for a caller that has headers of its own: a traceparent, and the tracestate
 * ("": none), which is the run's. False: the run has none. */
#define BINDING_PARENT_SIZE 56
bool binding_trace_texts(struct task *task, char *parent, const char **state);
/* Puts the ids of the run's trace in. */
void binding_log_trace(struct task *task, struct log_context *context);
/* Too much of the script waits: is that to be logged (now and then it is)? */
bool binding_may_log_full(struct task *task);

/* on_reply gets the op, behind which a struct inbox_request is (op_more); frame->subject stays as
 * long as the op. 0, or as of inbox_request. */
int binding_request(struct op *op, struct link_frame *frame, int64_t timeout_ns, inbox_fn on_reply,
                    struct err *err);
void binding_cancel_request(struct op *op);

/* A request of many replies, which are not the op's. NULL, with err as of replies_ask. */
struct replies *binding_replies(struct task *task, struct link_frame *frame,
                                const struct replies_options *options, struct err *err);

/* For the metrics: a message was published to core NATS; a request of binding_request has ended so,
 * at once or after a while. */
void binding_count_publish(struct task *task);
void binding_count_request(const struct op *op, enum err_code code);

/* Is a message to this subject a command or an ack to the server? */
bool binding_is_servers_own(const struct task *task, const char *subject);
/* A reply of the run was kept back, as its subject is the server's own: is that to be logged? Once
 * for each subscription. */
bool binding_may_log_kept(const struct task *root);

/* Another version of its script serves, or none does: it gets no new work. */
bool binding_is_retired(const struct instance *instance);

/* --- JetStream --- */

/* As of jslevel_now, and of jslevel_require; while a script loads nothing may be known. */
int binding_js_level(const struct instance *instance);
int binding_js_require(const struct instance *instance, int level, const char *what,
                       struct err *err);

/* This process publishes what is parked for later. */
void binding_later_serve(struct instance *instance);
/* As of discovery_set_data. */
void binding_service_data(struct instance *instance, const char *service, const char *endpoint,
                          const char *text);

/* outbox_has_room. */
bool binding_has_room(const struct instance *instance, size_t bytes, uint64_t ticket);
/* Behind an op that waits for that. */
struct binding_room {
    struct outbox_room room; /* the outbox's */
    struct op *op;           /* the line's reference */
};
/* Completes the op when the sender is to ask again. ticket: as of outbox_room. */
void binding_wait_for_room(struct op *op, size_t bytes, uint64_t ticket);
void binding_cancel_room(struct op *op);
/* on_result gets the op, behind which a struct publish is (op_more), and the outbox_bytes of the
 * message. The message's flow is set here. 0, or as of outbox_publish. */
int binding_publish(struct op *op, char *bytes, struct outbox_message *message, outbox_fn on_result,
                    struct err *err);
void binding_cancel_publish(struct op *op);

/* A call of JetStream's API; on_reply gets the op, and has the answer read by jsapi_parse on the
 * task's own thread. Made again when the connection is lost before the answer is there. To be
 * cancelled as a request. 0, or as of jsapi_request. */
int binding_js_api(struct op *op, const char *operation, const char *data, size_t len,
                   int64_t timeout_ns, inbox_fn on_reply, struct err *err);
/* Writes "<prefix>.<operation>" to buf; returns buf. */
char *binding_js_subject(const struct instance *instance, const char *operation, char *buf,
                         size_t size);
/* The same, and nobody waits for what becomes of it: for what a task leaves behind that was told to
 * end. Made once more when the first one was answered, for what was under way then. */
void binding_js_tidy(const struct instance *instance, const char *operation, const char *data,
                     size_t len);
/* The sentence of one that had no answer. */
int binding_js_unanswered(const struct op *op, const char *operation, enum err_code code,
                          struct err *err);

/* Acks, and waits for the server to confirm it; to be cancelled as a request. 0, or as of
 * delivery_ack_sync. */
int binding_ack(struct op *op, struct delivery *delivery, inbox_fn on_reply, struct err *err);

/* --- time --- */

/* The op completes in so long. */
void binding_sleep(struct op *op, int64_t ns);
void binding_cancel_sleep(struct op *op);
/* `:cancel()` of a timer that was made while the script loaded: index of its registration. For the
 * whole process, whichever instance asks. */
void binding_cancel_timer(struct instance *instance, int index);

/* --- values beyond the instance --- */

struct http;
/* What calls HTTP servers; NULL: nothing does. */
struct http *binding_http(const struct instance *instance);

/* How what is passed between threads is copied; each: "argument", "result". */
struct plain_rules binding_plain_rules(const struct task *task, const char *each);
/* A call of the function of that module, not under way yet (offload_submit). NULL: no memory. */
struct offload_call *binding_offload(struct task *task, const char *module, const char *function,
                                     int64_t timeout_ns);
/* As of shared_open. */
struct store *binding_store(struct instance *instance, const char *name, size_t size_bytes,
                            enum store_evict evict, struct err *err);
struct permits *binding_permits(const struct instance *instance);
struct limiters *binding_limiters(const struct instance *instance);

/* --- what lies in streams --- */

/* As of reader_open. */
struct reader *binding_read(const struct task *task, const struct reader_options *options,
                            struct err *err);

/* --- caches of buckets --- */

/* The script's mirror of a stream; a reference. NULL: out of memory. */
struct mirror *binding_mirror(const struct instance *instance, const char *stream);
/* As of mirror_get. */
enum mirror_answer binding_mirror_get(const struct instance *instance, struct mirror *mirror,
                                      const char *subject, const struct mirror_value **value,
                                      bool *stale);

#endif
