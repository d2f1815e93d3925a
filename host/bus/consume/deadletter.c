/* Sending a dead letter: read what is missing, publish, wait, settle. */
#include "bus/consume/deadletter.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/utf8.h"
#include "base/value.h"
#include "bus/consume/leases.h"
#include "bus/consume/puller.h"
#include "bus/jscode.h"
#include "bus/letter.h"
#include "bus/outbox/publish.h"
#include "bus/request/jsapi.h"

/* What is left of the error when the whole is too large. */
#define ERROR_SHORT 120

#define CIRCLES_PREFIX "moonbus.dead."

#define HEADERS_MOST 1000 /* that are copied; else a reference */

/* No stream stores a message with more of them (JetStream's error 10097). */
#define HEADERS_BYTES_MOST 65535

struct deadletter {
    struct delivery *delivery;      /* a reference */
    struct condemned *why;          /* owned: where to, and what for */
    struct letter_escort *escort;   /* until it has heard; or NULL */
    struct stored_message original; /* owned; when it had to be fetched, else empty */
    bool made;                      /* DEADLETTER_CIRCLES was made for it */
};

/* How much of the original goes along. */
enum extent { WHOLE, ERROR_SHORTENED, REFERENCE_ONLY };

static void log_not_stored(const struct deadletter *letter, const struct err *err)
{
    const struct delivery *delivery = letter->delivery;
    char handler[512], delay[32];
    snprintf(handler, sizeof handler, "%s/%s", delivery->stream, delivery->durable);
    log_event(LOG_ERROR,
              &(struct log_context){.handler = handler,
                                    .stream = delivery->stream,
                                    .consumer = delivery->durable,
                                    .subject = delivery->packet.subject,
                                    .sequence = delivery->stream_sequence,
                                    .code = err_name(err->code),
                                    .verdict = "nak",
                                    .delayed = true,
                                    .delay_ns = letter->why->nak_delay_ns},
              "the dead letter was not stored: %s; nak in %s", err->message,
              value_format_duration(letter->why->nak_delay_ns / NS_PER_MS * NS_PER_MS, delay,
                                    sizeof delay));
}

static void send_letter(struct deadletter *letter, enum extent extent);

static void end_escort(struct letter_escort *escort, const struct err *err)
{
    if (escort)
        escort->on_end(escort, err);
}

static void free_letter(struct deadletter *letter)
{
    free(letter->why);
    stored_clear(&letter->original);
    delivery_release(letter->delivery);
    free(letter);
}

static void fail_letter(struct deadletter *letter, const struct err *err)
{
    int64_t delay_ns = letter->why->nak_delay_ns;
    log_not_stored(letter, err);
    /* Before it can come again. */
    leases_condemn(letter->delivery->leases, letter->why, letter->delivery->pardons);
    letter->why = NULL;
    delivery_end_letter(letter->delivery, DELIVERY_UNSTORED, delay_ns);
    end_escort(letter->escort, err);
    free_letter(letter);
}

/* One that goes in a circle, and cannot be stored where it would end: it must not wait for that, as
 * it would keep a place of max_ack_pending, and anybody may write the header. */
static void drop_letter(struct deadletter *letter, const struct err *err)
{
    const struct delivery *delivery = letter->delivery;
    log_event(LOG_ERROR,
              &(struct log_context){.stream = delivery->stream,
                                    .consumer = delivery->durable,
                                    .subject = delivery->packet.subject,
                                    .sequence = delivery->stream_sequence,
                                    .code = err_name(err->code),
                                    .verdict = "term",
                                    .only_trace = true},
              "terminated, as the stream " DEADLETTER_CIRCLES " does not take its dead letter: %s",
              err->message);
    delivery_end_letter(letter->delivery, DELIVERY_DROPPED, 0);
    end_escort(letter->escort, err);
    free_letter(letter);
}

static void on_circles_made(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct deadletter *letter = owner;
    (void)reply;
    if (err && api_code != JSCODE_STREAM_EXISTS && err_passes((int)err->code))
        fail_letter(letter, err);
    else if (err && api_code != JSCODE_STREAM_EXISTS)
        drop_letter(letter, err);
    else
        send_letter(letter, WHOLE);
}

