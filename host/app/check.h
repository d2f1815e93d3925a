/* check - everything is loaded as a host loads it, and nothing is started: no subscription, no
 * timer, no hook, no connection but to ask. What is registered then is judged (judge/judge.h).
 *
 *   files ─ load ─▶ facts ─ (ask the server) ─▶ findings ─▶ on_checked
 *
 * Called once in a process, by its main thread. */
#ifndef MOONBUS_APP_CHECK_H
#define MOONBUS_APP_CHECK_H

#include "app/app_options.h"
#include "judge/judge.h"
#include "vm/vm.h"

/* A file that does not load. */
struct check_refusal {
    const char *name; /* of the script */
    const struct failure *failure;
};

/* All of it borrowed for the call. */
struct checked {
    const struct judge_facts *facts;
    const struct judge_findings *findings;
    const struct check_refusal *refusals;
    int refusal_count;
};

struct check_options {
    struct app_options app; /* config, paths */
    bool asks_server;
    /* Everything was loaded and judged. */
    void (*on_checked)(void *owner, const struct checked *checked);
    void *owner;
    struct err *failed; /* what went wrong, where it was not checked; or NULL */
};

/* status: APP_OK, also with findings and refusals; APP_USAGE: a path is not there; APP_FAILED: the
 * server does not answer. What went wrong has been logged. */
struct app_end check_run(const struct check_options *options);

#endif
