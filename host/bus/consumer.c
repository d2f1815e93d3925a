#include "bus/consumer.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/consumer_internal.h"
#include "bus/deadletter.h"
#include "bus/reap.h"
#include "bus/wire.h"

/* The longest that a stop waits for what its last requests are owed. */
#define OWED_NS (50 * NS_PER_MS)
#define LOST_TOLD_AGAIN_NS (60 * NS_PER_S)

static void on_poll(struct deadline *deadline);
static void on_leave(struct deadline *deadline);

/* Strings that are made of the spec. False: out of memory. */
static bool name(struct consumer *consumer)
{
    const struct consumer_spec *spec = &consumer->spec;
    const char *prefix = consumer->bus->options.link.inbox_prefix;
    uint64_t random = (uint64_t)(retry_random() * 0x1.0p53);
    char operation[600], subject[1024];

    snprintf(operation, sizeof(operation), "CONSUMER.MSG.NEXT.%s.%s", spec->stream, spec->durable);
    jsapi_subject(consumer->bus->jsapi, operation, subject, sizeof(subject));
    consumer->next_subject = strdup(subject);
    if (asprintf(&consumer->label, "%s/%s", spec->stream, spec->durable) < 0)
        consumer->label = NULL;
    if (asprintf(&consumer->inbox, "%s.%014" PRIx64, prefix != NULL ? prefix : "_INBOX", random) <
        0)
        consumer->inbox = NULL;
    return consumer->next_subject != NULL && consumer->label != NULL && consumer->inbox != NULL;
}

struct consumer *consumer_new(struct bus *bus, const struct consumer_spec *spec, void *source,
                              struct err *err)
{
    struct consumer *consumer = calloc(1, sizeof(*consumer));
    size_t buckets = 256;

    if (consumer == NULL) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    while (buckets < (size_t)spec->concurrency && buckets < 65536)
        buckets *= 2;
    consumer->bus = bus;
    consumer->source = source;
    consumer->ack_wait_ns = spec->ack_wait_ns;
    consumer->table_mask = buckets - 1;
    consumer->poll.on_due = on_poll;
    consumer->leave.on_due = on_leave;
    consumer->look_job.run = consumer_look;
    atomic_init(&consumer->references, 1);
    thread_mutex_init(&consumer->lock);
    pthread_mutex_init(&consumer->setup_lock, NULL);
    consumer_credit_init(consumer, spec->concurrency);

    if (consumer_spec_copy(&consumer->spec, spec, err) != 0) {
        consumer_release(consumer);
        return NULL;
    }
    consumer->table = calloc(buckets, sizeof(*consumer->table));
    consumer->settled = calloc(SETTLED_SLOTS, sizeof(*consumer->settled));
    if (consumer->table == NULL || consumer->settled == NULL || !name(consumer)) {
        err_set(err, ERR_MEMORY, "out of memory");
        consumer_release(consumer);
        return NULL;
    }
    return consumer;
}

struct consumer *consumer_retain(struct consumer *consumer)
{
    atomic_fetch_add_explicit(&consumer->references, 1, memory_order_relaxed);
    return consumer;
}

void consumer_release(struct consumer *consumer)
{
    if (atomic_fetch_sub(&consumer->references, 1) != 1)
        return;
    consumer_spec_clear(&consumer->spec);
    pthread_mutex_destroy(&consumer->lock);
    pthread_mutex_destroy(&consumer->setup_lock);
    free(consumer->label);
    free(consumer->inbox);
    free(consumer->next_subject);
    free(consumer->table);
    free(consumer->settled);
    for (int i = 0; i < CONDEMNED_SLOTS; i++)
        free(consumer->condemned[i]);
    free(consumer);
}

/* --- messages --- */

bool consumer_lease_lost(struct consumer *consumer, uint64_t now_ns)
{
    bool tell = consumer->lost_told_ns == 0 ||
                now_ns > consumer->lost_told_ns + (uint64_t)LOST_TOLD_AGAIN_NS;

    if (now_ns > consumer->lost_told_ns) /* the callers' clocks are read in any order */
        consumer->lost_told_ns = now_ns;
    return tell;
}

/* With the lock held. True: the message was a redelivery of what is held or was settled. */
static bool join(struct consumer *consumer, const struct ack_subject *ack, natsMsg *msg,
                 uint64_t now_ns, const char **warn)
{
    struct delivery *held = consumer_find_held(consumer, ack);

    if (held != NULL) {
        delivery_join(held, natsMsg_GetReply(msg), ack, now_ns);
    } else if (consumer_was_settled(consumer, ack, now_ns)) {
        struct link_frame frame = {
            .subject = natsMsg_GetReply(msg), .data = "+ACK", .len = strlen("+ACK")};
        link_send(consumer->bus->consume, LANE_URGENT, &frame, NULL);
    } else {
        return false;
    }
    *warn = consumer_act(consumer, pull_joined(&consumer->pull, now_ns));
    return true;
}

