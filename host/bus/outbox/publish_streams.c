/* What is known of the streams that are published to, and what follows from it: one with no_ack
 * confirms nothing, and one that keeps only what its consumers have not taken forgets ids. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/outbox/publish_private.h"

/* In an outage nothing gets a PubAck, and a few questions are as good as many. */
#define DOUBTS 16
/* NATS' own default, for streams whose settings are not known. */
#define WINDOW_DEFAULT_NS (120 * NS_PER_S)
/* A cluster that is still agreeing on the first copy says so for a moment. */
#define UNSURE_TOLD_AFTER_NS (1 * NS_PER_S)
#define UNSURE_TOLD_EVERY_NS (60 * NS_PER_S)

/* The entry of a stream, empty if it is another one's. */
static struct outbox_stream *entry_of(struct outbox *outbox, const char *name)
{
    must_hold(&outbox->lock);
    uint64_t hash = hash_add(HASH_START, name, strlen(name));
    struct outbox_stream *known = &outbox->known[hash % KNOWN_STREAMS];
    if (known->name != hash)
        *known = (struct outbox_stream){.name = hash};
    return known;
}

/* What parks its messages there looks for copies by itself: it needs no ids. */
static bool is_own(const char *stream)
{
    return strcmp(stream, "MOONBUS_RETRIES") == 0 || strcmp(stream, "MOONBUS_LATER") == 0;
}

/* Returns its entry; NULL when this is no STREAM.INFO. */
static struct outbox_stream *learn_stream(struct outbox *outbox, const cJSON *info)
{
    must_hold(&outbox->lock);
    const cJSON *config = cJSON_GetObjectItemCaseSensitive(info, "config");
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(config, "name"));
    const char *retention =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(config, "retention"));
    const cJSON *window = cJSON_GetObjectItemCaseSensitive(config, "duplicate_window");
    if (!name)
        return NULL;
    struct outbox_stream *known = entry_of(outbox, name);
    known->no_ack = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(config, "no_ack"));
    known->forgets = retention && strcmp(retention, "limits") != 0 && !is_own(name);
    if (cJSON_IsNumber(window) && window->valuedouble > 0 && window->valuedouble < 0x1p62)
        known->window_ns = (int64_t)window->valuedouble;
    outbox->knows_forgetful |= known->forgets;
    return known;
}

void outbox_learn(struct outbox *outbox, const cJSON *info)
{
    mutex_lock(&outbox->lock);
    learn_stream(outbox, info);
    mutex_unlock(&outbox->lock);
}

void publish_note_stored(struct publish *publish, const struct receipt *receipt)
{
    if (!publish->outbox->knows_forgetful)
        return;
    struct outbox_stream *known = entry_of(publish->outbox, receipt->stream);
    if (!known->forgets || known->told_forgets)
        return;
    known->told_forgets = true;
    log_warn(
        "\"%s\": stream %s keeps only what its consumers have not taken: it forgets the ids of "
        "messages when its server restarts, and what is published again after that is stored "
        "twice",
        publish->subject, receipt->stream);
}

/* --- no PubAck: does the stream confirm at all? --- */

/* What its stream is, or that nobody knows. */
static void end_doubt(struct publish *publish, const cJSON *info, struct publish_outcome *outcome)
{
    must_hold(&publish->outbox->lock);
    const char *name = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(info, "config"), "name"));
    struct outbox_stream *known = learn_stream(publish->outbox, info);
    struct err err;
    if (known && known->no_ack) {
        err_set(&err, ERR_NO_ACK,
                "\"%s\": stream %s confirms nothing (no_ack): it was sent, and nobody can tell "
                "whether it is stored; use bus.publish, or let the stream confirm: nats stream "
                "edit %s --ack",
                publish->subject, name, name);
        if (!known->told_no_ack)
            log_event(LOG_WARN,
                      &(struct log_context){
                          .subject = publish->subject, .code = err_name(err.code), .whole = true},
                      "%s", err.message);
        known->told_no_ack = true;
        publish_disarm(publish);
        publish_end_failed(publish, &err, outcome);
    } else if (publish->stage == STAGE_DOUBTING) {
        publish_end_failed(publish, &publish->place->refused, outcome);
    }
}

/* After the last try the publish waits for the answer, else it goes on meanwhile. */
static bool ask_of_stream(struct publish *publish, const char *operation, const cJSON *request,
                          jsapi_fn on_reply)
{
    must_hold(&publish->outbox->lock);
    struct outbox *outbox = publish->outbox;
    if (publish->stage == STAGE_DOUBTING)
        return publish_ask(publish, STAGE_DOUBTING, operation, request, on_reply);
    publish_retain(publish);
    publish->asks_beside =
        request && jsapi_call(outbox->jsapi, operation, request, on_reply, publish, NULL);
    outbox->doubts += publish->asks_beside;
    if (!publish->asks_beside)
        publish_release(publish); /* not the last: the list has one */
    return publish->asks_beside;
}

