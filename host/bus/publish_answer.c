#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/value.h"
#include "bus/letter.h"
#include "bus/publish_private.h"
#include "bus/reap.h"

/* --- after "wrong last sequence" on a retry: is the message there our own? --- */

/* Does the reply to STREAM.MSG.GET hold the publish's own message? */
static bool is_own(const struct publish *publish, const cJSON *reply, uint64_t *sequence)
{
    struct stored stored;
    const char *own = headers_get(&publish->headers, "Nats-Msg-Id"), *there = NULL;
    if (stored_parse(reply, &stored, NULL) == 0)
        there = headers_get(&stored.headers, "Nats-Msg-Id");
    bool same = own && there && strcmp(own, there) == 0;
    *sequence = stored.sequence;
    stored_clear(&stored);
    return same;
}

static void on_place_read(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct publish *publish = owner;
    struct outbox *outbox = publish->outbox;
    struct receipt receipt = {.duplicate = false};
    struct outcome outcome;
    outcome.publish = NULL;
    (void)api_code;
    (void)err;
    bool own = is_own(publish, reply, &receipt.sequence); /* its headers never change */
    pthread_mutex_lock(&outbox->lock);
    if (publish->stage == STAGE_READING) {
        publish->call = 0;
        if (own) {
            memcpy(receipt.stream, publish->place->stream, sizeof receipt.stream);
            publish_end_stored(publish, &receipt, &outcome);
        } else {
            publish_end_failed(publish, &publish->place->refused, &outcome);
        }
    }
    publish_fill_window(outbox);
    pthread_mutex_unlock(&outbox->lock);
    publish_tell(&outcome);
    publish_release(publish);
}

/* Lock held. Calls JetStream's API for the publish, which waits in `stage` meanwhile. */
static bool ask(struct publish *publish, enum stage stage, const char *operation,
                const cJSON *request, jsapi_fn on_reply)
{
    publish->stage = stage;
    publish_retain(publish);
    publish->call =
        request ? jsapi_call(publish->outbox->jsapi, operation, request, on_reply, publish, NULL)
                : 0;
    if (publish->call)
        return true;
    publish_release(publish);
    return false;
}

/* Lock held. Where our own first send would be: at the sequence after the expected one; or, when
 * that was expected of the subject, the first of the subject after it; or else the last of the
 * subject, unless others have published since. */
static void read_place(struct publish *publish, struct outcome *outcome)
{
    char operation[300];
    const char *of_stream = headers_get(&publish->headers, "Nats-Expected-Last-Sequence");
    const char *of_subject = headers_get(&publish->headers, "Nats-Expected-Last-Subject-Sequence");
    cJSON *request = cJSON_CreateObject();
    if (of_stream || of_subject)
        cJSON_AddNumberToObject(request, "seq",
                                strtod(of_stream ? of_stream : of_subject, NULL) + 1);
    if (!of_stream)
        cJSON_AddStringToObject(request, of_subject ? "next_by_subj" : "last_by_subj",
                                publish->subject);
    snprintf(operation, sizeof operation, "STREAM.MSG.GET.%s", publish->place->stream);
    if (!ask(publish, STAGE_READING, operation, request, on_place_read))
        publish_end_failed(publish, &publish->place->refused, outcome);
    cJSON_Delete(request);
}

static const char *first_name(const cJSON *reply)
{
    return cJSON_GetStringValue(
        cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(reply, "streams"), 0));
}

static void on_located(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct publish *publish = owner;
    struct outbox *outbox = publish->outbox;
    struct outcome outcome;
    outcome.publish = NULL;
    const char *stream = first_name(reply);
    (void)api_code;
    (void)err;
    pthread_mutex_lock(&outbox->lock);
    if (publish->stage == STAGE_LOCATING) {
        publish->call = 0;
        if (stream) {
            snprintf(publish->place->stream, sizeof publish->place->stream, "%s", stream);
            read_place(publish, &outcome);
        } else {
            publish_end_failed(publish, &publish->place->refused, &outcome);
        }
    }
    publish_fill_window(outbox);
    pthread_mutex_unlock(&outbox->lock);
    publish_tell(&outcome);
    publish_release(publish);
}

static cJSON *names_request(const struct publish *publish)
{
    cJSON *request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "subject", publish->subject);
    return request;
}

/* Lock held. */
static void check_place(struct publish *publish, const struct err *err, struct outcome *outcome)
{
    free(publish->place);
    publish->place = calloc(1, sizeof *publish->place);
    if (!publish->place) {
        publish_end_failed(publish, err, outcome);
        return;
    }
    publish->place->refused = *err;
    cJSON *request = names_request(publish);
    if (!ask(publish, STAGE_LOCATING, "STREAM.NAMES", request, on_located))
        publish_end_failed(publish, err, outcome);
    cJSON_Delete(request);
}