/* False: nobody will answer. */
static bool make_circles(struct deadletter *letter)
{
    struct jsapi *jsapi = letter->delivery->leases->puller->intake->jsapi;
    const char *subjects = DEADLETTER_CIRCLES_SUBJECTS;
    cJSON *config = cJSON_CreateObject();
    cJSON_AddStringToObject(config, "name", DEADLETTER_CIRCLES);
    cJSON_AddItemToObject(config, "subjects", cJSON_CreateStringArray(&subjects, 1));
    cJSON_AddStringToObject(config, "storage", "file");
    cJSON_AddStringToObject(config, "description", "dead letters of moonbus that went in a circle");
    letter->made = true;
    uint64_t id = jsapi_call(jsapi, "STREAM.CREATE." DEADLETTER_CIRCLES, config, on_circles_made,
                             letter, NULL);
    cJSON_Delete(config);
    return id != 0;
}

static void on_letter_published(void *owner, const struct receipt *receipt, const struct err *err)
{
    struct deadletter *letter = owner;
    if (!receipt) {
        bool circles = strncmp(letter->why->subject, CIRCLES_PREFIX, strlen(CIRCLES_PREFIX)) == 0;
        if (circles && !letter->made && err->code == ERR_NO_STREAM && make_circles(letter))
            return;
        if (circles && !err_passes((int)err->code) && err->code != ERR_CLOSED)
            drop_letter(letter, err);
        else
            fail_letter(letter, err);
        return;
    }
    delivery_end_letter(letter->delivery, DELIVERY_STORED, 0);
    end_escort(letter->escort, NULL);
    free_letter(letter);
}

static bool is_escorted(const struct deadletter *letter)
{
    return letter->escort && *letter->escort->traceparent;
}

/* What cannot be sent again is left out: better a letter without it than none. ERR_MEMORY: the
 * letter is tried again. */
static int copy_header(struct headers *headers, const struct deadletter *letter, struct span name,
                       struct span value, struct err *err)
{
    enum { PREFIX = sizeof LETTER_ORIGINAL - 1 };
    char renamed[PREFIX + 512] = LETTER_ORIGINAL, *bare = renamed + PREFIX;
    if (is_escorted(letter) && span_is(name, "traceparent"))
        return 0;
    span_text(name, bare, sizeof renamed - PREFIX);
    if (strlen(bare) != name.len)
        return 0;
    int code =
        headers_add_received(headers, span_of(letter_renames(name) ? renamed : bare), value, err);
    return code == ERR_MEMORY ? code : 0;
}

static int copy_headers(struct headers *headers, const struct deadletter *letter, struct err *err)
{
    struct header_field field;
    size_t position = 0;
    int code = 0;
    if (!letter->original.data) {
        while (!code && header_block_next(&letter->delivery->packet.headers, &position, &field))
            code = copy_header(headers, letter, field.name, field.value, err);
        return code;
    }
    while (!code && headers_next(&letter->original.headers, &position, &field))
        code = copy_header(headers, letter, field.name, field.value, err);
    return code;
}

static int add_field(struct headers *headers, const char *name, const char *value, struct err *err)
{
    return headers_add(headers, name, value, strlen(value), err);
}

static int add_number_field(struct headers *headers, const char *name, int64_t value,
                            struct err *err)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, value);
    return add_field(headers, name, text, err);
}

/* An error may have several lines; a header has one. Cut before a character, not within. */
static int add_error_field(struct headers *headers, const char *message, size_t most,
                           struct err *err)
{
    char text[sizeof(((struct err *)0)->message)];
    size_t len = utf8_cut(message, strlen(message), most);
    if (len >= sizeof text)
        len = sizeof text - 1;
    for (size_t i = 0; i < len; i++)
        text[i] = iscntrl((unsigned char)message[i]) ? ' ' : message[i];
    return headers_add(headers, "Moonbus-Error", text, len, err);
}

