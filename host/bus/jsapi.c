#include "bus/jsapi.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/value.h"
#include "bus/reap.h"
#include "bus/retry.h"

/* JetStream's err_codes that are told apart here (nats-server, server/errors.json). */
enum {
    JS_CLUSTER_NOT_AVAILABLE = 10008,
    JS_CLUSTER_NOT_LEADER = 10009,
    JS_STREAM_NAME_IN_USE = 10058,
    JS_NOT_ENABLED = 10076,
};

struct jsapi {
    struct inbox *inbox; /* not owned */
    char *prefix;        /* owned */
    int64_t timeout_ns;
};

/* One call on its way. */
struct call {
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

/* --- calls --- */

static int reply_error(const char *operation, const cJSON *error, int *api_code, struct err *err)
{
    const cJSON *http = cJSON_GetObjectItemCaseSensitive(error, "code");
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(error, "err_code");
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(error, "description"));
    *api_code = cJSON_IsNumber(code) ? code->valueint : 0;
    enum err_code kind = cJSON_IsNumber(http) && http->valueint == 404 ? ERR_NOT_FOUND : ERR_API;
    if (*api_code == JS_NOT_ENABLED)
        kind = ERR_NO_RESPONDERS;
    return err_set(err, kind, "%s: %s (JetStream error %d)", operation,
                   text ? text : "refused without saying why", *api_code);
}

cJSON *jsapi_parse(const char *operation, const char *data, size_t len, int *api_code,
                   struct err *err)
{
    cJSON *reply = len ? cJSON_ParseWithLength(data, len) : NULL;
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(reply, "error");
    *api_code = 0;
    if (cJSON_IsObject(reply) && !cJSON_IsObject(error))
        return reply;
    if (!cJSON_IsObject(reply))
        err_set(err, ERR_API, "%s: the answer is not JSON", operation);
    else
        reply_error(operation, error, api_code, err);
    cJSON_Delete(reply);
    return NULL;
}

static void missing_reply(const struct call *call, enum err_code code, struct err *err)
{
    switch (code) {
    case ERR_NO_RESPONDERS:
        err_set(err, code,
                "nobody answers %s.%s: is JetStream enabled on the server and for "
                "this account?",
                call->jsapi->prefix, call->operation);
        break;
    case ERR_TIMEOUT:
        err_set(err, code, "%s: no answer from JetStream in time", call->operation);
        break;
    case ERR_PERMISSION:
        err_set(err, code, "%s: this user may not publish to %s.%s", call->operation,
                call->jsapi->prefix, call->operation);
        break;
    case ERR_CLOSED:
        err_set(err, code, "%s: the host is stopping", call->operation);
        break;
    default:
        err_set(err, code, "%s: %s", call->operation, err_name(code));
        break;
    }
}

static void on_reply(void *owner, natsMsg *msg, enum err_code code)
{
    struct call *call = owner;
    struct err err = {.code = ERR_NONE};
    int api_code = 0;
    cJSON *reply = NULL;
    if (msg)
        reply = jsapi_parse(call->operation, natsMsg_GetData(msg),
                            (size_t)natsMsg_GetDataLength(msg), &api_code, &err);
    else
        missing_reply(call, code, &err);
    call->on_reply(call->owner, reply, api_code, reply ? NULL : &err);
    cJSON_Delete(reply);
    reap(msg);
    free(call);
}

/* JetStream counts durations in nanoseconds: cJSON would write 30 days as 2.592e+15, and Go reads
 * no integer from that. */
#define CJSON_WRITES_WHOLE 1e15

static void write_numbers_whole(cJSON *parent)
{
    cJSON *item = parent->child;
    while (item) {
        cJSON *next = item->next;
        double value = item->valuedouble;
        if (cJSON_IsNumber(item) && fabs(value) >= CJSON_WRITES_WHOLE && value == floor(value) &&
            fabs(value) < 0x1.0p63) {
            char text[32];
            snprintf(text, sizeof text, "%.0f", value);
            cJSON *raw = cJSON_CreateRaw(text);
            if (raw && item->string && !cJSON_IsArray(parent))
                cJSON_ReplaceItemInObjectCaseSensitive(parent, item->string, raw);
            else if (raw)
                cJSON_ReplaceItemViaPointer(parent, item, raw);
        } else {
            write_numbers_whole(item);
        }
        item = next;
    }
}

char *jsapi_print(const cJSON *request)
{
    cJSON *copy = cJSON_Duplicate(request, true);
    if (!copy)
        return NULL;
    write_numbers_whole(copy);
    char *text = cJSON_PrintUnformatted(copy);
    cJSON_Delete(copy);
    return text;
}

