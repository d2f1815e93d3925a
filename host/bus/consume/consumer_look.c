/* What becomes of a durable on the server while it is pulled from: edited, deleted, made again. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/value.h"
#include "bus/consume/consumer_private.h"
#include "bus/jscode.h"

#define ACK_WAIT_DEFAULT_NS (30 * NS_PER_S)
#define LOOK_NS (5 * NS_PER_S)
#define PUT_BACK_AGAIN_NS (600 * NS_PER_S)
/* What was settled above the ack floor is the first that a consumer made again delivers. */
#define DOUBT_RECREATED_NS (60 * NS_PER_S)

/* --- its settings --- */

/* Leases that were to be renewed by the longer ack_wait are renewed now. */
static void take_ack_wait(struct consumer *consumer, const cJSON *config)
{
    must_hold(&consumer->puller.lock);
    int64_t stated_ns = json_integer(config, "ack_wait", 0);
    int64_t ack_wait_ns = stated_ns > 0 ? stated_ns : ACK_WAIT_DEFAULT_NS;
    bool shorter = ack_wait_ns < consumer->puller.ack_wait_ns;
    consumer->puller.ack_wait_ns = ack_wait_ns;
    if (shorter)
        leases_renew(&consumer->leases, clock_now_ns());
}

void consumer_note_judged(struct consumer *consumer, const cJSON *info, const struct err *broken)
{
    const char *text = broken ? broken->message : "", *say = NULL;
    mutex_lock(&consumer->puller.lock);
    bool news = strncmp(consumer->broken, text, sizeof consumer->broken - 1) != 0;
    puller_note_info(&consumer->puller, info, &say);
    puller_judged(&consumer->puller, info);
    take_ack_wait(consumer, json_field(info, "config"));
    snprintf(consumer->broken, sizeof consumer->broken, "%.*s", CONSUMER_BROKEN_MAX - 1, text);
    mutex_unlock(&consumer->puller.lock);

    if (say)
        puller_log(&consumer->puller, LOG_INFO, "%s", say);
    if (news && broken)
        puller_log(&consumer->puller, LOG_ERROR, "the durable was edited on the server: %s", text);
    else if (news)
        puller_log(&consumer->puller, LOG_INFO,
                   "the durable is on the server as it is stated here, again");
}

/* --- gone --- */

static void log_gone(struct consumer *consumer, enum told told, const char *why)
{
    if (consumer->told == told)
        return;
    consumer->told = told;
    puller_log(&consumer->puller, LOG_WARN, "%s", why);
}

static bool on_work_queue(const struct consumer_setup *setup)
{
    return strcmp(json_text_or(json_field(setup->stream, "config"), "retention", ""),
                  "workqueue") == 0;
}

/* from: where it goes on; last: what came to us before. */
static void log_recreated(struct consumer *consumer, bool same, uint64_t from, uint64_t last)
{
    if (!same)
        puller_log(&consumer->puller, LOG_WARN,
                   "the stream was made anew; the consumer was created again, and starts as for "
                   "the first time");
    else if (last >= from)
        puller_log(&consumer->puller, LOG_WARN,
                   "the consumer was deleted, and created again; processing goes on from "
                   "sequence %" PRIu64 "; what was processed up to %" PRIu64 " may run again",
                   from, last);
    else
        puller_log(&consumer->puller, LOG_WARN,
                   "the consumer was deleted, and created again; processing goes on from "
                   "sequence %" PRIu64,
                   from);
}

/* Creates it again: from where it was, or, when the stream is another one, as if for the first
 * time. */
static bool recreate(struct consumer_setup *setup)
{
    struct consumer *consumer = setup->consumer;
    const struct consumer_spec *spec = setup->spec;
    bool same = strcmp(consumer->created, json_text_or(setup->stream, "created", "")) == 0;
    cJSON *config = consumer_config_new(spec);
    struct err err = {0};
    int api_code = 0;
    mutex_lock(&consumer->puller.lock);
    uint64_t from = consumer->puller.ack_floor + 1, last = consumer->puller.last_sequence;
    mutex_unlock(&consumer->puller.lock);

    if (on_work_queue(setup)) /* it keeps only what was not acked, and takes nothing else */
        consumer_config_deliver(config, DELIVER_ALL, 0, NULL);
    else if (same)
        consumer_config_deliver(config, DELIVER_SEQUENCE, from, NULL);
    if (consumer_setup_create(setup, config, &api_code, &err) != 0) {
        if (api_code == JSCODE_CONSUMER_EXISTS)
            return false; /* someone else was faster: found at the next look */
        char why[sizeof err.message + 64];
        snprintf(why, sizeof why, "was deleted, and cannot be created again: %s", err.message);
        log_gone(consumer, TOLD_CONSUMER_GONE, why);
        return false;
    }
    mutex_lock(&consumer->puller.lock);
    if (same)
        puller_doubt(&consumer->puller, 0, clock_now_ns() + (uint64_t)DOUBT_RECREATED_NS);
    else
        consumer->puller.last_sequence = 0;
    mutex_unlock(&consumer->puller.lock);
    consumer_setup_adopt(setup);
    consumer->told = TOLD_NOTHING;
    log_recreated(consumer, same, from, last);
    return true;
}

