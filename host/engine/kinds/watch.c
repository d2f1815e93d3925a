/* watch - b:watch of a bucket: each message of a stream that its filter takes, in order, for this
 * process, by an ordered consumer. One that serves at a time, so that its handler sees the order.
 *
 *   ordered ── on_delivery ─▶ source (fifo) ─▶ a run: the entry
 *           └─ on_caught_up ─▶ the marker, a message without a stream ─▶ a run: nil, once
 *
 * A failed run is logged, and the next message follows: nothing of it comes again. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "bus/bus.h"
#include "bus/consume/delivery.h"
#include "bus/consume/ordered.h"
#include "engine/kinds/kinds.h"
#include "engine/kinds/spec.h"
#include "engine/serve/setup.h"
#include "engine/source/source.h"
#include "engine/version/script.h"

/* Messages that are asked for while the handler is slow; a fast one has more prefetched. */
#define CREDIT 64
#define HELD_BYTES (8 << 20)

struct stream_watch {
    struct ordered *ordered; /* owned */
    struct source *source;   /* not owned; has this */
    struct delivery *marker; /* a reference, until it is handed on: made beforehand, since it must
                              * not be lost for want of memory */
    void (*on_drained)(void *source);
};

/* --- what the ordered consumer brings: its delivery thread --- */

static const struct sink *sink_of(const struct stream_watch *watch)
{
    return &watch->source->scripts->bus->intake.sink;
}

static enum puller_taken take_message(void *owner, struct packet *packet,
                                      const struct ack_subject *ack, void **taken)
{
    struct stream_watch *watch = owner;
    *taken = delivery_new_ordered(watch->ordered, packet, ack);
    return *taken ? PULLER_HELD : PULLER_UNSEEN;
}

static void hand_on_message(void *owner, void *taken)
{
    struct stream_watch *watch = owner;
    sink_of(watch)->on_delivery(sink_of(watch)->owner, watch->source, taken);
}

static void on_caught_up(void *owner)
{
    struct stream_watch *watch = owner;
    struct delivery *marker = watch->marker;
    watch->marker = NULL;
    if (marker)
        hand_on_message(watch, marker);
}

static const struct ordered_calls calls = {
    .take = take_message,
    .hand_on = hand_on_message,
    .on_caught_up = on_caught_up,
};

/* --- the kind --- */

static enum deliver_from read_deliver(lua_State *L, int spec)
{
    spec_push(L, spec, "deliver");
    const char *deliver = lua_tostring(L, -1);
    enum deliver_from from = strcmp(deliver, "new") == 0   ? DELIVER_NEW
                             : strcmp(deliver, "all") == 0 ? DELIVER_ALL
                                                           : DELIVER_LAST_PER_SUBJECT;
    lua_pop(L, 1);
    return from;
}

static const char *read_watch(lua_State *L, int spec, struct registration *registration)
{
    struct consumer_spec *consumer = &registration->consumer;
    consumer->stream = spec_text(L, spec, "stream");
    spec_filters(L, spec, consumer);
    consumer->deliver = read_deliver(L, spec);
    registration->looks_on = true;
    registration->headers_only = spec_flag(L, spec, "headers_only");
    registration->each_version = spec_flag(L, spec, "each_version");
    registration->timeout_ns = spec_duration_ns(L, spec, "timeout");
    registration->timeout_stated = spec_flag(L, spec, "timeout_stated");
    registration->concurrency = 1;
    lua_pop(L, 1);
    spec_push(L, spec, "shown");
    spec_name(L, registration, "each change", "%s %s", consumer->stream, lua_tostring(L, -1));
    lua_pop(L, 1);
    return NULL;
}

static bool same_filters(const struct consumer_spec *a, const struct consumer_spec *b)
{
    for (int i = 0; i < a->filter_count && i < b->filter_count; i++) {
        if (strcmp(a->filters[i], b->filters[i]) != 0)
            return false;
    }
    return a->filter_count == b->filter_count;
}

static bool continues(const struct registration *now, const struct registration *then)
{
    return !now->each_version && now->headers_only == then->headers_only &&
           now->consumer.deliver == then->consumer.deliver &&
           registration_same_text(now->consumer.stream, then->consumer.stream) &&
           same_filters(&now->consumer, &then->consumer);
}

static int ensure_ordered(void *argument, uint64_t deadline_ns, struct err *err)
{
    struct stream_watch *watch = argument;
    return ordered_ensure(watch->ordered, deadline_ns, err);
}

/* All that could be missing later is made here. */
static struct stream_watch *new_watch(struct source *source, struct err *err)
{
    const struct registration *registration = source->registration;
    const struct intake *intake = &source->scripts->bus->intake;
    struct stream_watch *watch = calloc(1, sizeof *watch);
    struct packet nothing = {.subject = "", .data = ""};
    struct ordered_spec spec = {.stream = registration->consumer.stream,
                                .what = "watch",
                                .filters = registration->consumer.filters,
                                .filter_count = registration->consumer.filter_count,
                                .deliver = registration->consumer.deliver,
                                .headers_only = registration->headers_only,
                                .credit = CREDIT,
                                .bytes = HELD_BYTES};
    if (!watch) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    source->watch = watch;
    watch->source = source;
    watch->ordered = ordered_new(intake, &spec, &calls, watch, err);
    if (watch->ordered && !(watch->marker = delivery_new_core(&nothing, clock_now_ns())))
        err_set(err, ERR_MEMORY, "out of memory");
    return watch->marker ? watch : NULL;
}

static int prepare_watch(struct source *source, bool may_update, uint64_t until_ns, struct err *err)
{
    (void)may_update;
    struct stream_watch *watch = new_watch(source, err);
    if (!watch)
        return (int)err->code;
    return setup_patiently(source->scripts, until_ns, ensure_ordered, watch, err);
}

static int start_watch(struct source *source, struct err *err)
{
    return ordered_start(source->watch->ordered, err);
}

static void on_stopped(void *owner)
{
    struct stream_watch *watch = owner;
    watch->on_drained(watch->source);
}

/* What is queued is not handled any more: nobody owes it to anybody. */
static void stop_watch(struct source *source, void (*on_drained)(void *source))
{
    struct dispatch *dispatch = source->scripts->dispatch;
    struct delivery *all = source_empty(source);
    dispatch_lock(dispatch);
    DL_CONCAT(source->parting, all);
    dispatch_unlock(dispatch);
    source->watch->on_drained = on_drained;
    ordered_stop(source->watch->ordered, on_stopped);
}

static void free_watch(struct source *source)
{
    struct stream_watch *watch = source->watch;
    if (!watch)
        return;
    if (watch->marker)
        delivery_release(watch->marker);
    ordered_free(watch->ordered);
    free(watch);
}

static bool reading(const struct source *source, struct ordered_stat *stat)
{
    if (source->watch)
        ordered_stat(source->watch->ordered, stat);
    return source->watch;
}

const struct kind kind_watch = {
    .name = "watch",
    .binding = "watch",
    .brings = SOURCE_BRINGS_DELIVERIES,
    .read = read_watch,
    .continues = continues,
    .prepare = prepare_watch,
    .start = start_watch,
    .stop = stop_watch,
    .reading = reading,
    .clear = free_watch,
};
