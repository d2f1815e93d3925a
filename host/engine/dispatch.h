/* dispatch - the ready queue, the sources that feed it, and the one lock over both.
 *
 *   on_delivery ─▶ source.fifo ─┐
 *   timers, hooks ─▶ source.due ┼─▶ ready queue ─▶ dispatch_take (worker): one message, or one
 *   instance_post ─▶ mailbox ───┘                  instance's mailbox, for each take
 *
 * A source is where work for one registered handler comes from. It outlives generations: a switch
 * is `source.generation = new` under the lock. Queued messages keep their order; `limit` bounds how
 * many run at a time over all workers. */
#ifndef MOONBUS_ENGINE_DISPATCH_H
#define MOONBUS_ENGINE_DISPATCH_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "bus/delivery.h"
#include "bus/subscription.h"
#include "engine/generation.h"
#include "engine/instance.h"
#include "engine/lane.h"

struct worker;

enum source_state { SOURCE_IDLE, SOURCE_SERVING, SOURCE_STOPPING, SOURCE_STOPPED };

/* How a run ended: of a message of JetStream its verdict, of any other whether it failed. */
enum outcome {
    OUTCOME_OK,
    OUTCOME_FAILED,
    OUTCOME_ACK,
    OUTCOME_NAK,
    OUTCOME_TERM,
    OUTCOME_DEAD,
    OUTCOMES
};

struct source {
    struct ready ready;
    struct engine *engine;
    struct script *script;                /* not owned */
    struct source *next;                  /* script's list */
    struct source *wait_prev, *wait_next; /* generation's list of those in want of an instance */
    bool waiting;

    /* Under the dispatch lock. */
    enum source_state state;
    struct generation *generation;     /* reference held; live for this source */
    struct registration *registration; /* the generation's */
    struct registration *heir; /* a reload is under way: of the new generation, which goes on
                                  with this source; or NULL */
    struct delivery *fifo;     /* utlist: queued, a reference each */
    struct delivery *active;   /* utlist: their handlers run, a reference each */
    struct delivery *parting;  /* utlist: never started, to be handed back when the
                                  subscription has drained; a reference each */
    int queued;
    size_t queued_bytes;
    uint64_t dropped;
    bool pinned;        /* a thread that was given up may still come back to it */
    unsigned due;       /* timer, hook: runs owed */
    int running, limit; /* limit 0: none */

    struct subscription *subscription; /* owned; SUBSCRIBE */
    struct consumer *consumer;         /* owned; CONSUME */
    struct lanes *lanes;               /* owned; CONSUME with order_by */
    bool batch_due;                    /* CONSUME with batch: the oldest has waited enough */
    struct deadline timer;             /* EVERY, AFTER, batch */
    int armed;                         /* how often `timer` is still to fire; dispatch lock */
    uint64_t next_ns;                  /* EVERY: when it is due */
    bool warned;                       /* of what its handler returns */
    atomic_ullong outcomes[OUTCOMES];  /* how many runs, or messages, ended so */
};

/* A worker that waits for work. Not by a condition: its semaphore is posted when the lock has been
 * given back, so that who wakes does not run into it, and once for each time that it sleeps,
 * however much becomes ready until it runs. Round trips one by one: 1.1-1.7 switches of workers
 * were 1.0. */
struct sleeper {
    struct sleeper *next; /* in sleepers, then in woken */
    sem_t posted;
};

struct dispatch {
    pthread_mutex_t lock; /* ready queue, sources, mailboxes, generations' lists. With it held only
                             what takes leaf locks is called: the clock, pool_submit,
                             consumer_park; and a spare worker's thread is started. */
    pthread_cond_t idle;  /* engine_wait_idle waits */
    struct ready *queue;  /* utlist */
    struct sleeper *sleepers; /* workers that wait, the last one first: its caches are warm; not
                                 owned */
    int sleeping;             /* how many they are */
    struct sleeper *woken;    /* to be posted with the lock given back; not owned */
    uint64_t takes;           /* so far */
    int running, queued;      /* root tasks, deliveries: over all sources */
    bool stopping;            /* workers end */
    bool draining;
};

void dispatch_init(struct dispatch *dispatch);
void dispatch_destroy(struct dispatch *dispatch);

/* The lock is taken and given back by these alone: workers that were woken meanwhile are posted. */
void dispatch_lock(struct dispatch *dispatch);
void dispatch_unlock(struct dispatch *dispatch);
/* With the lock held, which is given back meanwhile: pthread_cond_timedwait, monotonic. */
int dispatch_wait(struct dispatch *dispatch, pthread_cond_t *cond, uint64_t until_ns);

/* With the lock held: wakes one worker. False: none sleeps. */
bool dispatch_wake(struct dispatch *dispatch);

/* Any thread: takes the delivery's reference. When the source has no room (core), or no longer
 * takes messages, it is dropped or handed back here. */
void dispatch_push(struct source *source, struct delivery *delivery);

/* Any thread: one run of a timer or hook is owed. */
void dispatch_due(struct source *source);

/* What a worker has taken. */
struct take {
    struct instance *instance;         /* checked out, with a reference */
    struct event *events;              /* its mailbox; or */
    struct source *source;             /* a job: */
    struct registration *registration; /* of the instance's generation */
    struct delivery *delivery; /* its message, NULL for timers and hooks; of a batch the first */
    struct delivery **batch;   /* NULL: no batch; an array, to be freed */
    int batch_count;
    uint64_t now_ns; /* when it was taken */
};

/* The worker, with a sleeper of its own: gives back what it had (NULL: nothing) and blocks for the
 * next. False: end. */
bool dispatch_take(struct dispatch *dispatch, struct sleeper *sleeper, struct instance *done,
                   struct take *out);

/* The same without a next one. */
void dispatch_give_back(struct dispatch *dispatch, struct instance *done);

/* The worker: a root task of the instance has ended. Its delivery leaves the active ones and is
 * released. Noted on the instance, and told under the lock when that is given back. */
void dispatch_finished(struct instance *instance, struct source *source, struct delivery *delivery);
/* The same for a batch. */
void dispatch_finished_batch(struct instance *instance, struct source *source,
                             struct delivery **batch, int count);

/* A message of an ordered source shall be run again after delay_ns, its key waits for it. False: it
 * is in no order, or the source stops: nak it. Before dispatch_finished. */
bool dispatch_hold(struct source *source, struct delivery *delivery, int64_t delay_ns);

/* A message whose handler was cancelled with its generation shall be run again, on the one that
 * serves now: no redelivery, no attempt lost. False: nothing serves it any more, nak it. Before
 * dispatch_finished. */
bool dispatch_rebind(struct source *source, struct delivery *delivery);

/* With the lock held. Each may be called when there is nothing to do. */
void dispatch_ready_source(struct dispatch *dispatch, struct source *source);
void dispatch_ready_instance(struct dispatch *dispatch, struct instance *instance);
void dispatch_instance_idle(struct dispatch *dispatch, struct instance *instance);

/* With the lock held: the batch that begins with what is queued now shall not wait for ever. */
void dispatch_batch_wait(struct source *source);

/* Takes everything that has not started from a source; the caller hands it back or rebinds it. */
struct delivery *dispatch_empty(struct source *source);

#endif
