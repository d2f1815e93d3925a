/* facts - what the judgements look at (judge/judge.h): made of what the engine's scripts have
 * registered, of the config, and of what a server was asked.
 *
 * facts_new is the main thread's, while no rollout is under way: what it makes borrows of the
 * engine, whose scripts must not change before it is freed. A copy is on its own, and any
 * thread's. */
#ifndef MOONBUS_APP_FACTS_H
#define MOONBUS_APP_FACTS_H

#include "judge/judge.h"

struct app;
struct bus;
struct err;
struct script;

struct facts {
    struct judge_facts judged; /* points into what follows */
    struct judge_script *scripts;
    struct judge_handler *handlers;
    struct judge_stream *streams;
    struct judge_bucket *buckets;
    const struct consumer_spec **specs; /* by place in handlers; NULL: it is no js.consume */
    const char **filters;               /* of a copy: those of all handlers */
    bool failed;                        /* something could not be kept for want of memory */
    struct cJSON *kept;                 /* owned: texts and JSON that only the facts have */
};

/* Of all scripts that serve, or that have just been loaded. NULL: no memory. */
struct facts *facts_new(struct app *app);
/* Without the specs: of a copy durables are not compared. NULL: no memory. */
struct facts *facts_copy(const struct facts *facts);
void facts_free(struct facts *facts); /* NULL is allowed */

/* Adds what streams the server has of those that are stated and named; all: its durables and its
 * version, too (not of a copy). Blocks, until deadline_ns at most. 0, or an error: it does not
 * answer, or has no JetStream. Where this user may not see everything, nothing is taken to be
 * missing. */
int facts_ask(struct facts *facts, struct bus *bus, bool all, uint64_t deadline_ns,
              struct err *err);

/* Keeps a copy of the text, or the JSON itself, for as long as the facts live. NULL: no memory. */
const char *facts_keep(struct facts *facts, const char *text);
struct cJSON *facts_keep_json(struct facts *facts, struct cJSON *json);

/* For facts.c: the buckets that the words of a script name (facts_buckets.c); and their copies,
 * whose texts are those of `from` until they are kept. */
void facts_buckets_find(struct facts *facts, struct script *script);
void facts_buckets_copy(struct facts *copy, const struct judge_facts *from);
void facts_buckets_keep(struct facts *copy);

#endif
