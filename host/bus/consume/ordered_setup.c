/* The consumers of an ordered one, on the server: made, and made again. Pool threads. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/value.h"
#include "bus/consume/ordered_private.h"
#include "bus/request/jsapi.h"

#define LOOK_NS (5 * NS_PER_S)
#define LISTS_NEED                                                                                 \
    "a list of filters needs nats-server 2.10 or newer; with this server use one filter, with "    \
    "wildcards"
/* JetStream's code: last_per_subject without a filter, before 2.10. */
#define NO_FILTER 10094
/* How long the server keeps a consumer that nobody pulls from: a reader that is slow for longer has
 * another one made. */
#define INACTIVE_NS (120 * NS_PER_S)

/* --- its settings --- */

/* Where the next consumer begins. */
struct beginning {
    enum deliver_from deliver;
    uint64_t sequence;
};

/* With the lock held. newest: the last sequence of the stream. */
static struct beginning begin_at(struct ordered *ordered, uint64_t newest)
{
    must_hold(&ordered->puller.lock);
    struct beginning begin = {.deliver = ordered->deliver, .sequence = ordered->sequence};
    bool seen = ordered->caught_up || ordered->deliver != DELIVER_LAST_PER_SUBJECT;
    if (!ordered->begun && begin.deliver == DELIVER_NEW)
        begin = (struct beginning){.deliver = DELIVER_SEQUENCE, .sequence = newest + 1};
    else if (ordered->begun && seen)
        begin = (struct beginning){.deliver = DELIVER_SEQUENCE, .sequence = ordered->last + 1};
    return begin;
}

static void add_filters(const struct ordered *ordered, cJSON *config)
{
    bool needs_one = ordered->deliver == DELIVER_LAST_PER_SUBJECT; /* before nats-server 2.10 */
    if (ordered->filter_count == 0 && needs_one)
        cJSON_AddStringToObject(config, "filter_subject", ordered->subjects);
    else if (ordered->filter_count == 1)
        cJSON_AddStringToObject(config, "filter_subject", ordered->filters[0]);
    else if (ordered->filter_count > 1)
        cJSON_AddItemToObject(
            config, "filter_subjects",
            cJSON_CreateStringArray((const char *const *)ordered->filters, ordered->filter_count));
}

static void add_beginning(const struct ordered *ordered, const struct beginning *begin,
                          cJSON *config)
{
    const char *policy = begin->deliver == DELIVER_SEQUENCE           ? "by_start_sequence"
                         : begin->deliver == DELIVER_TIME             ? "by_start_time"
                         : begin->deliver == DELIVER_LAST_PER_SUBJECT ? "last_per_subject"
                                                                      : "all";
    cJSON_AddStringToObject(config, "deliver_policy", policy);
    if (begin->deliver == DELIVER_SEQUENCE)
        cJSON_AddNumberToObject(config, "opt_start_seq", (double)begin->sequence);
    else if (begin->deliver == DELIVER_TIME)
        cJSON_AddStringToObject(config, "opt_start_time", ordered->time);
}

/* Owned by the caller; what did not fit in memory is missed in the answer. */
static cJSON *make_request(const struct ordered *ordered, const struct beginning *begin,
                           const char *name)
{
    cJSON *request = cJSON_CreateObject();
    cJSON_AddStringToObject(request, "stream_name", ordered->stream);
    cJSON *config = cJSON_AddObjectToObject(request, "config");
    cJSON_AddStringToObject(config, "name", name);
    cJSON_AddStringToObject(config, "ack_policy", "none");
    cJSON_AddStringToObject(config, "replay_policy", "instant");
    add_beginning(ordered, begin, config);
    add_filters(ordered, config);
    if (ordered->headers_only)
        cJSON_AddTrueToObject(config, "headers_only");
    cJSON_AddTrueToObject(config, "mem_storage");
    cJSON_AddNumberToObject(config, "num_replicas", 1);
    cJSON_AddNumberToObject(config, "inactive_threshold", (double)INACTIVE_NS);
    return request;
}

/* Servers drop what they do not know; and what memory was refused for was not asked for. */
static int check_answer(const struct ordered *ordered, const cJSON *asked, const cJSON *answer,
                        struct err *err)
{
    /* Before 2.10 the name is not echoed; a time comes back written otherwise. */
    static const char *const skip[] = {"name", "opt_start_time", NULL};
    const cJSON *config = json_field(answer, "config");
    struct err why;
    int filters = cJSON_GetArraySize(json_field(config, "filter_subjects"));
    if (ordered->filter_count > 1 && filters < ordered->filter_count)
        return err_set(err, ERR_UNSUPPORTED, LISTS_NEED);
    if (strcmp(json_text_or(config, "ack_policy", ""), "none") != 0 ||
        jsapi_compare(asked, config, skip, &why) != 0)
        return err_set(err, ERR_UNAVAILABLE, "the server made another consumer than was asked for");
    return 0;
}

