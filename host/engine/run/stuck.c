/* stuck - noted, copied, logged. */
#include "engine/run/stuck.h"

#include <stdio.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "bus/consume/delivery.h"
#include "engine/source/handling.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"
#include "engine/version/script.h"

/* A source that runs something stays while the lock is held: runs end under the
 * lock. */
static void note_source(struct stuck *stuck, struct source *source)
{
    const struct registration *registration = source->registration;
    stuck->source = source;
    snprintf(stuck->handler, sizeof stuck->handler, "%s", registration->handler);
    snprintf(stuck->file, sizeof stuck->file, "%s", registration->file ? registration->file : "");
    stuck->line = registration->line;
    stuck->attempts = registration->attempts;
}

/* Of the messages that the instance has: the one it named, and the others. */
static void note_messages(struct stuck *stuck, struct instance *instance)
{
    const void *named = atomic_load_explicit(&instance->runs_delivery, memory_order_relaxed);
    struct source *source;
    struct delivery *delivery;
    must_hold(&instance->scripts->dispatch->lock);
    LL_FOREACH(instance->generation->script->sources, source) {
        bool in_batch = false;
        DL_FOREACH(source->active, delivery) {
            if (handling_of(delivery)->runs_on != instance)
                continue;
            in_batch = handling_of(delivery)->follows && in_batch;
            if (delivery == named) {
                stuck->delivery = delivery_retain(delivery);
                stuck->since_ns = handling_started_ns(delivery);
                in_batch = source->registration->batch_size > 0;
            } else if (!handling_of(delivery)->follows) {
                stuck->others++;
            }
            stuck->batch_count += in_batch;
        }
    }
}

void stuck_note(struct stuck *stuck, struct instance *instance, int number)
{
    struct source *named = atomic_load_explicit(&instance->runs_source, memory_order_relaxed);
    *stuck = (struct stuck){
        .script = instance->generation->script->name, .number = number, .since_ns = clock_now_ns()};
    if (named)
        note_source(stuck, named);
    note_messages(stuck, instance);
}

struct stuck stuck_copy(struct stuck *stuck)
{
    stuck->logged = true;
    if (stuck->delivery)
        delivery_retain(stuck->delivery);
    return *stuck;
}

void stuck_log(struct stuck *copy, int most)
{
    struct delivery *delivery = copy->delivery;
    struct log_context context = {.script = copy->script,
                                  .handler = copy->source ? copy->handler : NULL,
                                  .file = *copy->file ? copy->file : NULL,
                                  .line = copy->line};
    char batch[40] = "", others[80] = "";
    if (delivery && delivery->consumer) {
        context.stream = delivery->stream;
        context.consumer = delivery->durable;
    }
    if (copy->batch_count > 0) {
        snprintf(batch, sizeof batch, ", with a batch of %d", copy->batch_count);
    } else if (delivery) {
        context.subject = delivery->packet.subject;
        context.sequence = delivery->stream_sequence;
        context.attempt = delivery->consumer ? (unsigned)delivery->attempt : 0;
        context.attempts = delivery->consumer ? (unsigned)copy->attempts : 0;
    }
    if (copy->others > 0)
        snprintf(others, sizeof others, "; with it %d other handler%s of its Lua state",
                 copy->others, copy->others == 1 ? "" : "s");
    log_event(LOG_ERROR, &context,
              "the handler is in a call that cannot be interrupted%s: its thread is lost (%d of at "
              "most %d)%s",
              batch, copy->number, most, others);
    if (delivery)
        delivery_release(delivery);
}

struct delivery *stuck_end(struct stuck *stuck)
{
    struct delivery *delivery = stuck->delivery;
    *stuck = (struct stuck){0};
    return delivery;
}
