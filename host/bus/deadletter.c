#include "bus/deadletter.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/value.h"
#include "bus/consumer.h"
#include "bus/letter.h"

/* What is left of the error when the whole is too large. */
#define ERROR_SHORT 120

struct deadletter {
    struct delivery *delivery; /* a reference */
    struct condemned *why;     /* owned */
};

/* How much of the original goes along. */
enum extent { WHOLE, ERROR_SHORTENED, REFERENCE_ONLY };

static void tell_failed(const struct deadletter *letter, const struct err *err)
{
    const struct delivery *delivery = letter->delivery;
    char handler[512], delay[32];

    snprintf(handler, sizeof(handler), "%s/%s", delivery->stream, delivery->durable);
    log_event(LOG_ERROR,
              &(struct log_context){.handler = handler,
                                    .stream = delivery->stream,
                                    .consumer = delivery->durable,
                                    .subject = delivery->subject,
                                    .sequence = delivery->stream_sequence,
                                    .code = err_name(err->code)},
              "the dead letter was not stored: %s; nak in %s", err->message,
              value_format_duration(letter->why->nak_delay_ns / NS_PER_MS * NS_PER_MS, delay,
                                    sizeof(delay)));
}

static void release(struct deadletter *letter)
{
    free(letter->why);
    delivery_release(letter->delivery);
    free(letter);
}

static void fail(struct deadletter *letter, const struct err *err)
{
    int64_t delay_ns = letter->why->nak_delay_ns;

    tell_failed(letter, err);
    /* Before it can come again. */
    consumer_condemn(letter->delivery->consumer, letter->why, letter->delivery->pardons);
    letter->why = NULL;
    delivery_end_letter(letter->delivery, VERDICT_NAK, false, delay_ns);
    release(letter);
}

static void on_result(void *owner, const struct receipt *receipt, const struct err *err)
{
    struct deadletter *letter = owner;

    if (receipt == NULL) {
        fail(letter, err);
        return;
    }
    delivery_end_letter(letter->delivery, VERDICT_TERM, true, 0);
    release(letter);
}

/* A value that cannot be sent again is left out: better a letter without it than none. */
static void copy_header(struct headers *headers, natsMsg *msg, const char *name)
{
    const char **values = NULL;
    int count = 0;
    char renamed[512];

    if (natsMsgHeader_Values(msg, name, &values, &count) != NATS_OK)
        return;
    snprintf(renamed, sizeof(renamed), "%s%s", letter_acted_upon(name) ? "Moonbus-Orig-" : "",
             name);
    for (int i = 0; i < count; i++)
        headers_add(headers, renamed, values[i], strlen(values[i]), NULL);
    free((void *)values);
}

static void copy_headers(struct headers *headers, natsMsg *msg)
{
    const char **names = NULL;
    int count = 0;

    if (natsMsgHeader_Keys(msg, &names, &count) != NATS_OK)
        return;
    for (int i = 0; i < count; i++)
        copy_header(headers, msg, names[i]);
    free((void *)names);
}

static int add(struct headers *headers, const char *name, const char *value, struct err *err)
{
    return headers_add(headers, name, value, strlen(value), err);
}

static int add_number(struct headers *headers, const char *name, int64_t value, struct err *err)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRId64, value);
    return add(headers, name, text, err);
}

/* An error may have several lines; a header has one. Cut before a character, not within. */
static int add_error(struct headers *headers, const char *message, size_t most, struct err *err)
{
    char text[sizeof(((struct err *)0)->message)];
    size_t len = strlen(message);

    if (len > most) {
        len = most;
        while (len > 0 && ((unsigned char)message[len] & 0xc0) == 0x80)
            len--;
    }
    if (len >= sizeof(text))
        len = sizeof(text) - 1;
    for (size_t i = 0; i < len; i++)
        text[i] = iscntrl((unsigned char)message[i]) ? ' ' : message[i];
    return headers_add(headers, "Moonbus-Error", text, len, err);
}

static int build(struct headers *headers, const struct delivery *delivery, const struct err *reason,
                 enum extent extent, struct err *err)
{
    size_t most = extent == WHOLE ? SIZE_MAX : ERROR_SHORT;
    int code = 0;

