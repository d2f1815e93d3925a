/* registration - what a script said while it loaded: one handler, timer, hook or stream, with its
 * options. Immutable once its generation is built, which owns it. */
#ifndef MOONBUS_ENGINE_VERSION_REGISTRATION_H
#define MOONBUS_ENGINE_VERSION_REGISTRATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cron.h"
#include "base/err.h"
#include "bus/consume/consumer.h"
#include "bus/retry.h"

struct cJSON;
struct kind;
struct loading;
struct meter;
struct tally;
struct zone;

enum order { ORDER_NONE, ORDER_SUBJECT, ORDER_TOKEN, ORDER_HEADER };

/* The option `update`: may the server's settings be changed to what is stated? */
enum update { UPDATE_UNSTATED, UPDATE_NO, UPDATE_YES };

/* The option `missed` of a cron line: of the times at which it could not run. */
enum missed { MISSED_SKIP, MISSED_LAST, MISSED_ALL };

/* All strings owned; freed by registration_free. Filled by its kind from checked options. */
struct registration {
    const struct kind *kind; /* what it is (engine/source/kind.h) */
    int index;               /* its place, from 1 */
    char *handler;           /* for people: "greet.*", "ORDERS/billing", "every 10s" */
    char *what;              /* for the greeting: "request/reply", "looks on", "orders.created" */
    char *file;              /* where it was registered */
    int line;
    struct tally *tally; /* what is counted of it: a reference, which its generation gives up; NULL
                            for what never serves */
    int needs_level;     /* the API level of JetStream without which it is refused; 0: any does */
    char *needs;         /* what of it needs that, for the message; NULL: nothing */
    uint64_t alike;      /* of its function (vm/alike.h); 0: it has none */

    char *subject, *queue;         /* SUBSCRIBE, ENDPOINT */
    bool drop_old;                 /* likewise: the oldest goes when the queue is full */
    bool required;                 /* START: the version waits for it, and fails with it */
    bool looks_on;                 /* SUBSCRIBE: reply = false, nothing of it is ever sent */
    struct consumer_spec consumer; /* CONSUME, WATCH; its strings and lists are owned here */
    bool each_version;             /* WATCH: a new version sees what is there anew */
    bool headers_only;             /* WATCH */
    size_t mirror_bytes;           /* MIRROR: what it may keep, */
    int64_t mirror_age_ns;         /* and for how long it answers once the server is not heard */
    struct cJSON *extra;           /* owned; consumer.extra borrows it */
    struct cJSON *stream;          /* STREAM: NATS' own fields, durations in ns */
    bool bare;                     /* STREAM: nothing is stated but its name */
    struct cJSON *stream_defaults; /* STREAM: what it is created with besides; or NULL */
    char *bucket;                  /* STREAM: "kv.bucket", of a bucket; or NULL */
    char *service;                 /* SERVICE, ENDPOINT: the name of the service */
    char *version, *description;   /* SERVICE; description: or NULL */
    char *endpoint;                /* ENDPOINT: its name */
    struct cJSON *metadata;        /* SERVICE, ENDPOINT: texts by name */
    enum update update;            /* STREAM, CONSUME */
    int64_t period_ns;             /* EVERY, AFTER */
    bool at_once;                  /* EVERY: the first run is not after a period, but now */
    bool timer_cancelled;          /* EVERY, AFTER, CRON: cancelled while the script was loading */
    struct cron cron;              /* CRON */
    char *cron_line;               /* CRON: as it was written */
    struct zone *zone;             /* CRON: a reference */
    enum missed missed;            /* CRON */
    char *module;                  /* OFFLOAD: what it calls functions of */
    int64_t timeout_ns;            /* 0: none; OFFLOAD: of a call */
    bool timeout_stated;           /* it is not the default */
    int concurrency;               /* 0: no limit */
    int attempts;                  /* CONSUME */
    struct backoff backoff;        /* CONSUME */
    bool backoff_stated;           /* CONSUME */
    int64_t park_after_ns;         /* CONSUME: a nak of more than that is a copy (retries); or 0 */
    char *dead_letter;             /* CONSUME; or NULL */
    bool drops;                    /* CONSUME: dead_letter = false, what fails is terminated */
    enum order order;              /* CONSUME: order_by */
    int order_token;               /* counted from 1 */
    char *order_header;
    int batch_size; /* CONSUME: 0: no batches */
    char *schema;   /* SUBSCRIBE, ENDPOINT, CONSUME: of its payloads, as JSON Schema; NULL: none is
                       stated */
    int64_t batch_wait_ns;
    struct meter *meter; /* CONSUME: the trial's; NULL: nothing is measured */
};

void registration_free(struct registration *registration);

/* Does a message of it come to an end when it has had its attempts, or is hopeless: by the dead
 * letter, or by a term? Else it comes again for ever. */
bool registration_gives_up(const struct registration *registration);

/* How long until the next delivery of a message that failed at this attempt. */
int64_t registration_backoff_ns(const struct registration *registration, uint64_t attempt);

/* How long all its backoffs take together, at their longest, until its last attempt. */
int64_t registration_retries_ns(const struct registration *registration);

/* The longest of its backoffs, with its jitter; 0: there are none. */
int64_t registration_longest_retry_ns(const struct registration *registration);

/* Finds what a further instance has registered (now) among what the first one has, by what each is:
 * its kind and its name; of several that have the same, by its function, and then the n-th is the
 * n-th. order[i]: the place in first of now[i], from 0. 0; ERR_INVALID with err when one of them
 * has what the other has not. */
int registrations_match(const struct registration *const *first, int first_count,
                        const struct loading *now, int *order, struct err *err);

/* Two texts, of which each may be NULL. */
bool registration_same_text(const char *a, const char *b);

/* Does a consumer that goes on keep all its settings? Whether one is stated counts, too: only
 * stated settings are compared with the server's. */
bool registration_same_consumer(const struct registration *now, const struct registration *then);

/* What a loading script has registered so far. */
struct loading {
    struct registration **items; /* owned until the generation takes them */
    int count, capacity;
    int workers;         /* bus.script { workers }: 0 not set */
    size_t memory_bytes; /* bus.script { memory }: 0 not set */
    int64_t cpu_ns;      /* bus.script { cpu }: 0 not set */
    bool jit_off;        /* bus.script { jit = false } */
};

/* Frees what it has registered. */
void loading_clear(struct loading *loading);

#endif
