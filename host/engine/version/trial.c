/* trial - meters: found by the handler's name, and counted by any worker. */
#include "engine/version/trial.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/sync.h"
#include "engine/version/registration.h"

struct trial {
    const struct trial_options options;
    struct mutex lock; /* a leaf; guards the lists. What a meter counts is atomic. */
    struct meter *meters;
    cJSON *streams; /* owned */
};

struct trial *trial_new(const struct trial_options *options)
{
    struct trial *trial = calloc(1, sizeof *trial);
    cJSON *streams = cJSON_CreateArray();
    if (!trial || !streams) {
        free(trial);
        cJSON_Delete(streams);
        return NULL;
    }
    memcpy((void *)&trial->options, options, sizeof *options);
    trial->streams = streams;
    mutex_init(&trial->lock);
    return trial;
}

static void meter_free(struct meter *meter)
{
    for (int i = 0; i < meter->filter_count; i++)
        free(meter->filters[i]);
    free(meter->filters);
    free(meter->handler);
    free(meter->stream);
    free(meter->durable);
    free(meter->dead_letter);
    free(meter);
}

void trial_free(struct trial *trial)
{
    struct meter *meter, *next;
    if (!trial)
        return;
    LL_FOREACH_SAFE(trial->meters, meter, next)
        meter_free(meter);
    cJSON_Delete(trial->streams);
    mutex_destroy(&trial->lock);
    free(trial);
}

/* --- settings --- */

static const struct trial_settings *settings_of(const struct trial *trial, const char *handler)
{
    const struct trial_settings *found = NULL;
    for (int i = 0; i < trial->options.count; i++) {
        const struct trial_settings *settings = &trial->options.settings[i];
        if (!settings->handler ? !found : strcmp(settings->handler, handler) == 0)
            found = settings;
    }
    return found;
}

static void put_settings(struct registration *registration, const struct trial_settings *settings)
{
    struct consumer_spec *consumer = &registration->consumer;
    if (settings->concurrency)
        registration->concurrency = settings->concurrency;
    if (settings->batch_size && registration->batch_size) /* else it expects single messages */
        registration->batch_size = settings->batch_size;
    if (settings->timeout_ns)
        registration->timeout_ns = settings->timeout_ns;
    if (settings->ack_wait_ns) {
        consumer->ack_wait_ns = settings->ack_wait_ns;
        consumer->ack_wait_stated = true;
    }
}

/* --- meters --- */

static bool copy_filters(struct meter *meter, const struct consumer_spec *consumer)
{
    meter->filters = calloc((size_t)consumer->filter_count + 1, sizeof *meter->filters);
    for (int i = 0; meter->filters && i < consumer->filter_count; i++) {
        meter->filters[i] = strdup(consumer->filters[i]);
        if (!meter->filters[i])
            return false;
        meter->filter_count++;
    }
    return meter->filters != NULL;
}

static struct meter *meter_new(const struct registration *registration)
{
    const struct consumer_spec *consumer = &registration->consumer;
    struct meter *meter = calloc(1, sizeof *meter);
    if (!meter)
        return NULL;
    meter->handler = strdup(registration->handler);
    meter->stream = strdup(consumer->stream);
    meter->durable = strdup(consumer->durable);
    meter->dead_letter = registration->dead_letter ? strdup(registration->dead_letter) : NULL;
    meter->stated = (struct meter_stated){.concurrency = registration->concurrency,
                                          .batch_size = registration->batch_size,
                                          .timeout_ns = registration->timeout_ns,
                                          .ack_wait_ns = consumer->ack_wait_ns};
    if (meter->handler && meter->stream && meter->durable && copy_filters(meter, consumer))
        return meter;
    meter_free(meter);
    return NULL;
}

/* Without memory: none, and the handler goes unmeasured. */
static struct meter *meter_of(struct trial *trial, const struct registration *registration)
{
    struct meter *meter;
    mutex_lock(&trial->lock);
    LL_FOREACH(trial->meters, meter) {
        if (strcmp(meter->handler, registration->handler) == 0)
            break;
    }
    if (!meter && (meter = meter_new(registration)))
        LL_APPEND(trial->meters, meter);
    mutex_unlock(&trial->lock);
    return meter;
}

void trial_take(struct trial *trial, struct registration *registration)
{
    const struct trial_settings *settings = settings_of(trial, registration->handler);
    registration->meter = meter_of(trial, registration);
    registration->consumer.bind = false;
    if (settings)
        put_settings(registration, settings);
}

void trial_take_stream(struct trial *trial, const cJSON *stream)
{
    cJSON *copy = cJSON_Duplicate(stream, true);
    mutex_lock(&trial->lock);
    if (copy)
        cJSON_AddItemToArray(trial->streams, copy);
    mutex_unlock(&trial->lock);
}

const struct meter *trial_first(struct trial *trial)
{
    mutex_lock(&trial->lock);
    const struct meter *first = trial->meters;
    mutex_unlock(&trial->lock);
    return first;
}

const struct meter *trial_next(struct trial *trial, const struct meter *meter)
{
    mutex_lock(&trial->lock);
    const struct meter *next = meter->next;
    mutex_unlock(&trial->lock);
    return next;
}

cJSON *trial_streams(struct trial *trial)
{
    mutex_lock(&trial->lock);
    cJSON *copy = cJSON_Duplicate(trial->streams, true);
    mutex_unlock(&trial->lock);
    return copy;
}

/* --- counting --- */

/* Below METER_STEPS each value has its own bucket; above, each doubling has METER_STEPS. */
static int bucket_of(uint64_t ns)
{
    uint64_t value = ns >> METER_SHIFT;
    if (value < METER_STEPS)
        return (int)value;
    int shift =
        58 - __builtin_clzll(value); /* brings it to METER_STEPS and above, below twice it */
    int bucket = (shift + 1) * METER_STEPS + (int)((value >> shift) - METER_STEPS);
    return bucket < METER_BUCKETS ? bucket : METER_BUCKETS - 1;
}

uint64_t meter_bucket_ns(int bucket)
{
    int shift = bucket / METER_STEPS - 1;
    uint64_t value = shift < 0 ? (uint64_t)bucket + 1
                               : (uint64_t)(METER_STEPS + bucket % METER_STEPS + 1) << shift;
    return (value << METER_SHIFT) - 1;
}

static void add_relaxed(atomic_uint_least64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void observe(struct meter_histogram *histogram, uint64_t ns)
{
    add_relaxed(&histogram->buckets[bucket_of(ns)], 1);
}

static void raise_to(atomic_uint_least64_t *most, uint64_t value)
{
    uint64_t seen = atomic_load_explicit(most, memory_order_relaxed);
    while (value > seen && !atomic_compare_exchange_weak_explicit(
                               most, &seen, value, memory_order_relaxed, memory_order_relaxed))
        ;
}

void meter_note(struct meter *meter, const struct meter_run *run)
{
    add_relaxed(&meter->runs, 1);
    add_relaxed(&meter->messages, (uint64_t)run->messages);
    add_relaxed(&meter->cpu_ns, run->cpu_ns);
    observe(&meter->duration, run->duration_ns);
    raise_to(&meter->state_bytes, run->state_bytes);
    if (run->failed)
        add_relaxed(&meter->failed, 1);
    if (run->timed_out)
        add_relaxed(&meter->timeouts, 1);
}

void meter_note_message(struct meter *meter, int64_t wait_ns, bool redelivered)
{
    if (redelivered)
        add_relaxed(&meter->redelivered, 1);
    else
        observe(&meter->wait, wait_ns > 0 ? (uint64_t)wait_ns : 0);
}
