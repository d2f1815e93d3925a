/* The blocking half of consumer: making sure of it on the server, and again when it is gone. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/value.h"
#include "bus/consumer_internal.h"

#define ACK_WAIT_DEFAULT_NS (30 * NS_PER_S)
#define LOOK_NS (5 * NS_PER_S)
#define API_CONSUMER_EXISTS 10148
#define TRIES 3
/* What was settled above the ack floor is the first that a consumer made again delivers. */
#define DOUBT_RECREATED_NS (60 * NS_PER_S)

/* --- one setting up --- */

struct setup {
    struct consumer *consumer; /* not owned */
    const struct consumer_spec *spec;
    uint64_t deadline_ns;
    cJSON *stream; /* owned: STREAM.INFO */
    cJSON *info;   /* owned: CONSUMER.INFO, or the answer to a CREATE; NULL: there is none */
};

static cJSON *call(const struct setup *setup, const char *operation, const cJSON *request,
                   int *api_code, struct err *err)
{
    return jsapi_wait(setup->consumer->bus->jsapi, operation, request, setup->deadline_ns, api_code,
                      err);
}

static void replace(cJSON **at, cJSON *value)
{
    cJSON_Delete(*at);
    *at = value;
}

static int read_stream(struct setup *setup, struct err *err)
{
    char operation[600];

    snprintf(operation, sizeof(operation), "STREAM.INFO.%s", setup->spec->stream);
    replace(&setup->stream, call(setup, operation, NULL, NULL, err));
    if (setup->stream != NULL)
        return 0;
    if (err->code == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND,
                       "there is no stream \"%s\": declare it with js.stream, or create it first",
                       setup->spec->stream);
    return err->code;
}

static int read_consumer(struct setup *setup, struct err *err)
{
    char operation[600];

    snprintf(operation, sizeof(operation), "CONSUMER.INFO.%s.%s", setup->spec->stream,
             setup->spec->durable);
    replace(&setup->info, call(setup, operation, NULL, NULL, err));
    return setup->info != NULL ? 0 : (int)err->code;
}

/* Servers before 2.10 echo no "compression"; they drop filter_subjects and deliver everything. */
static bool knows_filter_lists(const struct setup *setup)
{
    return consumer_json(consumer_json(setup->stream, "config"), "compression") != NULL;
}

static int check_server(const struct setup *setup, struct err *err)
{
    if (setup->spec->filter_count > 1 && !knows_filter_lists(setup))
        return err_set(err, ERR_INVALID,
                       "filter: a list of subjects needs nats-server 2.10 or newer; with this "
                       "server use one subject, with wildcards, or a durable for each");
    return 0;
}

/* takes: config. On success the answer becomes info. */
static int send_config(struct setup *setup, cJSON *config, const char *action, int *api_code,
                       struct err *err)
{
    cJSON *request = cJSON_CreateObject();
    char operation[600];

    cJSON_AddStringToObject(request, "stream_name", setup->spec->stream);
    cJSON_AddItemToObject(request, "config", config);
    if (knows_filter_lists(setup)) /* since 2.10, too */
        cJSON_AddStringToObject(request, "action", action);
    /* The one that every server since 2.0 knows; it takes filter lists all the same. */
    snprintf(operation, sizeof(operation), "CONSUMER.DURABLE.CREATE.%s.%s", setup->spec->stream,
             setup->spec->durable);
    cJSON *reply = call(setup, operation, request, api_code, err);
    cJSON_Delete(request);
    if (reply == NULL)
        return err->code;
    replace(&setup->info, reply);
    return 0;
}

static const cJSON *config_of(const struct setup *setup)
{
    return consumer_json(setup->info, "config");
}

static int compare(const struct setup *setup, struct err *err)
{
    char *unstated = NULL;
    int code = consumer_config_compare(setup->spec, config_of(setup), &unstated, err);

    if (unstated != NULL)
        consumer_log(setup->consumer, LOG_WARN,
                     "no filter is stated here, but on the server the consumer has: %s", unstated);
    free(unstated);
    return code;
}

