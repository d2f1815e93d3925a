/* The blocking half of consumer: making sure of the durable on the server. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/consume/consumer_private.h"
#include "bus/jscode.h"
#include "bus/request/jsapi.h"
#include "bus/request/jsfield.h"

#define TRIES 3

static cJSON *call_api(const struct consumer_setup *setup, const char *operation,
                       const cJSON *request, int *api_code, struct err *err)
{
    return jsapi_wait(setup->consumer->puller.intake->jsapi, operation, request, setup->deadline_ns,
                      api_code, err);
}

static void replace_json(cJSON **at, cJSON *value)
{
    cJSON_Delete(*at);
    *at = value;
}

void consumer_setup_clear(struct consumer_setup *setup)
{
    replace_json(&setup->stream, NULL);
    replace_json(&setup->info, NULL);
}

int consumer_setup_read_stream(struct consumer_setup *setup, struct err *err)
{
    char operation[600];
    jsapi_stream("INFO", setup->spec->stream, operation, sizeof operation);
    replace_json(&setup->stream, call_api(setup, operation, NULL, NULL, err));
    if (setup->stream)
        return 0;
    if (err->code == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND,
                       "there is no stream \"%s\": declare it with js.stream, or create it first",
                       setup->spec->stream);
    return err->code;
}

int consumer_setup_read(struct consumer_setup *setup, struct err *err)
{
    char operation[600];
    jsapi_consumer("INFO", setup->spec->stream, setup->spec->durable, operation, sizeof operation);
    replace_json(&setup->info, call_api(setup, operation, NULL, NULL, err));
    if (setup->info && !puller_info_tells(setup->info)) {
        replace_json(&setup->info, NULL);
        return err_set(err, ERR_UNAVAILABLE,
                       "the server says nothing of the consumer at the moment");
    }
    return setup->info ? 0 : (int)err->code;
}

/* Servers before 2.10 echo no "compression"; they drop filter_subjects and deliver everything. */
static bool knows_filter_lists(const struct consumer_setup *setup)
{
    return json_field(json_field(setup->stream, "config"), "compression") != NULL;
}

static int check_server(const struct consumer_setup *setup, struct err *err)
{
    if (setup->spec->filter_count > 1 && !knows_filter_lists(setup))
        return err_set(err, ERR_UNSUPPORTED,
                       "filter: a list of subjects needs nats-server 2.10 or newer; with this "
                       "server use one subject, with wildcards, or a durable for each");
    return 0;
}

/* takes: config. On success the answer becomes info. */
static int send_config(struct consumer_setup *setup, cJSON *config, const char *action,
                       int *api_code, struct err *err)
{
    cJSON *request = cJSON_CreateObject();
    char operation[600];
    cJSON_AddStringToObject(request, "stream_name", setup->spec->stream);
    if (!cJSON_AddItemToObject(request, "config", config)) {
        cJSON_Delete(config);
        cJSON_Delete(request);
        return err_set(err, ERR_MEMORY, "out of memory");
    }
    if (knows_filter_lists(setup)) /* since 2.10, too */
        cJSON_AddStringToObject(request, "action", action);
    /* The one that every server since 2.0 knows; it takes filter lists all the same. */
    jsapi_consumer("DURABLE.CREATE", setup->spec->stream, setup->spec->durable, operation,
                   sizeof operation);
    struct err why = {0};
    char since[64];
    cJSON *reply = call_api(setup, operation, request, api_code, &why);
    cJSON_Delete(request);
    if (!reply)
        return err_set(err, why.code, "%s%s", why.message,
                       jsfield_refused(why.message, since, sizeof since));
    replace_json(&setup->info, reply);
    return 0;
}

const cJSON *consumer_setup_config(const struct consumer_setup *setup)
{
    return json_field(setup->info, "config");
}

static int compare_stated(const struct consumer_setup *setup, struct err *err)
{
    char *unstated = NULL;
    int code = consumer_config_compare(setup->spec, consumer_setup_config(setup), &unstated, err);
    if (unstated)
        puller_log(&setup->consumer->puller, LOG_WARN,
                   "no filter is stated here, but on the server the consumer has: %s", unstated);
    free(unstated);
    return code;
}

int consumer_setup_update(struct consumer_setup *setup, const struct err *difference,
                          struct err *err)
{
    cJSON *config = cJSON_Duplicate(json_field(setup->info, "config"), true);
    struct err why = {0};
    if (!setup->stream &&
        consumer_setup_read_stream(setup, err) != 0) { /* which tells what it knows */
        cJSON_Delete(config);
        return err->code;
    }
    consumer_config_state(config, setup->spec);
    consumer_config_sign(config, setup->spec, knows_filter_lists(setup));
    if (send_config(setup, config, "update", NULL, &why) != 0)
        return err_set(err, why.code, "cannot be updated: %s: %s", difference->message,
                       why.message);
    puller_log(&setup->consumer->puller, LOG_INFO, "updated on the server: %s",
               difference->message);
    if (compare_stated(setup, &why) != 0)
        return err_set(err, ERR_MISMATCH, "the server did not take the update: %s", why.message);
    return consumer_config_check_retries(setup->spec, consumer_setup_config(setup), err);
}

int consumer_setup_compare(const struct consumer_setup *setup, struct err *err)
{
    int code = consumer_config_check_kind(consumer_setup_config(setup), err);
    if (code == 0)
        code = consumer_config_check_retries(setup->spec, consumer_setup_config(setup), err);
    return code != 0 ? code : compare_stated(setup, err);
}

