/* Calls of the API that block and are tried again; publishes that wait for their PubAck. */
#include "cli/jetstream.h"

#include <cjson/cJSON.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "base/value.h"
#include "bus/retry.h"

/* JetStream's err_codes of a cluster between two leaders (nats-server, server/errors.json). */
enum { JS_CLUSTER_NOT_AVAILABLE = 10008, JS_CLUSTER_NOT_LEADER = 10009 };

int jetstream_open(struct jetstream *js, struct client *client)
{
    struct err err;
    const struct config *config = client->config;
    *js = (struct jetstream){.client = client};
    js->jsapi =
        jsapi_new(NULL, config->api_prefix, config->domain, config->request_timeout_ns, &err);
    return js->jsapi ? CLI_OK : client_failed(client, "%s", err.message);
}

void jetstream_close(struct jetstream *js)
{
    jsapi_free(js->jsapi);
    *js = (struct jetstream){0};
}

/* ---- signals ---- */

/* `timeout` of GNU and the like signal twice: that is one wish. */
#define DOUBLED_NS (100 * NS_PER_MS)

bool jetstream_pause(struct jetstream *js, int64_t ns)
{
    const struct timespec time = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = ns % NS_PER_S};
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    if (!js->stopped && sigtimedwait(&signals, NULL, &time) > 0) {
        const struct timespec doubled = {.tv_nsec = DOUBLED_NS};
        js->stopped = true;
        sigtimedwait(&signals, NULL, &doubled);
        pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    }
    return !js->stopped;
}

bool jetstream_stopped(struct jetstream *js)
{
    return !jetstream_pause(js, 0);
}

static bool is_late(const struct jetstream *js)
{
    return js->deadline_ns && clock_now_ns() >= js->deadline_ns;
}

/* Before the next try. False: there is none. */
static bool try_again(struct jetstream *js, unsigned tries, struct err *err)
{
    const struct config *config = js->client->config;
    const struct backoff backoff = {.min_ns = config->publish_backoff_min_ns,
                                    .max_ns = config->publish_backoff_max_ns,
                                    .factor = 2,
                                    .jitter = 0.2};
    if (js->impatient || tries >= (unsigned)config->publish_attempts || is_late(js)) {
        js->impatient = true;
        return false;
    }
    if (jetstream_pause(js, backoff_delay_ns(&backoff, tries, retry_random())))
        return true;
    err_prefix(err, "stopped");
    return false;
}

/* ---- one try ---- */

static int explain(const struct jetstream *js, natsStatus status, const char *subject,
                   struct err *err)
{
    switch (status) {
    case NATS_NO_RESPONDERS:
        return err_set(err, ERR_NO_RESPONDERS, "nobody answers on \"%s\"", subject);
    case NATS_NOT_PERMITTED:
        return err_set(err, ERR_PERMISSION, "this user may not publish to \"%s\"", subject);
    case NATS_TIMEOUT:
        return err_set(err, ERR_TIMEOUT, "no answer on \"%s\" in time", subject);
    case NATS_MAX_PAYLOAD:
        return err_set(err, ERR_TOO_LARGE, "above the server's max_payload of %lld bytes",
                       (long long)natsConnection_GetMaxPayload(js->client->nc));
    case NATS_CONNECTION_CLOSED:
        return err_set(err, ERR_CLOSED, "the connection was closed");
    default:
        return err_set(err, ERR_DISCONNECTED, "%s", natsStatus_GetText(status));
    }
}

static int request(struct jetstream *js, const struct outgoing *message, int64_t timeout_ns,
                   natsMsg **reply, struct err *err)
{
    int64_t left_ns = js->deadline_ns ? (int64_t)(js->deadline_ns - clock_now_ns()) : timeout_ns;
    if (left_ns < timeout_ns)
        timeout_ns = left_ns > NS_PER_MS ? left_ns : NS_PER_MS;
    natsStatus status = client_request(js->client, message, timeout_ns, reply);
    return status == NATS_OK ? 0 : explain(js, status, message->subject, err);
}

/* ---- the API ---- */

static cJSON *read_reply(const char *operation, natsMsg *msg, int *api_code, struct err *err)
{
    size_t len = (size_t)natsMsg_GetDataLength(msg);
    cJSON *reply = len ? cJSON_ParseWithLength(natsMsg_GetData(msg), len) : NULL;
    const cJSON *error = json_field(reply, "error");
    if (cJSON_IsObject(reply) && !error)
        return reply;
    const char *text = json_text_or(error, "description", "refused without saying why");
    *api_code = json_int(error, "err_code", 0);
    err_set(err, json_int(error, "code", 0) == 404 ? ERR_NOT_FOUND : ERR_API,
            "%s: %s (JetStream error %d)", operation, text, *api_code);
    cJSON_Delete(reply);
    return NULL;
}

static bool call_may_pass(const struct jetstream *js, const struct err *err, int api_code)
{
    if (err->code == ERR_TIMEOUT || err->code == ERR_DISCONNECTED)
        return true;
    if (err->code == ERR_NO_RESPONDERS)
        return js->answered; /* at first it means that there is no JetStream */
    return api_code == JS_CLUSTER_NOT_AVAILABLE || api_code == JS_CLUSTER_NOT_LEADER;
}

static cJSON *call(struct jetstream *js, const char *operation, const struct outgoing *message,
                   int *api_code, struct err *err)
{
    for (unsigned tries = 1;; tries++) {
        natsMsg *answer = NULL;
        cJSON *reply = NULL;
        *api_code = 0;
        if (request(js, message, js->client->config->request_timeout_ns, &answer, err) == 0) {
            reply = read_reply(operation, answer, api_code, err);
            js->answered = true;
        }
        natsMsg_Destroy(answer);
        if (reply || !call_may_pass(js, err, *api_code) || !try_again(js, tries, err))
            return reply;
    }
}

