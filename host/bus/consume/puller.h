/* puller - the pull loop of one consumer that exists on the server. It does not matter how that was
 * made. The puller asks for messages, listens to heartbeats and statuses, asks what has become of
 * the consumer, and notices what was lost on its way here.
 *
 *   puller_start ─▶ subscription to an inbox of its own
 *      on_message (the link's delivery thread): status ─▶ pull;  message ─▶ take ─▶ hand_on
 *      clock: pull_tick, CONSUMER.INFO, what is missing is waited for no longer
 *      not there, or edited ─▶ pool: look
 *
 * It knows no settings, no leases and no verdicts. Its owner, of which it is a part, decides what a
 * message becomes, and what to do when the consumer is gone:
 *
 *   consumer           the owner for durables. take makes a delivery with a lease. look asks
 *                      CONSUMER.INFO, judges the settings, creates it again from the ack floor.
 *   ordered            the owner of an ordered consumer, which is made without acks, and which the
 *                      server removes when nobody pulls. take compares ack->consumer_sequence with
 *                      the one before. look makes another consumer, from the message after the last
 *                      one that was taken; when a number is left out, take asks for that.
 *
 * Its lock is its owner's as well: it guards the machine, and what the owner holds. With it held
 * only the clock, link_send, pool_submit and the owner's take are called, and it is never taken
 * with a lock of theirs held.
 *
 * It is kept by its owner, by what the owner has taken, and by whatever of its own is under way.
 * The last reference calls free_owner. The intake, and what it points to, must outlive all of
 * these. */
#ifndef MOONBUS_BUS_CONSUME_PULLER_H
#define MOONBUS_BUS_CONSUME_PULLER_H

#include <stdatomic.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pool.h"
#include "base/sync.h"
#include "bus/ack_subject.h"
#include "bus/consume/consumer_counts.h"
#include "bus/consume/gap.h"
#include "bus/consume/intake.h"
#include "bus/consume/pull.h"
#include "bus/link/link.h"

struct cJSON;
struct packet;
struct puller;

/* A server takes names of up to 16 characters. */
#define PULLER_GROUP_BYTES 17

/* What the owner made of a message. */
enum puller_taken {
    PULLER_HELD,  /* it costs credit until puller_released */
    PULLER_DONE,  /* it costs none: one that is held already, was settled, or is copied */
    PULLER_UNSEEN /* there was no memory for it: the server redelivers it */
};

/* What looking for it told. */
enum looked {
    LOOKED_THERE,   /* it is there, or there again */
    LOOKED_GONE,    /* it is not, or could not be made again */
    LOOKED_IN_VAIN, /* no answer that tells */
};

/* The priority group that the pull requests name (ADR-42). */
struct puller_group {
    char name[PULLER_GROUP_BYTES];        /* "": none */
    int priority;                         /* 0 is served first */
    int64_t min_pending, min_ack_pending; /* served only from so many on; 0: always */
};

/* The owner's part. */
struct puller_calls {
    /* On the delivery thread, with the lock held: a message has come. Takes the packet, or copies
     * what it needs of it. *taken is for hand_on; NULL: that is not called. */
    enum puller_taken (*take)(struct puller *puller, struct packet *packet,
                              const struct ack_subject *ack, uint64_t now_ns, void **taken);
    /* On the delivery thread, without the lock. alone: it does not wait for what else this read
     * brings, since something is or was missing, and an order depends on when it is there. */
    void (*hand_on)(struct puller *puller, void *taken, bool alone);
    /* Ordered pullers only. With the lock held: is the message held, or was it settled? */
    bool (*knows)(struct puller *puller, const struct ack_subject *ack, uint64_t now_ns);
    /* And without it, on any thread: what was missing has come, or is waited for no longer. */
    void (*on_whole)(struct puller *puller);
    /* On a pool thread; blocks: finds out whether the consumer is there and what became of its
     * settings; makes it again if it may. Then puller_renewed. */
    enum looked (*look)(struct puller *puller);
    /* With the lock held: an answer to CONSUMER.INFO. May be NULL. */
    void (*on_info)(struct puller *puller, const struct cJSON *info);
    void (*free_owner)(struct puller *puller);
};

