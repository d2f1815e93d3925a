/* message_id - the ids of what a run publishes to JetStream (Nats-Msg-Id). Pure.
 *
 *     <input>:<path>.<k>:<subject>
 *
 * An input's next attempt must give each of its publishes the id that it had before, or it is
 * stored twice, and no two publishes the same one, or the second is dropped as a duplicate. So `k`
 * counts the publishes of one input to one subject, and nothing else: never those of other inputs,
 * which come in another composition in the next batch.
 *
 * For one thread at a time. */
#ifndef MOONBUS_ENGINE_RUN_MESSAGE_ID_H
#define MOONBUS_ENGINE_RUN_MESSAGE_ID_H

#include <stdbool.h>
#include <stddef.h>

struct publish_count;

/* How often each input has published to each subject. All zero: never. */
struct publish_counts {
    struct publish_count *first;  /* owned; most runs have one, which needs no hash; or NULL */
    struct publish_count *others; /* owned, uthash */
};

/* The next k, from 1. input: which one, by its address, as long as the counts are used. 0: no
 * memory, or a subject above
 * SUBJECT_MAX_BYTES. */
unsigned publish_counts_next(struct publish_counts *counts, const void *input, const char *subject);
void publish_counts_clear(struct publish_counts *counts);

/* Writes the id. input: its own id; path: the task's, of those that the run spawned. A subject that
 * is too long for buf is there as its hash. False: not even that has room. */
bool message_id(const char *input, const char *path, unsigned k, const char *subject, char *buf,
                size_t size);

#endif
