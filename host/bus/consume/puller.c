/* A puller's messages, and its life. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/container.h"
#include "base/value.h"
#include "bus/consume/puller_private.h"
#include "bus/packet.h"
#include "bus/request/jsapi.h"

/* The longest that a stop waits for what its last requests are owed. */
#define OWED_NS (50 * NS_PER_MS)

static void on_leave(struct deadline *deadline);

/* Where the requests of a consumer go. Owned by the caller; NULL: out of memory. */
static char *next_subject_of(const struct puller *puller, const char *on_server)
{
    char operation[600], subject[1024];
    jsapi_consumer("MSG.NEXT", puller->stream, on_server, operation, sizeof operation);
    jsapi_subject(puller->intake->jsapi, operation, subject, sizeof subject);
    return strdup(subject);
}

/* The strings that are made of its names. False: out of memory. */
static bool make_names(struct puller *puller, const char *on_server)
{
    const char *prefix = puller->intake->inbox_prefix;
    char random[23];
    puller->on_server = strdup(on_server);
    puller->next_subject = next_subject_of(puller, on_server);
    if (asprintf(&puller->label, "%s/%s", puller->stream, puller->name) < 0)
        puller->label = NULL;
    /* A guessed one would let others speak for the server. */
    inbox_random(random, sizeof random - 1);
    if (asprintf(&puller->inbox, "%s.%s", prefix ? prefix : "_INBOX", random) < 0)
        puller->inbox = NULL;
    return puller->on_server && puller->next_subject && puller->label && puller->inbox;
}

bool puller_init(struct puller *puller, const struct puller_options *options)
{
    puller->intake = options->intake;
    puller->calls = options->calls;
    puller->stream = options->stream;
    puller->name = options->name;
    puller->settles = options->settles;
    puller->watches_gaps = options->watches_gaps;
    puller->group = options->group;
    puller->ack_wait_ns = options->ack_wait_ns;
    puller->leave.on_due = on_leave;
    puller->listener.on_state = puller_on_link;
    atomic_init(&puller->references, 1);
    mutex_init_spinning(&puller->lock);
    puller_credit_init(puller, options->concurrency, options->bytes);
    puller_watch_init(puller);
    puller_gap_init(puller);
    puller->counts =
        options->counts ? consumer_counts_retain(options->counts) : consumer_counts_new();
    /* Names that its owner could not copy, for want of memory, are none. */
    const char *on_server = options->on_server ? options->on_server : options->name;
    return options->stream && options->name && make_names(puller, on_server) && puller->counts;
}

void puller_clear(struct puller *puller)
{
    mutex_destroy(&puller->lock);
    consumer_counts_release(puller->counts);
    free(puller->label);
    free(puller->inbox);
    free(puller->next_subject);
    free(puller->on_server);
}

char *puller_operation(struct puller *puller, const char *verb, char *buf, size_t size)
{
    mutex_lock(&puller->lock);
    jsapi_consumer(verb, puller->stream, puller->on_server, buf, size);
    mutex_unlock(&puller->lock);
    return buf;
}

const char *puller_move(struct puller *puller, const char *on_server, bool *moved)
{
    must_hold(&puller->lock);
    char *name = strdup(on_server), *subject = next_subject_of(puller, on_server);
    *moved = name && subject;
    if (!*moved) {
        free(name);
        free(subject);
        return NULL;
    }
    free(puller->on_server);
    free(puller->next_subject);
    puller->on_server = name;
    puller->next_subject = subject;
    puller_renewed(puller);
    return puller_act(puller, pull_moved(&puller->pull, clock_now_ns()));
}

struct puller *puller_retain(struct puller *puller)
{
    atomic_fetch_add_explicit(&puller->references, 1, memory_order_relaxed);
    return puller;
}

void puller_release(struct puller *puller)
{
    if (atomic_fetch_sub(&puller->references, 1) == 1)
        puller->calls->free_owner(puller);
}

/* --- messages --- */

/* A message has come. The last one that a stop waits for ends its waiting. */
static void count_owed(struct puller *puller, uint64_t now_ns)
{
    must_hold(&puller->lock);
    if (puller->owed == 0 || --puller->owed > 0)
        return;
    puller_retain(puller);
    if (!clock_arm(puller->intake->clock, &puller->leave, now_ns))
        puller_release(puller); /* the subscription has another */
}

