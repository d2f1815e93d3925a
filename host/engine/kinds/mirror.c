/* mirror - the cache of a bucket: an ordered consumer of the script feeds its mirror of the
 * bucket's stream (engine/source/mirror.h). It has no work for a handler. */
#include <stdlib.h>

#include "base/json.h"
#include "bus/bus.h"
#include "bus/consume/ordered.h"
#include "engine/kinds/kinds.h"
#include "engine/kinds/spec.h"
#include "engine/serve/setup.h"
#include "engine/source/mirror.h"
#include "engine/source/source.h"
#include "engine/version/script.h"

/* All that comes is copied at once, so that credit is only how much is asked for at a time. */
#define CREDIT 256
#define REQUEST_BYTES (4 << 20)

struct mirror_feed {
    struct ordered *ordered; /* owned */
    struct mirror *mirror;   /* a reference */
    struct source *source;   /* not owned; has this */
    unsigned number;         /* of mirror_begin; 0: it has not begun */
    int64_t lives_ns;        /* what the server said of the stream, until it begins */
    uint64_t first;
    void (*on_drained)(void *source);
};

/* --- what the ordered consumer brings --- */

static enum puller_taken take_message(void *owner, struct packet *packet,
                                      const struct ack_subject *ack, void **taken)
{
    struct mirror_feed *feed = owner;
    (void)taken;
    mirror_take(feed->mirror, feed->number, packet, ack);
    return PULLER_DONE;
}

static void on_anew(void *owner)
{
    struct mirror_feed *feed = owner;
    mirror_clear(feed->mirror, feed->number);
}

static void on_stream(void *owner, const struct cJSON *info)
{
    struct mirror_feed *feed = owner;
    feed->lives_ns = json_integer(json_field(info, "config"), "max_age", 0);
    feed->first = json_unsigned(json_field(info, "state"), "first_seq", 0);
    if (feed->number)
        mirror_note_stream(feed->mirror, feed->number, feed->lives_ns, feed->first);
}

static const struct ordered_calls calls = {
    .take = take_message,
    .on_anew = on_anew,
    .rereads = true,
    .on_stream = on_stream,
};

/* --- the kind --- */

static const char *read_mirror(lua_State *L, int spec, struct registration *registration)
{
    registration->consumer.stream = spec_text(L, spec, "stream");
    registration->mirror_bytes = (size_t)spec_number(L, spec, "max_bytes", 0);
    registration->mirror_age_ns = spec_duration_ns(L, spec, "max_age");
    spec_name(L, registration, "cache", "%s cache", registration->consumer.stream);
    return NULL;
}

static bool continues(const struct registration *now, const struct registration *then)
{
    return registration_same_text(now->consumer.stream, then->consumer.stream) &&
           now->mirror_bytes == then->mirror_bytes && now->mirror_age_ns == then->mirror_age_ns;
}

static int ensure_ordered(void *argument, uint64_t deadline_ns, struct err *err)
{
    struct mirror_feed *feed = argument;
    return ordered_ensure(feed->ordered, deadline_ns, err);
}

static int make_feed(struct source *source, struct err *err)
{
    struct scripts *scripts = source->scripts;
    const struct registration *registration = source->registration;
    struct ordered_spec spec = {.stream = registration->consumer.stream,
                                .what = "cache",
                                .deliver = DELIVER_LAST_PER_SUBJECT,
                                .credit = CREDIT,
                                .bytes = REQUEST_BYTES};
    struct mirror_feed *feed = source->feed = calloc(1, sizeof *feed);
    if (!feed)
        return err_set(err, ERR_MEMORY, "out of memory");
    feed->source = source;
    feed->mirror =
        mirror_open(scripts->mirrors, source->script->name, registration->consumer.stream);
    if (!feed->mirror)
        return err_set(err, ERR_MEMORY, "out of memory");
    feed->ordered = ordered_new(&scripts->bus->intake, &spec, &calls, feed, err);
    return feed->ordered ? 0 : (int)err->code;
}

static int prepare_feed(struct source *source, bool may_update, uint64_t until_ns, struct err *err)
{
    (void)may_update;
    int code = make_feed(source, err);
    return code ? code
                : setup_patiently(source->scripts, until_ns, ensure_ordered, source->feed, err);
}

static int start_feed(struct source *source, struct err *err)
{
    struct mirror_feed *feed = source->feed;
    feed->number = mirror_begin(feed->mirror, feed->ordered, source->registration->mirror_bytes,
                                source->registration->mirror_age_ns);
    mirror_note_stream(feed->mirror, feed->number, feed->lives_ns, feed->first);
    int code = ordered_start(feed->ordered, err);
    if (code)
        mirror_end(feed->mirror, feed->number);
    return code;
}

static void on_stopped(void *owner)
{
    struct mirror_feed *feed = owner;
    feed->on_drained(feed->source);
}

static void stop_feed(struct source *source, void (*on_drained)(void *source))
{
    struct mirror_feed *feed = source->feed;
    feed->on_drained = on_drained;
    mirror_end(feed->mirror, feed->number);
    ordered_stop(feed->ordered, on_stopped);
}

static void free_feed(struct source *source)
{
    struct mirror_feed *feed = source->feed;
    if (!feed)
        return;
    ordered_free(feed->ordered);
    if (feed->mirror)
        mirror_release(feed->mirror);
    free(feed);
}

static bool reading(const struct source *source, struct ordered_stat *stat)
{
    if (source->feed)
        ordered_stat(source->feed->ordered, stat);
    return source->feed;
}

const struct kind kind_mirror = {
    .name = "mirror",
    .binding = "kv.bucket: cache",
    .brings = SOURCE_BRINGS_DELIVERIES,
    .read = read_mirror,
    .continues = continues,
    .prepare = prepare_feed,
    .start = start_feed,
    .stop = stop_feed,
    .reading = reading,
    .clear = free_feed,
};
