/* Copies are stored, looked for, and opened. */
#include "bus/consume/retries.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/join.h"
#include "base/json.h"
#include "base/log.h"
#include "base/value.h"
#include "bus/consume/consumer.h"
#include "bus/consume/leases.h"
#include "bus/consume/retry_copy.h"
#include "bus/letter.h"
#include "bus/outbox/publish.h"
#include "bus/request/jsapi.h"

/* So much must be left of a server's max_payload: its dead letter has headers of its own, and with
 * a stream that lets acked messages go, nobody could fetch it any more. */
#define ROOM_BYTES 8192
#define HEADERS_BYTES_MOST (65535 - ROOM_BYTES)

/* --- settings --- */

int retries_init(struct retries *retries, const char *stream, const char *durable, bool brings,
                 int64_t after_ns, struct err *err)
{
    char copies[RETRY_DURABLE_BYTES];
    if (!retry_copy_durable(stream, durable, copies, sizeof copies))
        return err_set(err, ERR_INVALID,
                       "backoff.park_after: the names of the stream and of the durable are longer "
                       "than %d bytes together",
                       RETRY_DURABLE_BYTES - 2);
    *retries = (struct retries){.after_ns = after_ns,
                                .stream = strdup(stream),
                                .durable = strdup(durable),
                                .copies = strdup(copies),
                                .brings = brings};
    return retries->stream && retries->durable && retries->copies
               ? 0
               : err_set(err, ERR_MEMORY, "out of memory");
}

void retries_clear(struct retries *retries)
{
    free(retries->stream);
    free(retries->durable);
    free(retries->copies);
    *retries = (struct retries){0};
}

/* --- the stream --- */

static cJSON *new_stream(int replicas)
{
    cJSON *config = cJSON_CreateObject();
    cJSON *subjects = cJSON_AddArrayToObject(config, "subjects");
    cJSON_AddItemToArray(subjects, cJSON_CreateString(RETRIES_SUBJECTS));
    cJSON_AddStringToObject(config, "name", RETRIES_STREAM);
    cJSON_AddStringToObject(config, "description", "what moonbus tries again much later");
    cJSON_AddStringToObject(config, "retention", "workqueue");
    cJSON_AddStringToObject(config, "storage", "file");
    cJSON_AddBoolToObject(config, "allow_msg_schedules", true);
    cJSON_AddBoolToObject(config, "allow_rollup_hdrs", true);
    cJSON_AddNumberToObject(config, "num_replicas", replicas);
    return config;
}

static bool has_subject(const cJSON *config)
{
    const cJSON *subject;
    cJSON_ArrayForEach(subject, json_field(config, "subjects")) {
        if (cJSON_IsString(subject) && strcmp(subject->valuestring, RETRIES_SUBJECTS) == 0)
            return true;
    }
    return false;
}

static int check_stream(const cJSON *config, struct err *err)
{
    if (strcmp(json_text_or(config, "retention", ""), "workqueue") == 0 && has_subject(config) &&
        json_true(config, "allow_msg_schedules") && json_true(config, "allow_rollup_hdrs"))
        return 0;
    return err_set(err, ERR_MISMATCH,
                   "the stream " RETRIES_STREAM
                   " is not as backoff.park_after needs it: subjects = "
                   "{ \"" RETRIES_SUBJECTS "\" }, retention = \"workqueue\", allow_msg_schedules = "
                   "true, allow_rollup_hdrs = true");
}

static int make_stream(const struct intake *intake, const char *stream, uint64_t deadline_ns,
                       struct err *err)
{
    cJSON *info = NULL, *made = NULL;
    int api_code = 0, code = jsapi_stream_info(intake->jsapi, stream, &info, deadline_ns, err);
    if (code)
        return code;
    cJSON *config = new_stream((int)json_number(json_field(info, "config"), "num_replicas", 1));
    made = jsapi_wait(intake->jsapi, "STREAM.CREATE." RETRIES_STREAM, config, deadline_ns,
                      &api_code, err);
    code = made ? 0 : (int)err->code;
    if (code)
        err_prefix(err, "the stream " RETRIES_STREAM " for backoff.park_after");
    cJSON_Delete(config);
    cJSON_Delete(info);
    cJSON_Delete(made);
    return code;
}

