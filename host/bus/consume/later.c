/* later - the durable on what is parked, and what becomes of each message. */
#include "bus/consume/later.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/consume/consumer.h"
#include "bus/consume/parked.h"
#include "bus/outbox/publish.h"

/* So long is waited for at most in one nak: a clock that is set is noticed then. */
#define NAK_MOST_NS (3600 * NS_PER_S)
/* A message that could not be published, or claimed, comes again after that. */
#define AGAIN_MIN_NS NS_PER_S
#define AGAIN_MAX_NS (60 * NS_PER_S)
/* The stream is looked for again: when it was not there, and when the server did not answer. */
#define LOOK_NS (5 * NS_PER_S)
#define LOOK_SIMULATED_NS (24 * 3600 * NS_PER_S)
#define RETRY_NS (5 * NS_PER_S)
#define ASK_NS (5 * NS_PER_S)
/* All that is parked is pending, as it was nak'd: what is beyond is not looked at until then. */
#define PARKED_MOST 1000000

struct later {
    struct intake intake; /* with a sink of our own */
    struct mutex lock;    /* what follows */
    struct cond ended;    /* the job has, or the consumer has stopped */
    bool looking;         /* the job is under way */
    bool stopping;
    bool stopped;              /* the consumer is, for good */
    struct consumer *consumer; /* owned; it was started; or NULL */
    struct pool_job look;
    struct deadline again; /* it fires when nothing is served, and looks */
};

/* --- a message --- */

/* A publish for a message that waits for it. */
struct later_sending {
    struct later *later;       /* not owned */
    struct delivery *delivery; /* reference */
    bool is_claim;
};

static int64_t again_ns(const struct delivery *delivery)
{
    struct backoff backoff = {
        .min_ns = AGAIN_MIN_NS, .max_ns = AGAIN_MAX_NS, .factor = 2, .jitter = 0};
    return backoff_delay_ns(&backoff, delivery->attempt, 0);
}

static void log_failure(const struct delivery *delivery, enum err_code code, const char *what,
                        const char *why)
{
    log_event(LOG_ERROR,
              &(struct log_context){.stream = delivery->stream,
                                    .consumer = delivery->durable,
                                    .sequence = delivery->stream_sequence,
                                    .code = err_name(code)},
              "%s: %s", what, why);
}

static void end(struct delivery *delivery, enum verdict verdict, int64_t delay_ns)
{
    delivery_settle(delivery, verdict, delay_ns, NULL);
    delivery_release(delivery);
}

static void on_sent(void *owner, const struct receipt *receipt, const struct err *err)
{
    struct later_sending *sending = owner;
    struct delivery *delivery = sending->delivery;
    /* A parked message that is not the last of its subject: it is due already, or cancelled. */
    bool taken = sending->is_claim && !receipt && err->code == ERR_WRONG_SEQUENCE;
    if (receipt || taken) {
        end(delivery, VERDICT_ACK, 0);
    } else {
        if (err->code != ERR_CLOSED)
            log_failure(delivery, err->code,
                        "what was to be published later is not stored, and is tried again",
                        err->message);
        end(delivery, VERDICT_NAK, again_ns(delivery));
    }
    free(sending);
}

static int publish(struct later_sending *sending, const char *subject, const char *id,
                   struct err *err)
{
    const struct delivery *delivery = sending->delivery;
    struct headers headers = {0};
    int code = parked_copy_headers(delivery, sending->is_claim, &headers, err);
    if (!code && sending->is_claim)
        code = parked_add_claim(delivery, &headers, err);
    if (!code) {
        struct outbox_message message = {.subject = subject,
                                         .data = delivery->packet.data,
                                         .len = delivery->packet.len,
                                         .headers = &headers,
                                         .id = span_of(id)};
        code = outbox_publish(sending->later->intake.outbox, &message, on_sent, sending, err);
    }
    headers_clear(&headers);
    return code;
}

/* Takes the delivery's reference. */
static void send(struct later *later, struct delivery *delivery, bool is_claim, const char *subject,
                 const char *id)
{
    struct err err;
    struct later_sending *sending = malloc(sizeof *sending);
    if (!sending) {
        end(delivery, VERDICT_NAK, AGAIN_MIN_NS);
        return;
    }
    *sending = (struct later_sending){later, delivery, is_claim};
    int code = publish(sending, subject, id, &err);
    if (!code)
        return;
    free(sending);
    if (code != ERR_FULL && code != ERR_CLOSED)
        log_failure(delivery, (enum err_code)code,
                    "what was to be published later cannot be, and is tried again", err.message);
    end(delivery, VERDICT_NAK, again_ns(delivery));
}

/* It may be published, or is cancelled: takes the delivery's reference. */
static void go_on(struct later *later, struct delivery *delivery)
{
    struct parked_target target;
    if (parked_is_cancelled(delivery) || !parked_read(delivery, later->intake.jsapi, &target))
        end(delivery, VERDICT_ACK, 0);
    else
        send(later, delivery, false, target.subject, target.id);
}

