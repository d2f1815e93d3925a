/* Requests to the API as JSON, their errors, and calls that wait. */
#include "bus/request/jsapi.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/jscode.h"
#include "bus/link/nats_reap.h"
#include "bus/retry.h"

struct jsapi {
    struct inbox *inbox; /* not owned */
    char *prefix;        /* owned */
    int64_t timeout_ns;
};

/* One call on its way. */
struct api_call {
    struct jsapi *jsapi; /* not owned; only the inbox that outlives it calls back */
    jsapi_fn on_reply;
    void *owner;
    char operation[];
};

struct jsapi *jsapi_new(struct inbox *inbox, const char *prefix, const char *domain,
                        int64_t timeout_ns, struct err *err)
{
    struct jsapi *jsapi = calloc(1, sizeof *jsapi);
    int written = -1;
    if (jsapi && prefix)
        written = asprintf(&jsapi->prefix, "%s", prefix);
    else if (jsapi && domain)
        written = asprintf(&jsapi->prefix, "$JS.%s.API", domain);
    else if (jsapi)
        written = asprintf(&jsapi->prefix, "$JS.API");
    if (written < 0) {
        free(jsapi);
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    /* As people write it in other clients' settings: with the dot. */
    if (written > 0 && jsapi->prefix[written - 1] == '.')
        jsapi->prefix[written - 1] = '\0';
    jsapi->inbox = inbox;
    jsapi->timeout_ns = timeout_ns > 0 ? timeout_ns : 5 * NS_PER_S;
    return jsapi;
}

void jsapi_free(struct jsapi *jsapi)
{
    if (!jsapi)
        return;
    free(jsapi->prefix);
    free(jsapi);
}

char *jsapi_subject(const struct jsapi *jsapi, const char *operation, char *buf, size_t size)
{
    snprintf(buf, size, "%s.%s", jsapi->prefix, operation);
    return buf;
}

char *jsapi_consumer(const char *verb, const char *stream, const char *name, char *buf, size_t size)
{
    snprintf(buf, size, "CONSUMER.%s.%s.%s", verb, stream, name);
    return buf;
}

char *jsapi_stream(const char *verb, const char *name, char *buf, size_t size)
{
    snprintf(buf, size, "STREAM.%s.%s", verb, name);
    return buf;
}

bool jsapi_owns(const struct jsapi *jsapi, const char *subject)
{
    size_t len = strlen(jsapi->prefix);
    return strncmp(subject, jsapi->prefix, len) == 0 && subject[len] == '.';
}

const char *jsapi_stored_as(const struct jsapi *jsapi, const char *subject)
{
    if (!jsapi_owns(jsapi, subject))
        return subject;
    const char *rest = subject + strlen(jsapi->prefix) + 1;
    return strncmp(rest, "$KV.", 4) == 0 ? rest : subject;
}

/* --- calls --- */

static enum err_code kind_of(int http, int api_code)
{
    switch (jscode_meaning(http, api_code)) {
    case JSCODE_PASSES:
        return ERR_UNAVAILABLE;
    case JSCODE_OFF:
        return ERR_NO_RESPONDERS;
    case JSCODE_ABSENT:
        return ERR_NOT_FOUND;
    default:
        return ERR_API;
    }
}

static int reply_error(const char *operation, const cJSON *error, int *api_code, struct err *err)
{
    const cJSON *http = cJSON_GetObjectItemCaseSensitive(error, "code");
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(error, "err_code");
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "description"));
    *api_code = cJSON_IsNumber(code) ? code->valueint : 0;
    const char *remedy = jscode_remedy(*api_code);
    return err_set(err, kind_of(cJSON_IsNumber(http) ? http->valueint : 0, *api_code),
                   "%s: %s (JetStream error %d)%s%s", operation,
                   text ? text : "refused without saying why", *api_code, remedy ? ": " : "",
                   remedy ? remedy : "");
}

cJSON *jsapi_parse(const char *operation, const char *data, size_t len, int *api_code,
                   struct err *err)
{
    cJSON *reply = len ? cJSON_ParseWithLength(data, len) : NULL;
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(reply, "error");
    *api_code = 0;
    if (cJSON_IsObject(reply) && !cJSON_IsObject(error))
        return reply;
    if (!reply && len > 1 && data[0] == '{' && data[len - 1] == '}')
        err_set(err, ERR_MEMORY, "%s: no memory for the answer", operation);
    else if (!cJSON_IsObject(reply))
        err_set(err, ERR_API, "%s: the answer is not JSON", operation);
    else
        reply_error(operation, error, api_code, err);
    cJSON_Delete(reply);
    return NULL;
}

