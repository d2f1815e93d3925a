/* consumer - a durable of ours: a puller whose messages become deliveries with a lease, and whose
 * settings on the server are made sure of.
 *
 *   consumer_ensure (pool) ─▶ consumer_start ─▶ the puller pulls
 *      take (delivery thread): join a redelivery, or a new delivery into the leases ─▶ sink
 *      look (pool): CONSUMER.INFO; judge what was edited; create again from the ack floor
 *
 *   consumer.c          messages, life
 *   consumer_setup.c    creates, compares, updates
 *   consumer_look.c     what has become of it on the server
 *   consumer_config.c   its settings as JSON
 *   beside it: puller (pull loop), leases (what is held), delivery, deadletter
 *
 * Its lock is the puller's. It guards the leases, too.
 *
 * The consumer is kept by its owner (until consumer_free), by its deliveries, and by whatever of
 * its own is under way. The intake, and what it points to, must outlive all of these. */
#ifndef MOONBUS_BUS_CONSUME_CONSUMER_H
#define MOONBUS_BUS_CONSUME_CONSUMER_H

#include "bus/consume/consumer_counts.h"
#include "bus/consume/deliver.h"
#include "bus/consume/delivery.h"
#include "bus/consume/intake.h"
#include "bus/consume/puller.h"
#include "bus/consume/retries.h"
#include "bus/retry.h"

struct cJSON;

struct consumer;

enum consumer_policy { POLICY_NONE, POLICY_OVERFLOW, POLICY_PINNED, POLICY_PRIORITIZED };

/* What a script states. Borrowed: consumer_new copies. */
struct consumer_spec {
    const char *stream, *durable;
    const char *const *filters;
    int filter_count;
    int64_t ack_wait_ns;
    bool ack_wait_stated, max_ack_pending_stated; /* compared only when stated */
    int max_ack_pending;                          /* 0: derived */
    int concurrency;
    enum deliver_from deliver;
    uint64_t deliver_sequence;
    const char *deliver_time; /* RFC 3339 */
    /* Its priority group (ADR-42), and what the consumer does for it; NULL: none. With bind the
     * policy is the server's. */
    const char *group;
    enum consumer_policy policy;
    int64_t pin_timeout_ns;               /* PINNED; 0: the server's own */
    int priority;                         /* PRIORITIZED */
    int64_t min_pending, min_ack_pending; /* OVERFLOW: this host is served from so many on */
    bool bind, update;
    bool ordered;              /* watch for what is lost on its way; never changes */
    bool fixed;                /* update = false: it is changed by nothing, not even a reload */
    const char *owner;         /* the script that it is of; or NULL */
    const struct cJSON *extra; /* NATS' own fields, passed through; or NULL */
};

/* Compares what a script states with a consumer's settings on the server, as consumer_ensure does,
 * and changes nothing: 0, or ERR_MISMATCH with both values. *own: this script made it, so that what
 * is stated wins. Pure. */
int consumer_compare(const struct consumer_spec *spec, const struct cJSON *config, bool *own,
                     struct err *err);

#define CONSUMER_BROKEN_MAX 400

struct consumer_stat {
    int held;  /* deliveries without a verdict */
    int asked; /* messages that requests under way are owed */
    struct consumer_lag lag;
    uint64_t ack_floor;
    bool gone;                      /* it is looked for, or known not to be there */
    bool silent;                    /* its pulls are not answered */
    bool paused;                    /* on the server, by somebody: nothing comes until then */
    char paused_until[40];          /* or "" */
    char group[PULLER_GROUP_BYTES]; /* its priority group; "": none */
    bool pins, pinned;              /* the group's messages go to one process; that is this one */
    /* What somebody has changed on the server against what is stated here, with both values; "" for
     * nothing. */
    char broken[CONSUMER_BROKEN_MAX];
};

/* counts: what is counted goes there, a reference is taken; NULL: nobody looks. source: handed to
 * the sink with each delivery. Nothing is sent yet. NULL: ERR_INVALID for an `extra` field that is
 * not to be passed through, with what to use instead. */
struct consumer *consumer_new(const struct intake *intake, const struct consumer_spec *spec,
                              struct consumer_counts *counts, void *source, struct err *err);

/* Creates, compares or updates (rules in docs/ARCHITECTURE.md). Blocks until deadline_ns: pool
 * threads only. may_update: a reload of the same script changes settings. ERR_MISMATCH shows both
 * values; ERR_NOT_FOUND: no such stream (or, with bind, consumer). */
int consumer_ensure(struct consumer *consumer, bool may_update, uint64_t deadline_ns,
                    struct err *err);

/* A reload of the same script states other settings: ensures them (as consumer_ensure with
 * may_update), and takes them over. Stream and durable must be the same. On an error everything
 * stays as it was. Blocks: pool threads only. */
int consumer_change(struct consumer *consumer, const struct consumer_spec *spec,
                    uint64_t deadline_ns, struct err *err);

/* Its long retries become copies (retries.h): naks of more than after_ns. brings: it is the durable
 * of copies of that stream and durable, else it is that durable itself. Once, before the start. */
int consumer_set_retries(struct consumer *consumer, const char *stream, const char *durable,
                         bool brings, int64_t after_ns, struct err *err);
const struct retries *consumer_retries(const struct consumer *consumer);

/* Subscribes and begins to pull. After consumer_ensure. */
int consumer_start(struct consumer *consumer, struct err *err);

/* Stops pulling, drains the inbox, then on_stopped(source), once, on any thread (on the caller's
 * when it was not started). What arrives while draining still goes to the sink. Deliveries that
 * are held stay valid. */
void consumer_stop(struct consumer *consumer, void (*on_stopped)(void *source));

/* After on_stopped (or without a start): releases the owner's reference. */
void consumer_free(struct consumer *consumer);

/* Ordered: older messages than those that come now were lost on their way, and will come again. The
 * sink's on_whole is called when that ends. */
bool consumer_misses(struct consumer *consumer);

/* What is condemned (leases) may run again: another version of the script may do better, or states
 * another dead letter. */
void consumer_pardon(struct consumer *consumer);

/* The script of moonbus that made a consumer, by its settings on the server; borrowed of them.
 * NULL: none did. Pure. */
const char *consumer_config_owner(const struct cJSON *config);

void consumer_stat(struct consumer *consumer, struct consumer_stat *stat);
/* As of puller_ask_lag. */
void consumer_ask_lag(struct consumer *consumer);

#endif