cJSON *jetstream_call(struct jetstream *js, const char *operation, const cJSON *request,
                      int *api_code, struct err *err)
{
    char subject[1024];
    int code = 0;
    cJSON *reply = NULL;
    char *text = request ? cJSON_PrintUnformatted(request) : NULL;
    jsapi_subject(js->jsapi, operation, subject, sizeof subject);
    const struct outgoing message = {
        .subject = subject, .data = text ? text : "", .len = text ? strlen(text) : 0};
    if (request && !text)
        err_set(err, ERR_MEMORY, "out of memory");
    else
        reply = call(js, operation, &message, &code, err);
    cJSON_free(text);
    if (api_code)
        *api_code = code;
    return reply;
}

/* Takes body. */
static int read_message(struct jetstream *js, const char *stream, cJSON *body,
                        struct stored_message *out, struct err *err)
{
    char operation[300];
    *out = (struct stored_message){0};
    snprintf(operation, sizeof operation, "STREAM.MSG.GET.%s", stream);
    cJSON *reply = jetstream_call(js, operation, body, NULL, err);
    int code = reply ? stored_parse(reply, out, err) : (int)err->code;
    cJSON_Delete(reply);
    cJSON_Delete(body);
    return code;
}

int jetstream_read(struct jetstream *js, const char *stream, uint64_t sequence, const char *filter,
                   struct stored_message *out, struct err *err)
{
    cJSON *body = cJSON_CreateObject();
    cJSON_AddNumberToObject(body, "seq", (double)sequence);
    if (filter)
        cJSON_AddStringToObject(body, "next_by_subj", filter);
    return read_message(js, stream, body, out, err);
}

int jetstream_last(struct jetstream *js, const char *stream, const char *subject,
                   struct stored_message *out, struct err *err)
{
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "last_by_subj", subject);
    return read_message(js, stream, body, out, err);
}

int jetstream_stream_of(struct jetstream *js, const char *subject, char *stream, size_t size,
                        struct err *err)
{
    cJSON *body = cJSON_CreateObject();
    cJSON_AddStringToObject(body, "subject", subject);
    cJSON *reply = jetstream_call(js, "STREAM.NAMES", body, NULL, err);
    const char *name = json_first_text(reply, "streams");
    int found = !reply ? (int)err->code : name != NULL;
    snprintf(stream, size, "%s", name ? name : "");
    cJSON_Delete(reply);
    cJSON_Delete(body);
    return found;
}

#define NAMES_MOST 10

int jetstream_no_stream(struct jetstream *js, const char *stream)
{
    char server[256];
    struct err err;
    struct text names;
    cJSON *reply = jetstream_call(js, "STREAM.NAMES", NULL, NULL, &err);
    const cJSON *streams = json_field(reply, "streams"), *name;
    int count = 0;
    text_init(&names);
    cJSON_ArrayForEach(name, streams) {
        if (++count > NAMES_MOST)
            break;
        text_printf(&names, "%s%s", count > 1 ? ", " : "; there are ", cJSON_GetStringValue(name));
    }
    if (count > NAMES_MOST)
        text_puts(&names, "...");
    else if (reply && count == 0)
        text_puts(&names, "; there is no stream on it at all");
    client_failed(js->client, "not_found: there is no stream \"%s\" on %s%s", stream,
                  client_server(js->client, server, sizeof server), names.len ? names.bytes : "");
    text_clear(&names);
    cJSON_Delete(reply);
    return CLI_FAILED;
}

/* ---- publishing ---- */

/* Nobody answered: is there a stream at all? True: it may answer later. */
static bool has_stream(struct jetstream *js, const char *subject, struct err *err)
{
    char stream[256];
    struct err asked;
    int found = jetstream_stream_of(js, subject, stream, sizeof stream, &asked);
    if (found > 0)
        err_set(err, ERR_NO_RESPONDERS, "stream %s takes \"%s\" but does not answer", stream,
                subject);
    else if (found == 0)
        err_set(err, ERR_NO_STREAM, "no stream takes \"%s\"", subject);
    return found > 0;
}

/* One try. True: another one may do better. */
static bool publish_once(struct jetstream *js, const struct outgoing *message,
                         struct receipt *receipt, struct err *err)
{
    natsMsg *reply = NULL;
    int api_code;
    bool transient;
    int code = request(js, message, js->client->config->publish_timeout_ns, &reply, err);
    if (code == ERR_NO_RESPONDERS)
        return has_stream(js, message->subject, err);
    if (code)
        return code == ERR_TIMEOUT || code == ERR_DISCONNECTED;
    wire_parse_puback(natsMsg_GetData(reply), (size_t)natsMsg_GetDataLength(reply), receipt,
                      &api_code, &transient, err);
    natsMsg_Destroy(reply);
    return transient;
}

int jetstream_publish(struct jetstream *js, const struct outgoing *message, struct receipt *receipt,
                      unsigned *tries, struct err *err)
{
    size_t size = headers_wire_size(message->headers) + message->len;
    int64_t most = natsConnection_GetMaxPayload(js->client->nc);
    *tries = 0;
    /* The server would close the connection. */
    if (most > 0 && size > (size_t)most)
        return err_set(err, ERR_TOO_LARGE,
                       "%zu bytes with its headers, above the server's max_payload of %lld", size,
                       (long long)most);
    int code = 0;
    for (bool again = true; again; again = again && try_again(js, *tries, err)) {
        ++*tries;
        *err = (struct err){0};
        again = publish_once(js, message, receipt, err);
        code = err->code;
    }
    if (code == 0)
        js->impatient = false;
    return code;
}
