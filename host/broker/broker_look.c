/* What is asked of durables by those who are beside the broker, and no clients. */
#include <utlist.h>

#include "broker/broker_private.h"

bool broker_count_from(struct broker *broker, const char *stream_name, const char *durable,
                       uint64_t deliveries)
{
    struct broker_stream *stream = broker_stream_find(broker, stream_name);
    struct broker_consumer *consumer = stream ? broker_consumer_find(stream, durable) : NULL;
    if (consumer)
        consumer->count_from = deliveries;
    return consumer != NULL;
}

bool broker_place(struct broker *broker, const struct broker_placed *placed)
{
    struct broker_stream *stream = broker_stream_find(broker, placed->stream);
    struct broker_consumer *consumer =
        stream ? broker_consumer_find(stream, placed->durable) : NULL;
    if (!consumer || placed->sequence == 0 ||
        !broker_stream_put(stream, &placed->message, placed->sequence, placed->timestamp_ns))
        return false;
    consumer->delivered = placed->sequence - 1;
    consumer->first_at = consumer->first_count;
    broker_consumer_serve(consumer);
    return true;
}

uint64_t broker_unsettled(const struct broker *broker)
{
    const struct broker_stream *stream;
    const struct broker_consumer *consumer;
    uint64_t count = 0;
    LL_FOREACH(broker->streams, stream) {
        LL_FOREACH(stream->consumers, consumer)
            count += consumer->pending_count + broker_consumer_unseen(consumer);
    }
    return count;
}
