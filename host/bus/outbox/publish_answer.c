/* What an answer, or none, means for a publish: stored, to be tried again, failed. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/letter.h"
#include "bus/link/nats_reap.h"
#include "bus/outbox/publish_private.h"

/* --- after "wrong last sequence", when it may be stored: is the message there our own? --- */

/* Does the reply to STREAM.MSG.GET hold the publish's own message? */
static bool is_own(const struct publish *publish, const cJSON *reply, uint64_t *sequence)
{
    struct stored_message stored;
    struct span own = publish->id, there = {NULL, 0};
    if (stored_parse(reply, &stored, NULL) == 0)
        there = headers_get(&stored.headers, "Nats-Msg-Id");
    bool same = there.at && own.len == there.len && memcmp(own.at, there.at, own.len) == 0;
    *sequence = stored.sequence;
    stored_clear(&stored);
    return same;
}

static void on_place_read(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct publish *publish = owner;
    struct outbox *outbox = publish->outbox;
    struct receipt receipt = {.duplicate = publish->tries <= 1 || publish->wary};
    struct publish_outcome outcome;
    outcome.publish = NULL;
    (void)api_code;
    (void)err;
    bool own = is_own(publish, reply, &receipt.sequence); /* its headers never change */
    mutex_lock(&outbox->lock);
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
    mutex_unlock(&outbox->lock);
    publish_tell(&outcome);
    publish_release(publish);
}

bool publish_ask(struct publish *publish, enum stage stage, const char *operation,
                 const cJSON *request, jsapi_fn on_reply)
{
    must_hold(&publish->outbox->lock);
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

static const char *stored_subject(const struct publish *publish)
{
    return jsapi_stored_as(publish->outbox->jsapi, publish->subject);
}

/* Where our own first send would be: at the sequence after the expected one; or, when
 * that was expected of the subject, the first of the subject after it; or else the last of the
 * subject, unless others have published since. */
static void read_place(struct publish *publish, struct publish_outcome *outcome)
{
    must_hold(&publish->outbox->lock);
    char operation[300];
    struct span of_stream = headers_get(&publish->headers, "Nats-Expected-Last-Sequence");
    struct span of_subject = headers_get(&publish->headers, "Nats-Expected-Last-Subject-Sequence");
    unsigned long long expected = 0;
    cJSON *request = cJSON_CreateObject();
    span_number(of_stream.at ? of_stream : of_subject, &expected);
    if (of_stream.at || of_subject.at)
        cJSON_AddNumberToObject(request, "seq", (double)expected + 1);
    if (!of_stream.at)
        cJSON_AddStringToObject(request, of_subject.at ? "next_by_subj" : "last_by_subj",
                                stored_subject(publish));
    jsapi_stream("MSG.GET", publish->place->stream, operation, sizeof operation);
    if (!publish_ask(publish, STAGE_READING, operation, request, on_place_read))
        publish_end_failed(publish, &publish->place->refused, outcome);
    cJSON_Delete(request);
}

const char *publish_first_name(const cJSON *reply)
{
    return cJSON_GetStringValue(
        cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(reply, "streams"), 0));
}

static void on_located(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct publish *publish = owner;
    struct outbox *outbox = publish->outbox;
    struct publish_outcome outcome;
    outcome.publish = NULL;
    const char *stream = publish_first_name(reply);
    (void)api_code;
    (void)err;
    mutex_lock(&outbox->lock);
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
    mutex_unlock(&outbox->lock);
    publish_tell(&outcome);
    publish_release(publish);
}

cJSON *publish_names_request(const struct publish *publish)
{
    cJSON *request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "subject", stored_subject(publish));
    return request;
}

static void check_place(struct publish *publish, const struct err *err,
                        struct publish_outcome *outcome)
{
    must_hold(&publish->outbox->lock);
    free(publish->place);
    publish->place = calloc(1, sizeof *publish->place);
    if (!publish->place) {
        publish_end_failed(publish, err, outcome);
        return;
    }
    publish->place->refused = *err;
    cJSON *request = publish_names_request(publish);
    if (!publish_ask(publish, STAGE_LOCATING, "STREAM.NAMES", request, on_located))
        publish_end_failed(publish, err, outcome);
    cJSON_Delete(request);
}