/* Returns a warning for puller_unlock. */
static const char *count_taken(struct puller *puller, enum puller_taken how, size_t len,
                               uint64_t now_ns)
{
    must_hold(&puller->lock);
    if (how == PULLER_HELD) {
        puller->pull.bytes_held += (int64_t)len;
        bool rests = pull_message(&puller->pull, puller_tick_ns(puller), now_ns);
        return rests ? NULL : puller_act(puller, pull_tick(&puller->pull, now_ns));
    }
    const char *warn = puller_act(puller, pull_joined(&puller->pull, now_ns));
    return how == PULLER_UNSEEN ? "out of memory: a message was dropped unseen" : warn;
}

static void on_delivered(struct puller *puller, struct packet *packet,
                         const struct ack_subject *ack)
{
    uint64_t now_ns = link_read_ns(puller->intake->link);
    size_t len = packet_bytes(packet);
    void *taken = NULL;
    mutex_lock(&puller->lock);
    struct gap before;
    enum gap_event event = GAP_NOTHING;
    if (puller->watches_gaps) {
        before = puller->gap;
        event = puller_gap_arrived(puller, ack, now_ns);
    }
    bool pinned = puller_group_arrived(puller, packet, now_ns);
    if (ack->stream_sequence > puller->last_sequence)
        puller->last_sequence = ack->stream_sequence;
    count_owed(puller, now_ns);
    enum puller_taken how = puller->calls->take(puller, packet, ack, now_ns, &taken);
    if (how == PULLER_UNSEEN && puller->watches_gaps) {
        puller_gap_unseen(puller, &before, now_ns);
        event = GAP_NOTHING;
    }
    bool alone = puller->watches_gaps && puller_gap_is_open(puller, event, now_ns);
    puller_unlock(puller, count_taken(puller, how, len, now_ns));
    if (pinned)
        puller_group_log(puller, true);
    if (taken)
        puller->calls->hand_on(puller, taken, alone);
    if (event != GAP_NOTHING)
        puller_gap_act(puller, event);
}

uint64_t puller_request_of(const struct packet *packet)
{
    const char *token = strrchr(packet->subject, '.');
    return token ? strtoull(token + 1, NULL, 10) : 0;
}

static void on_status(struct puller *puller, struct packet *packet,
                      const struct wire_status *status)
{
    uint64_t request = puller_request_of(packet);
    stat_add_shared(&puller->counts->answers[pull_answer_of(status->code)], 1);
    mutex_lock(&puller->lock);
    bool pinned = puller->pull.pin.id[0];
    const char *warn =
        puller_act(puller, pull_status(&puller->pull, request, status->code, status->description,
                                       status->pending, clock_now_ns()));
    bool lost = pinned && !puller->pull.pin.id[0];
    mutex_unlock(&puller->lock);
    if (lost)
        puller_group_log(puller, false);
    if (warn)
        puller_log(puller, LOG_WARN, "%s (%d %s)", warn, status->code, status->description);
}

/* Anybody who may publish to our inbox can send these: said at powers of two. */
static void on_stray(struct puller *puller, struct packet *packet)
{
    uint64_t count = ++puller->strays;
    if ((count & (count - 1)) == 0)
        puller_log(puller, LOG_WARN,
                   "a message without an ack subject was dropped (\"%.200s\"); %" PRIu64 " so far",
                   packet->subject, count);
}

/* What has no ack subject was not taken out of the stream. */
static void on_no_delivery(struct puller *puller, struct packet *packet)
{
    struct wire_status status;
    if (wire_status(&packet->headers, packet->len, &status))
        on_status(puller, packet, &status);
    else
        on_stray(puller, packet);
}

/* A message with an ack subject is a delivery, whatever its headers say: a publisher wrote them. */
static void on_message(void *owner, struct packet *packet)
{
    struct puller *puller = owner;
    struct ack_subject ack;
    if (ack_subject_read_next(&puller->ack_names, packet->reply, &ack))
        on_delivered(puller, packet, &ack);
    else
        on_no_delivery(puller, packet);
}

/* --- life --- */

int puller_start(struct puller *puller, struct err *err)
{
    char subject[600];
    snprintf(subject, sizeof subject, "%s.*", puller->inbox);
    struct link_sub *sub =
        link_subscribe(puller->intake->link, subject, NULL, on_message, puller, err);
    if (!sub)
        return (int)err->code;
    mutex_lock(&puller->lock);
    puller->sub = sub;
    puller_watch_start(puller);
    mutex_unlock(&puller->lock);

    /* First to the list, then a look: between the two a change would be missed. */
    link_listen(puller->intake->link, &puller->listener);
    if (link_state(puller->intake->link) == LINK_CONNECTED)
        puller_on_link(&puller->listener, LINK_CONNECTED);
    return 0;
}

