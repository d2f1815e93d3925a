/* jsapi - JetStream's JSON API (ADR-1), raw: every feature of every server, whatever the library
 * knows. Requests go over the publish connection's inbox; subjects get the domain's or the
 * configured prefix ("$JS.API").
 *
 * Any thread, but for jsapi_wait, which blocks its caller: only pool threads may. */
#ifndef MOONBUS_BUS_JSAPI_H
#define MOONBUS_BUS_JSAPI_H

#include <cjson/cJSON.h>

#include "bus/inbox.h"

struct jsapi;

/* prefix: NULL for "$JS.API"; domain: NULL, or makes "$JS.<domain>.API". Both given: prefix wins
 * (config refuses it before). timeout_ns: of one call. */
struct jsapi *jsapi_new(struct inbox *inbox, const char *prefix, const char *domain,
                        int64_t timeout_ns, struct err *err);
void jsapi_free(struct jsapi *jsapi);

/* Writes "<prefix>.<operation>" to buf; returns buf. E.g. for "STREAM.INFO.ORDERS". */
char *jsapi_subject(const struct jsapi *jsapi, const char *operation, char *buf, size_t size);

/* Reads an answer. The caller's (cJSON_Delete); NULL: err, as of jsapi_fn. *api_code: JetStream's
 * err_code, 0 for none. Pure. */
cJSON *jsapi_parse(const char *operation, const char *data, size_t len, int *api_code,
                   struct err *err);

/* The text of a request, with its numbers as JetStream reads them; cJSON_free it. NULL: out of
 * memory. Pure. */
char *jsapi_print(const cJSON *request);

/* reply: borrowed for the call, NULL when err is set. A reply that holds an "error" is an err
 * (ERR_NOT_FOUND for 404, else ERR_API, ERR_NO_RESPONDERS when JetStream is off, ...) with
 * JetStream's err_code in api_code. */
typedef void (*jsapi_fn)(void *owner, const cJSON *reply, int api_code, const struct err *err);

/* Calls operation ("STREAM.INFO.ORDERS") with request (borrowed; NULL: no payload). Returns the
 * request's id for inbox_cancel, or 0 with err. */
uint64_t jsapi_call(struct jsapi *jsapi, const char *operation, const cJSON *request,
                    jsapi_fn on_reply, void *owner, struct err *err);

/* The same, blocking until the reply or deadline_ns; tries again while nobody answers or there is
 * no connection. Returns the reply (cJSON_Delete it) or NULL with err; api_code may be NULL. */
cJSON *jsapi_wait(struct jsapi *jsapi, const char *operation, const cJSON *request,
                  uint64_t deadline_ns, int *api_code, struct err *err);

/* Creates a stream if absent (with what is stated), else compares what is stated, and only that,
 * with what the server has: ERR_MISMATCH with both values. After creating, compares the echo, as
 * servers drop fields that they do not know. Blocks. stated: NATS' own field names, durations in
 * nanoseconds. */
int jsapi_ensure_stream(struct jsapi *jsapi, const cJSON *stated, uint64_t deadline_ns,
                        struct err *err);

/* Compares every field of `stated`, in depth, with `actual`; fields named in skip (NULL-ended; may
 * be NULL) are passed over. Absent in actual equals false, 0, "" and []. Lists of strings named
 * "subjects" or "filter_subjects" compare as sets. 0, or ERR_MISMATCH naming the first field with
 * both values: `max_age: here 1h, on the server 2h`. Pure. */
int jsapi_compare(const cJSON *stated, const cJSON *actual, const char *const *skip,
                  struct err *err);

/* Does any stream take this subject? 1 yes (its name to stream, if not NULL), 0 no, negative: err.
 * Blocks. */
int jsapi_stream_of(struct jsapi *jsapi, const char *subject, char *stream, size_t size,
                    uint64_t deadline_ns, struct err *err);

#endif
