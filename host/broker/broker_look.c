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
