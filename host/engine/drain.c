/* drain - how a stop goes: nothing new comes, what has not begun is handed back, what runs may end,
 * then "stop" runs; at the deadline all that is left is cancelled, and its messages handed back. */
#include <stdio.h>
#include <utlist.h>

#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/consume/delivery.h"
#include "engine/engine_private.h"
#include "engine/run/task.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"

/* How long a stop waits for subscriptions to drain once no handler runs: a frozen server never
 * answers the PING. */
#define DRAIN_GRACE_NS (2 * NS_PER_S)

void engine_drain(struct engine *engine)
{
    if (atomic_exchange(&engine->scripts.draining, true))
        return;
    dispatch_lock(&engine->dispatch);
    engine->dispatch.draining = true;
    engine->drain_began_ns = clock_now_ns();
    dispatch_unlock(&engine->dispatch);
    for (struct script *script = engine->scripts.first; script; script = script->next) {
        struct source *source;
        mutex_lock(&script->starting);
        LL_FOREACH(script->sources, source)
            source_stop(source);
        mutex_unlock(&script->starting);
    }
}

static bool all_stopped(struct engine *engine)
{
    must_hold(&engine->dispatch.lock);
    for (struct script *script = engine->scripts.first; script; script = script->next) {
        struct source *source;
        LL_FOREACH(script->sources, source) {
            if (source->state.phase == SOURCE_STOPPING)
                return false;
        }
    }
    return true;
}

/* How many "stop" hooks are due and have not begun; of those that have, too. */
static int count_hooks(struct engine *engine, bool begun)
{
    int count = 0;
    must_hold(&engine->dispatch.lock);
    for (struct script *script = engine->scripts.first; script; script = script->next) {
        struct source *source;
        LL_FOREACH(script->sources, source) {
            if (source->state.brings == SOURCE_BRINGS_STOP)
                count += (int)source->state.owed + (begun ? (int)source->state.running : 0);
        }
    }
    return count;
}

static void wait_idle(struct engine *engine, uint64_t until_ns)
{
    must_hold(&engine->dispatch.lock);
    dispatch_wait(&engine->dispatch, &engine->dispatch.idle, until_ns);
}

/* Waits until nothing runs, is queued, or (for its grace) drains. */
static void wait_quiet(struct engine *engine, uint64_t deadline_ns)
{
    struct dispatch *dispatch = &engine->dispatch;
    uint64_t drained_by = engine->drain_began_ns + DRAIN_GRACE_NS;
    must_hold(&engine->dispatch.lock);
    for (;;) {
        uint64_t now = clock_now_ns();
        bool busy = dispatch->running > 0 || dispatch->queued > 0;
        bool draining = !all_stopped(engine) && now < drained_by;
        if ((!busy && !draining) || now >= deadline_ns)
            return;
        wait_idle(engine, !busy && drained_by < deadline_ns ? drained_by : deadline_ns);
    }
}

/* No handler begins any more: of a server that was frozen a message may come when nobody waits for
 * handlers, and its own would be cut off. */
static void leave_out_late(struct engine *engine)
{
    must_hold(&engine->dispatch.lock);
    for (struct script *script = engine->scripts.first; script; script = script->next) {
        struct source *source;
        LL_FOREACH(script->sources, source)
            source_state_late(&source->state);
    }
}

/* What could not wait for its subscription to drain: the server does not answer. */
static void hand_back_late(struct engine *engine)
{
    for (struct script *script = engine->scripts.first; script; script = script->next) {
        struct source *source;
        mutex_lock(&script->starting);
        LL_FOREACH(script->sources, source)
            source_hand_back(source);
        mutex_unlock(&script->starting);
    }
}

/* Runs the "stop" hooks of the live generations, and waits for those
 * that retired ones still owe. Each hook that ends while nothing else runs signals `idle`. */
