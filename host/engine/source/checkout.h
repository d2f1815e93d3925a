/* checkout - a worker gets something to do: a message, or what came to an instance's mailbox, and
 * the instance to do it on; and gives the instance back.
 *
 *   ready queue ── checkout_next ─▶ job: an idle instance of the source's generation, and a message
 *                      ▲                      │ the worker runs it, to its next wait or end
 *                      └── the instance, and which run has ended (checkout_ended) ◀──┘
 *
 * One acquisition of the dispatch lock gives the last instance back and takes the next job. What
 * may not be done under the lock (a verdict, a last reference) is done after it. */
#ifndef MOONBUS_ENGINE_SOURCE_CHECKOUT_H
#define MOONBUS_ENGINE_SOURCE_CHECKOUT_H

#include <stdbool.h>
#include <stdint.h>

struct delivery;
struct dispatch;
struct event;
struct instance;
struct registration;
struct sleeper;
struct source;

/* What a worker has got. */
struct job {
    struct instance *instance;         /* checked out, with a reference */
    struct event *events;              /* its mailbox; or */
    struct source *source;             /* a run: */
    struct registration *registration; /* of the instance's generation */
    struct delivery *delivery; /* its message, NULL for timers and hooks; of a batch the first */
    struct delivery **batch;   /* NULL: no batch; an array, to be freed */
    int batch_count;
    int64_t planned; /* of a cron line: the time of this run, seconds since 1970; else 0 */
    uint64_t now_ns; /* when it was taken */
};

/* The worker, with a sleeper of its own: checks in what it had (NULL: nothing), with its reference,
 * and blocks for the next. False: end. */
bool checkout_next(struct dispatch *dispatch, struct sleeper *sleeper, struct instance *had,
                   struct job *job);

/* The same without a next one. */
void checkout_return(struct dispatch *dispatch, struct instance *had);

/* The worker: a root task of the instance has ended. Its delivery leaves the active ones and is
 * released. Noted on the instance, and done under the lock when that is checked in. */
void checkout_ended(struct instance *instance, struct source *source, struct delivery *delivery);
/* The same for a batch. */
void checkout_ended_batch(struct instance *instance, struct source *source, struct delivery **batch,
                          int count);

/* A message of an ordered source shall be run again after delay_ns, its key waits for it. False: it
 * is in no order, or the source stops: nak it. Before checkout_ended. */
bool checkout_hold(struct source *source, struct delivery *delivery, int64_t delay_ns);

/* A message whose handler was cancelled with its generation shall be run again, on the one that
 * serves now: no redelivery, no attempt lost. False: nothing serves it any more, nak it. Before
 * checkout_ended. */
bool checkout_rebind(struct source *source, struct delivery *delivery);

/* With the dispatch lock held: the thread that has the instance may never come back. Its messages
 * leave their sources; returns those that are to be handed back, a reference each (utlist). */
struct delivery *checkout_lose(struct instance *instance);

#endif