/* --- making it --- */

static void ignore(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    (void)reply;
    (void)api_code;
    (void)err;
    ordered_free(owner);
}

void ordered_delete(struct ordered *ordered, const char *on_server)
{
    const struct intake *intake = ordered->puller.intake;
    char operation[600];
    jsapi_consumer("DELETE", ordered->stream, on_server, operation, sizeof operation);
    if (link_state(intake->link) != LINK_CONNECTED)
        return; /* the server removes it by itself, as nobody pulls */
    ordered_retain(ordered);
    if (jsapi_call(intake->jsapi, operation, NULL, ignore, ordered, NULL) == 0)
        ordered_free(ordered);
}

/* With the lock held: the consumer that was made is pulled from. Returns a warning. */
static const char *adopt(struct ordered *ordered, const char *name, const struct beginning *begin,
                         const cJSON *answer, uint64_t newest, bool *moved)
{
    must_hold(&ordered->puller.lock);
    const char *warn = puller_move(&ordered->puller, name, moved);
    if (!*moved)
        return warn;
    ordered->made++;
    ordered->numbers = 0;
    ordered->suspect = 0;
    ordered->broken = false;
    ordered->left = json_unsigned(answer, "num_pending", 0);
    ordered->behind = ordered->left;
    if (begin->deliver == DELIVER_SEQUENCE && !ordered->begun)
        ordered->last = begin->sequence - 1;
    /* Nothing of it is there: what it has to say comes after the newest message of before. */
    if (ordered->left == 0) {
        ordered->caught_up = true;
        if (ordered->last < newest && begin->deliver != DELIVER_SEQUENCE)
            ordered->last = newest;
    }
    ordered->begun |= begin->deliver != DELIVER_TIME || ordered->left == 0;
    ordered->puller.eager = !ordered->caught_up;
    ordered->epoch = ordered->puller.pull.epoch;
    puller_judged(&ordered->puller, answer);
    return warn;
}

/* ERR_NOT_FOUND: the stream is gone. */
static int make_consumer(struct ordered *ordered, uint64_t newest, uint64_t deadline_ns,
                         struct err *err)
{
    struct puller *puller = &ordered->puller;
    char name[ORDERED_NAME_MAX], before[ORDERED_NAME_MAX], operation[600];
    mutex_lock(&puller->lock);
    struct beginning begin = begin_at(ordered, newest);
    snprintf(name, sizeof name, "%s_%" PRIu64, ordered->base, ordered->made + 1);
    snprintf(before, sizeof before, "%s", ordered->made > 0 ? puller->on_server : "");
    mutex_unlock(&puller->lock);

    cJSON *request = make_request(ordered, &begin, name);
    jsapi_consumer("CREATE", ordered->stream, name, operation, sizeof operation);
    int api_code = 0;
    cJSON *answer =
        jsapi_wait(puller->intake->jsapi, operation, request, deadline_ns, &api_code, err);
    /* Where lists are not known it is as if none was stated, and last_per_subject wants one. */
    if (!answer && ordered->filter_count > 1 && api_code == NO_FILTER)
        err_set(err, ERR_UNSUPPORTED, LISTS_NEED);
    int code =
        answer ? check_answer(ordered, json_field(request, "config"), answer, err) : (int)err->code;
    if (code == 0) {
        bool moved;
        mutex_lock(&puller->lock);
        const char *warn = adopt(ordered, name, &begin, answer, newest, &moved);
        puller_unlock(puller, warn);
        if (!moved)
            code = err_set(err, ERR_MEMORY, "out of memory");
        else if (*before)
            ordered_delete(ordered, before);
    }
    if (answer && code != 0)
        ordered_delete(ordered, name);
    cJSON_Delete(request);
    cJSON_Delete(answer);
    return code;
}

/* --- the stream --- */

/* The stream is another one than before, or has lost its end. taken: the last message that was
 * taken before the server was asked; more may have come since. */
static void note_stream(struct ordered *ordered, const cJSON *info, uint64_t newest, uint64_t taken)
{
    struct puller *puller = &ordered->puller;
    const char *created = json_text_or(info, "created", "");
    bool anew = *ordered->created && strcmp(ordered->created, created) != 0;
    mutex_lock(&puller->lock);
    bool shorter = !anew && taken > newest;
    if (anew || (shorter && ordered->calls->rereads)) {
        ordered->last = 0;
        ordered->begun = ordered->deliver == DELIVER_NEW; /* all that is in it is new */
        ordered->caught_up = false;
        ordered->broken = true;
        if (ordered->calls->on_anew)
            ordered->calls->on_anew(ordered->owner);
    } else if (shorter) {
        ordered->last = newest;
        ordered->broken = true;
    }
    if (ordered->calls->on_stream)
        ordered->calls->on_stream(ordered->owner, info);
    mutex_unlock(&puller->lock);
    if (anew)
        puller_log(puller, LOG_WARN, "the stream was made anew; it is read from its beginning");
    if (shorter)
        puller_log(puller, LOG_WARN,
                   "the stream has lost its last messages; it is read on from sequence %" PRIu64,
                   newest + 1);
    snprintf(ordered->created, sizeof ordered->created, "%s", created);
}