static void run_stop_hooks(struct engine *engine, uint64_t deadline_ns)
{
    must_hold(&engine->dispatch.lock);
    for (struct script *script = engine->scripts.first; script; script = script->next) {
        if (script->live->stop_ran)
            continue;
        script->live->stop_ran = true;
        source_hooks_due(script, script->live, SOURCE_BRINGS_STOP);
    }
    while (count_hooks(engine, true) > 0 && clock_now_ns() < deadline_ns)
        wait_idle(engine, deadline_ns);
}

int engine_wait_idle(struct engine *engine, uint64_t deadline_ns)
{
    struct dispatch *dispatch = &engine->dispatch;
    dispatch_lock(dispatch);
    wait_quiet(engine, deadline_ns);
    leave_out_late(engine);
    dispatch_unlock(dispatch);
    hand_back_late(engine);
    dispatch_lock(dispatch);
    if (dispatch->running == 0)
        run_stop_hooks(engine, deadline_ns);
    wait_quiet(engine, deadline_ns);
    int unfinished = dispatch->running + dispatch->queued + count_hooks(engine, false);
    dispatch_unlock(dispatch);
    return unfinished;
}

/* Every instance gets its stop event. */
static void post_stops(struct script *script)
{
    struct generation *generation;
    must_hold(&script->scripts->dispatch->lock);
    DL_FOREACH(script->generations, generation) {
        for (struct instance *instance = generation->instances; instance;
             instance = instance->next) {
            if (instance->stop_posted)
                continue;
            instance->stop_posted = true;
            instance->stop.run = task_on_stop;
            DL_APPEND(instance->mailbox, &instance->stop);
            instance_ready(instance);
        }
    }
}

/* A message whose handler runs, and whose it is: by names, as its source may go meanwhile. */
struct unsettled {
    struct delivery *delivery; /* a reference */
    char script[256], handler[600];
    unsigned attempts;
};

static bool find_unsettled(struct source *source, struct unsettled *out)
{
    struct delivery *delivery;
    must_hold(&source->scripts->dispatch->lock);
    DL_FOREACH(source->active, delivery) {
        if (delivery->consumer && !delivery_settled(delivery))
            break;
    }
    if (!delivery)
        return false;
    out->delivery = delivery_retain(delivery);
    out->attempts = (unsigned)source->registration->attempts;
    snprintf(out->script, sizeof out->script, "%s", source->script->name);
    snprintf(out->handler, sizeof out->handler, "%s", source->registration->handler);
    return true;
}

static bool next_unsettled(struct engine *engine, struct unsettled *out)
{
    bool found = false;
    dispatch_lock(&engine->dispatch);
    for (struct script *script = engine->scripts.first; script && !found; script = script->next) {
        struct source *source;
        LL_FOREACH(script->sources, source) {
            found = found || find_unsettled(source, out);
        }
    }
    dispatch_unlock(&engine->dispatch);
    return found;
}

static void hand_back(const struct unsettled *unsettled)
{
    struct delivery *delivery = unsettled->delivery;
    struct log_context context = {.script = unsettled->script,
                                  .handler = unsettled->handler,
                                  .stream = delivery->stream,
                                  .consumer = delivery->durable,
                                  .subject = delivery->packet.subject,
                                  .sequence = delivery->stream_sequence,
                                  .attempt = (unsigned)atomic_load(&delivery->attempt),
                                  .attempts = unsettled->attempts,
                                  .verdict = "handed_back"};
    /* Unless its handler was faster. */
    if (delivery_settle(delivery, VERDICT_NAK, 0, NULL) != ERR_SETTLED)
        log_event(LOG_WARN, &context, "handed back: %s", task_cancel_text(CANCEL_STOP));
    delivery_release(delivery);
}

void engine_cancel(struct engine *engine)
{
    dispatch_lock(&engine->dispatch);
    for (struct script *script = engine->scripts.first; script; script = script->next)
        post_stops(script);
    dispatch_unlock(&engine->dispatch);
    struct unsettled unsettled;
    while (next_unsettled(engine, &unsettled))
        hand_back(&unsettled);
}
