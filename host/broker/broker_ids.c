/* The message ids that a stream knows, for as long as its duplicate window. A test may store tens
 * of thousands while its clock stands, so each is found by a hash. */
#include <stdlib.h>
#include <string.h>

#include "broker/broker_private.h"

static struct known_id **chain_of(struct broker_stream *stream, const char *text)
{
    uint32_t hash = UINT32_C(2166136261);
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * UINT32_C(16777619);
    return &stream->ids_by_hash[hash % BROKER_ID_CHAINS];
}

/* The oldest one of all goes. */
static void drop_first(struct broker_stream *stream)
{
    struct known_id *id = stream->ids, **at = chain_of(stream, id->text);
    while (*at != id)
        at = &(*at)->chained;
    *at = id->chained;
    stream->ids = id->next;
    if (!stream->ids)
        stream->ids_tail = NULL;
    free(id);
}

const struct known_id *broker_ids_find(struct broker_stream *stream, const char *text)
{
    while (stream->ids && stream->ids->until_ns <= stream->broker->now_ns)
        drop_first(stream);
    const struct known_id *id = *chain_of(stream, text);
    while (id && strcmp(id->text, text) != 0)
        id = id->chained;
    return id;
}

void broker_ids_note(struct broker_stream *stream, const char *text)
{
    struct known_id *id = malloc(sizeof *id + strlen(text) + 1);
    struct known_id **chain = chain_of(stream, text);
    if (!id)
        return;
    id->next = NULL;
    id->sequence = stream->last;
    id->until_ns = stream->broker->now_ns + stream->settings.duplicate_window_ns;
    strcpy(id->text, text);
    id->chained = *chain;
    *chain = id;
    if (stream->ids_tail)
        stream->ids_tail->next = id;
    else
        stream->ids = id;
    stream->ids_tail = id;
}

void broker_ids_free(struct broker_stream *stream)
{
    while (stream->ids)
        drop_first(stream);
}