struct puller {
    const struct intake *intake;      /* not owned */
    const struct puller_calls *calls; /* not owned */
    const char *stream, *name;        /* the owner's, for people; never change */
    char *label;                      /* owned: "ORDERS/billing" */
    char *inbox;                      /* owned: "<prefix>.<random>"; each pull request has a
                                       * reply of its own, "<inbox>.<number>" */
    bool settles;                     /* what it takes gets a verdict; never changes */
    bool watches_gaps;                /* watch for what is lost on its way; never changes */
    atomic_int references;
    _Atomic int64_t ack_wait_ns;    /* the server's, once the owner knows it */
    struct consumer_counts *counts; /* a reference */
    struct ack_names ack_names;     /* the delivery thread's: of what came last */

    struct mutex lock;  /* guards all below, and what the owner says */
    char *on_server;    /* owned: the consumer's name there */
    char *next_subject; /* owned: where pulls go */
    struct pull pull;
    struct puller_group group;
    uint64_t holds, forgotten; /* the owner's: how many it holds, and has settled */
    uint64_t strays; /* the delivery thread's: messages that were none of the consumer's */
    struct link_listener listener; /* while it is started */
    struct link_sub *sub;          /* the link's; NULL before start and after stop */
    bool stopping;
    int owed;              /* stopping: messages that are on their way to us */
    struct deadline leave; /* holds a reference while armed: stopping, time to unsubscribe */
    void (*on_stopped)(void *closure);
    void *closure;
    bool stopped; /* on_stopped is called when no call up is under way, */
    int calls_up; /* of those that are not the delivery thread's */

    struct gap gap;
    struct deadline gap_due; /* holds a reference while armed: what is missing is given up */

    struct deadline tick;       /* holds a reference while armed */
    uint64_t tick_at_ns;        /* 0: not armed */
    struct link_gate pull_gate; /* of the one request that waits to be written */
    unsigned epoch;             /* of the pull machine, when it was last looked at */
    /* A message that comes as its first attempt may be one that was settled since doubt_from_ns:
     * the server may not have heard of it. Assumed until doubt_until_ns, so that who resets a
     * consumer on purpose gets the messages. */
    uint64_t doubt_from_ns, doubt_until_ns;

    struct deadline poll;    /* holds a reference while armed: time for the next CONSUMER.INFO */
    uint64_t poll_at_ns;     /* 0: not armed */
    bool polling;            /* the question is under way */
    bool eager;              /* the owner's: it is asked often, whatever comes */
    unsigned poll_released;  /* since the last question */
    uint64_t poll_held;      /* when it was asked: `holds` */
    uint64_t poll_forgotten; /* and `forgotten` */
    struct pool_job look_job;
    bool looking;              /* the job is submitted, or runs */
    bool look_again;           /* when it has ended: there was a reason since it began */
    unsigned incarnation;      /* counts recreations */
    unsigned poll_incarnation; /* when the floor was asked for */
    uint64_t ack_floor;        /* stream sequence; the last known one, */
    char made[64];             /* and the creation of the consumer that it belongs to */
    uint64_t settings;         /* the hash of the server's, as they were last judged */
    bool paused;               /* by somebody, on the server, */
    char paused_until[40];     /* as the server writes it; "": it does not say */
    struct consumer_lag lag;
    uint64_t lag_asked_ns;  /* when somebody last had it asked for; 0: nobody has */
    uint64_t last_sequence; /* the highest stream sequence that came to us */
};

struct puller_options {
    const struct intake *intake;      /* borrowed for its life */
    const struct puller_calls *calls; /* the same */
    const char *stream, *name;        /* the same */
    const char *on_server;            /* its name there, copied; NULL: as above */
    int64_t bytes;                    /* that may be held before nothing is asked for; 0: 32 MB */
    int concurrency;                  /* messages that may be held without prefetching any */
    int64_t ack_wait_ns;
    struct puller_group group;
    bool settles; /* else its messages have no verdict: a stop waits for none of them */
    bool watches_gaps;
    struct consumer_counts *counts; /* not owned: another reference is taken; NULL: of its own */
};

/* Of zeroed memory; nothing is sent yet. False: out of memory; puller_clear in any case. One
 * reference. */
