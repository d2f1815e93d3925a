/* registration - what a script has registered, compared with what it registers now. */
#include <stdlib.h>
#include <string.h>

#include "engine/generation.h"

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
    free((void *)consumer->deliver_time);
    cJSON_Delete(registration->extra);
    cJSON_Delete(registration->stream);
    free(registration->handler);
    free(registration->what);
    free(registration->file);
    free(registration->subject);
    free(registration->queue);
    free(registration->dead_letter);
    free(registration->order_header);
    free(registration);
}

bool registration_same(const struct registration *a, const struct registration *b)
{
    return a->kind == b->kind && strcmp(a->handler, b->handler) == 0;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool registration_same_consumer(const struct registration *now, const struct registration *then)
{
    const struct consumer_spec *a = &now->consumer, *b = &then->consumer;
    if (!same_text(a->stream, b->stream) || !same_text(a->durable, b->durable) ||
        a->filter_count != b->filter_count || a->ack_wait_ns != b->ack_wait_ns ||
        a->max_ack_pending != b->max_ack_pending || a->concurrency != b->concurrency ||
        a->deliver != b->deliver || a->deliver_sequence != b->deliver_sequence ||
        !same_text(a->deliver_time, b->deliver_time) || a->bind != b->bind ||
        !cJSON_Compare(a->extra, b->extra, true) != !(a->extra || b->extra))
        return false;
    for (int i = 0; i < a->filter_count; i++) {
        if (strcmp(a->filters[i], b->filters[i]) != 0)
            return false;
    }
    return true;
}

/* How messages are queued: what waits could not be sorted anew. */
static bool same_way(const struct registration *a, const struct registration *b)
{
    return a->order == b->order && a->order_token == b->order_token &&
           same_text(a->order_header, b->order_header) && a->batch_size == b->batch_size;
}

bool registration_continues(const struct registration *now, const struct registration *then)
{
    if (now->kind != then->kind)
        return false;
    if (now->kind == REGISTER_SUBSCRIBE)
        return same_text(now->subject, then->subject) && same_text(now->queue, then->queue);
    if (now->kind == REGISTER_CONSUME)
        return same_text(now->consumer.stream, then->consumer.stream) &&
               same_text(now->consumer.durable, then->consumer.durable) && same_way(now, then);
    return false;
}
