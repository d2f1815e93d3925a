/* The meters of a load test as JSON. */
#include "app/report_trial.h"

#include <cjson/cJSON.h>

#include "engine/engine.h"

static cJSON *histogram(const struct meter_histogram *histogram)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < METER_BUCKETS; i++) {
        uint64_t count = atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
        if (count == 0)
            continue;
        const double pair[] = {(double)meter_bucket_ns(i), (double)count};
        cJSON_AddItemToArray(list, cJSON_CreateDoubleArray(pair, 2));
    }
    return list;
}

static void add_count(cJSON *object, const char *name, const atomic_uint_least64_t *counter)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    cJSON_AddNumberToObject(object, name, (double)value);
}

static cJSON *stated(const struct meter_stated *stated)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "concurrency", stated->concurrency);
    cJSON_AddNumberToObject(object, "batch", stated->batch_size);
    cJSON_AddNumberToObject(object, "timeout_ns", (double)stated->timeout_ns);
    cJSON_AddNumberToObject(object, "ack_wait_ns", (double)stated->ack_wait_ns);
    return object;
}

static cJSON *handler(const struct meter *meter)
{
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "handler", meter->handler);
    cJSON_AddStringToObject(object, "stream", meter->stream);
    cJSON_AddStringToObject(object, "durable", meter->durable);
    cJSON_AddItemToObject(
        object, "filters",
        cJSON_CreateStringArray((const char *const *)meter->filters, meter->filter_count));
    if (meter->dead_letter)
        cJSON_AddStringToObject(object, "dead_letter", meter->dead_letter);
    cJSON_AddItemToObject(object, "stated", stated(&meter->stated));
    add_count(object, "runs", &meter->runs);
    add_count(object, "messages", &meter->messages);
    add_count(object, "failed", &meter->failed);
    add_count(object, "timeouts", &meter->timeouts);
    add_count(object, "redelivered", &meter->redelivered);
    add_count(object, "cpu_ns", &meter->cpu_ns);
    add_count(object, "state_bytes", &meter->state_bytes);
    cJSON_AddItemToObject(object, "duration", histogram(&meter->duration));
    cJSON_AddItemToObject(object, "wait", histogram(&meter->wait));
    return object;
}

cJSON *report_trial(struct trial *trial)
{
    cJSON *object = cJSON_CreateObject(), *handlers = cJSON_AddArrayToObject(object, "handlers");
    for (const struct meter *meter = trial_first(trial); meter; meter = trial_next(trial, meter))
        cJSON_AddItemToArray(handlers, handler(meter));
    cJSON_AddItemToObject(object, "streams", trial_streams(trial));
    return object;
}