/* The parked message is not there, so it may go on: or it cannot be told. Takes the sending. */
static void end_removal(struct later_sending *removal, bool gone, const struct err *err)
{
    struct delivery *delivery = removal->delivery;
    if (gone) {
        go_on(removal->later, delivery);
    } else {
        if (err && err->code != ERR_CLOSED && !err_passes((int)err->code))
            log_failure(delivery, err->code, "what was parked cannot be removed", err->message);
        end(delivery, VERDICT_NAK, again_ns(delivery));
    }
    free(removal);
}

static void on_looked(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    (void)reply;
    (void)api_code;
    end_removal(owner, err && err->code == ERR_NOT_FOUND, err);
}

/* False: nobody will answer. */
static bool ask(struct later_sending *removal, const char *operation, jsapi_fn on_result)
{
    struct err err;
    cJSON *request = cJSON_CreateObject();
    cJSON_AddNumberToObject(request, "seq", (double)parked_followed(removal->delivery));
    uint64_t id =
        jsapi_call(removal->later->intake.jsapi, operation, request, on_result, removal, &err);
    cJSON_Delete(request);
    return id != 0;
}

/* Why a message cannot be removed is said in many ways: one that is not there is the usual one. */
static void on_removed(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct later_sending *removal = owner;
    (void)reply;
    if (!err || !api_code)
        end_removal(removal, !err, err);
    else if (!ask(removal, "STREAM.MSG.GET." LATER_STREAM, on_looked))
        end_removal(removal, false, NULL);
}

/* It would come again for ever. */
static void drop(struct delivery *delivery, const char *why)
{
    char text[200];
    snprintf(text, sizeof text, "%s: nothing but js.publish may publish to moonbus.later.>", why);
    log_failure(delivery, ERR_INVALID, "dropped from what is published later", text);
    end(delivery, VERDICT_TERM, 0);
}

/* What it follows has its own subject: else somebody would have another message removed. */
static bool is_of(const cJSON *reply, const struct delivery *delivery)
{
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(reply, "message");
    const char *subject =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, "subject"));
    return subject && strcmp(subject, delivery->packet.subject) == 0;
}

static void on_followed(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct later_sending *removal = owner;
    (void)api_code;
    if (err) {
        end_removal(removal, err->code == ERR_NOT_FOUND, err);
    } else if (!is_of(reply, removal->delivery)) {
        drop(removal->delivery, "it follows a message of another subject");
        free(removal);
    } else if (!ask(removal, "STREAM.MSG.DELETE." LATER_STREAM, on_removed)) {
        end_removal(removal, false, NULL);
    }
}

/* "due" or "cancelled". As long as the parked message was there, that one would be the last of its
 * subject when this one is acknowledged, and be due once more: so it has to go first. Takes the
 * delivery's reference. */
static void remove_parked(struct later *later, struct delivery *delivery)
{
    struct later_sending *removal = malloc(sizeof *removal);
    if (removal)
        *removal = (struct later_sending){later, delivery, false};
    if (removal && ask(removal, "STREAM.MSG.GET." LATER_STREAM, on_followed))
        return;
    free(removal);
    end(delivery, VERDICT_NAK, again_ns(delivery));
}

static void handle(struct later *later, struct delivery *delivery)
{
    struct parked_target target;
    char claim[400];
    if (parked_is_follower(delivery)) {
        if (parked_followed(delivery))
            remove_parked(later, delivery);
        else
            drop(delivery, "its headers do not say which message it follows");
        return;
    }
    if (!parked_read(delivery, later->intake.jsapi, &target)) {
        drop(delivery, "its headers do not say where to and when");
        return;
    }
    int64_t left_ns = target.at_ns - clock_wall_ns();
    if (left_ns > 0) {
        end(delivery, VERDICT_NAK, left_ns < NAK_MOST_NS ? left_ns : NAK_MOST_NS);
        return;
    }
    delivery_id(delivery, claim, sizeof claim - sizeof ":due");
    strcat(claim, ":due");
    send(later, delivery, true, delivery->packet.subject, claim);
}

/* The delivery thread: takes the references. */
static void on_delivery(void *owner, void *source, struct delivery *list)
{
    (void)source;
    while (list) {
        struct delivery *next = list->next; /* one that is handled may be gone */
        handle(owner, list);
        list = next;
    }
}

static void on_nothing(void *owner, void *source)
{
    (void)owner;
    (void)source;
}

/* --- the durable --- */

