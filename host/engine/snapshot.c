/* snapshot - the engine's structs copied: under its lock what runs, afterwards what was counted. */
#include "engine/snapshot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "bus/consume/consumer.h"
#include "bus/consume/ordered.h"
#include "engine/engine_private.h"
#include "engine/kinds/kinds.h"
#include "engine/offload/offload.h"
#include "engine/run/worker.h"
#include "engine/sched/watchdog.h"
#include "engine/shared.h"
#include "engine/source/handling.h"
#include "engine/source/kind.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"
#include "vm/machine_code.h"

static char *copy_text(const char *text)
{
    return text ? strdup(text) : NULL;
}

/* --- under the dispatch lock: sources --- */

static bool is_live(const struct script *script, const struct source *source)
{
    return source->generation == script->live && source->state.phase == SOURCE_SERVING;
}

/* Hooks are none, nor is a service. */
static bool is_handler(const struct script *script, const struct source *source)
{
    enum source_brings brings = source->state.brings;
    return is_live(script, source) && brings != SOURCE_BRINGS_STOP &&
           brings != SOURCE_BRINGS_START && brings != SOURCE_BRINGS_NOTHING;
}

/* Active messages are in the order in which they began. */
static int64_t oldest_ns(const struct source *source, uint64_t oldest, uint64_t now)
{
    const struct delivery *first = source->active;
    uint64_t began = first ? handling_started_ns(first) : 0;
    if (began && began < oldest)
        oldest = began;
    return (int64_t)(now - oldest);
}

static void note_durable(struct source *source, struct durable_stat *stat)
{
    struct consumer_stat consumer;
    consumer_stat(source->consumer, &consumer);
    stat->held = consumer.held;
    stat->asked = consumer.asked;
    stat->ack_floor = consumer.ack_floor;
    stat->gone = consumer.gone;
    stat->silent = consumer.silent;
    stat->paused = consumer.paused;
    snprintf(stat->paused_until, sizeof stat->paused_until, "%s", consumer.paused_until);
    stat->group = *consumer.group ? strdup(consumer.group) : NULL;
    stat->pins = consumer.pins;
    stat->pinned = consumer.pinned;
    stat->edited = *consumer.broken ? strdup(consumer.broken) : NULL;
    stat->lag = consumer.lag;
    if (source->registration->park_after_ns)
        stat->retries = source->copies ? "parked" : "naks";
    if (source->copies) {
        consumer_stat(source->copies, &consumer);
        stat->held += consumer.held;
        stat->gone |= consumer.gone;
        stat->silent |= consumer.silent;
        stat->retries_lag = consumer.lag;
    }
}

static bool note_reader(const struct source *source, struct reading_stat *stat)
{
    const struct kind *kind = source->registration->kind;
    struct ordered_stat ordered;
    if (!kind->reading || !kind->reading(source, &ordered))
        return false;
    *stat = (struct reading_stat){.gone = ordered.gone,
                                  .silent = ordered.silent,
                                  .caught_up = ordered.caught_up,
                                  .last = ordered.last,
                                  .behind = ordered.behind};
    return true;
}

static void note_source(const struct engine *engine, struct source *source, uint64_t now,
                        struct handler_stat *stat)
{
    uint64_t oldest = now;
    int stuck = workers_stuck(engine->workers, source, &oldest);
    stat->handler = copy_text(source->registration->handler);
    stat->what = copy_text(source->registration->what);
    stat->twin = source->registration->tally->twin;
    stat->is_durable = source->consumer != NULL;
    stat->is_timer = source->state.brings == SOURCE_BRINGS_TICKS;
    stat->stuck = stuck;
    /* If its thread is lost, a message has left its source; the run of a timer has not. */
    stat->running = source->state.running + (stat->is_timer ? 0 : stuck);
    stat->queued = source->state.queued;
    stat->oldest_running_ns = oldest_ns(source, oldest, now);
    stat->dropped = source->state.dropped;
    stat->next_s = source->cron.planned;
    if (source->consumer)
        note_durable(source, &stat->durable);
    stat->is_reader = note_reader(source, &stat->reader);
}

/* The handlers, and behind them what else is there: hooks, and sources that are about to end. */
static bool note_sources(const struct engine *engine, struct script *script, uint64_t now,
                         struct script_stat *stat)
{
    struct source *source;
    int count;
    LL_COUNT(script->sources, source, count);
    stat->handlers = calloc((size_t)count + 1, sizeof *stat->handlers);
    if (!stat->handlers)
        return false;
    int from = 0, until = count;
    LL_FOREACH(script->sources, source) {
        int place = is_handler(script, source) ? from++ : --until;
        note_source(engine, source, now, &stat->handlers[place]);
        stat->handlers[place].is_live = is_live(script, source);
    }
    stat->handler_count = from;
    stat->source_count = count;
    return true;
}

/* --- under the dispatch lock: scripts --- */

