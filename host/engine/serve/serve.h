/* serve - a version of a script takes over: what is refused before that, which sources go on with
 * it, the switch, the end of the one before, and the start of what is new. What it needs of the
 * server is there by then (setup.h); rollout.h has the order of all this. Pool threads, with the
 * script's `changing` held.
 *
 *   accept.c         may it serve, as far as the process itself can tell?
 *   serve_letters.c  will the dead letters of a handler be kept?
 *   start.c          the "start" hooks that it waits for
 *   serve.c          the switch
 *   retire.c         the end of the version before */
#ifndef MOONBUS_ENGINE_SERVE_SERVE_H
#define MOONBUS_ENGINE_SERVE_SERVE_H

#include <stdbool.h>
#include <stdint.h>

struct bus;
struct err;
struct generation;
struct registration;
struct script;
struct source;

/* --- accept.c --- */

/* May this version of the script serve? 0, or why not, with its place: it handles nothing any more,
 * or (ERR_TAKEN) what another script handles that serves, or will when the rollout that is being
 * made is. */
int accept_generation(const struct script *script, const struct generation *generation,
                      struct err *err);
/* Before anything is served: 0, or ERR_TAKEN when another loaded script has a handler for one of
 * this one's durables; *mine: the registration that wants it. */
int accept_loaded(const struct script *script, const struct registration **mine, struct err *err);

/* --- serve_letters.c --- */

/* Is there a stream for the handler's dead letters, will it keep what it gets, and does none come
 * back to the handler? Blocks. */
int serve_check_letters(struct bus *bus, const struct registration *registration,
                        uint64_t deadline_ns, struct err *err);

/* --- start.c --- */

/* Runs the "start" hooks that a version waits for, and waits: 0, or how the first of them failed.
 * Before anything of it is started; its sources have been made. Blocks. */
int start_required(struct script *script, struct generation *generation, struct err *err);

/* --- serve.c --- */

/* Says which sources go on, and as what; without a generation: none. Each goes on once, so that
 * two handlers of one subject stay two. */
void serve_choose_heirs(struct script *script, struct generation *generation);
/* The source that a registration goes on with, if it can be changed. Only a reload frees heirs. */
struct source *serve_heir_of(struct script *script, const struct registration *registration);

/* With the dispatch lock held. The switch: what is queued goes to the new generation, whose
 * reference the script takes over; what runs finishes on the old one, whose reference is the
 * caller's then. NULL: nothing goes on, and the script keeps its last generation. */
void serve_switch(struct script *script, struct generation *generation);
/* Starts what has not started yet. "start" comes last: when it runs, and when we say ready, the
 * server has the subscriptions. */
int serve_start(struct script *script, struct err *err);
/* It is served from now on. */
void serve_note(struct script *script);

/* --- retire.c --- */

/* With the dispatch lock held: the generation has been replaced. What runs on it goes on, to its
 * own timeout. */
void retire_generation(struct generation *generation);
/* The old one's sources stop, but for those that go on, and it retires. Of more generations than
 * may live, what runs on the oldest is cancelled. */
void retire_replaced(struct script *script, struct generation *old);

#endif