int retries_ensure(const struct intake *intake, const char *stream, uint64_t deadline_ns,
                   struct err *err)
{
    cJSON *info = NULL;
    int code = jsapi_stream_info(intake->jsapi, RETRIES_STREAM, &info, deadline_ns, err);
    if (code == ERR_NOT_FOUND || code == ERR_NO_STREAM) {
        code = make_stream(intake, stream, deadline_ns, err);
        if (!code)
            code = jsapi_stream_info(intake->jsapi, RETRIES_STREAM, &info, deadline_ns, err);
    }
    if (!code)
        code = check_stream(json_field(info, "config"), err);
    if (!code)
        outbox_learn(intake->outbox, info);
    cJSON_Delete(info);
    return code;
}

/* --- storing a copy --- */

static const struct intake *intake_of(const struct delivery *delivery)
{
    return delivery->leases->puller->intake;
}

static void log_copy(const struct delivery *delivery, enum log_level level, const struct err *err,
                     const char *text)
{
    char handler[512];
    snprintf(handler, sizeof handler, "%s/%s", delivery->stream, delivery->durable);
    log_event(level,
              &(struct log_context){.handler = handler,
                                    .subject = delivery->packet.subject,
                                    .stream = delivery->stream,
                                    .consumer = delivery->durable,
                                    .sequence = delivery->stream_sequence,
                                    .code = err ? err_name(err->code) : NULL},
              "%s%s%s", text, err ? ": " : "", err ? err->message : "");
}

struct copying {
    struct delivery *delivery; /* a reference */
    int64_t delay_ns;
};

static void end_copying(struct copying *copying, bool stored)
{
    delivery_end_copy(copying->delivery, stored, copying->delay_ns);
    delivery_release(copying->delivery);
    free(copying);
}

static void on_removed(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct delivery *delivery = owner;
    (void)reply;
    (void)api_code;
    if (err)
        log_copy(delivery, LOG_WARN, err,
                 "a retry was stored after its lease was lost, and cannot be removed: the message "
                 "may be handled twice");
    delivery_release(delivery);
}

/* Somebody else has the message by now, and does with it what is to be done. */
static void remove_copy(struct delivery *delivery, uint64_t sequence)
{
    cJSON *request = cJSON_CreateObject();
    cJSON_AddNumberToObject(request, "seq", (double)sequence);
    cJSON_AddBoolToObject(request, "no_erase", true);
    if (jsapi_call(intake_of(delivery)->jsapi, "STREAM.MSG.DELETE." RETRIES_STREAM, request,
                   on_removed, delivery_retain(delivery), NULL) == 0)
        delivery_release(delivery);
    cJSON_Delete(request);
}

static void on_stored(void *owner, const struct receipt *receipt, const struct err *err)
{
    struct copying *copying = owner;
    struct delivery *delivery = copying->delivery;
    bool stored = receipt != NULL;
    if (!receipt && err->code != ERR_CLOSED)
        log_copy(delivery, LOG_WARN, err,
                 "a long retry is a delayed nak, as its copy is not stored");
    if (receipt && delivery_is_lost(delivery)) {
        remove_copy(delivery, receipt->sequence);
        stored = false;
    }
    end_copying(copying, stored);
}

static bool has_room(const struct delivery *delivery, size_t headers_bytes)
{
    size_t most = outbox_max_payload(intake_of(delivery)->outbox);
    return headers_bytes <= HEADERS_BYTES_MOST &&
           headers_bytes + delivery->packet.len + ROOM_BYTES <= most;
}

bool retries_copies(const struct delivery *delivery, int64_t delay_ns)
{
    const struct retries *retries =
        delivery->consumer ? consumer_retries(delivery->consumer) : NULL;
    return retries && retries->after_ns > 0 && delay_ns > retries->after_ns &&
           wire_left_out(&delivery->packet.headers, delivery->packet.len) == 0 &&
           has_room(delivery, delivery->packet.headers.len);
}

