/* judging - the judgements (judge/judge.h) of a host that serves: each is logged once, when it is
 * new.
 *
 *   start, each rollout, a changed config ─▶ judging_look ─▶ logs what it did not find before
 *   when they serve                       ─▶ judging_ask ─▶ pool: asks the server, and likewise
 *
 * The main thread; what is asked is judged and logged on the pool, beside everything else: nothing
 * waits for it, and without JetStream, or without the permission to ask, there is nothing to say.
 */
#ifndef MOONBUS_APP_JUDGING_H
#define MOONBUS_APP_JUDGING_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/sync.h"

struct app;
struct facts;

/* What was found last time, a hash of each. */
struct judging_found {
    uint64_t *list; /* owned */
    int count;
};

struct judging {
    struct mutex lock;           /* the three below */
    struct judging_found looked; /* without a server */
    struct judging_found asked;  /* with what it has, and only then */
    unsigned looks;
    struct pool_job job;
    struct app *app;     /* not owned */
    struct facts *facts; /* owned: what is being asked; the pool's from submission on */
    unsigned asked_look; /* the facts were those of this look */
    atomic_bool asking;
    bool again; /* the main thread's: what is asked now is old already */
};

void judging_init(struct judging *judging, struct app *app);
/* While no rollout is under way. */
void judging_look(struct app *app);
void judging_ask(struct app *app);
/* On the main thread, when the pool has woken it. */
void judging_asked(struct app *app);
/* The pool has ended. */
void judging_clear(struct judging *judging);

#endif
