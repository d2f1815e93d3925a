/* What is told of a stream: its settings, its state, its subjects. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/value.h"
#include "broker/broker_private.h"

#define SUBJECTS_PAGE 100000
#define NO_TIME "0001-01-01T00:00:00Z" /* as Go writes it */

static void add_state(cJSON *answer, const struct broker_stream *stream)
{
    cJSON *state = cJSON_AddObjectToObject(answer, "state");
    int consumers = 0;
    const struct broker_consumer *consumer;
    LL_COUNT(stream->consumers, consumer, consumers);
    const struct broker_stored *oldest = broker_stream_at(stream, stream->first);
    const struct broker_stored *newest = broker_stream_at(stream, stream->last);
    broker_json_add_count(state, "messages", stream->count);
    broker_json_add_count(state, "bytes", stream->bytes);
    broker_json_add_count(state, "first_seq", stream->last ? stream->first : 0);
    if (oldest)
        broker_json_add_time(state, "first_ts", oldest->timestamp_ns);
    else
        cJSON_AddStringToObject(state, "first_ts", NO_TIME);
    broker_json_add_count(state, "last_seq", stream->last);
    if (newest)
        broker_json_add_time(state, "last_ts", newest->timestamp_ns);
    else
        cJSON_AddStringToObject(state, "last_ts", NO_TIME);
    broker_json_add_count(state, "consumer_count", (uint64_t)consumers);
}

void broker_state_describe(cJSON *answer, const struct broker_stream *stream)
{
    cJSON_AddItemToObject(answer, "config", cJSON_Duplicate(stream->config, true));
    broker_json_add_time(answer, "created", stream->created_ns);
    add_state(answer, stream);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The subjects that the filter takes, a page of them, each with how many messages it has. */
void broker_state_subjects(cJSON *answer, const struct broker_stream *stream, const char *filter,
                           int64_t offset)
{
    char **names = calloc(stream->slots + 1, sizeof *names);
    size_t count = 0;
    for (size_t i = 0; names && i < stream->slots; i++) {
        struct broker_stored *stored = stream->messages[i];
        if (stored && subject_matches(filter, stored->subject))
            names[count++] = stored->subject;
    }
    if (names)
        qsort(names, count, sizeof *names, by_name);
    int64_t total = 0;
    cJSON *subjects = cJSON_CreateObject();
    for (size_t i = 0, same; i < count; i += same) {
        for (same = 1; i + same < count && strcmp(names[i], names[i + same]) == 0;)
            same++;
        if (total++ >= offset && total - offset <= SUBJECTS_PAGE)
            cJSON_AddNumberToObject(subjects, names[i], (double)same);
    }
    free(names);
    if (total > 0)
        cJSON_AddItemToObject(cJSON_GetObjectItem(answer, "state"), "subjects", subjects);
    else
        cJSON_Delete(subjects);
    cJSON_AddNumberToObject(answer, "total", (double)total);
    cJSON_AddNumberToObject(answer, "offset", total > 0 ? (double)offset : 0);
    cJSON_AddNumberToObject(answer, "limit", total > 0 ? SUBJECTS_PAGE : 0);
}
