/* api - the C side of what scripts call. Its functions fill one table, which Lua knows as
 * "moonbus.core"; the public modules "moonbus" and "moonbus.jetstream" (lua/) are built upon it.
 *
 * Division: Lua checks options tables (moonbus.options) and raises for cancelled waits; C does what
 * is hot or touches the host. Every function here marked `raises` leaves by longjmp: callers hold
 * nothing at that moment that is not on the Lua stack, on a userdata or on the task.
 *
 * Recipe of a binding that waits:
 *     check the arguments ─▶ api_task ─▶ api_may_wait ─▶ op_new ─▶ start ─▶ return task_wait(L, op)
 * and in Lua: return resumed(core.name(...)), which raises when it was cancelled.
 *
 * Thread: the worker that has the instance. */
#ifndef MOONBUS_API_API_H
#define MOONBUS_API_API_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/number.h"
#include "bus/wire.h"
#include "engine/bindings.h"
#include "vm/plain.h"

/* What the app hands to engine_new. */
const struct engine_hooks *api_hooks(void);

/* A loader of package.preload: what of the bindings knows no host, for a state of the host's own
 * that runs no script. Its names are those of "moonbus.core". */
int api_open_values(lua_State *L);

/* Openers, one for each file: add functions to the table on top of the stack. */
void api_errors_open(lua_State *L);  /* error, misuse */
void api_load_open(lua_State *L);    /* register, script limits */
void api_check_open(lua_State *L);   /* size, check_subject, check_name */
void api_bus_open(lua_State *L);     /* publish, request, log, settings, version */
void api_time_open(lua_State *L);    /* now, sleep, duration, spawn, park, wake, cancel */
void api_js_open(lua_State *L);      /* js_publish */
void api_jsapi_open(lua_State *L);   /* js_api, js_get, js_subject ... */
void api_reader_open(lua_State *L);  /* reader_open, reader_next, reader_close */
void api_mirror_open(lua_State *L);  /* mirror, mirror_get, mirror_note */
void api_later_open(lua_State *L);   /* later_serve, later_token, js_failed ... */
void api_digest_open(lua_State *L);  /* digest, digest_add, digest_text, base64url, nuid */
void api_msg_open(lua_State *L);     /* the message object's metatable */
void api_json_open(lua_State *L);    /* json_encode, json_decode, json_read, null, array */
void api_plain_open(lua_State *L);   /* a metatable for grips */
void api_shared_open(lua_State *L);  /* shared, shared_methods */
void api_permits_open(lua_State *L); /* permit, permit_take, limiter_take ... */
void api_parting_open(lua_State *L); /* parting, parting_set, parting_send */
void api_offload_open(lua_State *L); /* offload, offload_results */
void api_replies_open(lua_State *L); /* replies_ask, replies_next, replies_outcome ... */
void api_http_open(lua_State *L);    /* http_open, http_wait, http_piece, http_answer ... */

/* Raises an error that begins with the place in the script ("orders.lua:14: "). Like lua_error, so
 * that `return api_misuse(L, ...)` reads well. The format is lua_pushfstring's. */
int api_misuse(lua_State *L, const char *format, ...);

/* Makes the metatable of a userdata that is nothing but collected; no script reaches it. */
void api_collected(lua_State *L, const char *metatable, lua_CFunction collect);

/* "string", "table" ..., "message" for our own objects, "nothing" past the last argument. */
const char *api_type_name(lua_State *L, int index);

/* The running task. Raises when there is none ("bus.sleep: not while the script loads ...") and
 * when it is cancelled. */
struct task *api_task(lua_State *L, const char *binding);

/* Raises where a yield cannot pass: "bus.sleep cannot wait inside table.sort or string.gsub ...".
 */
void api_may_wait(lua_State *L, const char *binding);

/* Pushes an error object {code, message} with __tostring. */
void api_push_error(lua_State *L, const struct err *err);

/* nil, err: for `return api_fail(L, &err)`. */
int api_fail(lua_State *L, const struct err *err);