static void note_memory(const struct generation *generation, struct script_stat *stat)
{
    for (const struct instance *instance = generation->instances; instance;
         instance = instance->next) {
        size_t bytes = atomic_load_explicit(&instance->memory_bytes, memory_order_relaxed);
        stat->memory.used_bytes += bytes;
        if (bytes > stat->memory.fullest_bytes)
            stat->memory.fullest_bytes = bytes;
    }
}

static bool note_script(const struct engine *engine, struct script *script, uint64_t now,
                        struct script_stat *stat)
{
    const struct generation *generation, *live = script->live;
    stat->name = script->name;
    stat->path = script->path;
    stat->served = script->served && !script->unloaded;
    stat->generation = live->number;
    stat->live_instances = live->instance_count;
    stat->complaint = copy_text(live->complaint);
    stat->start_failure = copy_text(live->start_failure);
    stat->memory.limit_bytes = live->memory_bytes;
    stat->publishes = script->account;
    stat->book = &script->tallies;
    DL_FOREACH(script->generations, generation) {
        stat->live_generations++;
        stat->instances += generation->instance_count;
        note_memory(generation, stat);
    }
    return note_sources(engine, script, now, stat);
}

/* What a lost thread runs has left its source, and is not counted by dispatch any more. */
static int count_stuck(const struct script_stat *stat)
{
    int count = 0;
    for (int i = 0; i < stat->source_count; i++)
        count += stat->handlers[i].is_timer ? 0 : stat->handlers[i].stuck;
    return count;
}

/* It is unloaded, and nothing of it runs any more. */
static bool has_ended(const struct script *script)
{
    return script->unloaded && !script->generations && !script->sources;
}

static bool note_scripts(struct engine *engine, struct engine_snapshot *snapshot)
{
    uint64_t now = clock_now_ns();
    struct script *script;
    must_hold(&engine->dispatch.lock);
    snapshot->running = engine->dispatch.running;
    snapshot->queued = engine->dispatch.queued;
    snapshot->scripts = calloc((size_t)engine->scripts.count + 1, sizeof *snapshot->scripts);
    bool whole = snapshot->scripts != NULL;
    for (script = engine->scripts.first; script && whole; script = script->next) {
        if (has_ended(script))
            continue;
        struct script_stat *stat = &snapshot->scripts[snapshot->script_count++];
        whole = note_script(engine, script, now, stat);
        snapshot->running += whole ? count_stuck(stat) : 0;
    }
    return whole;
}

/* --- what was counted --- */

static void read_consumer(const struct consumer_counts *counts, struct tally_stat *stat)
{
    stat->consumer.joined = stat_get(&counts->joined);
    stat->consumer.leases_lost = stat_get(&counts->leases_lost);
    stat->consumer.heartbeats = stat_get(&counts->heartbeats);
    stat->consumer.pulls = stat_get(&counts->pulls);
    for (int i = 0; i < PULL_ANSWERS; i++)
        stat->consumer.answers[i] = stat_get(&counts->answers[i]);
}

static void read_tally(const struct tally *tally, struct tally_stat *stat)
{
    stat->handler = copy_text(tally->handler);
    stat->twin = tally->twin;
    stat->kind = tally->kind->name;
    stat->takes_messages = tally->kind->brings == SOURCE_BRINGS_MESSAGES ||
                           tally->kind->brings == SOURCE_BRINGS_DELIVERIES;
    stat->stream = copy_text(tally->stream);
    stat->durable = copy_text(tally->durable);
    stat->error = tally->error;
    tally_read(tally, &stat->sum);
    if (tally->consumer)
        read_consumer(tally->consumer, stat);
}

static bool read_book(struct script_stat *stat)
{
    struct tally_book *book = stat->book;
    const struct tally *tally;
    int count;
    mutex_lock(&book->lock);
    DL_COUNT(book->tallies, tally, count);
    stat->tallies = calloc((size_t)count + 1, sizeof *stat->tallies);
    DL_FOREACH(book->tallies, tally) {
        if (stat->tallies && kind_handles(tally->kind))
            read_tally(tally, &stat->tallies[stat->tally_count++]);
    }
    tally_read_calls(book, &stat->calls);
    mutex_unlock(&book->lock);
    return stat->tallies;
}

static bool is_same(const struct handler_stat *handler, const struct tally_stat *tally)
{
    return handler->handler && tally->handler && handler->twin == tally->twin &&
           handler->is_durable == (tally->durable != NULL) &&
           strcmp(handler->handler, tally->handler) == 0;
}

/* That of the handler, which is most likely the one at this place: both are in order. NULL: a
 * version that is not live has just gone, and its tally with it. */
static struct tally_stat *find_tally(const struct script_stat *stat,
                                     const struct handler_stat *handler, int place)
{
    for (int i = 0; i < stat->tally_count; i++) {
        struct tally_stat *tally = &stat->tallies[(place + i) % stat->tally_count];
        if (is_same(handler, tally))
            return tally;
    }
    return NULL;
}

