/* consumer_internal - what consumer.c (messages, life), consumer_credit.c (pulls),
 * consumer_setup.c (creating, recreating) and delivery.c (leases) share. Nobody else includes it,
 * but what feeds its pure part with any bytes. */
#ifndef MOONBUS_BUS_CONSUMER_INTERNAL_H
#define MOONBUS_BUS_CONSUMER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "bus/consumer.h"
#include "bus/pull.h"

/* What was acked or terminated lately, by stream sequence (direct-mapped). The server may not know:
 * one that was frozen redelivers before it reads the verdicts that wait in its socket, one that
 * was killed had not written them to disk, and a consumer made again starts at an older ack floor.
 * Such a redelivery is answered again and runs nothing. */
#define SETTLED_SLOTS 4096

struct settled {
    uint64_t stream_sequence; /* 0: empty */
    int64_t timestamp_ns;     /* of the message: tells a stream that was made anew */
    uint64_t at_ns;           /* when it was settled */
};

#define CONDEMNED_SLOTS 256

/* Which absence was said in the log already. */
enum told { TOLD_NOTHING, TOLD_CONSUMER_GONE, TOLD_STREAM_GONE };

struct consumer {
    struct bus *bus;             /* not owned */
    void *source;                /* not owned */
    struct consumer_spec spec;   /* owned copies; stream and durable never change, the rest only
                                  * under setup_lock */
    char *label;                 /* owned: "ORDERS/billing" */
    char *inbox;                 /* owned: "<prefix>.<random>"; replies come to "<inbox>.<epoch>" */
    char *next_subject;          /* owned: where pulls go */
    atomic_int references;       /* its owner, deliveries, armed deadlines, frames, jobs */
    _Atomic int64_t ack_wait_ns; /* the server's, once ensured */

    /* One setting up at a time. Held while blocking on the server, so on pool threads only; before
     * `lock`. */
    pthread_mutex_t setup_lock;

    /* Guards all below and the leases of its deliveries. With it held only the clock, link_send
     * and pool_submit are called; it is never taken with a lock of theirs held. */
    pthread_mutex_t lock;
    struct pull pull;
    struct delivery **table; /* owned; chains by held_next, of what is held */
    size_t table_mask;
    struct settled *settled;                      /* owned; SETTLED_SLOTS */
    struct condemned *condemned[CONDEMNED_SLOTS]; /* owned; direct-mapped as `settled`, or NULL */
    unsigned pardons;                             /* how often all of them were pardoned */
    struct link_sub *sub;                         /* the link's; NULL before start and after stop */
    bool stopping;
    int owed;              /* stopping: messages that are on their way to us */
    struct deadline leave; /* holds a reference while armed: stopping, time to unsubscribe */
    void (*on_stopped)(void *source);

    struct deadline tick;       /* holds a reference while armed */
    uint64_t tick_at_ns;        /* 0: not armed */
    struct link_gate pull_gate; /* of the one request that waits to be written */
    unsigned epoch;             /* of the pull machine, when it was last looked at */
    uint64_t lost_told_ns;      /* a lost lease was last logged */

    struct deadline poll;   /* holds a reference while armed: time to ask for the ack floor */
    bool polling;           /* armed, or the question is under way */
    unsigned poll_released; /* since it was armed */
    struct pool_job look_job;
    bool looking;              /* the job is submitted, or runs */
    unsigned incarnation;      /* counts recreations */
    unsigned poll_incarnation; /* when the floor was asked for */
    uint64_t ack_floor;        /* stream sequence; the last known one, */
    char made[64];             /* and the creation of the consumer that it belongs to */
    uint64_t last_sequence;    /* the highest stream sequence that came to us */
    /* A message that comes as its first attempt may be one that was settled since doubt_from_ns;
     * assumed until doubt_until_ns, so that who resets a consumer on purpose gets the messages. */
    uint64_t doubt_from_ns, doubt_until_ns;

    /* Guarded by setup_lock. */
    enum told told;
    char created[64]; /* of the stream: RFC 3339, as the server writes it */
};

struct consumer *consumer_retain(struct consumer *consumer);
void consumer_release(struct consumer *consumer);

