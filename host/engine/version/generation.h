/* generation - one loaded version of a script: what it registers, and its instances.
 *
 * The first instance to load says what the generation registers; every further one must register
 * the same. Its order may be another, for a script may walk a table of handlers with pairs(): then
 * its functions are put into the order of the first, where a handler is found by its place.
 * References: its script while it is live, each instance, each source that serves for it. How many
 * instances it has, and when they go, is its crew's matter (engine/source/crew.h). */
#ifndef MOONBUS_ENGINE_VERSION_GENERATION_H
#define MOONBUS_ENGINE_VERSION_GENERATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/pool.h"
#include "engine/version/registration.h"
#include "vm/loader.h"

struct failure;
struct instance;
struct policy;
struct script;
struct scripts;
struct source;
struct texts;

struct generation {
    struct generation *prev, *next; /* script's list of all that live; dispatch lock */
    atomic_int references;
    struct scripts *scripts;             /* not owned */
    struct script *script;               /* a reference */
    unsigned number;                     /* from 1 */
    struct registration **registrations; /* owned */
    int registration_count;
    int instance_limit;
    size_t memory_bytes;
    struct policy *policy;        /* a reference */
    struct loader_options loader; /* borrows of policy and warned */
    struct loader_names *warned;  /* owned */
    struct texts *texts; /* a reference; further instances are of the same text as the first */

    const atomic_bool *hurry; /* not owned: while it is built, true: give it up; or NULL */

    /* Under the dispatch lock. */
    struct instance *instances; /* all; a reference each */
    int instance_count;         /* without those that are worn */
    int worn;
    bool building;   /* one more is being loaded on the pool */
    char *complaint; /* owned; why the last further instance did not load; NULL: it did */
    bool broken;     /* a further instance did not load as the first: no more of them */
    struct instance *idle;
    struct source *waiting; /* sources with work, in want of an idle instance */
    bool retired;           /* no source gets new work for it */
    bool stop_ran;          /* its "stop" hooks have been made due */
    bool reaping;           /* its states are being closed on the pool */
    bool closed;            /* they are */
    char *start_failure;    /* owned; of the first "start" hook that failed; NULL: none */
    bool cancelled;         /* it was one too many: what ran on it was cancelled */
    int running;            /* root tasks on it */
    struct pool_job growing, closing;
    struct deadline regrowing; /* when it has no instance left and the next did not load; armed
                                  with a reference */
};

/* Loads the first instance and with it the registrations, and then further ones, up to `instances`:
 * all of them, or none. A generation that begins with as many as the last one had makes no message
 * wait for the second. Blocks, not on a worker. read, hurry: as of engine_load. One
 * reference. NULL with failure. */
struct generation *generation_build(struct script *script, unsigned number, int instances,
                                    struct texts *read, const atomic_bool *hurry,
                                    struct failure *failure);
struct generation *generation_retain(struct generation *generation);
void generation_release(struct generation *generation);

/* A further instance, which registers the same as the first; on the pool. NULL with failure. */
struct instance *generation_load_further(struct generation *generation, struct failure *failure);

/* With the dispatch lock held. It is one of the generation's from now on, which takes the
 * reference, and idle. */
void generation_add(struct generation *generation, struct instance *instance);
/* It is idle; it is not any more, if it was. */
void generation_add_idle(struct generation *generation, struct instance *instance);
void generation_remove_idle(struct generation *generation, struct instance *instance);

/* As instance_load, on a thread of its own: nothing that the script does keeps the caller for
 * longer than the deadline and a little. In load.c. */
struct instance *load_aside(struct generation *generation, struct loading *loading,
                            struct failure *failure);

#endif
