/* running - the oldest runs of all handlers, by the lists of their sources (snapshot.h). */
#include "engine/snapshot.h"

#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/sync.h"
#include "engine/engine_private.h"
#include "engine/run/whereabouts.h"
#include "engine/source/handling.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"

/* What is gathered. */
struct gathering {
    struct running_stat *list;
    int count, most;
    uint64_t now_ns;
};

/* The place of a run of that age in the list, which makes room for it; NULL: it is not among the
 * oldest. */
static struct running_stat *place_for(struct gathering *gathering, int64_t age_ns)
{
    int at = gathering->count;
    while (at > 0 && age_ns > gathering->list[at - 1].age_ns)
        at--;
    if (at == gathering->most)
        return NULL;
    if (gathering->count < gathering->most)
        gathering->count++;
    struct running_stat *stat = &gathering->list[at];
    memmove(stat + 1, stat, (size_t)(gathering->count - at - 1) * sizeof *stat);
    memset(stat, 0, sizeof *stat);
    stat->age_ns = age_ns;
    return stat;
}

static const struct whereabout *find_whereabout(const struct gathering *gathering,
                                                const struct instance *instance,
                                                const struct delivery *delivery)
{
    int count;
    const struct whereabout *runs = whereabouts_of(instance, gathering->now_ns, &count);
    for (int i = 0; i < count; i++) {
        if (runs[i].delivery == delivery)
            return &runs[i];
    }
    return NULL;
}

/* Is it what the instance's thread runs just now? */
static bool is_on_thread(const struct instance *instance, const struct source *source,
                         const struct delivery *delivery)
{
    struct instance *of = (struct instance *)instance; /* atomics of C11 want it */
    return instance->state == INSTANCE_BUSY && atomic_load(&of->runs_source) == source &&
           atomic_load(&of->runs_delivery) == delivery;
}

static struct running_stat *add_run(struct gathering *gathering, const struct source *source,
                                    uint64_t started_ns)
{
    struct running_stat *stat = place_for(gathering, (int64_t)(gathering->now_ns - started_ns));
    if (!stat)
        return NULL;
    stat->script = source->script->name;
    snprintf(stat->handler, sizeof stat->handler, "%s", source->registration->handler);
    return stat;
}

/* The list is in order of their beginning. */
static void add_messages(struct gathering *gathering, const struct source *source)
{
    const struct delivery *delivery;
    int left = gathering->most;
    DL_FOREACH(source->active, delivery) {
        const struct handling *handling = handling_of(delivery);
        uint64_t started_ns = handling_started_ns(delivery);
        if (handling->follows || !started_ns)
            continue;
        if (left-- == 0)
            break;
        struct running_stat *stat = add_run(gathering, source, started_ns);
        if (!stat)
            break;
        snprintf(stat->subject, sizeof stat->subject, "%s", delivery->packet.subject);
        stat->sequence = delivery->stream_sequence;
        stat->attempt = delivery->consumer ? (unsigned)atomic_load(&delivery->attempt) : 0;
        const struct instance *instance = handling->runs_on;
        stat->computes = instance && is_on_thread(instance, source, delivery);
        const struct whereabout *run =
            instance ? find_whereabout(gathering, instance, delivery) : NULL;
        if (run && !stat->computes && run->started_ns == started_ns)
            memcpy(stat->place, run->place, sizeof stat->place);
    }
}

/* Timers and hooks have no message: an instance knows of them when it was asked. */
static void add_without_message(struct gathering *gathering, const struct instance *instance)
{
    int count;
    const struct whereabout *runs = whereabouts_of(instance, gathering->now_ns, &count);
    for (int i = 0; i < count; i++) {
        const struct source *source;
        if (runs[i].delivery)
            continue;
        LL_FOREACH(instance->generation->script->sources, source) {
            if (source == runs[i].source && source->state.running > 0)
                break;
        }
        struct running_stat *stat = source ? add_run(gathering, source, runs[i].started_ns) : NULL;
        if (stat)
            stat->computes = is_on_thread(instance, source, NULL);
        if (stat && !stat->computes)
            memcpy(stat->place, runs[i].place, sizeof stat->place);
    }
}

static void add_script(struct gathering *gathering, struct script *script)
{
    const struct source *source;
    const struct generation *generation;
    LL_FOREACH(script->sources, source)
        add_messages(gathering, source);
    DL_FOREACH(script->generations, generation) {
        for (struct instance *i = generation->instances; i; i = i->next) {
            add_without_message(gathering, i);
            if (generation->running > 0)
                whereabouts_ask(i);
        }
    }
}

int engine_oldest_runs(struct engine *engine, struct running_stat *list, int most)
{
    struct gathering gathering = {.list = list, .most = most, .now_ns = clock_now_ns()};
    dispatch_lock(&engine->dispatch);
    for (struct script *script = engine->scripts.first; script; script = script->next)
        add_script(&gathering, script);
    dispatch_unlock(&engine->dispatch);
    return gathering.count;
}