bool puller_call_begin(struct puller *puller)
{
    mutex_lock(&puller->lock);
    bool may = !puller->stopped;
    puller->calls_up += may;
    mutex_unlock(&puller->lock);
    return may;
}

static void call_on_stopped(struct puller *puller)
{
    void (*on_stopped)(void *) = puller->on_stopped;
    void *closure = puller->closure;
    puller_release(puller);
    if (on_stopped)
        on_stopped(closure);
}

void puller_call_end(struct puller *puller)
{
    mutex_lock(&puller->lock);
    bool last = --puller->calls_up == 0 && puller->stopped;
    mutex_unlock(&puller->lock);
    if (last)
        call_on_stopped(puller);
}

static void end_stop(struct puller *puller)
{
    mutex_lock(&puller->lock);
    puller->stopped = true;
    puller_group_leave(puller);
    bool last = puller->calls_up == 0;
    mutex_unlock(&puller->lock);
    if (last)
        call_on_stopped(puller);
}

static void on_forgotten(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    (void)reply;
    (void)api_code;
    (void)err;
    end_stop(owner);
}

/* The server still has our last request, and looks for interest in it only when it answers
 * CONSUMER.INFO or has something to deliver; then 2.9 takes a message that was nak'd off its queue
 * for nobody, and it comes again after ack_wait. So it is asked before anything is handed back. */
static void on_drained(void *owner)
{
    struct puller *puller = owner;
    char operation[600];
    puller_operation(puller, "INFO", operation, sizeof operation);
    if (!puller->settles || link_state(puller->intake->link) != LINK_CONNECTED ||
        jsapi_call(puller->intake->jsapi, operation, NULL, on_forgotten, puller, NULL) == 0)
        end_stop(puller);
}

static void leave(struct puller *puller)
{
    mutex_lock(&puller->lock);
    struct link_sub *sub = puller->sub;
    puller->sub = NULL;
    puller->owed = 0;
    mutex_unlock(&puller->lock);
    if (sub)
        link_unsubscribe(sub, on_drained);
}

static void on_leave(struct deadline *deadline)
{
    struct puller *puller = container_of(deadline, struct puller, leave);
    leave(puller);
    puller_release(puller);
}

/* The server looks for interest, and then sends: an UNSUB that comes between
 * the two has the messages sent to nobody. So what is owed to us is waited for, which under load is
 * here within a millisecond; an idle consumer has a request of which nothing comes. */
static void wait_for_owed(struct puller *puller)
{
    must_hold(&puller->lock);
    bool connected = link_state(puller->intake->link) == LINK_CONNECTED;
    puller->owed = connected ? puller->pull.asked : 0;
    puller_retain(puller);
    clock_arm(puller->intake->clock, &puller->leave,
              clock_now_ns() + (uint64_t)(puller->owed > 0 ? OWED_NS : 0));
}

void puller_stop(struct puller *puller, void (*on_stopped)(void *closure), void *closure)
{
    int references = 0;
    mutex_lock(&puller->lock);
    bool started = puller->sub;
    puller->stopping = true;
    puller->on_stopped = on_stopped;
    puller->closure = closure;
    puller_retain(puller); /* until drained */
    if (started && puller->settles)
        wait_for_owed(puller);
    pull_stop(&puller->pull);
    references += puller_cancel_tick(puller);
    references += clock_cancel(puller->intake->clock, &puller->poll);
    references += clock_cancel(puller->intake->clock, &puller->gap_due);
    puller_act(puller, pull_tick(&puller->pull, clock_now_ns())); /* a pin is kept */
    mutex_unlock(&puller->lock);

    if (started)
        link_unlisten(puller->intake->link, &puller->listener);
    while (references-- > 0)
        puller_release(puller);
    if (!started)
        on_drained(puller);
    else if (!puller->settles)
        leave(puller);
}

bool puller_misses(struct puller *puller)
{
    mutex_lock(&puller->lock);
    bool misses = puller->gap.missing > 0;
    mutex_unlock(&puller->lock);
    return misses;
}