static int build_headers(struct headers *headers, const struct deadletter *letter,
                         enum extent extent, struct err *err)
{
    const struct delivery *delivery = letter->delivery;
    const struct err *reason = &letter->why->reason;
    size_t most = extent == WHOLE ? SIZE_MAX : ERROR_SHORT;
    int code = 0;
    headers_clear(headers);
    if (extent != REFERENCE_ONLY && (code = copy_headers(headers, letter, err)) != 0)
        return code;
    if (is_escorted(letter))
        add_field(headers, "traceparent", letter->escort->traceparent, NULL);
    if ((code = add_field(headers, "Moonbus-Stream", delivery->stream, err)) != 0 ||
        (code = add_field(headers, "Moonbus-Consumer", delivery->durable, err)) != 0 ||
        (code = add_number_field(headers, "Moonbus-Sequence", (int64_t)delivery->stream_sequence,
                                 err)) != 0 ||
        (code = add_field(headers, "Moonbus-Subject", delivery->packet.subject, err)) != 0 ||
        (code = add_number_field(headers, "Moonbus-Attempt", (int64_t)delivery->attempt, err)) !=
            0 ||
        (code = add_number_field(headers, "Moonbus-Timestamp", delivery->timestamp_ns, err)) != 0 ||
        (code = add_field(headers, "Moonbus-Code", err_name(reason->code), err)) != 0 ||
        (code = add_error_field(headers, reason->message, most, err)) != 0 ||
        (code = add_number_field(headers, LETTER_HOPS,
                                 (int64_t)letter_hops(&delivery->packet.headers) + 1, err)) != 0)
        return code;
    return extent == REFERENCE_ONLY ? add_field(headers, "Moonbus-Reference", "true", err) : 0;
}

static void warn_of_reference(const struct delivery *delivery, const char *why)
{
    log_event(LOG_WARN,
              &(struct log_context){.stream = delivery->stream,
                                    .consumer = delivery->durable,
                                    .sequence = delivery->stream_sequence},
              "%s: only a reference to it is stored", why);
}

/* Where letters go round is not seen from here, but that they do. */
const char *deadletter_target(const struct delivery *delivery, const char *subject,
                              const struct log_context *context, const struct err *reason,
                              char *buf)
{
    struct log_context with = *context;
    if (!subject || letter_hops(&delivery->packet.headers) < DEADLETTER_HOPS_MOST)
        return subject;
    bool back = strcmp(delivery->stream, DEADLETTER_CIRCLES) == 0;
    snprintf(buf, DEADLETTER_SUBJECT_BYTES, CIRCLES_PREFIX "%s.%s", delivery->stream,
             delivery->durable);
    with.verdict = back ? "term" : "dead_letter";
    with.dead_letter = back ? NULL : buf;
    with.only_trace = back;
    log_event(LOG_ERROR, &with,
              "%s; %s: it has been a dead letter %d times in a row, so dead letters go in a "
              "circle, one leg of which is %s: let what consumes them have another dead_letter",
              reason->message, back ? "terminated" : "to the stream " DEADLETTER_CIRCLES,
              DEADLETTER_HOPS_MOST, subject);
    return back ? NULL : buf;
}

/* As much as goes through. 0: on_result will run. */
static int publish_letter(struct deadletter *letter, enum extent extent, struct err *err)
{
    const struct delivery *delivery = letter->delivery;
    const struct stored_message *original = &letter->original;
    struct outbox *outbox = delivery->leases->puller->intake->outbox;
    struct headers headers = {0};
    char id[700], *end = NULL;
    size_t bound = outbox_max_payload(outbox);
    int code = 0;
    delivery_id(delivery, id, sizeof id - sizeof ":dead");
    end = id + strlen(id);
    memcpy(end, ":dead", sizeof ":dead");
    for (; extent <= REFERENCE_ONLY; extent++) {
        struct outbox_message message = {
            .subject = letter->why->subject, .headers = &headers, .id = span_of(id)};
        if (extent != REFERENCE_ONLY) {
            message.data = original->data ? original->data : delivery->packet.data;
            message.len = original->data ? original->len : delivery->packet.len;
        }
        code = build_headers(&headers, letter, extent, err);
        if (code != 0)
            break;
        /* The outbox adds its header with the id. */
        size_t size = headers_wire_size(&headers) + strlen("Nats-Msg-Id: \r\n") + strlen(id);
        code = ERR_TOO_LARGE;
        if ((size <= HEADERS_BYTES_MOST && size + message.len <= bound) || extent == REFERENCE_ONLY)
            code = outbox_publish(outbox, &message, on_letter_published, letter, err);
        if (code != ERR_TOO_LARGE)
            break;
        if (extent == ERROR_SHORTENED)
            warn_of_reference(delivery, "too large for the dead letter");
    }
    headers_clear(&headers);
    return code;
}

/* They are copied, unless somebody has sent so many of them to keep us busy: in a list of one name
 * nats.c walks to its end for each value. */