static struct consumer *make_consumer(struct later *later, struct err *err)
{
    struct consumer_spec spec = {.stream = LATER_STREAM,
                                 .durable = LATER_DURABLE,
                                 .ack_wait_ns = 30 * NS_PER_S,
                                 .max_ack_pending = PARKED_MOST,
                                 .max_ack_pending_stated = true,
                                 .concurrency = 256};
    uint64_t deadline_ns = clock_now_ns() + (uint64_t)ASK_NS;
    struct consumer *consumer = consumer_new(&later->intake, &spec, NULL, later, err);
    if (!consumer)
        return NULL;
    if (consumer_ensure(consumer, false, deadline_ns, err) != 0) {
        consumer_free(consumer);
        return NULL;
    }
    return consumer;
}

static void on_stopped(void *source)
{
    struct later *later = source;
    mutex_lock(&later->lock);
    later->stopped = true;
    cond_broadcast(&later->ended);
    mutex_unlock(&later->lock);
}

/* 0: it is served. ERR_NO_STREAM or ERR_NOT_FOUND: nothing was ever parked. */
static int begin(struct later *later, struct err *err)
{
    cJSON *info = NULL;
    int code = jsapi_stream_info(later->intake.jsapi, LATER_STREAM, &info,
                                 clock_now_ns() + (uint64_t)ASK_NS, err);
    cJSON_Delete(info);
    if (code)
        return code;
    struct consumer *consumer = make_consumer(later, err);
    if (!consumer)
        return (int)err->code;
    code = consumer_start(consumer, err);
    if (code) {
        consumer_free(consumer);
        return code;
    }
    mutex_lock(&later->lock);
    bool stopping = later->stopping;
    later->consumer = consumer;
    mutex_unlock(&later->lock);
    if (stopping)
        consumer_stop(consumer, on_stopped);
    return 0;
}

/* Nothing is parked, or this user has nothing to do with it. */
static bool is_absent(int code)
{
    return code == ERR_NOT_FOUND || code == ERR_NO_STREAM || code == ERR_PERMISSION ||
           code == ERR_NO_RESPONDERS;
}

/* When to look again; 0: when it is asked for. */
static int64_t look_after_ns(int code)
{
    if (code == ERR_PERMISSION)
        return 0;
    if (err_passes(code) && !is_absent(code))
        return RETRY_NS;
    return clock_is_simulated() ? LOOK_SIMULATED_NS : LOOK_NS;
}

/* The pool. */
static void look(struct pool_job *job)
{
    struct later *later = container_of(job, struct later, look);
    struct err err = {0};
    mutex_lock(&later->lock);
    bool stopping = later->stopping;
    mutex_unlock(&later->lock);
    int code = stopping ? ERR_CLOSED : begin(later, &err);
    if (code && !is_absent(code) && !err_passes(code) && code != ERR_CLOSED)
        log_event(LOG_ERROR,
                  &(struct log_context){.stream = LATER_STREAM,
                                        .consumer = LATER_DURABLE,
                                        .code = err_name((enum err_code)code)},
                  "what is to be published later is not served by this host: %s", err.message);
    mutex_lock(&later->lock);
    later->looking = false;
    cond_broadcast(&later->ended);
    if (code && !later->stopping && look_after_ns(code))
        clock_arm(later->intake.clock, &later->again,
                  clock_now_ns() + (uint64_t)look_after_ns(code));
    mutex_unlock(&later->lock);
}

static void on_again(struct deadline *deadline)
{
    later_serve(container_of(deadline, struct later, again));
}

void later_serve(struct later *later)
{
    mutex_lock(&later->lock);
    bool begin = !later->stopping && !later->looking && !later->consumer;
    later->looking |= begin;
    mutex_unlock(&later->lock);
    if (begin)
        pool_submit(later->intake.pool, &later->look);
}

/* --- coming and going --- */

struct later *later_new(const struct intake *intake, struct err *err)
{
    struct later *later = calloc(1, sizeof *later);
    if (!later) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    mutex_init(&later->lock);
    cond_init(&later->ended);
    later->intake = *intake;
    later->intake.sink = (struct sink){.owner = later,
                                       .on_delivery = on_delivery,
                                       .on_unread = on_nothing,
                                       .on_whole = on_nothing};
    later->look.run = look;
    later->again.on_due = on_again;
    return later;
}

void later_stop(struct later *later, uint64_t deadline_ns)
{
    mutex_lock(&later->lock);
    bool first = !later->stopping;
    later->stopping = true;
    struct consumer *consumer = later->consumer;
    clock_cancel(later->intake.clock, &later->again);
    mutex_unlock(&later->lock);
    if (first && consumer)
        consumer_stop(consumer, on_stopped);
    mutex_lock(&later->lock);
    while ((later->looking || (later->consumer && !later->stopped)) && clock_now_ns() < deadline_ns)
        cond_wait_until(&later->ended, &later->lock, deadline_ns);
    mutex_unlock(&later->lock);
}

void later_free(struct later *later)
{
    if (!later)
        return;
    if (later->consumer)
        consumer_free(later->consumer);
    cond_destroy(&later->ended);
    mutex_destroy(&later->lock);
    free(later);
}