/* With the lock held: a message has come. The last one that a stop waits for ends its waiting. */
static void count_owed(struct consumer *consumer, uint64_t now_ns)
{
    if (consumer->owed == 0 || --consumer->owed > 0)
        return;
    consumer_retain(consumer);
    if (!clock_arm(consumer->bus->clock, &consumer->leave, now_ns))
        consumer_release(consumer); /* the subscription has another */
}

static void on_delivered(struct consumer *consumer, natsMsg *msg, const struct ack_subject *ack)
{
    struct bus_sink *sink = &consumer->bus->sink;
    uint64_t now_ns = clock_now_ns();
    const char *warn = NULL;

    pthread_mutex_lock(&consumer->lock);
    if (ack->stream_sequence > consumer->last_sequence)
        consumer->last_sequence = ack->stream_sequence;
    count_owed(consumer, now_ns);
    if (join(consumer, ack, msg, now_ns, &warn)) {
        consumer_unlock(consumer, warn);
        reap(msg);
        return;
    }
    struct delivery *delivery = delivery_new(consumer, msg, ack, now_ns);
    if (delivery == NULL) {
        /* The server redelivers it after ack_wait. */
        consumer_act(consumer, pull_joined(&consumer->pull, now_ns));
        consumer_unlock(consumer, "out of memory: a message was dropped unseen");
        return;
    }
    consumer_hold(consumer, delivery);
    delivery_hold(delivery, now_ns);
    consumer->pull.bytes_held += (int64_t)delivery->len;
    struct condemned *condemned = consumer_take_condemned(consumer, ack);
    warn = consumer_act(consumer, pull_message(&consumer->pull, now_ns));
    consumer_unlock(consumer, warn);

    if (condemned != NULL) {
        deadletter_send(consumer->bus, delivery, condemned->subject, &condemned->reason,
                        condemned->nak_delay_ns, NULL);
        free(condemned);
        delivery_release(delivery);
        return;
    }
    sink->on_delivery(sink->owner, consumer->source, delivery);
}

static void on_status(struct consumer *consumer, natsMsg *msg, int code, const char *description)
{
    const char *token = strrchr(natsMsg_GetSubject(msg), '.');
    unsigned epoch = token != NULL ? (unsigned)strtoul(token + 1, NULL, 10) : 0;
    const char *warn = NULL;

    pthread_mutex_lock(&consumer->lock);
    if (epoch == consumer->pull.epoch)
        warn = consumer_act(consumer, pull_status(&consumer->pull, code, description,
                                                  wire_pending(msg), clock_now_ns()));
    pthread_mutex_unlock(&consumer->lock);
    if (warn != NULL)
        consumer_log(consumer, LOG_WARN, "%s (%d %s)", warn, code, description);
}

static void on_message(void *owner, natsMsg *msg)
{
    struct consumer *consumer = owner;
    const char *description = "", *reply = natsMsg_GetReply(msg);
    int code = wire_status(msg, &description);
    struct ack_subject ack;

    if (code != 0) {
        on_status(consumer, msg, code, description);
        reap(msg);
    } else if (reply == NULL || !wire_parse_ack_subject(reply, &ack)) {
        consumer_log(consumer, LOG_WARN, "a message without an ack subject was dropped (\"%s\")",
                     natsMsg_GetSubject(msg));
        reap(msg);
    } else {
        on_delivered(consumer, msg, &ack);
    }
}

/* --- the ack floor --- */

void consumer_note_floor(struct consumer *consumer, const cJSON *info)
{
    uint64_t floor = consumer_json_floor(info);
    const char *made = consumer_json_string(info, "created");

    /* Of the same consumer, what was known once stays true: a server that was killed may have
     * forgotten acks. One that was made anew, by whomever, counts anew. */
    if (strcmp(made, consumer->made) != 0 || floor > consumer->ack_floor)
        consumer->ack_floor = floor;
    snprintf(consumer->made, sizeof(consumer->made), "%s", made);
}

static void on_polled(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct consumer *consumer = owner;
    bool missing = err != NULL && err->code == ERR_NOT_FOUND;
    const char *warn = NULL;

    (void)api_code;
    pthread_mutex_lock(&consumer->lock);
    consumer->polling = false;
    bool present = consumer->poll_incarnation == consumer->incarnation;
    if (present && reply != NULL)
        consumer_note_floor(consumer, reply);
    if (present && missing && !consumer->looking)
        warn = consumer_act(consumer, pull_gone(&consumer->pull, clock_now_ns()));
    consumer_unlock(consumer, warn);
    consumer_release(consumer);
}

