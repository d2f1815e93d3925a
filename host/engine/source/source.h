/* source - where the work of one registered handler comes from: a subscription, a durable, a timer,
 * a hook; and its queue.
 *
 *   on_delivery ── source_push ─▶ fifo ─┐
 *   timers, hooks ── source_tick ─▶ owed ┴─▶ ready queue ─▶ checkout (a worker)
 *
 * It outlives generations: a switch is `source.generation = new` under the dispatch lock. Queued
 * messages keep their order. How far it is, and how much it has: source_state.h. It is its
 * script's, until it has ended with its generation.
 *
 *   source.c        made, started, stopped, freed; timers and hooks
 *   source_push.c   what comes to it
 *   source_back.c   what comes back to it: a worker had it in hand */
#ifndef MOONBUS_ENGINE_SOURCE_SOURCE_H
#define MOONBUS_ENGINE_SOURCE_SOURCE_H

#include <stdatomic.h>

#include "base/clock.h"
#include "engine/sched/dispatch.h"
#include "engine/source/source_state.h"
#include "engine/version/registration.h"

struct consumer;
struct delivery;
struct generation;
struct hand;
struct instance;
struct lanes;
struct mirror_feed;
struct script;
struct scripts;
struct subscription;
struct stream_watch;

struct source {
    struct ready ready;
    struct scripts *scripts;              /* not owned */
    struct script *script;                /* not owned */
    struct source *next;                  /* script's list */
    struct source *wait_prev, *wait_next; /* generation's list of those in want of an instance */
    bool waiting;

    /* Under the dispatch lock. */
    struct source_state state;
    struct generation *generation;     /* reference held; live for this source */
    struct registration *registration; /* the generation's */
    struct registration *heir; /* a rollout is being made: of the new generation, which goes on
                                  with this source; or NULL */
    struct delivery *fifo;     /* utlist: queued, a reference each */
    struct delivery *active;   /* utlist: their handlers run, or they are in a worker's hand, a
                                  reference each */
    struct delivery *parting;  /* utlist: never started, to be handed back when the
                                  subscription has drained; a reference each */
    struct deadline timer; /* EVERY, AFTER, CRON, batch, want of memory; state.armed counts it */
    uint64_t next_ns;      /* EVERY: when it is due */
    struct {
        int64_t planned; /* the time of the line that comes next, seconds since 1970; 0: none yet */
        int64_t due;     /* that of the run that is owed */
        int64_t seen_ns; /* the wall clock, when it was looked at last */
    } cron;              /* CRON */

    struct subscription *subscription; /* owned; SUBSCRIBE */
    struct consumer *consumer;         /* owned; CONSUME */
    struct consumer *copies;           /* owned; CONSUME: its long retries come by it; or NULL */
    atomic_int draining;               /* CONSUME: consumers that have not stopped yet, */
    void (*on_drained)(void *source);  /* and what is called then */
    struct stream_watch *watch;        /* owned; WATCH */
    struct mirror_feed *feed;          /* owned; MIRROR */
    struct lanes *lanes;               /* owned; CONSUME with order_by */
    bool warned;                       /* of what its handler returns */
    atomic_bool kept_logged;           /* that a reply of its handler was not sent */
};

/* --- source.c --- */

/* For a registration, on the script's list, IDLE. NULL when out of memory. */
struct source *source_new(struct script *script, struct generation *generation,
                          struct registration *registration);
/* When nothing of it runs any more, and the bus has stopped. Not on the list any more. */
void source_free(struct source *source);
/* The same of one that has never started: it leaves the list first. */
void source_free_unstarted(struct source *source);
/* Frees those of the script's sources that have ended with their generation. The pool. */
void source_reap(struct script *script);

/* Begins to bring messages; 0 or an error. With the script's `starting` held. */
int source_start(struct source *source, struct err *err);
/* No new messages; what is queued is handed back (JetStream) or still handled (core). With
 * `starting` held. */
void source_stop(struct source *source);
/* Hands back what never started; by itself when it has drained. */
void source_hand_back(struct source *source);
/* Takes the dispatch lock. */
enum source_phase source_phase(struct source *source);

/* With the dispatch lock held: it serves for this generation from now on, as its heir. */
void source_hand_over(struct source *source, struct generation *generation);
/* With the dispatch lock held: a timer ticks no more, not even a tick that is owed. */
void source_cancel(struct source *source);
/* `:cancel()` of a timer that was made while the script loaded: index of its registration. For the
 * whole process, whichever instance asks. */
void source_cancel_timer(struct instance *instance, int index);
/* With the dispatch lock held: one run of each hook of that sort is owed. Returns how many. */
int source_hooks_due(struct script *script, struct generation *generation,
                     enum source_brings brings);
/* With the dispatch lock held: its timer is due then. */
void source_arm(struct source *source, uint64_t due_ns);
/* Any thread: one run of a timer or hook is owed. */
void source_tick(struct source *source);

/* --- source_push.c --- */

/* Any thread: takes the references of one delivery or several, as the sink has them (intake.h).
 * When the source has no room (core), or no longer takes messages, they are dropped or handed back
 * here.
 */
void source_push(struct source *source, struct delivery *list);
/* Any thread: for a core message there was no memory. */
void source_drop_unread(struct source *source);
/* Any thread: what an ordered source missed has come, or is waited for no longer. */
void source_whole(struct source *source);
/* Takes everything that has not started; the caller hands it back. */
struct delivery *source_empty(struct source *source);

/* All that follows with the dispatch lock held. */

/* It has work: it joins the ready queue. May be called when there is nothing to do. */
void source_ready(struct source *source);
/* The batch that begins with what is queued now shall not wait for ever. */
void source_batch_wait(struct source *source);
/* There was no memory for its next batch, or for a lane: it is tried again in a moment. */
void source_try_again(struct source *source);
/* What its lanes hold back is queued as far as it may be (lanes_end_hold_back). */
void source_end_hold_back(struct source *source);
/* Counts a message that is queued, or waits in a lane; and one that is not any more. */
void source_count_queued(struct source *source, const struct delivery *delivery);
void source_count_unqueued(struct source *source, const struct delivery *delivery);

/* --- source_back.c, with the dispatch lock held --- */

/* What is in the hand, and its worker has not begun, was never begun: it is queued again, before
 * all others, and for whichever version serves then. */
void source_take_back(struct hand *hand);
/* The same of all hands that have something of this source. */
void source_take_all_back(struct source *source);

#endif