static uint64_t call_until(struct jsapi *jsapi, const char *operation, const cJSON *request,
                           uint64_t deadline_ns, jsapi_fn on_result, void *owner, struct err *err)
{
    size_t len = strlen(operation) + 1;
    struct call *call = malloc(sizeof *call + len);
    char *body = request ? jsapi_print(request) : NULL;
    uint64_t id = 0;
    if (!call || (request && !body)) {
        err_set(err, ERR_MEMORY, "out of memory");
    } else {
        char subject[1024];
        *call = (struct call){.jsapi = jsapi, .on_reply = on_result, .owner = owner};
        memcpy(call->operation, operation, len);
        struct link_frame frame = {
            .subject = jsapi_subject(jsapi, operation, subject, sizeof subject),
            .data = body,
            .len = body ? strlen(body) : 0,
        };
        id = inbox_request_drop(jsapi->inbox, &frame, deadline_ns, on_reply, free, call, err);
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
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool done;
    cJSON *reply;
    int api_code;
    struct err err;
};

static void on_waited(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct waiter *waiter = owner;
    pthread_mutex_lock(&waiter->lock);
    waiter->reply = reply ? cJSON_Duplicate(reply, true) : NULL;
    waiter->api_code = api_code;
    if (err)
        waiter->err = *err;
    else if (!waiter->reply)
        err_set(&waiter->err, ERR_MEMORY, "out of memory");
    waiter->done = true;
    pthread_cond_signal(&waiter->woken);
    pthread_mutex_unlock(&waiter->lock);
}

/* One try. The clock ends it, so the wait itself needs no deadline. */
static cJSON *wait_once(struct jsapi *jsapi, const char *operation, const cJSON *request,
                        uint64_t deadline_ns, int *api_code, struct err *err)
{
    struct waiter waiter = {.done = false};
    uint64_t until = clock_now_ns() + (uint64_t)jsapi->timeout_ns;
    pthread_mutex_init(&waiter.lock, NULL);
    pthread_cond_init(&waiter.woken, NULL);
    bool called = call_until(jsapi, operation, request, until < deadline_ns ? until : deadline_ns,
                             on_waited, &waiter, &waiter.err) != 0;
    pthread_mutex_lock(&waiter.lock);
    while (called && !waiter.done)
        pthread_cond_wait(&waiter.woken, &waiter.lock);
    pthread_mutex_unlock(&waiter.lock);
    pthread_cond_destroy(&waiter.woken);
    pthread_mutex_destroy(&waiter.lock);
    *api_code = waiter.api_code;
    *err = waiter.err;
    return waiter.reply;
}

static bool worth_another_try(const struct err *err, int api_code)
{
    switch (err->code) {
    case ERR_TIMEOUT:
    case ERR_NO_RESPONDERS:
    case ERR_DISCONNECTED:
    case ERR_FULL:
        return true;
    default:
        return api_code == JS_CLUSTER_NOT_AVAILABLE || api_code == JS_CLUSTER_NOT_LEADER;
    }
}

static void sleep_until(uint64_t at_ns)
{
    struct timespec at = {.tv_sec = (time_t)(at_ns / NS_PER_S),
                          .tv_nsec = (long)(at_ns % NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {
    }
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
        if (reply || !worth_another_try(&last, code) || next >= deadline_ns)
            break;
        sleep_until(next);
    }
    if (api_code)
        *api_code = code;
    if (!reply)
        err_set(err, last.code, "%s", last.message);
    return reply;
}

/* --- streams --- */

static int compare_stream(const char *name, const cJSON *stated, const cJSON *info,
                          const char *otherwise, struct err *err)
{
    const cJSON *config = cJSON_GetObjectItemCaseSensitive(info, "config");
    int code = jsapi_compare(stated, config, NULL, err);
    if (code)
        err_prefix(err, "stream \"%s\" %s", name, otherwise);
    return code;
}

int jsapi_ensure_stream(struct jsapi *jsapi, const cJSON *stated, uint64_t deadline_ns,
                        struct err *err)
{
    static const char exists[] = "exists with other settings";
    static const char echoed[] = "was created, but this server does not take every setting";
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(stated, "name"));
    char info[300], create[300];
    struct err local = {.code = ERR_NONE};
    int api_code = 0;
    if (!name)
        return err_set(err, ERR_INVALID, "a stream needs a name");
    if (name_check("stream", name, strlen(name), err) != 0)
        return ERR_INVALID;
    snprintf(info, sizeof info, "STREAM.INFO.%s", name);
    snprintf(create, sizeof create, "STREAM.CREATE.%s", name);

    const char *otherwise = exists;
    cJSON *reply = jsapi_wait(jsapi, info, NULL, deadline_ns, &api_code, &local);
    if (!reply && local.code == ERR_NOT_FOUND) {
        otherwise = echoed;
        reply = jsapi_wait(jsapi, create, stated, deadline_ns, &api_code, &local);
        if (!reply && api_code == JS_STREAM_NAME_IN_USE) { /* someone else was faster */
            otherwise = exists;
            reply = jsapi_wait(jsapi, info, NULL, deadline_ns, &api_code, &local);
        }
    }
    if (!reply) {
        return err_set(err, local.code, "stream \"%s\": %s", name, local.message);
    }
    int code = compare_stream(name, stated, reply, otherwise, err);
    cJSON_Delete(reply);
    return code;
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