/* May what was edited be put back? Not twice in a while: then somebody else means it, as another
 * version of the script, and the two would take turns for ever. */
static bool may_put_back(const struct consumer_setup *setup, uint64_t now_ns)
{
    uint64_t before_ns = setup->consumer->put_back_ns;
    bool lately = before_ns != 0 && now_ns < before_ns + (uint64_t)PUT_BACK_AGAIN_NS;
    return setup->spec->update && !setup->spec->bind && !lately &&
           consumer_config_check_kind(consumer_setup_config(setup), NULL) == 0;
}

static int put_back(struct consumer_setup *setup, struct err *broken)
{
    struct err difference = *broken;
    puller_log(&setup->consumer->puller, LOG_WARN,
               "the durable was edited on the server: %s; put back, as update = true allows",
               broken->message);
    setup->consumer->put_back_ns = clock_now_ns();
    return consumer_setup_update(setup, &difference, broken);
}

/* Some differences say themselves what to do. */
static void add_remedy(const struct consumer_setup *setup, struct err *broken)
{
    struct err why = *broken;
    char command[600];
    if (strstr(why.message, "update = true") != NULL || strstr(why.message, "delete it") != NULL)
        return;
    consumer_config_remedy(setup->spec, why.message, command, sizeof command);
    err_set(broken, why.code, "%s (state what the server has, or run: %s)", why.message, command);
}

/* Its settings are not those that were judged last: somebody has edited it, or has deleted it and
 * made another one of its name. */
static enum looked judge_settings(struct consumer_setup *setup)
{
    struct consumer *consumer = setup->consumer;
    struct err broken = {0};
    int code = consumer_setup_compare(setup, &broken);
    if (code == ERR_MEMORY)
        return LOOKED_IN_VAIN;
    if (code != 0 && may_put_back(setup, clock_now_ns()))
        code = put_back(setup, &broken);
    if (code != 0)
        add_remedy(setup, &broken);
    consumer_note_judged(consumer, setup->info, code != 0 ? &broken : NULL);
    return LOOKED_THERE;
}

static enum looked look_on_server(struct consumer_setup *setup)
{
    struct consumer *consumer = setup->consumer;
    struct err err = {0};
    if (consumer_setup_read(setup, &err) == 0) {
        if (consumer->told != TOLD_NOTHING)
            puller_log(&consumer->puller, LOG_INFO, "the consumer is there again");
        consumer->told = TOLD_NOTHING;
        const char *say = NULL;
        mutex_lock(&consumer->puller.lock);
        bool edited = puller_note_info(&consumer->puller, setup->info, &say);
        mutex_unlock(&consumer->puller.lock);
        if (say)
            puller_log(&consumer->puller, LOG_INFO, "%s", say);
        return edited ? judge_settings(setup) : LOOKED_THERE;
    }
    /* Not allowed to know: pulling shows. */
    if (err.code == ERR_PERMISSION)
        return LOOKED_THERE;
    if (err.code != ERR_NOT_FOUND)
        return LOOKED_IN_VAIN;
    if (consumer_setup_read_stream(setup, &err) != 0) {
        if (err.code == ERR_NOT_FOUND)
            log_gone(consumer, TOLD_STREAM_GONE,
                     "the stream is gone; it will be looked for until it is back");
        return LOOKED_GONE;
    }
    if (setup->spec->bind) {
        log_gone(consumer, TOLD_CONSUMER_GONE,
                 "the consumer was deleted, and bind = true forbids to create it again; it will "
                 "be looked for until it is back");
        return LOOKED_GONE;
    }
    return recreate(setup) ? LOOKED_THERE : LOOKED_GONE;
}

enum looked consumer_look(struct puller *puller)
{
    struct consumer *consumer = consumer_of(puller);
    enum looked found = LOOKED_IN_VAIN;
    mutex_lock(&consumer->setup_lock);
    mutex_lock(&puller->lock);
    bool stopping = puller->stopping;
    mutex_unlock(&puller->lock);
    if (!stopping) {
        struct consumer_setup setup = {.consumer = consumer,
                                       .spec = &consumer->spec,
                                       .deadline_ns = clock_now_ns() + (uint64_t)LOOK_NS};
        found = look_on_server(&setup);
        consumer_setup_clear(&setup);
    }
    mutex_unlock(&consumer->setup_lock);
    return found;
}
