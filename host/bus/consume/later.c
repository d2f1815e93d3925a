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
#include "bus/outbox/publish.h"

/* What moonbus says of a message that is parked. What its publisher wrote and JetStream would act
 * upon now travels with the same beginning: Moonbus-Later-Nats-TTL. */
#define HEADER "Moonbus-Later-"
#define HEADER_AT HEADER "At"
#define HEADER_SUBJECT HEADER "Subject"
#define HEADER_ID HEADER "Id"
#define HEADER_STATE HEADER "State"
#define HEADER_OF HEADER "Of" /* of what follows a parked message: that one's sequence */

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
#define ID_MAX_BYTES 1400
#define SEQUENCE_MOST (1ULL << 53) /* JSON's numbers are exact until there */
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

static bool begins(struct span name, const char *with)
{
    size_t len = strlen(with);
    return name.len > len && strncasecmp(name.at, with, len) == 0;
}

/* A header of a parked message, for the one that is published: NULL: it is left out. */
static const char *published_name(struct span name, char *buf, size_t size)
{
    bool ours = begins(name, HEADER), theirs = begins(name, HEADER "Nats-");
    if (name.len >= size || (ours && !theirs) || begins(name, "Nats-"))
        return NULL;
    span_text(name, buf, size);
    return theirs ? buf + strlen(HEADER) : buf;
}

/* And for the one that is due: all but what JetStream was told. */
static const char *claimed_name(struct span name, char *buf, size_t size)
{
    if (name.len >= size || begins(name, "Nats-") || span_is(name, HEADER_STATE) ||
        span_is(name, HEADER_OF))
        return NULL;
    return span_text(name, buf, size);
}

static int copy_headers(const struct delivery *delivery, bool is_claim, struct headers *headers,
                        struct err *err)
{
    char room[512];
    struct header_field field;
    size_t position = 0;
    int code = 0;
    while (code != ERR_MEMORY && header_block_next(&delivery->packet.headers, &position, &field)) {
        const char *name = is_claim ? claimed_name(field.name, room, sizeof room)
                                    : published_name(field.name, room, sizeof room);
        if (name)
            code = headers_add_received(headers, name, field.value, err);
    }
    return code == ERR_MEMORY ? code : 0;
}

/* It follows the parked message, if nothing else does. */
static int add_claim(const struct delivery *delivery, struct headers *headers, struct err *err)
{
    char sequence[32];
    int len =
        snprintf(sequence, sizeof sequence, "%llu", (unsigned long long)delivery->stream_sequence);
    int code = headers_add(headers, HEADER_STATE, "due", 3, err);
    if (!code)
        code = headers_add(headers, HEADER_OF, sequence, (size_t)len, err);
    if (!code)
        code =
            headers_add(headers, "Nats-Expected-Last-Subject-Sequence", sequence, (size_t)len, err);
    return code;
}

static int publish(struct later_sending *sending, const char *subject, const char *id,
                   struct err *err)
{
    const struct delivery *delivery = sending->delivery;
    struct headers headers = {0};
    int code = copy_headers(delivery, sending->is_claim, &headers, err);
    if (!code && sending->is_claim)
        code = add_claim(delivery, &headers, err);
    if (!code) {
        struct outbox_message message = {.subject = subject,
                                         .data = delivery->packet.data,
                                         .len = delivery->packet.len,
                                         .headers = &headers,
                                         .id = id};
        if (!outbox_publish(sending->later->intake.outbox, &message, on_sent, sending, err))
            code = (int)err->code;
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

/* Whoever may publish there wrote it. False: it is none of ours. */
static bool read_parked(const struct delivery *delivery, char *subject, size_t size, char *id,
                        size_t id_size, int64_t *at_ns)
{
    const struct header_block *block = &delivery->packet.headers;
    unsigned long long at = 0;
    struct span to = header_block_find(block, HEADER_SUBJECT);
    struct span given = header_block_find(block, HEADER_ID);
    if (!to.at || !given.at || to.len >= size || given.len >= id_size || given.len == 0 ||
        !span_number(header_block_find(block, HEADER_AT), &at) || at > INT64_MAX)
        return false;
    span_text(to, subject, size);
    span_text(given, id, id_size);
    *at_ns = (int64_t)at;
    return subject_check(to.at, to.len, SUBJECT_PUBLISH, NULL) == 0;
}

/* It may be published, or is cancelled: takes the delivery's reference. */
static void go_on(struct later *later, struct delivery *delivery)
{
    char subject[SUBJECT_MAX_BYTES + 1], id[ID_MAX_BYTES];
    int64_t at_ns;
    if (span_is(header_block_find(&delivery->packet.headers, HEADER_STATE), "cancelled") ||
        !read_parked(delivery, subject, sizeof subject, id, sizeof id, &at_ns))
        end(delivery, VERDICT_ACK, 0);
    else
        send(later, delivery, false, subject, id);
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

/* The sequence of what it follows; 0: it says none. */
static unsigned long long followed(const struct delivery *delivery)
{
    unsigned long long sequence;
    struct span of = header_block_find(&delivery->packet.headers, HEADER_OF);
    return span_number(of, &sequence) && sequence <= SEQUENCE_MOST ? sequence : 0;
}

/* False: nobody will answer. */
static bool ask(struct later_sending *removal, const char *operation, jsapi_fn on_result)
{
    struct err err;
    cJSON *request = cJSON_CreateObject();
    cJSON_AddNumberToObject(request, "seq", (double)followed(removal->delivery));
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

/* "due" or "cancelled". As long as the parked message was there, that one would be the last of its
 * subject when this one is acknowledged, and be due once more: so it has to go first. Takes the
 * delivery's reference. */
static void remove_parked(struct later *later, struct delivery *delivery)
{
    struct later_sending *removal = malloc(sizeof *removal);
    if (removal)
        *removal = (struct later_sending){later, delivery, false};
    if (removal && ask(removal, "STREAM.MSG.DELETE." LATER_STREAM, on_removed))
        return;
    free(removal);
    end(delivery, VERDICT_NAK, again_ns(delivery));
}

/* It would come again for ever. */
static void drop(struct delivery *delivery, const char *why)
{
    char text[200];
    snprintf(text, sizeof text, "%s: nothing but js.publish may publish to moonbus.later.>", why);
    log_failure(delivery, ERR_INVALID, "dropped from what is published later", text);
    end(delivery, VERDICT_TERM, 0);
}

/* The delivery thread: takes the delivery's reference. */
static void on_delivery(void *owner, void *source, struct delivery *delivery)
{
    struct later *later = owner;
    char subject[SUBJECT_MAX_BYTES + 1], id[ID_MAX_BYTES], claim[400];
    int64_t at_ns, left_ns;
    (void)source;
    if (header_block_find(&delivery->packet.headers, HEADER_STATE).at) {
        if (followed(delivery))
            remove_parked(later, delivery);
        else
            drop(delivery, "its headers do not say which message it follows");
        return;
    }
    if (!read_parked(delivery, subject, sizeof subject, id, sizeof id, &at_ns)) {
        drop(delivery, "its headers do not say where to and when");
        return;
    }
    left_ns = at_ns - clock_wall_ns();
    if (left_ns > 0) {
        end(delivery, VERDICT_NAK, left_ns < NAK_MOST_NS ? left_ns : NAK_MOST_NS);
        return;
    }
    delivery_id(delivery, claim, sizeof claim - sizeof ":due");
    strcat(claim, ":due");
    send(later, delivery, true, delivery->packet.subject, claim);
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
