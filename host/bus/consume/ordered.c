/* The messages of an ordered consumer, and its life. */
#include "bus/consume/ordered.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "bus/ack_subject.h"
#include "bus/consume/ordered_private.h"
#include "bus/packet.h"
#include "bus/request/inbox.h"

/* --- messages --- */

/* What the calls up of the delivery thread are about; never read. */
static char passed_over;

/* A message was left out: what comes after it waits until it has come from another consumer. */
static void break_off(struct ordered *ordered)
{
    must_hold(&ordered->puller.lock);
    ordered->broken = true;
    puller_look(&ordered->puller);
}

/* It is of the consumer that is pulled from now, and nothing before it is missing. */
static bool is_next(struct ordered *ordered, const struct ack_subject *ack)
{
    must_hold(&ordered->puller.lock);
    if (ordered->broken || !span_equals(ack->consumer, ordered->puller.on_server))
        return false;
    if (ack->consumer_sequence == ordered->numbers + 1)
        return true;
    /* Fewer than before are of a server that begins to count again: as good as left out. */
    break_off(ordered);
    return false;
}

static void count_taken(struct ordered *ordered, const struct ack_subject *ack)
{
    must_hold(&ordered->puller.lock);
    ordered->numbers = ack->consumer_sequence;
    ordered->behind = ack->pending;
    ordered->begun = true;
    if (ordered->left > 0)
        ordered->left--;
    if (ack->pending == 0 || ordered->left == 0)
        ordered->caught_up = true;
    ordered->puller.eager = !ordered->caught_up;
    if (ack->stream_sequence > ordered->last)
        ordered->last = ack->stream_sequence;
}

static enum puller_taken take_message(struct puller *puller, struct packet *packet,
                                      const struct ack_subject *ack, uint64_t now_ns, void **taken)
{
    struct ordered *ordered = ordered_of(puller);
    enum puller_taken how = PULLER_DONE;
    (void)now_ns;
    if (!is_next(ordered, ack))
        return PULLER_DONE;
    if (ack->stream_sequence > ordered->last)
        how = ordered->calls->take(ordered->owner, packet, ack, taken);
    if (how == PULLER_UNSEEN) {
        break_off(ordered);
        return how;
    }
    bool before = ordered->caught_up;
    count_taken(ordered, ack);
    if (!*taken && ordered->caught_up && !before)
        *taken = &passed_over;
    ordered->in_hand += *taken != NULL;
    return how;
}

void ordered_tell(struct ordered *ordered)
{
    mutex_lock(&ordered->puller.lock);
    /* What is on its way to the reader still is handed on first, and then tells it. */
    bool tell = ordered->caught_up && !ordered->told_caught_up && ordered->in_hand == 0;
    ordered->told_caught_up |= tell;
    mutex_unlock(&ordered->puller.lock);
    if (tell && ordered->calls->on_caught_up)
        ordered->calls->on_caught_up(ordered->owner);
}

static void hand_on_message(struct puller *puller, void *taken, bool alone)
{
    (void)alone;
    struct ordered *ordered = ordered_of(puller);
    if (taken != &passed_over && ordered->calls->hand_on)
        ordered->calls->hand_on(ordered->owner, taken);
    mutex_lock(&puller->lock);
    ordered->in_hand--;
    mutex_unlock(&puller->lock);
    ordered_tell(ordered);
}

/* What the server had sent when it was asked before has come by now, or never will. */
static void note_info(struct puller *puller, const cJSON *info)
{
    struct ordered *ordered = ordered_of(puller);
    must_hold(&puller->lock);
    if (strcmp(json_text_or(info, "name", ""), puller->on_server) != 0)
        return;
    uint64_t sent = json_unsigned(json_field(info, "delivered"), "consumer_seq", 0);
    if (ordered->suspect > ordered->numbers && !ordered->broken)
        break_off(ordered);
    ordered->suspect = sent > ordered->numbers ? sent : 0;
    /* Which asks what the stream is, too; or notices that what was to come is not there any more.
     */
    bool emptied = !ordered->caught_up && json_unsigned(info, "num_pending", 1) == 0;
    if (ordered->calls->on_stream || emptied)
        puller_look(puller);
}

/* --- life --- */

static void free_ordered(struct puller *puller)
{
    struct ordered *ordered = ordered_of(puller);
    puller_clear(puller);
    for (int i = 0; ordered->filters && i < ordered->filter_count; i++)
        free(ordered->filters[i]);
    free(ordered->filters);
    free(ordered->stream);
    free(ordered->what);
    free(ordered->time);
    free(ordered);
}