static void note_subjects(struct ordered *ordered, const cJSON *info)
{
    const cJSON *list = json_field(json_field(info, "config"), "subjects");
    const char *only = cJSON_GetArraySize(list) == 1 ? cJSON_GetStringValue(list->child) : NULL;
    bool fits = only && strlen(only) < sizeof ordered->subjects;
    snprintf(ordered->subjects, sizeof ordered->subjects, "%s", fits ? only : ">");
}

static bool is_work_queue(const cJSON *info)
{
    return strcmp(json_text_or(json_field(info, "config"), "retention", ""), "workqueue") == 0;
}

/* *newest: its last sequence. */
static int read_stream(struct ordered *ordered, uint64_t *newest, uint64_t deadline_ns,
                       struct err *err)
{
    cJSON *info = NULL;
    mutex_lock(&ordered->puller.lock);
    uint64_t taken = ordered->begun ? ordered->last : 0;
    mutex_unlock(&ordered->puller.lock);
    int code =
        jsapi_stream_info(ordered->puller.intake->jsapi, ordered->stream, &info, deadline_ns, err);
    if (code == 0 && is_work_queue(info))
        code = err_set(err, ERR_UNSUPPORTED,
                       "stream %s is a work queue: it lets no consumer read beside those that work "
                       "on it",
                       ordered->stream);
    if (code == 0) {
        *newest = json_unsigned(json_field(info, "state"), "last_seq", 0);
        note_stream(ordered, info, *newest, taken);
        note_subjects(ordered, info);
    }
    cJSON_Delete(info);
    return code;
}

int ordered_ensure(struct ordered *ordered, uint64_t deadline_ns, struct err *err)
{
    uint64_t newest = 0;
    int code = read_stream(ordered, &newest, deadline_ns, err);
    if (code == 0) {
        atomic_store(&ordered->target, newest);
        code = make_consumer(ordered, newest, deadline_ns, err);
    }
    return code;
}

/* --- looking for it --- */

/* Is the consumer there, and has all that it sent come? */
static bool is_whole(struct ordered *ordered, uint64_t deadline_ns)
{
    struct puller *puller = &ordered->puller;
    char operation[600];
    puller_operation(puller, "INFO", operation, sizeof operation);
    cJSON *info = jsapi_wait(puller->intake->jsapi, operation, NULL, deadline_ns, NULL, NULL);
    bool whole = info && puller_info_tells(info);
    uint64_t sent = json_unsigned(json_field(info, "delivered"), "consumer_seq", 0);
    mutex_lock(&puller->lock);
    bool all_came = sent <= ordered->numbers;
    /* Without a connect since it was made, the rest may be on its way: note_info waits for that. */
    whole = whole && !ordered->broken && (all_came || puller->pull.epoch == ordered->epoch);
    if (whole) {
        puller_judged(puller, info);
        if (all_came && json_unsigned(info, "num_pending", 1) == 0)
            ordered->caught_up = true;
        puller->eager = !ordered->caught_up;
    }
    mutex_unlock(&puller->lock);
    cJSON_Delete(info);
    return whole;
}

static void log_failure(struct ordered *ordered, const struct err *err)
{
    if (strncmp(ordered->failure, err->message, sizeof ordered->failure - 1) == 0)
        return;
    snprintf(ordered->failure, sizeof ordered->failure, "%.*s", (int)sizeof ordered->failure - 1,
             err->message);
    puller_log(&ordered->puller, LOG_WARN, "cannot be read at the moment: %s", err->message);
}

static enum looked look_on_server(struct ordered *ordered)
{
    uint64_t deadline_ns = clock_now_ns() + (uint64_t)LOOK_NS, newest = 0;
    struct err err = {0};
    int code = read_stream(ordered, &newest, deadline_ns, &err);
    if (code == 0 && !is_whole(ordered, deadline_ns))
        code = make_consumer(ordered, newest, deadline_ns, &err);
    if (code == 0) {
        if (*ordered->failure)
            puller_log(&ordered->puller, LOG_INFO, "it is read again");
        *ordered->failure = '\0';
        ordered_tell(ordered);
        return LOOKED_THERE;
    }
    if (code != ERR_NOT_FOUND && err_passes(code))
        return LOOKED_IN_VAIN;
    if (ordered->calls->on_lost)
        ordered->calls->on_lost(ordered->owner, &err);
    else
        log_failure(ordered, &err);
    return LOOKED_GONE;
}

enum looked ordered_look(struct puller *puller)
{
    mutex_lock(&puller->lock);
    bool stopping = puller->stopping;
    mutex_unlock(&puller->lock);
    return stopping ? LOOKED_IN_VAIN : look_on_server(ordered_of(puller));
}