/* --- nobody answered: is there a stream at all? --- */

static void on_names(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct publish *publish = owner;
    struct outbox *outbox = publish->outbox;
    struct publish_outcome outcome;
    outcome.publish = NULL;
    (void)api_code;
    mutex_lock(&outbox->lock);
    if (publish->stage == STAGE_ASKING) {
        publish->call = 0;
        struct err reason;
        if (reply && !publish_first_name(reply)) {
            err_set(&reason, ERR_NO_STREAM,
                    "no stream takes \"%s\": create one with js.stream, or use bus.publish",
                    publish->subject);
            publish_end_failed(publish, &reason, &outcome);
        } else if (reply) {
            err_set(&reason, ERR_NO_RESPONDERS, "stream \"%s\" takes \"%s\" but does not answer",
                    publish_first_name(reply), publish->subject);
            publish_try_later(publish, &reason, &outcome);
        } else {
            publish_try_later(publish, err, &outcome);
        }
    }
    publish_fill_window(outbox);
    mutex_unlock(&outbox->lock);
    publish_tell(&outcome);
    publish_release(publish);
}

static void ask_for_stream(struct publish *publish, struct publish_outcome *outcome)
{
    must_hold(&publish->outbox->lock);
    struct err err;
    cJSON *request = publish_names_request(publish);
    if (!publish_ask(publish, STAGE_ASKING, "STREAM.NAMES", request, on_names)) {
        err_set(&err, ERR_NO_RESPONDERS, "nobody serves \"%s\"", publish->subject);
        publish_try_later(publish, &err, outcome);
    }
    cJSON_Delete(request);
}

/* --- the PubAck --- */

static void judge_puback(struct publish *publish, struct packet *reply,
                         struct publish_outcome *outcome)
{
    must_hold(&publish->outbox->lock);
    struct receipt *receipt = &outcome->receipt;
    struct err err;
    int api_code;
    bool transient;
    int code = wire_parse_puback(reply->data, reply->len, receipt, &api_code, &transient, &err);
    if (code == 0) {
        /* A duplicate that answers our own retry is our own first send: stored once. */
        if (publish->tries > 1 && !publish->wary)
            receipt->duplicate = false;
        publish_note_stored(publish, receipt);
        publish_end_stored(publish, receipt, outcome);
        return;
    }
    char sentence[sizeof err.message];
    memcpy(sentence, err.message, sizeof sentence);
    err_set(&err, (enum err_code)code, "\"%s\": %s", publish->subject, sentence);
    /* Servers from 2.12 on look at what is expected before they look at the id. */
    if (code == ERR_WRONG_SEQUENCE && (publish->tries > 1 || publish->again))
        check_place(publish, &err, outcome);
    else if (code == ERR_UNAVAILABLE)
        publish_unsure(publish, receipt, &err, outcome);
    else if (transient)
        publish_try_later(publish, &err, outcome);
    else
        publish_end_failed(publish, &err, outcome);
}

static void judge_silence(struct publish *publish, enum err_code code,
                          struct publish_outcome *outcome)
{
    must_hold(&publish->outbox->lock);
    struct err err;
    char duration[32];
    switch (code) {
    case ERR_NO_RESPONDERS:
        ask_for_stream(publish, outcome);
        return;
    case ERR_TIMEOUT:
        err_set(&err, code, "\"%s\": no PubAck within %s", publish->subject,
                value_format_duration(publish->timeout_ns, duration, sizeof duration));
        publish_unconfirmed(publish, &err, outcome);
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

void publish_on_puback(void *owner, struct packet *reply, enum err_code code)
{
    struct publish *publish = owner;
    struct outbox *outbox = publish->outbox;
    struct publish_outcome outcome;
    outcome.publish = NULL;
    mutex_lock(&outbox->lock);
    if (publish->stage == STAGE_SENT) {
        publish->call = 0;
        if (reply)
            judge_puback(publish, reply, &outcome);
        else
            judge_silence(publish, code, &outcome);
    }
    publish_fill_window(outbox);
    mutex_unlock(&outbox->lock);
    publish_tell(&outcome);
}
