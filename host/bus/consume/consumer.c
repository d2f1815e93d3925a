/* A durable consumer: what it makes of the messages that its puller brings, and its life. */
#include "bus/consume/consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/value.h"
#include "bus/consume/consumer_private.h"
#include "bus/consume/deadletter.h"
#include "bus/packet.h"

/* --- messages --- */

/* True: the message was a redelivery of what is held or was settled. */
static bool join(struct consumer *consumer, const struct ack_subject *ack, struct packet *packet,
                 uint64_t now_ns)
{
    must_hold(&consumer->puller.lock);
    struct delivery *held = leases_find(&consumer->leases, ack);
    if (held) {
        delivery_join(held, packet->reply, ack, now_ns);
    } else if (leases_was_settled(&consumer->leases, ack, now_ns)) {
        struct link_frame frame = {.subject = packet->reply, .data = "+ACK", .len = strlen("+ACK")};
        link_send(consumer->puller.intake->link, LANE_URGENT, &frame, NULL);
    } else {
        return false;
    }
    stat_add_shared(&consumer->puller.counts->joined, 1);
    return true;
}

static enum puller_taken take_message(struct puller *puller, struct packet *packet,
                                      const struct ack_subject *ack, uint64_t now_ns, void **taken)
{
    struct consumer *consumer = consumer_of(puller);
    if (join(consumer, ack, packet, now_ns))
        return PULLER_DONE;
    struct delivery *delivery = delivery_new(consumer, &consumer->leases, packet, ack, now_ns);
    if (!delivery)
        return PULLER_UNSEEN;
    leases_hold(&consumer->leases, delivery, now_ns);
    consumer->condemned_now = leases_take_condemned(&consumer->leases, ack);
    *taken = delivery;
    return PULLER_HELD;
}

static void hand_up(struct consumer *consumer, struct delivery *delivery)
{
    const struct sink *sink = &consumer->puller.intake->sink;
    sink->on_delivery(sink->owner, consumer->source, delivery);
}

static void on_looked(struct delivery *delivery, bool copied)
{
    struct consumer *consumer = delivery->consumer;
    struct puller *puller = puller_retain(&consumer->puller);
    if (copied)
        delivery_release(delivery);
    else
        hand_up(consumer, delivery);
    puller_call_end(puller);
    puller_release(puller);
}

/* True: it has come again, and its copy is looked for first; the source stays until that is known.
 */
static bool look_for_copy(struct consumer *consumer, struct delivery *delivery)
{
    bool again = delivery->attempt > delivery->attempts_before + 1;
    if (!consumer->retries.after_ns || !again || !puller_call_begin(&consumer->puller))
        return false;
    bool asked = retries_look(delivery, on_looked);
    if (!asked)
        puller_call_end(&consumer->puller);
    return asked;
}

static void hand_on_message(struct puller *puller, void *taken, bool alone)
{
    struct consumer *consumer = consumer_of(puller);
    struct condemned *condemned = consumer->condemned_now;
    struct delivery *delivery = taken;
    consumer->condemned_now = NULL;
    if (consumer->retries.brings && !retries_open(&consumer->retries, delivery)) {
        free(condemned);
    } else if (condemned) {
        deadletter_send(delivery, condemned->subject, &condemned->reason, condemned->nak_delay_ns,
                        NULL, NULL);
        free(condemned);
        delivery_release(delivery);
    } else if (!look_for_copy(consumer, delivery)) {
        gather_add(&consumer->gather, delivery);
    }
    if (alone)
        gather_flush(&consumer->gather);
}

static bool knows_message(struct puller *puller, const struct ack_subject *ack, uint64_t now_ns)
{
    struct consumer *consumer = consumer_of(puller);
    return leases_find(&consumer->leases, ack) ||
           leases_was_settled(&consumer->leases, ack, now_ns);
}