static void note_answered(struct publish *publish)
{
    must_hold(&publish->outbox->lock);
    if (publish->asks_beside)
        publish->outbox->doubts--;
    else if (publish->stage == STAGE_DOUBTING)
        publish->call = 0;
    publish->asks_beside = false;
}

static void on_info(void *owner, const cJSON *info, int api_code, const struct err *err)
{
    struct publish *publish = owner;
    struct outbox *outbox = publish->outbox;
    struct publish_outcome outcome;
    outcome.publish = NULL;
    (void)api_code;
    (void)err;
    mutex_lock(&outbox->lock);
    note_answered(publish);
    if (publish->stage != STAGE_OVER)
        end_doubt(publish, info, &outcome);
    publish_fill_window(outbox);
    mutex_unlock(&outbox->lock);
    publish_tell(&outcome);
    publish_release(publish);
}

static bool ask_info(struct publish *publish, const char *stream)
{
    char operation[300];
    cJSON *request = cJSON_CreateObject();
    jsapi_stream("INFO", stream, operation, sizeof operation);
    bool asked = ask_of_stream(publish, operation, request, on_info);
    cJSON_Delete(request);
    return asked;
}

static void on_names(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct publish *publish = owner;
    struct outbox *outbox = publish->outbox;
    struct publish_outcome outcome;
    outcome.publish = NULL;
    const char *name = publish_first_name(reply);
    (void)api_code;
    (void)err;
    mutex_lock(&outbox->lock);
    note_answered(publish);
    if (publish->stage != STAGE_OVER && (!name || !ask_info(publish, name)))
        end_doubt(publish, NULL, &outcome);
    publish_fill_window(outbox);
    mutex_unlock(&outbox->lock);
    publish_tell(&outcome);
    publish_release(publish);
}

static bool ask_name(struct publish *publish)
{
    must_hold(&publish->outbox->lock);
    cJSON *request = publish_names_request(publish);
    publish->doubted = ask_of_stream(publish, "STREAM.NAMES", request, on_names);
    cJSON_Delete(request);
    return publish->doubted;
}

/* The last try had no PubAck: the answer is waited for. */
static bool doubt_at_last(struct publish *publish, const struct err *err)
{
    must_hold(&publish->outbox->lock);
    publish->place = calloc(1, sizeof *publish->place);
    if (!publish->place)
        return false;
    publish->place->refused = *err;
    publish->stage = STAGE_DOUBTING;
    return ask_name(publish);
}

void publish_unconfirmed(struct publish *publish, const struct err *err,
                         struct publish_outcome *outcome)
{
    bool last = publish->failures + 1 >= (unsigned)publish->attempts;
    if (last && !publish->doubted && doubt_at_last(publish, err)) {
        publish->failures++;
        return;
    }
    publish_try_later(publish, err, outcome);
    if (!last && !publish->doubted && publish->outbox->doubts < DOUBTS)
        ask_name(publish);
}

/* --- "duplicate", but not of what --- */

/* nats-server 2.10 keeps the id of a message that it could not store in a cluster (the
 * stream was full) as one that it knows. It forgets it at the end of the stream's window; then the
 * message is stored. These answers are no failures until that is over. */
void publish_unsure(struct publish *publish, const struct receipt *receipt, const struct err *err,
                    struct publish_outcome *outcome)
{
    must_hold(&publish->outbox->lock);
    struct outbox_stream *known = entry_of(publish->outbox, receipt->stream);
    uint64_t now = clock_now_ns();
    if (publish->unsure++ == 0)
        publish->unsure_ns = now;
    int64_t window_ns = known->window_ns ? known->window_ns : WINDOW_DEFAULT_NS;
    if (!known->window_ns && !publish->doubted && publish->outbox->doubts < DOUBTS)
        publish->doubted = ask_info(publish, receipt->stream);
    if (now - publish->unsure_ns > (uint64_t)window_ns + NS_PER_S) {
        publish_try_later(publish, err, outcome);
        return;
    }
    if (now - publish->unsure_ns > UNSURE_TOLD_AFTER_NS &&
        (!known->told_unsure_ns || now - known->told_unsure_ns > UNSURE_TOLD_EVERY_NS)) {
        char window[32];
        known->told_unsure_ns = now;
        log_event(
            LOG_WARN,
            &(struct log_context){
                .subject = publish->subject, .code = err_name(err->code), .whole = true},
            "%s; a known fault of nats-server 2.10 after the stream was full: it is tried until "
            "the id is forgotten (duplicate_window, %s)",
            err->message, value_format_duration(window_ns, window, sizeof window));
    }
    publish_back_off(publish, publish->unsure);
}