static void add_to_tally(struct tally_stat *tally, const struct handler_stat *handler)
{
    tally->running += handler->running;
    tally->stuck += handler->stuck;
    tally->queued += handler->queued;
    tally->is_live |= handler->is_live;
    if (handler->is_live && handler->is_durable)
        tally->now = &handler->durable;
    if (handler->oldest_running_ns > tally->oldest_running_ns)
        tally->oldest_running_ns = handler->oldest_running_ns;
}

/* Each source of the script is one of a tally's. */
static void join_tallies(struct script_stat *stat)
{
    int place = 0;
    for (int i = 0; i < stat->source_count; i++) {
        struct tally_stat *tally = find_tally(stat, &stat->handlers[i], place);
        stat->handlers[i].counted = tally;
        if (!tally)
            continue;
        add_to_tally(tally, &stat->handlers[i]);
        place = (int)(tally - stat->tallies) + 1;
    }
}

static bool read_counts(struct engine_snapshot *snapshot)
{
    for (int i = 0; i < snapshot->script_count; i++) {
        if (!read_book(&snapshot->scripts[i]))
            return false;
        join_tallies(&snapshot->scripts[i]);
    }
    return true;
}

/* --- the whole --- */

/* Without memory for them none are told. */
static void read_services(struct engine *engine, struct engine_snapshot *snapshot)
{
    struct discovery *discovery = engine->scripts.discovery;
    int count = discovery_list(discovery, NULL, 0);
    snapshot->services = count > 0 ? calloc((size_t)count, sizeof *snapshot->services) : NULL;
    if (!snapshot->services)
        return;
    int now = discovery_list(discovery, snapshot->services, count);
    snapshot->service_count = now < count ? now : count;
}

static void read_engine(struct engine *engine, struct engine_snapshot *snapshot)
{
    const struct watchdog_counts *counts = watchdog_counts(engine->watchdog);
    snapshot->raised = stat_get(&counts->stages[WATCHDOG_RAISE]);
    snapshot->escaped = stat_get(&counts->stages[WATCHDOG_ESCAPE]);
    snapshot->lost = stat_get(&counts->stages[WATCHDOG_LOSE]);
    snapshot->workers_busy = workers_busy(engine->workers, &snapshot->workers);
    snapshot->lost_threads = workers_lost(engine->workers);
    snapshot->lost_most = atomic_load(&engine->scripts.max_stuck);
    snapshot->machine_code_left = machine_code_left();
    offload_stat(engine->offload, &snapshot->offload);
    read_services(engine, snapshot);
    snapshot->stores = shared_stat(engine->shared, &snapshot->store_count);
}

struct engine_snapshot *engine_snapshot(struct engine *engine)
{
    struct engine_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (!snapshot)
        return NULL;
    dispatch_lock(&engine->dispatch);
    bool whole = note_scripts(engine, snapshot);
    dispatch_unlock(&engine->dispatch);
    if (!whole || !read_counts(snapshot)) {
        engine_snapshot_free(snapshot);
        return NULL;
    }
    read_engine(engine, snapshot);
    return snapshot;
}

static void clear_script(struct script_stat *stat)
{
    for (int i = 0; i < stat->source_count; i++) {
        free(stat->handlers[i].handler);
        free(stat->handlers[i].what);
        free(stat->handlers[i].durable.edited);
        free(stat->handlers[i].durable.group);
    }
    for (int i = 0; i < stat->tally_count; i++) {
        free(stat->tallies[i].handler);
        free(stat->tallies[i].stream);
        free(stat->tallies[i].durable);
    }
    free(stat->handlers);
    free(stat->tallies);
    free(stat->complaint);
    free(stat->start_failure);
}

void engine_snapshot_free(struct engine_snapshot *snapshot)
{
    if (!snapshot)
        return;
    for (int i = 0; i < snapshot->script_count; i++)
        clear_script(&snapshot->scripts[i]);
    free(snapshot->scripts);
    free(snapshot->stores);
    free(snapshot->services);
    free(snapshot);
}

void engine_ask_lag(struct engine *engine)
{
    struct script *script;
    struct source *source;
    dispatch_lock(&engine->dispatch);
    for (script = engine->scripts.first; script; script = script->next) {
        LL_FOREACH(script->sources, source) {
            if (source->consumer && is_live(script, source))
                consumer_ask_lag(source->consumer);
            if (source->copies && is_live(script, source))
                consumer_ask_lag(source->copies);
        }
    }
    dispatch_unlock(&engine->dispatch);
}

int64_t engine_stalled_ns(struct engine *engine)
{
    uint64_t now = clock_now_ns();
    dispatch_lock(&engine->dispatch);
    uint64_t takes = engine->dispatch.takes;
    bool waits = engine->dispatch.queue != NULL;
    dispatch_unlock(&engine->dispatch);
    if (!waits || takes != engine->stall.takes || !engine->stall.since_ns) {
        engine->stall.takes = takes;
        engine->stall.since_ns = now;
    }
    return (int64_t)(now - engine->stall.since_ns);
}