int jsapi_unanswered(const struct jsapi *jsapi, const char *operation, enum err_code code,
                     struct err *err)
{
    switch (code) {
    case ERR_NO_RESPONDERS:
        return err_set(err, code,
                       "nobody answers %s.%s: is JetStream enabled on the server and for "
                       "this account?",
                       jsapi->prefix, operation);
    case ERR_TIMEOUT:
        return err_set(err, code, "%s: no answer from JetStream in time", operation);
    case ERR_PERMISSION:
        return err_set(err, code, "%s: this user may not publish to %s.%s", operation,
                       jsapi->prefix, operation);
    case ERR_CLOSED:
        return err_set(err, code, "%s: the host is stopping", operation);
    default:
        return err_set(err, code, "%s: %s", operation, err_name(code));
    }
}

static void on_answer(void *owner, struct packet *packet, enum err_code code)
{
    struct api_call *call = owner;
    struct err err = {.code = ERR_NONE};
    int api_code = 0;
    cJSON *reply = NULL;
    if (packet)
        reply = jsapi_parse(call->operation, packet->data, packet->len, &api_code, &err);
    else
        jsapi_unanswered(call->jsapi, call->operation, code, &err);
    call->on_reply(call->owner, reply, api_code, reply ? NULL : &err);
    cJSON_Delete(reply);
    free(call);
}

/* JetStream counts durations in nanoseconds: cJSON would write 30 days as 2.592e+15, and Go reads
 * no integer from that. */
#define CJSON_WRITES_WHOLE 1e15

static bool write_whole(cJSON *parent, cJSON *item)
{
    char text[32];
    snprintf(text, sizeof text, "%.0f", item->valuedouble);
    cJSON *raw = cJSON_CreateRaw(text);
    bool placed = raw && (item->string && !cJSON_IsArray(parent)
                              ? cJSON_ReplaceItemInObjectCaseSensitive(parent, item->string, raw)
                              : cJSON_ReplaceItemViaPointer(parent, item, raw));
    if (raw && !placed)
        cJSON_Delete(raw);
    return placed;
}

/* False: there is no memory for that. */
static bool write_numbers_whole(cJSON *parent)
{
    bool written = true;
    cJSON *item = parent->child;
    while (item && written) {
        cJSON *next = item->next;
        double value = item->valuedouble;
        if (cJSON_IsNumber(item) && fabs(value) >= CJSON_WRITES_WHOLE && value == floor(value) &&
            fabs(value) < 0x1.0p63)
            written = write_whole(parent, item);
        else
            written = write_numbers_whole(item);
        item = next;
    }
    return written;
}

char *jsapi_print(const cJSON *request)
{
    cJSON *copy = cJSON_Duplicate(request, true);
    if (!copy)
        return NULL;
    char *text = write_numbers_whole(copy) ? cJSON_PrintUnformatted(copy) : NULL;
    cJSON_Delete(copy);
    return text;
}

uint64_t jsapi_request(struct jsapi *jsapi, const char *operation, struct link_frame *frame,
                       uint64_t deadline_ns, inbox_fn on_reply, void (*on_drop)(void *owner),
                       void *owner, struct err *err)
{
    char subject[1024];
    frame->subject = jsapi_subject(jsapi, operation, subject, sizeof subject);
    return inbox_request_safe(jsapi->inbox, frame, deadline_ns, on_reply, on_drop, owner, err);
}

static uint64_t call_until(struct jsapi *jsapi, const char *operation, const cJSON *request,
                           uint64_t deadline_ns, jsapi_fn on_result, void *owner, struct err *err)
{
    size_t len = strlen(operation) + 1;
    struct api_call *call = malloc(sizeof *call + len);
    char *body = request ? jsapi_print(request) : NULL;
    uint64_t id = 0;
    if (!call || (request && !body)) {
        err_set(err, ERR_MEMORY, "out of memory");
    } else {
        *call = (struct api_call){.jsapi = jsapi, .on_reply = on_result, .owner = owner};
        memcpy(call->operation, operation, len);
        struct link_frame frame = {.data = body, .len = body ? strlen(body) : 0};
        id = jsapi_request(jsapi, operation, &frame, deadline_ns, on_answer, free, call, err);
    }
    cJSON_free(body);
    if (!id)
        free(call);
    return id;
}

uint64_t jsapi_call(struct jsapi *jsapi, const char *operation, const cJSON *request,
                    jsapi_fn on_result, void *owner, struct err *err)
{
    return call_until(jsapi, operation, request, clock_now_ns() + (uint64_t)jsapi->timeout_ns,
                      on_result, owner, err);
}