/* Hands over a frame of the script on the publish connection; frame->flow is set here. If too much
 * of the script waits, that is logged now and then: a script that publishes in a loop seldom looks
 * at what bus.publish returns. */
int api_send(lua_State *L, struct task *task, struct link_frame *frame, struct err *err);

/* An op whose other side has not begun: it is abandoned; returns api_fail. */
int api_not_started(lua_State *L, struct op *op, const struct err *err);

/* on_reply of an op's request: the op has the reply then, or the code, and is complete. */
void api_on_reply(void *owner, struct packet *reply, enum err_code code);

/* Why a request to the subject has no reply. */
void api_describe_no_reply(const char *subject, int64_t timeout_ns, enum err_code code,
                           struct err *err);

/* Is the reply with these headers an error of the service's? Then pushes it, as an error object
 * with its status, and describes it to err. */
bool api_push_service_error(lua_State *L, const struct header_block *headers, struct err *err);

/* What is to be sent. Borrowed from the Lua stack, where `api_payload` anchors it. */
struct payload {
    const char *data;
    size_t len;
    const char *content_type; /* of a table; NULL: bytes, whose kind nobody knows but the sender */
};

/* The value at index as a payload: a string as it is, a table as JSON, nil as nothing. Raises for
 * anything else. May push one value (the JSON text), which must stay on the stack. */
void api_payload(lua_State *L, int index, const char *binding, struct payload *payload);

/* Pops a value, which the registry keeps under *ref from now on (0: under none yet) in place of
 * what it kept there. */
void api_keep(lua_State *L, int *ref);

/* The subject at index, checked. Raises. */
const char *api_subject(lua_State *L, int index, const char *binding);

/* Adds the table at index ({name = value} or {name = {values}}) to headers. Returns 0 or an error;
 * the caller clears headers, then raises. content_type is added unless the table has one. */
int api_headers(lua_State *L, int index, const char *content_type, struct headers *headers,
                struct err *err);

/* The duration at index (string or seconds); default_ns when nil. Raises naming binding and field.
 */
int64_t api_duration(lua_State *L, int index, const char *binding, const char *field,
                     int64_t default_ns);

/* A publish was cancelled: nobody knows whether it is stored, or it was never sent. Its handler's
 * message must not count as done, if the handler itself goes on. */
void api_note_abandoned(struct task *task, const char *subject);

/* Pushes the JSON text of the value at index; raises for what JSON cannot hold: "bus.publish:
 * items[2].price: JSON has no NaN". */
void api_json_encode(lua_State *L, int index, const char *binding);
/* The same, with the fields of each object by their names (of one with more than VM_NAMES_MOST: as
 * they come), so that equal values have the same text everywhere. */
void api_json_encode_sorted(lua_State *L, int index, const char *binding);

/* The same for people to read, as in the log: what JSON cannot hold is described, never refused. */
void api_json_describe(lua_State *L, int index);

/* How JSON is read. */
struct json_reading {
    enum number_big big;
    const char *remedy; /* static: what keeps the digits of an integer that is refused */
};

/* Pushes the value of the JSON text; 0 or ERR_BAD_PAYLOAD (nothing pushed). null is pushed as
 * bus.json.null. reading: NULL for one that refuses big integers. Raises when there is no memory.
 */
int api_json_decode(lua_State *L, const char *text, size_t len, const struct json_reading *reading,
                    struct err *err);

/* The options {big = ...} at index (or nil) of the binding, with what the config says where they
 * say nothing. strict: they may have that, too, which is the caller's. Raises. */
struct json_reading api_json_reading(lua_State *L, int index, const char *binding,
                                     const char *remedy, bool strict);

/* Plain values that are about to be pushed, which may raise: they hang on a userdata. */
struct grip {
    struct vm_held held;
    struct plain *plain; /* reference held, or NULL */
};