/* --- nobody answered: is there a stream at all? --- */

static void on_names(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct publish *publish = owner;
    struct outbox *outbox = publish->outbox;
    struct outcome outcome;
    outcome.publish = NULL;
    (void)api_code;
    pthread_mutex_lock(&outbox->lock);
    if (publish->stage == STAGE_ASKING) {
        publish->call = 0;
        struct err reason;
        if (reply && !first_name(reply)) {
            err_set(&reason, ERR_NO_STREAM,
                    "no stream takes \"%s\": create one with js.stream, or use bus.publish",
                    publish->subject);
            publish_end_failed(publish, &reason, &outcome);
        } else if (reply) {
            err_set(&reason, ERR_NO_RESPONDERS, "stream \"%s\" takes \"%s\" but does not answer",
                    first_name(reply), publish->subject);
            publish_try_later(publish, &reason, &outcome);
        } else {
            publish_try_later(publish, err, &outcome);
        }
    }
    publish_fill_window(outbox);
    pthread_mutex_unlock(&outbox->lock);
    publish_tell(&outcome);
    publish_release(publish);
}

/* Lock held. */
static void ask_for_stream(struct publish *publish, struct outcome *outcome)
{
    struct err err;
    cJSON *request = names_request(publish);
    if (!ask(publish, STAGE_ASKING, "STREAM.NAMES", request, on_names)) {
        err_set(&err, ERR_NO_RESPONDERS, "nobody serves \"%s\"", publish->subject);
        publish_try_later(publish, &err, outcome);
    }
    cJSON_Delete(request);
}

/* --- the PubAck --- */

/* Lock held. */
static void judge_puback(struct publish *publish, natsMsg *reply, struct outcome *outcome)
{
    struct receipt receipt;
    struct err err;
    int api_code;
    bool transient;
    int code = wire_parse_puback(natsMsg_GetData(reply), (size_t)natsMsg_GetDataLength(reply),
                                 &receipt, &api_code, &transient, &err);
    if (code == 0) {
        if (receipt.duplicate && publish->tries == 1 && publish->warn_duplicate)
            log_warn("\"%s\": stream %s has a message with the id \"%s\" already, although this "
                     "is the first try: the id is not unique",
                     publish->subject, receipt.stream,
                     headers_get(&publish->headers, "Nats-Msg-Id"));
        /* A duplicate that answers our own retry is our own first send: stored once. */
        if (publish->tries > 1)
            receipt.duplicate = false;
        publish_end_stored(publish, &receipt, outcome);
        return;
    }
    char sentence[sizeof err.message];
    memcpy(sentence, err.message, sizeof sentence);
    err_set(&err, (enum err_code)code, "\"%s\": %s", publish->subject, sentence);
    if (code == ERR_WRONG_SEQUENCE && publish->tries > 1)
        check_place(publish, &err, outcome);
    else if (transient)
        publish_try_later(publish, &err, outcome);
    else
        publish_end_failed(publish, &err, outcome);
}

/* Lock held. */
static void judge_silence(struct publish *publish, enum err_code code, struct outcome *outcome)
{
    struct err err;
    char duration[32];
    switch (code) {
    case ERR_NO_RESPONDERS:
        ask_for_stream(publish, outcome);
        return;
    case ERR_TIMEOUT:
        err_set(&err, code, "\"%s\": no PubAck within %s", publish->subject,
                value_format_duration(publish->timeout_ns, duration, sizeof duration));
        publish_try_later(publish, &err, outcome);
        return;
    case ERR_PERMISSION:
        err_set(&err, code, "this user may not publish to \"%s\"", publish->subject);
        break;
    default:
        err_set(&err, code, "\"%s\": %s", publish->subject,
                code == ERR_CLOSED ? "the host is stopping" : err_name(code));
        break;
    }
    publish_end_failed(publish, &err, outcome);
}

void publish_on_puback(void *owner, natsMsg *reply, enum err_code code)
{
    struct publish *publish = owner;
    struct outbox *outbox = publish->outbox;
    struct outcome outcome;
    outcome.publish = NULL;
    pthread_mutex_lock(&outbox->lock);
    if (publish->stage == STAGE_SENT) {
        publish->call = 0;
        if (reply)
            judge_puback(publish, reply, &outcome);
        else
            judge_silence(publish, code, &outcome);
    }
    publish_fill_window(outbox);
    pthread_mutex_unlock(&outbox->lock);
    reap(reply);
    publish_tell(&outcome);
    publish_release(publish);
}