/* Sends the server's own settings with those changed that the script states. */
static int update(struct setup *setup, struct err *err)
{
    cJSON *config = cJSON_Duplicate(consumer_json(setup->info, "config"), true);
    struct err why = {0};

    consumer_config_state(config, setup->spec);
    if (send_config(setup, config, "update", NULL, &why) != 0)
        return err_set(err, why.code, "cannot be updated: %s", why.message);
    consumer_log(setup->consumer, LOG_INFO, "updated on the server");
    if (compare(setup, &why) != 0)
        return err_set(err, ERR_MISMATCH, "the server did not take the update: %s", why.message);
    return consumer_config_check_retries(setup->spec, config_of(setup), err);
}

static int check_existing(struct setup *setup, bool may_update, struct err *err)
{
    int code = consumer_config_check_kind(config_of(setup), err);

    if (code != 0)
        return code;
    code = consumer_config_check_retries(setup->spec, config_of(setup), err);
    if (code == 0)
        code = compare(setup, err);
    if (code == 0 || setup->spec->bind)
        return code;
    if (may_update || setup->spec->update)
        return update(setup, err);
    if (strstr(err->message, "update = true") == NULL) {
        char why[sizeof(err->message)];
        snprintf(why, sizeof(why), "%s", err->message);
        err_set(err, ERR_MISMATCH, "%s (allow update = true, or state what the server has)", why);
    }
    return code;
}

static void delete_again(struct setup *setup)
{
    char operation[600];

    snprintf(operation, sizeof(operation), "CONSUMER.DELETE.%s.%s", setup->spec->stream,
             setup->spec->durable);
    cJSON_Delete(call(setup, operation, NULL, NULL, NULL));
    replace(&setup->info, NULL);
}

/* takes: config. Creates, and compares what the server made of it: older ones drop what they do
 * not know, silently. */
static int create(struct setup *setup, cJSON *config, int *api_code, struct err *err)
{
    cJSON *again = cJSON_Duplicate(config, true);
    struct err why = {0};
    int code = send_config(setup, config, "create", api_code, err);

    /* An account or a stream may bound it; then its own default has to do. */
    if (code != 0 && !setup->spec->max_ack_pending_stated &&
        strcasestr(err->message, "max ack pending") != NULL) {
        cJSON_DeleteItemFromObjectCaseSensitive(again, "max_ack_pending");
        code = send_config(setup, again, "create", api_code, err);
    } else {
        cJSON_Delete(again);
    }
    if (code != 0)
        return code;
    if (compare(setup, &why) != 0) {
        delete_again(setup);
        return err_set(err, ERR_MISMATCH,
                       "the server dropped a setting that it does not know, so the consumer was "
                       "not created: %s",
                       why.message);
    }
    return 0;
}

/* Takes over what the server has. */
static void adopt(struct setup *setup)
{
    struct consumer *consumer = setup->consumer;
    const cJSON *config = consumer_json(setup->info, "config");
    double ack_wait_ns = consumer_json_number(config, "ack_wait");
    int most = (int)consumer_json_number(config, "max_batch");
    int64_t max_expires_ns = (int64_t)consumer_json_number(config, "max_expires");
    int64_t max_bytes = (int64_t)consumer_json_number(config, "max_bytes");

    snprintf(consumer->created, sizeof(consumer->created), "%s",
             consumer_json_string(setup->stream, "created"));
    consumer->ack_wait_ns = ack_wait_ns > 0 ? (int64_t)ack_wait_ns : ACK_WAIT_DEFAULT_NS;
    pthread_mutex_lock(&consumer->lock);
    consumer->incarnation++;
    consumer_note_floor(consumer, setup->info);
    if (most > 0)
        consumer->pull.ceiling = most;
    if (max_bytes > 0)
        consumer->pull.max_bytes = max_bytes;
    if (max_expires_ns > 0 && max_expires_ns < consumer->pull.expires_ns) {
        consumer->pull.expires_ns = max_expires_ns;
        if (consumer->pull.heartbeat_ns > max_expires_ns / 2)
            consumer->pull.heartbeat_ns = max_expires_ns / 2;
    }
    pthread_mutex_unlock(&consumer->lock);
}

