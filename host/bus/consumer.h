/* consumer - one durable pull consumer of ours: made sure of, pulled from, recreated when it is
 * gone; and the table of the deliveries that this process holds from it.
 *
 *   consumer_ensure (pool) ─▶ consumer_start ─▶ inbox subscription on the consume connection
 *      on_message (nats.c's delivery thread): status ─▶ pull;  message ─▶ delivery ─▶ sink
 *      clock: pull_tick;  "gone" ─▶ pool: INFO, recreate from the ack floor
 *
 * Its lock guards the pull machine, the table and the leases of its deliveries; it is a leaf:
 * nothing is called with it held but clock, link_send and pool_submit, and it is never taken with
 * a lock of theirs held.
 *
 * What holds it: its owner (until consumer_free), its deliveries, and whatever of its own is under
 * way. The bus, its clock and its pool must outlive all of these. */
#ifndef MOONBUS_BUS_CONSUMER_H
#define MOONBUS_BUS_CONSUMER_H

#include <cjson/cJSON.h>

#include "bus/bus.h"
#include "bus/delivery.h"
#include "bus/retry.h"

struct consumer;

enum deliver_from { DELIVER_ALL, DELIVER_NEW, DELIVER_LAST, DELIVER_SEQUENCE, DELIVER_TIME };

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
    bool bind, update;
    const cJSON *extra; /* NATS' own fields, passed through; or NULL */
};

struct consumer_stat {
    int held; /* deliveries without a verdict */
    uint64_t ack_floor;
    bool gone;   /* it is looked for, or known not to be there */
    bool silent; /* its pulls are not answered */
};

/* source: handed to the sink with each delivery. Nothing is sent yet. NULL: ERR_INVALID for an
 * `extra` field that is not to be passed through, with what to use instead. */
struct consumer *consumer_new(struct bus *bus, const struct consumer_spec *spec, void *source,
                              struct err *err);

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

/* Subscribes and begins to pull. After consumer_ensure. */
void consumer_start(struct consumer *consumer);

/* Stops pulling, drains the inbox, then on_stopped(source), once, on any thread (on the caller's
 * when it was not started). What arrives while draining still goes to the sink. Deliveries that
 * are held stay valid. */
void consumer_stop(struct consumer *consumer, void (*on_stopped)(void *source));

/* After on_stopped (or without a start): gives the owner's reference back. */
void consumer_free(struct consumer *consumer);

/* Called by bus: the consume connection came or went. */
void consumer_on_link(struct consumer *consumer, enum link_state state);

/* parked: the delivery waits for something other than a free handler, and shall cost no credit
 * meanwhile; its lease goes on. Returns whether this changed anything. */
bool consumer_park(struct consumer *consumer, struct delivery *delivery, bool parked);

/* Called by delivery: its lease ended, at now_ns; it has left the table and its place is free. */
void consumer_released(struct consumer *consumer, struct delivery *delivery, uint64_t now_ns);

/* A message whose dead letter could not be stored: where that was to go, and why. When the message
 * comes again it is sent there, and to no handler. */
struct condemned {
    uint64_t stream_sequence;
    int64_t timestamp_ns;
    int64_t nak_delay_ns;
    struct err reason;
    char subject[];
};

/* Called by deadletter: takes why. Remembers as many as it has room for. pardons: the delivery's;
 * if there was a pardon since it came, it is for this one, too. */
void consumer_condemn(struct consumer *consumer, struct condemned *why, unsigned pardons);
/* Forgets them: another version of the script may do better, or states another dead letter. */
void consumer_pardon(struct consumer *consumer);

void consumer_stat(struct consumer *consumer, struct consumer_stat *stat);

#endif