/* --- waiting for a call: on a pool thread's stack --- */

struct waiter {
    struct mutex lock;
    struct cond woken;
    bool done;
    cJSON *reply;
    int api_code;
    struct err err;
};

static void on_waited(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct waiter *waiter = owner;
    mutex_lock(&waiter->lock);
    waiter->reply = reply ? cJSON_Duplicate(reply, true) : NULL;
    waiter->api_code = api_code;
    if (err)
        waiter->err = *err;
    else if (!waiter->reply)
        err_set(&waiter->err, ERR_MEMORY, "out of memory");
    waiter->done = true;
    cond_signal(&waiter->woken);
    mutex_unlock(&waiter->lock);
}

/* One try. The clock ends it, so the wait itself needs no deadline. */
static cJSON *wait_once(struct jsapi *jsapi, const char *operation, const cJSON *request,
                        uint64_t deadline_ns, int *api_code, struct err *err)
{
    struct waiter waiter = {.done = false};
    uint64_t until = clock_now_ns() + (uint64_t)jsapi->timeout_ns;
    mutex_init(&waiter.lock);
    cond_init(&waiter.woken);
    bool called = call_until(jsapi, operation, request, until < deadline_ns ? until : deadline_ns,
                             on_waited, &waiter, &waiter.err) != 0;
    mutex_lock(&waiter.lock);
    while (called && !waiter.done)
        cond_wait(&waiter.woken, &waiter.lock);
    mutex_unlock(&waiter.lock);
    cond_destroy(&waiter.woken);
    mutex_destroy(&waiter.lock);
    *api_code = waiter.api_code;
    *err = waiter.err;
    return waiter.reply;
}

cJSON *jsapi_wait(struct jsapi *jsapi, const char *operation, const cJSON *request,
                  uint64_t deadline_ns, int *api_code, struct err *err)
{
    static const struct backoff backoff = {
        .min_ns = 100 * NS_PER_MS, .max_ns = NS_PER_S, .factor = 2, .jitter = 0.1};
    struct link *link = inbox_link(jsapi->inbox);
    struct err last = {.code = ERR_NONE};
    int code = 0;
    cJSON *reply = NULL;
    for (uint64_t tries = 1;; tries++) {
        /* Without a connection, tries would pile up in the lane and all be made on connecting. */
        if (link_wait_connected(link, deadline_ns))
            reply = wait_once(jsapi, operation, request, deadline_ns, &code, &last);
        else if (clock_now_ns() < deadline_ns)
            err_set(&last, ERR_CLOSED, "%s: the host is stopping", operation);
        else if (last.code == ERR_NONE)
            err_set(&last, ERR_DISCONNECTED, "%s: no connection to NATS", operation);
        uint64_t next =
            clock_now_ns() + (uint64_t)backoff_delay_ns(&backoff, tries, retry_random());
        if (reply || !err_passes(last.code) || next >= deadline_ns)
            break;
        thread_sleep_until(next);
    }
    if (api_code)
        *api_code = code;
    if (!reply)
        err_set(err, last.code, "%s", last.message);
    return reply;
}

/* --- streams --- */

int jsapi_stream_info(struct jsapi *jsapi, const char *name, cJSON **info, uint64_t deadline_ns,
                      struct err *err)
{
    char operation[300];
    struct err why;
    jsapi_stream("INFO", name, operation, sizeof operation);
    *info = jsapi_wait(jsapi, operation, NULL, deadline_ns, NULL, &why);
    return *info ? 0 : err_set(err, why.code, "%s", why.message);
}

int jsapi_stream_of(struct jsapi *jsapi, const char *subject, char *stream, size_t size,
                    uint64_t deadline_ns, struct err *err)
{
    cJSON *request = cJSON_CreateObject();
    if (!cJSON_AddStringToObject(request, "subject", subject)) {
        cJSON_Delete(request);
        return err_set(err, ERR_MEMORY, "out of memory");
    }
    struct err local = {.code = ERR_NONE};
    cJSON *reply = jsapi_wait(jsapi, "STREAM.NAMES", request, deadline_ns, NULL, &local);
    cJSON_Delete(request);
    if (!reply)
        return err_set(err, local.code, "%s", local.message);
    const cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(reply, "streams"), 0);
    bool found = cJSON_IsString(first);
    if (found && stream)
        snprintf(stream, size, "%s", first->valuestring);
    cJSON_Delete(reply);
    return found;
}