static const struct puller_calls calls = {
    .take = take_message,
    .hand_on = hand_on_message,
    .look = ordered_look,
    .on_info = note_info,
    .free_owner = free_ordered,
};

/* False: out of memory. */
static bool copy_spec(struct ordered *ordered, const struct ordered_spec *spec)
{
    ordered->deliver = spec->deliver;
    ordered->sequence = spec->sequence;
    ordered->headers_only = spec->headers_only;
    ordered->stream = strdup(spec->stream);
    ordered->what = strdup(spec->what);
    ordered->time = spec->time ? strdup(spec->time) : NULL;
    ordered->filters = calloc((size_t)spec->filter_count + 1, sizeof *ordered->filters);
    if (!ordered->stream || !ordered->what || (spec->time && !ordered->time) || !ordered->filters)
        return false;
    for (int i = 0; i < spec->filter_count; i++) {
        ordered->filters[i] = strdup(spec->filters[i]);
        if (!ordered->filters[i])
            return false;
        ordered->filter_count = i + 1;
    }
    return true;
}

static void choose_name(struct ordered *ordered)
{
    char random[17];
    inbox_random(random, sizeof random - 1);
    random[sizeof random - 1] = '\0';
    snprintf(ordered->base, sizeof ordered->base, "mb_%s", random);
}

struct ordered *ordered_new(const struct intake *intake, const struct ordered_spec *spec,
                            const struct ordered_calls *calls_up, void *owner, struct err *err)
{
    struct ordered *ordered = calloc(1, sizeof *ordered);
    if (!ordered) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    ordered->calls = calls_up;
    ordered->owner = owner;
    bool copied = copy_spec(ordered, spec);
    choose_name(ordered);
    struct puller_options options = {
        .intake = intake,
        .calls = &calls,
        .stream = copied ? ordered->stream : "",
        .name = copied ? ordered->what : "",
        .on_server = ordered->base,
        .concurrency = spec->credit,
        .bytes = spec->bytes,
    };
    if (puller_init(&ordered->puller, &options) && copied)
        return ordered;
    err_set(err, ERR_MEMORY, "out of memory");
    ordered_free(ordered);
    return NULL;
}

int ordered_start(struct ordered *ordered, struct err *err)
{
    int code = puller_start(&ordered->puller, err);
    if (code == 0)
        ordered_tell(ordered);
    return code;
}

static void on_stopped(void *closure)
{
    struct ordered *ordered = closure;
    char name[ORDERED_NAME_MAX];
    mutex_lock(&ordered->puller.lock);
    snprintf(name, sizeof name, "%s", ordered->made > 0 ? ordered->puller.on_server : "");
    mutex_unlock(&ordered->puller.lock);
    if (*name)
        ordered_delete(ordered, name);
    void (*stopped)(void *) = ordered->on_stopped;
    if (stopped)
        stopped(ordered->owner);
}

void ordered_stop(struct ordered *ordered, void (*stopped)(void *owner))
{
    ordered->on_stopped = stopped;
    puller_stop(&ordered->puller, on_stopped, ordered);
}

void ordered_free(struct ordered *ordered)
{
    if (ordered)
        puller_release(&ordered->puller);
}

struct ordered *ordered_retain(struct ordered *ordered)
{
    puller_retain(&ordered->puller);
    return ordered;
}

void ordered_released(struct ordered *ordered, size_t len)
{
    puller_released(&ordered->puller, len, false, clock_now_ns());
    puller_release(&ordered->puller);
}

void ordered_stat(struct ordered *ordered, struct ordered_stat *stat)
{
    const struct puller *puller = &ordered->puller;
    mutex_lock(&ordered->puller.lock);
    *stat =
        (struct ordered_stat){.gone = puller->pull.state == PULL_LOOKING || puller->pull.missing,
                              .missing = puller->pull.missing,
                              .silent = puller->pull.silences > 0,
                              .broken = ordered->broken,
                              .caught_up = ordered->caught_up,
                              .last = ordered->last,
                              .behind = ordered->behind,
                              .made = ordered->made,
                              .heard_ns = puller->pull.heard_ns};
    mutex_unlock(&ordered->puller.lock);
}

const char *ordered_stream(const struct ordered *ordered)
{
    return ordered->stream;
}

uint64_t ordered_target(const struct ordered *ordered)
{
    return atomic_load(&ordered->target);
}
