/* registration - what a script has registered, compared with what it registers now. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "base/zone.h"
#include "engine/version/registration.h"

void registration_free(struct registration *registration)
{
    if (!registration)
        return;
    struct consumer_spec *consumer = &registration->consumer;
    for (int i = 0; i < consumer->filter_count; i++)
        free((void *)consumer->filters[i]);
    free((void *)consumer->filters);
    free((void *)consumer->stream);
    free((void *)consumer->durable);
    free((void *)consumer->owner);
    free((void *)consumer->deliver_time);
    free((void *)consumer->group);
    cJSON_Delete(registration->extra);
    cJSON_Delete(registration->stream);
    cJSON_Delete(registration->stream_defaults);
    free(registration->bucket);
    cJSON_Delete(registration->metadata);
    free(registration->service);
    free(registration->version);
    free(registration->description);
    free(registration->endpoint);
    free(registration->handler);
    free(registration->what);
    free(registration->file);
    free(registration->module);
    free(registration->subject);
    free(registration->queue);
    free(registration->dead_letter);
    free(registration->order_header);
    free(registration->schema);
    free(registration->needs);
    free(registration->cron_line);
    zone_release(registration->zone);
    free(registration);
}

bool registration_gives_up(const struct registration *registration)
{
    return registration->dead_letter || registration->drops;
}

int64_t registration_backoff_ns(const struct registration *registration, uint64_t attempt)
{
    struct backoff backoff = registration->backoff;
    if (attempt >= (uint64_t)registration->attempts && !registration_gives_up(registration))
        backoff.min_ns = backoff.max_ns;
    return backoff_delay_ns(&backoff, attempt, retry_random());
}

/* From some attempt on each takes the longest there is. */
#define RETRIES_ADDED 64

int64_t registration_retries_ns(const struct registration *registration)
{
    const struct backoff *backoff = &registration->backoff;
    int64_t sum_ns = 0, delay_ns = 0;
    int retries = registration->attempts - 1, i = 0;
    for (; i < retries && i < RETRIES_ADDED; i++) {
        delay_ns = backoff_delay_ns(backoff, (uint64_t)i + 1, 1);
        sum_ns += delay_ns;
    }
    if (i < retries)
        sum_ns += (int64_t)((double)(retries - i) * (double)delay_ns);
    return sum_ns;
}

int64_t registration_longest_retry_ns(const struct registration *registration)
{
    struct backoff backoff = registration->backoff;
    int retries = registration->attempts - 1;
    if (!registration_gives_up(registration))
        backoff.min_ns = backoff.max_ns; /* at which it goes on for ever */
    else if (retries == 0)
        return 0;
    return backoff_delay_ns(&backoff, (uint64_t)retries, 1);
}

bool registration_same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* What people call it says the subject, the durable, the stream, or the period. */
static bool same_name(const struct registration *a, const struct registration *b)
{
    return a->kind == b->kind && strcmp(a->handler, b->handler) == 0 &&
           registration_same_text(a->queue, b->queue);
}

#define NOT_FOUND (-1)

/* The first of its like that is not taken. */
static int find_like(const struct registration *const *first, int count, const bool *taken,
                     const struct registration *wanted, bool function_too)
{
    for (int i = 0; i < count; i++) {
        if (!taken[i] && same_name(first[i], wanted) &&
            (!function_too || first[i]->alike == wanted->alike))
            return i;
    }
    return NOT_FOUND;
}

/* Those whose function tells it come first, so that they are not taken by others of the name. */
static void match_all(const struct registration *const *first, int count, const struct loading *now,
                      bool *taken, int *order)
{
    for (int i = 0; i < now->count; i++)
        order[i] = NOT_FOUND;
    for (int by_function = 1; by_function >= 0; by_function--) {
        for (int i = 0; i < now->count; i++) {
            if (order[i] == NOT_FOUND)
                order[i] = find_like(first, count, taken, now->items[i], by_function);
            if (order[i] != NOT_FOUND)
                taken[order[i]] = true;
        }
    }
}

static int differs(const struct registration *registration, const char *who, struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "%s (%s:%d) is registered by %s: a script must register the same each time it "
                   "loads, in whatever order",
                   registration->handler, registration->file, registration->line, who);
}

int registrations_match(const struct registration *const *first, int first_count,
                        const struct loading *now, int *order, struct err *err)
{
    bool *taken = calloc((size_t)first_count + 1, sizeof *taken);
    if (!taken)
        return err_set(err, ERR_MEMORY, "no memory for a further instance");
    int code = 0;
    match_all(first, first_count, now, taken, order);
    for (int i = 0; i < now->count && !code; i++) {
        if (order[i] == NOT_FOUND)
            code = differs(now->items[i], "a further instance and not by the first", err);
    }
    for (int i = 0; i < first_count && !code; i++) {
        if (!taken[i])
            code = differs(first[i], "the first instance and not by a further one", err);
    }
    free(taken);
    return code;
}

bool registration_same_consumer(const struct registration *now, const struct registration *then)
{
    const struct consumer_spec *a = &now->consumer, *b = &then->consumer;
    if (!registration_same_text(a->stream, b->stream) ||
        !registration_same_text(a->durable, b->durable) || a->filter_count != b->filter_count ||
        a->ack_wait_ns != b->ack_wait_ns || a->max_ack_pending != b->max_ack_pending ||
        a->concurrency != b->concurrency || a->deliver != b->deliver ||
        a->deliver_sequence != b->deliver_sequence ||
        !registration_same_text(a->deliver_time, b->deliver_time) || a->bind != b->bind ||
        !registration_same_text(a->group, b->group) || a->policy != b->policy ||
        a->pin_timeout_ns != b->pin_timeout_ns || a->priority != b->priority ||
        a->min_pending != b->min_pending || a->min_ack_pending != b->min_ack_pending ||
        a->update != b->update || a->fixed != b->fixed ||
        a->ack_wait_stated != b->ack_wait_stated ||
        a->max_ack_pending_stated != b->max_ack_pending_stated ||
        !cJSON_Compare(a->extra, b->extra, true) != !(a->extra || b->extra))
        return false;
    for (int i = 0; i < a->filter_count; i++) {
        if (strcmp(a->filters[i], b->filters[i]) != 0)
            return false;
    }
    return true;
}