static int check_existing(struct consumer_setup *setup, bool may_update, struct err *err)
{
    int code = consumer_config_check_kind(consumer_setup_config(setup), err);
    if (code != 0)
        return code;
    code = consumer_setup_compare(setup, err);
    if (code == 0 || setup->spec->bind)
        return code;
    struct err why = *err;
    const struct consumer_spec *spec = setup->spec;
    bool allowed =
        may_update || spec->update || consumer_config_is_own(consumer_setup_config(setup), spec);
    if (allowed && !spec->fixed)
        return consumer_setup_update(setup, &why, err);
    if (strstr(why.message, "update = true") != NULL)
        return code;
    if (jsfield_is_fixed(why.message))
        return err_set(err, ERR_MISMATCH,
                       "%s (no server changes it: state what the server has, or delete the "
                       "consumer)",
                       why.message);
    char command[600];
    return err_set(err, ERR_MISMATCH,
                   "%s (state what the server has, allow update = true, or run: %s)", why.message,
                   consumer_config_remedy(spec, why.message, command, sizeof command));
}

static void delete_again(struct consumer_setup *setup)
{
    char operation[600];
    jsapi_consumer("DELETE", setup->spec->stream, setup->spec->durable, operation,
                   sizeof operation);
    cJSON_Delete(call_api(setup, operation, NULL, NULL, NULL));
    replace_json(&setup->info, NULL);
}

int consumer_setup_create(struct consumer_setup *setup, cJSON *config, int *api_code,
                          struct err *err)
{
    consumer_config_sign(config, setup->spec, knows_filter_lists(setup));
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
    if (compare_stated(setup, &why) != 0) {
        char since[64];
        delete_again(setup);
        return err_set(err, ERR_MISMATCH,
                       "the server dropped a setting that it does not know, so the consumer was "
                       "not created: %s%s",
                       why.message, jsfield_since(why.message, since, sizeof since));
    }
    return 0;
}

void consumer_setup_adopt(struct consumer_setup *setup)
{
    struct consumer *consumer = setup->consumer;
    snprintf(consumer->created, sizeof consumer->created, "%s",
             json_text_or(setup->stream, "created", ""));
    mutex_lock(&consumer->puller.lock);
    puller_renewed(&consumer->puller);
    mutex_unlock(&consumer->puller.lock);
    consumer_note_judged(consumer, setup->info, NULL);
}

static int ensure_on_server(struct consumer_setup *setup, bool may_update, struct err *err)
{
    int code = consumer_setup_read_stream(setup, err);
    if (code == 0)
        code = check_server(setup, err);
    for (int i = 0; code == 0 && i < TRIES; i++) {
        int api_code = 0;
        if (consumer_setup_read(setup, err) == 0)
            return check_existing(setup, may_update, err);
        if (err->code != ERR_NOT_FOUND)
            return err->code;
        if (setup->spec->bind)
            return err_set(err, ERR_NOT_FOUND,
                           "there is no such consumer, and bind = true forbids to create it");
        code = consumer_setup_create(setup, consumer_config_new(setup->spec), &api_code, err);
        if (code == 0)
            return 0;
        if (api_code == JSCODE_CONSUMER_EXISTS) /* someone else was faster: compare with theirs */
            code = 0;
    }
    return code != 0 ? code : (int)err->code;
}

static int ensure_spec(struct consumer *consumer, const struct consumer_spec *spec, bool may_update,
                       uint64_t deadline_ns, struct err *err)
{
    struct consumer_setup setup = {.consumer = consumer, .spec = spec, .deadline_ns = deadline_ns};
    struct err why = {0};
    int code = ensure_on_server(&setup, may_update, &why);
    if (code == 0)
        consumer_setup_adopt(&setup);
    else
        err_set(err, why.code, "%s: %s", consumer->puller.label, why.message);
    consumer_setup_clear(&setup);
    return code;
}

int consumer_ensure(struct consumer *consumer, bool may_update, uint64_t deadline_ns,
                    struct err *err)
{
    mutex_lock(&consumer->setup_lock);
    int code = ensure_spec(consumer, &consumer->spec, may_update, deadline_ns, err);
    mutex_unlock(&consumer->setup_lock);
    return code;
}

int consumer_change(struct consumer *consumer, const struct consumer_spec *spec,
                    uint64_t deadline_ns, struct err *err)
{
    struct consumer_spec copy;
    if (consumer_spec_copy(&copy, spec, err) != 0) {
        consumer_spec_clear(&copy);
        return err->code;
    }
    mutex_lock(&consumer->setup_lock);
    int code = ensure_spec(consumer, &copy, true, deadline_ns, err);
    if (code == 0) {
        /* The names stay: deliveries borrow them. */
        struct consumer_spec before = consumer->spec;
        consumer->spec = copy;
        consumer->spec.stream = before.stream;
        consumer->spec.durable = before.durable;
        before.stream = copy.stream;
        before.durable = copy.durable;
        copy = before;
        puller_resize(&consumer->puller, spec->concurrency);
        struct puller_group group = consumer_group(spec);
        puller_set_group(&consumer->puller, &group);
    }
    mutex_unlock(&consumer->setup_lock);
    consumer_spec_clear(&copy);
    return code;
}
