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

struct join;
struct publish_count;

/* How often each input has published to each subject. All zero: never. */
struct publish_counts {
    unsigned first;    /* of the first pair, which most runs have alone; 0: there is none */
    const void *input; /* of that, */
    char subject[48];  /* and its subject; one that is longer is among the others */
    struct publish_count *others; /* owned, uthash */
};

/* Has any? */
static inline bool publish_counts_any(const struct publish_counts *counts)
{
    return counts->first || counts->others;
}

/* The next k, from 1. input: which one, by its address, as long as the counts are used. 0: no
 * memory, or a subject above SUBJECT_MAX_BYTES. */
unsigned publish_counts_next(struct publish_counts *counts, const void *input, const char *subject);
void publish_counts_clear(struct publish_counts *counts);

/* Completes the id, in which its input's own one stands already. path: the task's, of those that
 * the run spawned. A subject that is too long for the buffer is there as its hash. False: not even
 * that has room. */
bool message_id(struct join *id, const char *path, unsigned k, const char *subject);

#endif
