/* judge_look - questions to the facts that several judgements have; the files of judge alone.
 *
 * Pure functions, any thread. What is returned belongs to the facts. */
#ifndef MOONBUS_JUDGE_JUDGE_LOOK_H
#define MOONBUS_JUDGE_JUDGE_LOOK_H

#include "judge/judge.h"

const char *look_name(const struct judge_stream *stream);
/* Is it as the server has it, not as a script states it? */
bool look_is_servers(const struct judge_stream *stream);
/* The stream of that name: as the server has it, else as a script states it; or NULL. */
const struct judge_stream *look_stream(const struct judge_facts *facts, const char *name);
/* Does it store what is published to the subject, which may have wildcards? */
bool look_stores(const struct judge_stream *stream, const char *subject);
/* The stream that does, as of look_stream; or NULL. */
const struct judge_stream *look_stream_of(const struct judge_facts *facts, const char *subject);
/* "limits", "interest" or "workqueue". */
const char *look_retention(const struct judge_stream *stream);
bool look_is_work_queue(const struct judge_stream *stream);
/* So long does it know the ids of messages. */
int64_t look_window_ns(const struct judge_stream *stream);

const struct judge_script *look_script(const struct judge_facts *facts, const char *name);
/* Do the filters take the subject, which may have wildcards? */
bool look_filters_take(const struct judge_handler *handler, const char *subject);
/* May the script of the handler publish to that stream, as far as one can tell? */
bool look_is_output(const struct judge_facts *facts, const struct judge_handler *handler,
                    const struct judge_stream *stream);

/* Is the server that was asked older than nats-server 2.N? */
bool look_is_older(const struct judge_facts *facts, int minor);

/* "a" and "b" are the same, or both are NULL. */
bool look_same(const char *a, const char *b);

/* A duration for people, in one of a few buffers that are used in turn: at most four in one
 * sentence. up: what is to be stated, rounded up to what one would write. */
struct look_words {
    char texts[6][32];
    int next;
};
const char *look_duration(struct look_words *words, int64_t ns);
const char *look_round_up(struct look_words *words, int64_t ns);

#endif