static bool has_many_headers(const struct deadletter *letter)
{
    struct header_field field;
    size_t position = 0;
    int count = 0;
    while (count <= HEADERS_MOST &&
           header_block_next(&letter->delivery->packet.headers, &position, &field))
        count++;
    return count > HEADERS_MOST;
}

static void send_letter(struct deadletter *letter, enum extent extent)
{
    struct err failed = {0};
    if (extent != REFERENCE_ONLY && has_many_headers(letter)) {
        warn_of_reference(letter->delivery, "more than 1000 headers");
        extent = REFERENCE_ONLY;
    }
    if (publish_letter(letter, extent, &failed) != 0)
        fail_letter(letter, &failed);
}

/* --- the original of what came without its data --- */

static int take_original(struct deadletter *letter, const cJSON *reply, struct err *err)
{
    int code = stored_parse(reply, &letter->original, err);
    if (code == 0 && letter->original.timestamp_ns != letter->delivery->timestamp_ns)
        code = err_set(err, ERR_NOT_FOUND, "another message has that place by now");
    return code;
}

/* What passes, such as a leader that is not there, is waited for: the message comes again. What
 * cannot be fetched at all is referred to. */
static void on_original(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct deadletter *letter = owner;
    struct err failed = {0};
    char why[sizeof failed.message + 64];
    (void)api_code;
    /* Nobody answers: where JetStream is off, the letter is not stored either. */
    if (err && err->code != ERR_NO_RESPONDERS && err_passes((int)err->code)) {
        fail_letter(letter, err);
        return;
    }
    if (!err && take_original(letter, reply, &failed) == 0) {
        send_letter(letter, WHOLE);
        return;
    }
    stored_clear(&letter->original);
    snprintf(why, sizeof why, "the data was not delivered, and cannot be fetched (%s)",
             err ? err->message : failed.message);
    warn_of_reference(letter->delivery, why);
    send_letter(letter, REFERENCE_ONLY);
}

static void fetch_original(struct deadletter *letter)
{
    const struct delivery *delivery = letter->delivery;
    char operation[300];
    struct err failed = {0};
    cJSON *request = cJSON_CreateObject();
    cJSON_AddNumberToObject(request, "seq", (double)delivery->stream_sequence);
    jsapi_stream("MSG.GET", delivery->stream, operation, sizeof operation);
    if (jsapi_call(delivery->leases->puller->intake->jsapi, operation, request, on_original, letter,
                   &failed) == 0)
        fail_letter(letter, &failed);
    cJSON_Delete(request);
}

static struct condemned *condemned_new(const struct delivery *delivery, const char *subject,
                                       const struct err *reason, int64_t nak_delay_ns)
{
    size_t len = strlen(subject) + 1;
    struct condemned *why = calloc(1, sizeof *why + len);
    if (!why)
        return NULL;
    why->stream_sequence = delivery->key_sequence;
    why->timestamp_ns = delivery->key_timestamp_ns;
    why->nak_delay_ns = nak_delay_ns;
    why->reason = *reason;
    memcpy(why->subject, subject, len);
    return why;
}

int deadletter_send(struct delivery *delivery, const char *subject, const struct err *reason,
                    int64_t nak_delay_ns, struct letter_escort *escort, struct err *err)
{
    struct err failed;
    int code = delivery_begin_letter(delivery, &failed);
    if (code != 0) {
        end_escort(escort, &failed);
        return err_set(err, code, "%s", failed.message);
    }
    if (!subject) {
        delivery_end_letter(delivery, DELIVERY_DROPPED, 0);
        end_escort(escort, NULL);
        return 0;
    }

    struct deadletter *letter = calloc(1, sizeof *letter);
    struct condemned *why = condemned_new(delivery, subject, reason, nak_delay_ns);
    if (!letter || !why) {
        free(letter);
        free(why);
        delivery_end_letter(delivery, DELIVERY_UNSTORED, nak_delay_ns);
        err_set(&failed, ERR_MEMORY, "no memory for a dead letter");
        end_escort(escort, &failed);
        return 0;
    }
    *letter =
        (struct deadletter){.delivery = delivery_retain(delivery), .why = why, .escort = escort};
    if (wire_left_out(&delivery->packet.headers, delivery->packet.len) > 0)
        fetch_original(letter);
    else
        send_letter(letter, WHOLE);
    return 0;
}