/* A line in the log that names the consumer. */
#define consumer_log(who, level, ...)                                                              \
    log_event((level),                                                                             \
              &(struct log_context){.handler = (who)->label,                                       \
                                    .stream = (who)->spec.stream,                                  \
                                    .consumer = (who)->spec.durable},                              \
              __VA_ARGS__)

/* --- consumer_table.c; all with the lock held --- */

/* Puts it into the table, with a reference; forget takes it out (the reference goes to the caller)
 * and remembers how it was settled. */
void consumer_hold(struct consumer *consumer, struct delivery *delivery);
void consumer_forget(struct consumer *consumer, struct delivery *delivery, uint64_t now_ns);
/* The delivery of the same message that is held; NULL. */
struct delivery *consumer_find_held(struct consumer *consumer, const struct ack_subject *ack);
/* Was it settled for good, and the server does not know? */
bool consumer_was_settled(struct consumer *consumer, const struct ack_subject *ack,
                          uint64_t now_ns);

/* What is remembered of a message that comes again; the caller's to free. NULL: nothing. */
struct condemned *consumer_take_condemned(struct consumer *consumer, const struct ack_subject *ack);

/* --- consumer_credit.c --- */

void consumer_credit_init(struct consumer *consumer, int concurrency);

/* With the lock held: does what the pull machine says. Returns its warning, or NULL, for
 * consumer_unlock, which gives the lock back and logs it. */
const char *consumer_act(struct consumer *consumer, struct pull_action action);
void consumer_unlock(struct consumer *consumer, const char *warn);

/* With the lock held: what was settled since from_ns may be unknown to the server. */
void consumer_doubt(struct consumer *consumer, uint64_t from_ns, uint64_t until_ns);

/* --- consumer.c --- */

/* With the lock held: the server told its ack floor. */
void consumer_note_floor(struct consumer *consumer, const cJSON *info);

/* A lease of it was found lost. With the lock held; true: say so in the log (once an outage). */
bool consumer_lease_lost(struct consumer *consumer, uint64_t now_ns);

/* --- consumer_setup.c --- */

/* Looks, on a pool thread, whether it is there; recreates it; then tells the pull machine through
 * consumer_looked. job: look_job; has a reference. */
void consumer_look(struct pool_job *job);
void consumer_looked(struct consumer *consumer, bool found);

/* Owned copies (also of a failed one). 0, or ERR_INVALID, ERR_MEMORY. */
int consumer_spec_copy(struct consumer_spec *to, const struct consumer_spec *from, struct err *err);
void consumer_spec_clear(struct consumer_spec *spec);

/* --- consumer_config.c: the JSON of a consumer's settings; pure --- */

/* A new consumer's settings. Owned by the caller. */
cJSON *consumer_config_new(const struct consumer_spec *spec);
/* Changes existing settings to what is stated. */
void consumer_config_state(cJSON *config, const struct consumer_spec *spec);
/* Makes settings of a new consumer start elsewhere. */
void consumer_config_deliver(cJSON *config, enum deliver_from deliver, uint64_t sequence,
                             const char *time);
/* Compares what is stated, and only that, with the server's. 0, or ERR_MISMATCH showing both
 * values. *unstated (an owned string, or NULL): a filter of the server that is not stated. */
int consumer_config_compare(const struct consumer_spec *spec, const cJSON *config, char **unstated,
                            struct err *err);
/* ERR_MISMATCH, with what to do: a kind of consumer that cannot be used at all, or one that
 * retries by itself (which an update mends). */
int consumer_config_check_kind(const cJSON *config, struct err *err);
int consumer_config_check_retries(const struct consumer_spec *spec, const cJSON *config,
                                  struct err *err);

/* Fields of an answer; "" and 0 when absent. */
const cJSON *consumer_json(const cJSON *object, const char *name);
const char *consumer_json_string(const cJSON *object, const char *name);
double consumer_json_number(const cJSON *object, const char *name);
/* Up to which stream sequence everything is acked, or was never wanted. */
uint64_t consumer_json_floor(const cJSON *info);

#endif
