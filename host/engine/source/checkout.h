/* checkout - a worker gets something to do: messages, or what came to an instance's mailbox, and
 * the instance to do it on; and gives the instance back.
 *
 *   ready queue ── checkout_next ─▶ job: an idle instance of the source's generation, and a message
 *                      ▲                 (further ones in hand: hand.h, checkout_next_in_hand)
 *                      │                      │ the worker runs them, to their next wait or end
 *                      └── the instance, and which runs have ended (checkout_ended) ◀──┘
 *
 * One acquisition of the dispatch lock gives the last instance back and takes the next job. What
 * may not be done under the lock (a verdict, a last reference) is done after it. */
#ifndef MOONBUS_ENGINE_SOURCE_CHECKOUT_H
#define MOONBUS_ENGINE_SOURCE_CHECKOUT_H

#include <stdbool.h>
#include <stdint.h>

struct deadline;
struct delivery;
struct dispatch;
struct event;
struct hand;
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

/* The worker, with a hand of its own: checks in what it had (NULL: nothing), with its reference,
 * and takes the next, if something is ready. */
bool checkout_now(struct dispatch *dispatch, struct hand *hand, struct instance *had,
                  struct job *job);
/* The same with nothing to check in; blocks, in its sleeper. False: end. */
bool checkout_next(struct dispatch *dispatch, struct sleeper *sleeper, struct hand *hand,
                   struct job *job);

/* The worker: the job goes on with the next message that it has in hand. False: there is none, or
 * its time is over; what is left there goes back to its source with the instance. */
bool checkout_next_in_hand(struct hand *hand, struct job *job, uint64_t now_ns);

/* on_look of hands_init: workers that have computed for longer than the time of their hands are
 * relieved of what they have not begun, and of the places of what has ended. */
void checkout_relieve(struct deadline *look);

/* The same without a next one. */
void checkout_return(struct dispatch *dispatch, struct instance *had);

/* The worker: a root task of the instance has ended. Its delivery leaves the active ones and is
 * released. Noted in the worker's hand, and done under the lock when the instance is checked in, or
 * its worker relieved. */
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