static void on_poll(struct deadline *deadline)
{
    struct consumer *consumer =
        (struct consumer *)((char *)deadline - offsetof(struct consumer, poll));
    char operation[600];

    pthread_mutex_lock(&consumer->lock);
    bool ask = !consumer->stopping;
    consumer->poll_incarnation = consumer->incarnation;
    pthread_mutex_unlock(&consumer->lock);

    snprintf(operation, sizeof(operation), "CONSUMER.INFO.%s.%s", consumer->spec.stream,
             consumer->spec.durable);
    /* The deadline's reference goes on to the question. */
    if (ask && jsapi_call(consumer->bus->jsapi, operation, NULL, on_polled, consumer, NULL) != 0)
        return;
    pthread_mutex_lock(&consumer->lock);
    consumer->polling = false;
    pthread_mutex_unlock(&consumer->lock);
    consumer_release(consumer);
}

/* --- life --- */

void consumer_start(struct consumer *consumer)
{
    char subject[600];

    snprintf(subject, sizeof(subject), "%s.*", consumer->inbox);
    struct link_sub *sub =
        link_subscribe(consumer->bus->consume, subject, NULL, on_message, consumer);
    if (sub == NULL) {
        consumer_log(consumer, LOG_ERROR, "cannot subscribe: the connection is closed");
        return;
    }
    pthread_mutex_lock(&consumer->lock);
    consumer->sub = sub;
    pthread_mutex_unlock(&consumer->lock);

    /* First to the list, then a look: between the two a change would be missed. */
    bus_add_consumer(consumer->bus, consumer);
    if (link_state(consumer->bus->consume) == LINK_CONNECTED)
        consumer_on_link(consumer, LINK_CONNECTED);
}

static void stopped(struct consumer *consumer)
{
    void (*on_stopped)(void *) = consumer->on_stopped;
    void *source = consumer->source;

    consumer_release(consumer);
    if (on_stopped != NULL)
        on_stopped(source);
}

static void on_forgotten(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    (void)reply;
    (void)api_code;
    (void)err;
    stopped(owner);
}

/* The server still has our last request, and looks for interest in it only when it answers
 * CONSUMER.INFO or has something to deliver; then 2.9 takes a message that was nak'd off its queue
 * for nobody, and it comes again after ack_wait. So it is asked before anything is handed back. */
static void on_drained(void *owner)
{
    struct consumer *consumer = owner;
    char operation[600];

    snprintf(operation, sizeof(operation), "CONSUMER.INFO.%s.%s", consumer->spec.stream,
             consumer->spec.durable);
    if (link_state(consumer->bus->consume) != LINK_CONNECTED ||
        jsapi_call(consumer->bus->jsapi, operation, NULL, on_forgotten, consumer, NULL) == 0)
        stopped(consumer);
}

static void on_leave(struct deadline *deadline)
{
    struct consumer *consumer =
        (struct consumer *)((char *)deadline - offsetof(struct consumer, leave));

    pthread_mutex_lock(&consumer->lock);
    struct link_sub *sub = consumer->sub;
    consumer->sub = NULL;
    consumer->owed = 0;
    pthread_mutex_unlock(&consumer->lock);
    if (sub != NULL)
        link_unsubscribe(sub, on_drained);
    consumer_release(consumer);
}

/* With the lock held. The server looks for interest, and then sends: an UNSUB that comes between
 * the two has the messages sent to nobody. So what is owed to us is waited for, which under load is
 * here within a millisecond; an idle consumer has a request of which nothing comes. */
static void wait_for_owed(struct consumer *consumer)
{
    bool connected = link_state(consumer->bus->consume) == LINK_CONNECTED;

    consumer->owed = connected ? consumer->pull.asked : 0;
    consumer_retain(consumer);
    clock_arm(consumer->bus->clock, &consumer->leave,
              clock_now_ns() + (uint64_t)(consumer->owed > 0 ? OWED_NS : 0));
}

void consumer_stop(struct consumer *consumer, void (*on_stopped)(void *source))
{
    int references = 0;

    pthread_mutex_lock(&consumer->lock);
    bool started = consumer->sub != NULL;
    consumer->stopping = true;
    consumer->on_stopped = on_stopped;
    consumer_retain(consumer); /* until drained */
    if (started)
        wait_for_owed(consumer);
    pull_stop(&consumer->pull);
    references += clock_cancel(consumer->bus->clock, &consumer->tick);
    references += clock_cancel(consumer->bus->clock, &consumer->poll);
    pthread_mutex_unlock(&consumer->lock);

    if (started)
        bus_remove_consumer(consumer->bus, consumer);
    while (references-- > 0)
        consumer_release(consumer);
    if (!started)
        on_drained(consumer);
}

void consumer_free(struct consumer *consumer)
{
    if (consumer != NULL)
        consumer_release(consumer);
}

void consumer_stat(struct consumer *consumer, struct consumer_stat *stat)
{
    pthread_mutex_lock(&consumer->lock);
    *stat = (struct consumer_stat){.held = consumer->pull.held,
                                   .ack_floor = consumer->ack_floor,
                                   .gone = consumer->pull.state == PULL_LOOKING ||
                                           consumer->pull.missing,
                                   .silent = consumer->pull.silences > 1};
    pthread_mutex_unlock(&consumer->lock);
}