static int ensure(struct setup *setup, bool may_update, struct err *err)
{
    int code = read_stream(setup, err);

    if (code == 0)
        code = check_server(setup, err);
    for (int i = 0; code == 0 && i < TRIES; i++) {
        int api_code = 0;
        if (read_consumer(setup, err) == 0)
            return check_existing(setup, may_update, err);
        if (err->code != ERR_NOT_FOUND)
            return err->code;
        if (setup->spec->bind)
            return err_set(err, ERR_NOT_FOUND,
                           "there is no such consumer, and bind = true forbids to create it");
        code = create(setup, consumer_config_new(setup->spec), &api_code, err);
        if (code == 0)
            return 0;
        if (api_code == API_CONSUMER_EXISTS) /* someone else was faster: compare with theirs */
            code = 0;
    }
    return code != 0 ? code : (int)err->code;
}

static int ensure_spec(struct consumer *consumer, const struct consumer_spec *spec, bool may_update,
                       uint64_t deadline_ns, struct err *err)
{
    struct setup setup = {.consumer = consumer, .spec = spec, .deadline_ns = deadline_ns};
    struct err why = {0};
    int code = ensure(&setup, may_update, &why);

    if (code == 0)
        adopt(&setup);
    else
        err_set(err, why.code, "%s: %s", consumer->label, why.message);
    cJSON_Delete(setup.stream);
    cJSON_Delete(setup.info);
    return code;
}

int consumer_ensure(struct consumer *consumer, bool may_update, uint64_t deadline_ns,
                    struct err *err)
{
    pthread_mutex_lock(&consumer->setup_lock);
    int code = ensure_spec(consumer, &consumer->spec, may_update, deadline_ns, err);
    pthread_mutex_unlock(&consumer->setup_lock);
    return code;
}

int consumer_change(struct consumer *consumer, const struct consumer_spec *spec,
                    uint64_t deadline_ns, struct err *err)
{
    struct consumer_spec copy, before;

    if (consumer_spec_copy(&copy, spec, err) != 0) {
        consumer_spec_clear(&copy);
        return ERR_INVALID;
    }
    pthread_mutex_lock(&consumer->setup_lock);
    int code = ensure_spec(consumer, &copy, true, deadline_ns, err);
    if (code == 0) {
        /* The names stay: deliveries borrow them. */
        before = consumer->spec;
        consumer->spec.filters = copy.filters;
        consumer->spec.filter_count = copy.filter_count;
        consumer->spec.ack_wait_ns = copy.ack_wait_ns;
        consumer->spec.ack_wait_stated = copy.ack_wait_stated;
        consumer->spec.max_ack_pending_stated = copy.max_ack_pending_stated;
        consumer->spec.max_ack_pending = copy.max_ack_pending;
        consumer->spec.concurrency = copy.concurrency;
        consumer->spec.deliver = copy.deliver;
        consumer->spec.deliver_sequence = copy.deliver_sequence;
        consumer->spec.deliver_time = copy.deliver_time;
        consumer->spec.bind = copy.bind;
        consumer->spec.update = copy.update;
        consumer->spec.extra = copy.extra;
        before.stream = copy.stream;
        before.durable = copy.durable;
        copy = before;
        pthread_mutex_lock(&consumer->lock);
        pull_resize(&consumer->pull, spec->concurrency, consumer->pull.most);
        pthread_mutex_unlock(&consumer->lock);
    }
    pthread_mutex_unlock(&consumer->setup_lock);
    consumer_spec_clear(&copy);
    return code;
}

/* --- gone --- */

static void tell_gone(struct consumer *consumer, enum told told, const char *why)
{
    if (consumer->told == told)
        return;
    consumer->told = told;
    consumer_log(consumer, LOG_WARN, "%s", why);
}

static bool on_work_queue(const struct setup *setup)
{
    return strcmp(consumer_json_string(consumer_json(setup->stream, "config"), "retention"),
                  "workqueue") == 0;
}

/* Creates it again: from where it was, or, when the stream is another one, as if for the first
 * time. */
