/* jsapi - JetStream's JSON API (ADR-1), raw: every feature of every server, whatever the library
 * knows. Requests go over the publish connection's inbox; subjects get the domain's or the
 * configured prefix ("$JS.API").
 *
 * Any thread, but for jsapi_wait, which blocks its caller: only pool threads may. */
#ifndef MOONBUS_BUS_REQUEST_JSAPI_H
#define MOONBUS_BUS_REQUEST_JSAPI_H

#include "bus/request/inbox.h"

struct cJSON;

struct jsapi;

/* prefix: NULL for "$JS.API"; domain: NULL, or makes "$JS.<domain>.API". Both given: prefix wins
 * (config refuses it before). timeout_ns: of one call. */
struct jsapi *jsapi_new(struct inbox *inbox, const char *prefix, const char *domain,
                        int64_t timeout_ns, struct err *err);
void jsapi_free(struct jsapi *jsapi);

/* Writes "<prefix>.<operation>" to buf; returns buf. E.g. for "STREAM.INFO.ORDERS". */
char *jsapi_subject(const struct jsapi *jsapi, const char *operation, char *buf, size_t size);

/* Writes "CONSUMER.<verb>.<stream>.<name>" to buf, an operation; returns buf. Pure. */
char *jsapi_consumer(const char *verb, const char *stream, const char *name, char *buf,
                     size_t size);
/* The same for "STREAM.<verb>.<name>". */
char *jsapi_stream(const char *verb, const char *name, char *buf, size_t size);

/* Is this a subject of JetStream's API, by our prefix? */
bool jsapi_owns(const struct jsapi *jsapi, const char *subject);

/* The subject that a message is stored under which is published to this one: keys are written
 * through the API's prefix ("$JS.hub.API.$KV.b.key"), which the server takes off. Borrowed from
 * `subject`. */
const char *jsapi_stored_as(const struct jsapi *jsapi, const char *subject);

/* Reads an answer. The caller's (cJSON_Delete); NULL: err, as of jsapi_fn. *api_code: JetStream's
 * err_code, 0 for none. Pure. */
struct cJSON *jsapi_parse(const char *operation, const char *data, size_t len, int *api_code,
                          struct err *err);

/* The text of a request, with its numbers as JetStream reads them; cJSON_free it. NULL: out of
 * memory. Pure. */
char *jsapi_print(const struct cJSON *request);

/* reply: borrowed for the call, NULL when err is set. A reply that holds an "error" is an err
 * (ERR_NOT_FOUND for 404, ERR_UNAVAILABLE for what passes, ERR_NO_RESPONDERS when JetStream is
 * off, else ERR_API; see jscode.h) with JetStream's err_code in api_code. */
typedef void (*jsapi_fn)(void *owner, const struct cJSON *reply, int api_code,
                         const struct err *err);

/* Calls operation ("STREAM.INFO.ORDERS") with request (borrowed; NULL: no payload); again, when the
 * connection is lost before the answer is there: what is called must bear that. Returns the
 * request's id for inbox_cancel, or 0 with err. */
uint64_t jsapi_call(struct jsapi *jsapi, const char *operation, const struct cJSON *request,
                    jsapi_fn on_result, void *owner, struct err *err);

/* The same until deadline_ns, for whoever reads the answer itself, on a thread of its own: on_reply
 * gets the packet, for jsapi_parse, or a code, for jsapi_unanswered. frame: data, len and flow; its
 * subject is set here. */
uint64_t jsapi_request(struct jsapi *jsapi, const char *operation, struct link_frame *frame,
                       uint64_t deadline_ns, inbox_fn on_reply, void (*on_drop)(void *owner),
                       void *owner, struct err *err);

/* The sentence of a request that had no answer, by the code of inbox_fn. Returns code. Pure. */
int jsapi_unanswered(const struct jsapi *jsapi, const char *operation, enum err_code code,
                     struct err *err);

/* The call, blocking until the reply or deadline_ns; tries again what can pass
 * (err_passes). Returns the reply (cJSON_Delete it) or NULL with err; api_code may be NULL. */
struct cJSON *jsapi_wait(struct jsapi *jsapi, const char *operation, const struct cJSON *request,
                         uint64_t deadline_ns, int *api_code, struct err *err);

/* Creates a stream if absent (with what is stated, and with those defaults that it does not state;
 * NULL: none), else compares what is stated, and only that,
 * with what the server has. A difference: with may_update the server's own settings are sent with
 * those changed that are stated, else ERR_MISMATCH with both values and what to do. Servers drop
 * fields that they do not know: before one is created they are asked (ERR_UNSUPPORTED; then nothing
 * was made), and after creating and updating the echo is compared. *info:
 * STREAM.INFO, the caller's; NULL on an error. Blocks. stated: NATS' own field names, durations in
 * nanoseconds. */
int jsapi_ensure_stream(struct jsapi *jsapi, const struct cJSON *stated,
                        const struct cJSON *defaults, bool may_update, struct cJSON **info,
                        uint64_t deadline_ns, struct err *err);

/* The command of the nats CLI that makes the server have what is stated: "nats stream edit ORDERS
 * --max-age=1h". command: "stream edit"; difference: as jsapi_compare says it. Returns buf. Pure.
 */
char *jsapi_remedy(const char *command, const char *name, const struct cJSON *stated,
                   const char *difference, char *buf, size_t size);

/* Compares every field of `stated`, in depth, with `actual`; fields named in skip (NULL-ended; may
 * be NULL) are passed over. Absent in actual equals false, 0, "" and []. Lists of strings named
 * "subjects" or "filter_subjects" compare as sets. 0, or ERR_MISMATCH naming the first field with
 * both values: `max_age: here 1h, on the server 2h`. Pure. */
int jsapi_compare(const struct cJSON *stated, const struct cJSON *actual, const char *const *skip,
                  struct err *err);

/* STREAM.INFO, for *info (owned by the caller; NULL on an error). Blocks. */
int jsapi_stream_info(struct jsapi *jsapi, const char *name, struct cJSON **info,
                      uint64_t deadline_ns, struct err *err);

/* Does any stream take this subject? 1 yes (its name to stream, if not NULL), 0 no, negative: err.
 * Blocks. */
int jsapi_stream_of(struct jsapi *jsapi, const char *subject, char *stream, size_t size,
                    uint64_t deadline_ns, struct err *err);

#endif