    headers_clear(headers);
    if (extent != REFERENCE_ONLY)
        copy_headers(headers, delivery->msg);
    if ((code = add(headers, "Moonbus-Stream", delivery->stream, err)) != 0 ||
        (code = add(headers, "Moonbus-Consumer", delivery->durable, err)) != 0 ||
        (code = add_number(headers, "Moonbus-Sequence", (int64_t)delivery->stream_sequence, err)) !=
            0 ||
        (code = add(headers, "Moonbus-Subject", delivery->subject, err)) != 0 ||
        (code = add_number(headers, "Moonbus-Attempt", (int64_t)delivery->attempt, err)) != 0 ||
        (code = add_number(headers, "Moonbus-Timestamp", delivery->timestamp_ns, err)) != 0 ||
        (code = add(headers, "Moonbus-Code", err_name(reason->code), err)) != 0 ||
        (code = add_error(headers, reason->message, most, err)) != 0)
        return code;
    return extent == REFERENCE_ONLY ? add(headers, "Moonbus-Reference", "true", err) : 0;
}

/* As much as goes through. 0: on_result will run. */
static int publish(struct bus *bus, struct deadletter *letter, const char *subject,
                   const struct err *reason, struct err *err)
{
    const struct delivery *delivery = letter->delivery;
    struct headers headers = {0};
    char id[700], *end = NULL;
    size_t bound = link_max_payload(bus->publish);
    int code = 0;

    delivery_id(delivery, id, sizeof(id) - sizeof(":dead"));
    end = id + strlen(id);
    memcpy(end, ":dead", sizeof(":dead"));
    for (enum extent extent = WHOLE; extent <= REFERENCE_ONLY; extent++) {
        struct outbox_message message = {.subject = subject, .headers = &headers, .id = id};
        if (extent != REFERENCE_ONLY) {
            message.data = delivery->data;
            message.len = delivery->len;
        }
        code = build(&headers, delivery, reason, extent, err);
        if (code != 0)
            break;
        /* The outbox adds its header with the id. */
        size_t size = headers_wire_size(&headers) + strlen("Nats-Msg-Id: \r\n") + strlen(id);
        code = ERR_TOO_LARGE;
        if (size + message.len <= bound || extent == REFERENCE_ONLY)
            code = outbox_publish(bus->outbox, &message, on_result, letter, err) != 0
                       ? 0
                       : (int)err->code;
        if (code != ERR_TOO_LARGE)
            break;
        if (extent == ERROR_SHORTENED)
            log_event(LOG_WARN,
                      &(struct log_context){.stream = delivery->stream,
                                            .consumer = delivery->durable,
                                            .sequence = delivery->stream_sequence},
                      "too large for the dead letter: only a reference to it is stored");
    }
    headers_clear(&headers);
    return code;
}

static struct condemned *condemned_new(const struct delivery *delivery, const char *subject,
                                       const struct err *reason, int64_t nak_delay_ns)
{
    size_t len = strlen(subject) + 1;
    struct condemned *why = calloc(1, sizeof(*why) + len);

    if (why == NULL)
        return NULL;
    why->stream_sequence = delivery->stream_sequence;
    why->timestamp_ns = delivery->timestamp_ns;
    why->nak_delay_ns = nak_delay_ns;
    why->reason = *reason;
    memcpy(why->subject, subject, len);
    return why;
}

int deadletter_send(struct bus *bus, struct delivery *delivery, const char *subject,
                    const struct err *reason, int64_t nak_delay_ns, struct err *err)
{
    int code = delivery_begin_letter(delivery, err);

    if (code != 0)
        return code;
    if (subject == NULL) {
        delivery_end_letter(delivery, VERDICT_TERM, false, 0);
        return 0;
    }

    struct deadletter *letter = calloc(1, sizeof(*letter));
    struct condemned *why = condemned_new(delivery, subject, reason, nak_delay_ns);
    struct err failed = {0};
    if (letter == NULL || why == NULL) {
        free(letter);
        free(why);
        delivery_end_letter(delivery, VERDICT_NAK, false, nak_delay_ns);
        return 0;
    }
    *letter = (struct deadletter){.delivery = delivery_retain(delivery), .why = why};
    if (publish(bus, letter, subject, reason, &failed) != 0)
        fail(letter, &failed);
    return 0;
}