static bool recreate(struct setup *setup)
{
    struct consumer *consumer = setup->consumer;
    const struct consumer_spec *spec = setup->spec;
    bool same = strcmp(consumer->created, consumer_json_string(setup->stream, "created")) == 0;
    cJSON *config = consumer_config_new(spec);
    struct err err = {0};
    int api_code = 0;

    pthread_mutex_lock(&consumer->lock);
    uint64_t from = consumer->ack_floor + 1, last = consumer->last_sequence;
    pthread_mutex_unlock(&consumer->lock);

    if (on_work_queue(setup)) /* it keeps only what was not acked, and takes nothing else */
        consumer_config_deliver(config, DELIVER_ALL, 0, NULL);
    else if (same)
        consumer_config_deliver(config, DELIVER_SEQUENCE, from, NULL);
    if (create(setup, config, &api_code, &err) != 0) {
        if (api_code == API_CONSUMER_EXISTS)
            return false; /* someone else was faster: found at the next look */
        char why[sizeof(err.message) + 64];
        snprintf(why, sizeof(why), "was deleted, and cannot be created again: %s", err.message);
        tell_gone(consumer, TOLD_CONSUMER_GONE, why);
        return false;
    }
    pthread_mutex_lock(&consumer->lock);
    if (same)
        consumer_doubt(consumer, 0, clock_now_ns() + (uint64_t)DOUBT_RECREATED_NS);
    else
        consumer->last_sequence = 0;
    pthread_mutex_unlock(&consumer->lock);
    adopt(setup);
    consumer->told = TOLD_NOTHING;
    if (!same)
        consumer_log(consumer, LOG_WARN,
                     "the stream was made anew; the consumer was created again, and starts as for "
                     "the first time");
    else if (last >= from)
        consumer_log(consumer, LOG_WARN,
                     "the consumer was deleted, and created again; processing goes on from "
                     "sequence %" PRIu64 "; what was processed up to %" PRIu64 " may run again",
                     from, last);
    else
        consumer_log(consumer, LOG_WARN,
                     "the consumer was deleted, and created again; processing goes on from "
                     "sequence %" PRIu64,
                     from);
    return true;
}

/* True: it is there, or there again. */
static bool look(struct setup *setup)
{
    struct consumer *consumer = setup->consumer;
    struct err err = {0};

    if (read_consumer(setup, &err) == 0) {
        if (consumer->told != TOLD_NOTHING)
            consumer_log(consumer, LOG_INFO, "the consumer is there again");
        consumer->told = TOLD_NOTHING;
        pthread_mutex_lock(&consumer->lock);
        consumer_note_floor(consumer, setup->info);
        pthread_mutex_unlock(&consumer->lock);
        return true;
    }
    /* Not allowed to know: pulling shows. */
    if (err.code == ERR_PERMISSION)
        return true;
    if (err.code != ERR_NOT_FOUND)
        return false;
    if (read_stream(setup, &err) != 0) {
        if (err.code == ERR_NOT_FOUND)
            tell_gone(consumer, TOLD_STREAM_GONE,
                      "the stream is gone; it will be looked for until it is back");
        return false;
    }
    if (setup->spec->bind) {
        tell_gone(consumer, TOLD_CONSUMER_GONE,
                  "the consumer was deleted, and bind = true forbids to create it again; it will "
                  "be looked for until it is back");
        return false;
    }
    return recreate(setup);
}

void consumer_look(struct pool_job *job)
{
    struct consumer *consumer =
        (struct consumer *)((char *)job - offsetof(struct consumer, look_job));
    bool found = false;

    pthread_mutex_lock(&consumer->setup_lock);
    pthread_mutex_lock(&consumer->lock);
    bool stopping = consumer->stopping;
    pthread_mutex_unlock(&consumer->lock);
    if (!stopping) {
        struct setup setup = {.consumer = consumer,
                              .spec = &consumer->spec,
                              .deadline_ns = clock_now_ns() + (uint64_t)LOOK_NS};
        found = look(&setup);
        cJSON_Delete(setup.stream);
        cJSON_Delete(setup.info);
    }
    pthread_mutex_unlock(&consumer->setup_lock);
    consumer_looked(consumer, found);
    consumer_release(consumer);
}