static int publish_copy(struct copying *copying, struct err *err)
{
    const struct delivery *delivery = copying->delivery;
    struct headers headers = {0};
    char subject[800], id[900];
    int code = retry_copy_write(delivery, clock_wall_ns() + copying->delay_ns, &headers, err);
    if (!code && !has_room(delivery, headers_wire_size(&headers)))
        code = err_set(err, ERR_TOO_LARGE, "its headers are too large");
    if (!code) {
        struct join name = join_in(id, sizeof id);
        join_text(&name, "retry:");
        delivery_join_id(delivery, &name);
        join_char(&name, ':');
        join_number(&name, delivery->attempt);
        struct outbox_message message = {
            .subject = retry_copy_subject(delivery, "at", subject, sizeof subject),
            .data = delivery->packet.data,
            .len = delivery->packet.len,
            .headers = &headers,
            .id = span_of(id)};
        code = outbox_publish(intake_of(delivery)->outbox, &message, on_stored, copying, err);
    }
    headers_clear(&headers);
    return code;
}

int retries_nak(struct delivery *delivery, int64_t delay_ns, struct err *err)
{
    struct err failed = {0};
    struct copying *copying = NULL;
    if (!delivery_settled(delivery) && retries_copies(delivery, delay_ns) &&
        !delivery_is_lost(delivery))
        copying = malloc(sizeof *copying);
    if (!copying)
        return delivery_settle(delivery, VERDICT_NAK, delay_ns, err);
    int code = delivery_begin_copy(delivery, err);
    if (code) {
        free(copying);
        return code;
    }
    *copying = (struct copying){delivery_retain(delivery), delay_ns};
    if (publish_copy(copying, &failed) != 0) {
        if (failed.code != ERR_CLOSED)
            log_copy(delivery, LOG_WARN, &failed,
                     "a long retry is a delayed nak, as it cannot be copied");
        end_copying(copying, false);
    }
    return 0;
}

/* --- a copy comes --- */

bool retries_open(const struct retries *retries, struct delivery *delivery)
{
    char buf[1024];
    const char *origin = retry_copy_origin(&delivery->packet, retries->stream, retries->durable,
                                           retries->copies, buf, sizeof buf);
    int code = retry_copy_open(delivery, retries->stream, retries->durable);
    if (code) {
        if (code == ERR_INVALID)
            log_copy(delivery, LOG_ERROR, NULL,
                     "dropped from " RETRIES_STREAM
                     ", as its headers do not say what it is: nothing but moonbus may publish "
                     "to " RETRIES_SUBJECTS);
        delivery_settle(delivery, code == ERR_INVALID ? VERDICT_TERM : VERDICT_NAK, NS_PER_S, NULL);
        delivery_release(delivery);
        return false;
    }
    struct link_frame frame = {.subject = origin, .data = "+ACK", .len = strlen("+ACK")};
    if (origin)
        link_send(intake_of(delivery)->link, LANE_URGENT, &frame, NULL);
    return true;
}

/* --- a message comes again --- */

struct copy_look {
    struct delivery *delivery; /* the caller's reference */
    void (*on_end)(struct delivery *delivery, bool copied);
};

static bool is_newer(const struct delivery *delivery, const cJSON *reply)
{
    struct stored_message stored;
    uint64_t attempts = 0;
    if (stored_parse(reply, &stored, NULL) != ERR_MEMORY)
        attempts = retry_copy_attempts(&stored.block);
    stored_clear(&stored);
    return attempts > delivery->attempts_before;
}

static void on_looked(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct copy_look *looking = owner;
    struct delivery *delivery = looking->delivery;
    (void)api_code;
    if (err && err->code != ERR_NOT_FOUND && err->code != ERR_CLOSED)
        log_copy(delivery, LOG_WARN, err,
                 "whether it waits for a later retry is not known, so it is handled now");
    bool copied = !err && is_newer(delivery, reply);
    if (copied) {
        log_copy(delivery, LOG_INFO, NULL,
                 "it came again, and waits for a later retry: acknowledged");
        delivery_settle(delivery, VERDICT_ACK, 0, NULL);
    }
    looking->on_end(delivery, copied);
    free(looking);
}

bool retries_look(struct delivery *delivery, void (*on_end)(struct delivery *delivery, bool copied))
{
    char subject[800];
    struct copy_look *looking = malloc(sizeof *looking);
    if (!looking)
        return false;
    *looking = (struct copy_look){delivery, on_end};
    cJSON *request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "last_by_subj",
                            retry_copy_subject(delivery, "*", subject, sizeof subject));
    uint64_t id = jsapi_call(intake_of(delivery)->jsapi, "STREAM.MSG.GET." RETRIES_STREAM, request,
                             on_looked, looking, NULL);
    cJSON_Delete(request);
    if (!id)
        free(looking);
    return id != 0;
}