/* Pushes an empty grip. */
struct grip *grip_push(lua_State *L);
/* Takes the caller's reference. */
void grip_fill(lua_State *L, struct grip *grip, struct plain *plain);
/* The grip at index; raises when it is something else. */
struct grip *grip_at(lua_State *L, int index);
/* Holds nothing from now on; also by itself when it is collected. */
void grip_release(struct grip *grip);

/* Pushes a message object for the task's run: see struct message. */
void api_push_message(lua_State *L, struct task *task, struct delivery *delivery);

/* Pushes a message object of a reply; takes the packet, but not when it raises. */
void api_push_reply(lua_State *L, struct packet *reply);

/* Pushes a message object that is a copy of what lies in that stream. Raises when there is no
 * memory; nothing of `stored` is taken. */
struct stored_message;
void api_push_stored(lua_State *L, const char *stream, const struct stored_message *stored);

/* Where the running code belongs, for a line of the log; file is borrowed by it. Of a batch no
 * message is named: it is of all of them. */
struct log_context;
void api_log_context(lua_State *L, struct log_context *context, char *file, size_t size);
/* Puts in this message of this run. */
void api_log_message(struct log_context *context, const struct task *run,
                     const struct delivery *delivery);

/* Adds msg:json to the table of methods on top of the stack. */
void api_msg_json_open(lua_State *L);

/* Adds msg:header and msg:header_values to the table of methods on top of the stack. */
void api_msg_headers_open(lua_State *L);

/* Adds core.stored to the table on top of the stack. */
void api_msg_stored_open(lua_State *L);

/* Adds msg:respond and the verdicts (ack, nak, term, reject, progress) to the table of methods on
 * top of the stack. */
void api_verdict_open(lua_State *L);

/* MESSAGE_STORED: as it lies in a stream (js.get); no run has it. */
enum message_kind { MESSAGE_CORE, MESSAGE_STREAM, MESSAGE_REPLY, MESSAGE_STORED };

/* A message object, as its methods see it. Lives in a userdata. Most messages are small: the object
 * has a copy of all that is to be read, and what the message took is free for the next one as soon
 * as its run is over. Any other object keeps its message until it is collected. Once the run is
 * over both may be read, and no more: whoever still has one finds it settled. */
struct message {
    struct vm_held held; /* of a copy: only once it is owned (api_loosen_messages) */
    const void *mark;    /* what no other userdata has in this place */
    struct vm *vm;       /* not owned; its own; of what is held */
    enum message_kind kind;
    struct message *next;        /* while its run goes on: another one of it (a batch), or NULL */
    struct message **from;       /* likewise: what points to it in that list */
    bool cached;                 /* its environment table is its own, and has the headers */
    bool decided;                /* it has a verdict that is carried out later: msg:reject, and
                                    msg:nak with order_by */
    struct task *run;            /* not owned; NULL: that is over, or it is a reply */
    struct delivery *delivery;   /* borrowed from its run; NULL as that is */
    struct delivery *kept;       /* reference held; NULL: it is a copy or a reply */
    struct packet *replied;      /* owned, behind this: of a reply; else NULL */
    struct header_block headers; /* of the copy, of `kept` or of the reply */
    const char *subject, *data, *reply; /* reply: or NULL */
    size_t len, external_bytes;
    /* When its run is over, and it is from a stream. */
    const char *stream, *durable; /* the registration's */
    uint64_t sequence, attempt, pending;
    int64_t timestamp_ns;
    char text[]; /* of a copy: subject, reply, data, headers */
};

/* The headers table of the message at index 1; the same each time. */
void api_push_headers(lua_State *L, struct message *message);

/* engine_hooks' loosen_messages and end_messages. */
void api_loosen_messages(struct task *task);
void api_end_messages(struct task *task);

/* The message at index 1 of a method; raises when it is something else. */
struct message *api_message(lua_State *L, const char *method);

/* The message at any index; NULL when it is something else. */
struct message *api_to_message(lua_State *L, int index);

/* engine_hooks' reply and reply_error. */
int api_reply(struct task *task, lua_State *L, int nresults, struct err *err);
void api_reply_error(struct task *task, int status, const struct err *err);

#endif