bool puller_init(struct puller *puller, const struct puller_options *options);
/* For free_owner. */
void puller_clear(struct puller *puller);
struct puller *puller_retain(struct puller *puller);
void puller_release(struct puller *puller);

/* Subscribes and begins to pull. The consumer is there. */
int puller_start(struct puller *puller, struct err *err);

/* Stops pulling, drains the inbox, then on_stopped(closure), once, on any thread (on the caller's
 * when it was not started). What arrives while draining still is taken. */
void puller_stop(struct puller *puller, void (*on_stopped)(void *closure), void *closure);

/* Its requests name that group from now on. Takes the lock. */
void puller_set_group(struct puller *puller, const struct puller_group *group);

/* The number of handlers has changed. Takes the lock. */
void puller_resize(struct puller *puller, int concurrency);

/* With the lock held: one that was PULLER_HELD is over; len: its packet_bytes; parked: it was, and
 * costs no credit. Returns a warning for puller_unlock. */
const char *puller_give_back(struct puller *puller, size_t len, bool parked, uint64_t now_ns);
/* The same, and takes the lock. */
void puller_released(struct puller *puller, size_t len, bool parked, uint64_t now_ns);

/* With the lock held: one that is held shall cost no credit meanwhile (or does again). Returns a
 * warning for puller_unlock, which gives the lock back and logs it. */
const char *puller_park(struct puller *puller, bool parked);
void puller_unlock(struct puller *puller, const char *warn) UNLOCKS(puller->lock);

/* A call up from a thread other than the subscription's, or one that goes on later: a stop waits
 * for its end. False: the owner's source may be gone. */
bool puller_call_begin(struct puller *puller);
void puller_call_end(struct puller *puller);

/* Ordered: older messages than those that come now were lost on their way, and will come again.
 * on_whole tells the end of it. */
bool puller_misses(struct puller *puller);

/* With the lock held: what was settled since from_ns may be unknown to the server. */
void puller_doubt(struct puller *puller, uint64_t from_ns, uint64_t until_ns);

/* With the lock held: may the server not have heard of what was settled at that time? */
bool puller_in_doubt(const struct puller *puller, uint64_t settled_ns, uint64_t now_ns);

/* With the lock held: something is wrong with the consumer, so look is called soon. */
void puller_look(struct puller *puller);

/* With the lock held: it was made on the server, or made again; what was asked before tells nothing
 * of it. */
void puller_renewed(struct puller *puller);

/* With the lock held: from now on it pulls from another consumer of the stream, which is there.
 * Returns a warning for puller_unlock. False in *moved: out of memory, and all is as it was. */
const char *puller_move(struct puller *puller, const char *on_server, bool *moved);

/* Writes an operation of JetStream's API on the consumer ("CONSUMER.INFO...") to buf; returns buf.
 * Takes the lock. */
char *puller_operation(struct puller *puller, const char *verb, char *buf, size_t size);

/* With the lock held: what the server says of it now. True: its settings are not those that were
 * judged. *say: what is to be logged of it without the lock, or as it was. */
bool puller_note_info(struct puller *puller, const struct cJSON *info, const char **say);

/* Somebody looks at the lag: asks the server for it, but not if it has said it, or was asked for
 * this, within LAG_NS: also one that refuses, or is silent, is not asked more often. The answer is
 * there some time later. Takes the lock. */
#define LAG_NS (10 * NS_PER_S)
void puller_ask_lag(struct puller *puller);

/* With the lock held: the settings of info are judged, and kept to. */
void puller_judged(struct puller *puller, const struct cJSON *info);

/* Does an answer to CONSUMER.INFO that is no error say what the consumer is? Pure. */
bool puller_info_tells(const struct cJSON *info);

/* Up to which stream sequence everything is acked, or was never wanted. Pure. */
uint64_t puller_floor(const struct cJSON *info);

/* A line in the log that names the consumer. */
#define puller_log(who, level, ...)                                                                \
    log_event((level),                                                                             \
              &(struct log_context){                                                               \
                  .handler = (who)->label, .stream = (who)->stream, .consumer = (who)->name},      \
              __VA_ARGS__)

#endif