static void on_whole(struct puller *puller)
{
    const struct sink *sink = &puller->intake->sink;
    sink->on_whole(sink->owner, consumer_of(puller)->source);
}

/* --- life --- */

static void free_consumer(struct puller *puller)
{
    struct consumer *consumer = consumer_of(puller);
    puller_clear(puller);
    consumer_spec_clear(&consumer->spec);
    mutex_destroy(&consumer->setup_lock);
    leases_clear(&consumer->leases);
    retries_clear(&consumer->retries);
    free(consumer);
}

static const struct puller_calls calls = {
    .take = take_message,
    .hand_on = hand_on_message,
    .knows = knows_message,
    .on_whole = on_whole,
    .look = consumer_look,
    .free_owner = free_consumer,
};

struct consumer *consumer_new(const struct intake *intake, const struct consumer_spec *spec,
                              struct consumer_counts *counts, void *source, struct err *err)
{
    struct consumer *consumer = calloc(1, sizeof *consumer);
    if (!consumer) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    consumer->source = source;
    gather_init(&consumer->gather, intake, source);
    mutex_init(&consumer->setup_lock);
    int code = consumer_spec_copy(&consumer->spec, spec, err);
    struct puller_options options = {
        .intake = intake,
        .calls = &calls,
        .stream = consumer->spec.stream,
        .name = consumer->spec.durable,
        .concurrency = spec->concurrency,
        .ack_wait_ns = spec->ack_wait_ns,
        .group = consumer_group(spec),
        .settles = true,
        .watches_gaps = spec->ordered,
        .counts = counts,
    };
    bool made = puller_init(&consumer->puller, &options) &&
                leases_init(&consumer->leases, &consumer->puller, spec->concurrency);
    if (code == 0 && !made)
        code = err_set(err, ERR_MEMORY, "out of memory");
    if (code == 0)
        return consumer;
    consumer_free(consumer);
    return NULL;
}

void consumer_free(struct consumer *consumer)
{
    if (consumer)
        puller_release(&consumer->puller);
}

int consumer_set_retries(struct consumer *consumer, const char *stream, const char *durable,
                         bool brings, int64_t after_ns, struct err *err)
{
    return retries_init(&consumer->retries, stream, durable, brings, after_ns, err);
}

const struct retries *consumer_retries(const struct consumer *consumer)
{
    return &consumer->retries;
}

int consumer_start(struct consumer *consumer, struct err *err)
{
    return puller_start(&consumer->puller, err);
}

void consumer_stop(struct consumer *consumer, void (*on_stopped)(void *source))
{
    leases_end(&consumer->leases);
    puller_stop(&consumer->puller, on_stopped, consumer->source);
}

/* --- what it holds --- */

void consumer_pardon(struct consumer *consumer)
{
    leases_pardon(&consumer->leases);
}

bool consumer_misses(struct consumer *consumer)
{
    return puller_misses(&consumer->puller);
}

void consumer_ask_lag(struct consumer *consumer)
{
    puller_ask_lag(&consumer->puller);
}

void consumer_stat(struct consumer *consumer, struct consumer_stat *stat)
{
    const struct puller *puller = &consumer->puller;
    mutex_lock(&consumer->puller.lock);
    *stat =
        (struct consumer_stat){.held = puller->pull.held,
                               .ack_floor = puller->ack_floor,
                               .gone = puller->pull.state == PULL_LOOKING || puller->pull.missing,
                               .silent = puller->pull.silences > 1,
                               .paused = puller->paused,
                               .pins = puller->pull.pin.on,
                               .pinned = puller->pull.pin.id[0] != '\0',
                               .asked = puller->pull.asked,
                               .lag = puller->lag};
    snprintf(stat->paused_until, sizeof stat->paused_until, "%s", puller->paused_until);
    memcpy(stat->group, puller->group.name, sizeof stat->group);
    snprintf(stat->broken, sizeof stat->broken, "%s", consumer->broken);
    mutex_unlock(&consumer->puller.lock);
}
