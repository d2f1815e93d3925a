/* consumer_private - what consumer.c (messages, life), consumer_setup.c (making sure of it on the
 * server), consumer_look.c (what becomes of it there) and consumer_config.c (settings as JSON)
 * share. Nobody else includes it, but what feeds its pure part with any bytes. */
#ifndef MOONBUS_BUS_CONSUME_CONSUMER_PRIVATE_H
#define MOONBUS_BUS_CONSUME_CONSUMER_PRIVATE_H

#include "base/container.h"
#include "bus/consume/consumer.h"
#include "bus/consume/gather.h"
#include "bus/consume/leases.h"
#include "bus/consume/puller.h"

/* Which absence was said in the log already. */
enum told { TOLD_NOTHING, TOLD_CONSUMER_GONE, TOLD_STREAM_GONE };

struct consumer {
    struct puller puller;      /* its lock guards what says so below */
    void *source;              /* not owned */
    struct consumer_spec spec; /* owned copies; stream and durable never change, the rest only
                                * under setup_lock */

    struct leases leases;
    char broken[CONSUMER_BROKEN_MAX]; /* under the puller's lock: what of the server's settings
                                       * breaks what is stated; "" for nothing */

    struct retries retries; /* never changes once it is started */

    struct gather gather;            /* the delivery thread's, and so is */
    struct condemned *condemned_now; /* the delivery thread's: of what it has taken; or NULL */

    /* One setting up at a time. Held while blocking on the server, so on pool threads only; before
     * the puller's lock. */
    struct mutex setup_lock;
    enum told told;
    uint64_t put_back_ns; /* when it was last edited, and put back; 0: never */
    char created[64];     /* of the stream: RFC 3339, as the server writes it */
};

static inline struct consumer *consumer_of(struct puller *puller)
{
    return container_of(puller, struct consumer, puller);
}

/* --- consumer_setup.c: one setting up. Each blocks, on pool threads only, with setup_lock held ---
 */

struct consumer_setup {
    struct consumer *consumer;        /* not owned */
    const struct consumer_spec *spec; /* not owned */
    uint64_t deadline_ns;
    struct cJSON *stream; /* owned: STREAM.INFO */
    struct cJSON *info;   /* owned: CONSUMER.INFO, or the answer to a CREATE; NULL: there is none */
};
void consumer_setup_clear(struct consumer_setup *setup);

int consumer_setup_read_stream(struct consumer_setup *setup, struct err *err);
int consumer_setup_read(struct consumer_setup *setup, struct err *err);
/* The settings that were read. */
const struct cJSON *consumer_setup_config(const struct consumer_setup *setup);
/* All that an existing one must agree to. */
int consumer_setup_compare(const struct consumer_setup *setup, struct err *err);
/* difference: what is to be changed. Sends the server's own settings with those changed that the
 * script states. */
int consumer_setup_update(struct consumer_setup *setup, const struct err *difference,
                          struct err *err);
/* takes: config. Creates, and compares what the server made of it: older ones drop what they do
 * not know, silently. */
int consumer_setup_create(struct consumer_setup *setup, struct cJSON *config, int *api_code,
                          struct err *err);
/* Takes over what the server has. */
void consumer_setup_adopt(struct consumer_setup *setup);

/* --- consumer_look.c --- */

/* The puller's look. */
enum looked consumer_look(struct puller *puller);
/* Takes over what the server has: heartbeats come in time for its ack_wait from now on. broken:
 * what of it is against what is stated; NULL: nothing. That is logged, once. */
void consumer_note_judged(struct consumer *consumer, const struct cJSON *info,
                          const struct err *broken);

/* --- consumer_config.c: the JSON of a consumer's settings; pure --- */

/* What the pulls say of the group that is stated. */
struct puller_group consumer_group(const struct consumer_spec *spec);
/* Owned copies (also of a failed one). 0, or ERR_INVALID, ERR_MEMORY. */
int consumer_spec_copy(struct consumer_spec *to, const struct consumer_spec *from, struct err *err);
void consumer_spec_clear(struct consumer_spec *spec);

/* A new consumer's settings. Owned by the caller. */
struct cJSON *consumer_config_new(const struct consumer_spec *spec);
/* Changes existing settings to what is stated. */
void consumer_config_state(struct cJSON *config, const struct consumer_spec *spec);
/* Makes settings of a new consumer start elsewhere. */
void consumer_config_deliver(struct cJSON *config, enum deliver_from deliver, uint64_t sequence,
                             const char *time);
/* Compares what is stated, and only that, with the server's. 0, or ERR_MISMATCH showing both
 * values. *unstated (an owned string, or NULL): a filter of the server that is not stated. */
int consumer_config_compare(const struct consumer_spec *spec, const struct cJSON *config,
                            char **unstated, struct err *err);
/* ERR_MISMATCH, with what to do: a kind of consumer that cannot be used at all, or one that
 * retries by itself (which an update mends). */
int consumer_config_check_kind(const struct cJSON *config, struct err *err);
int consumer_config_check_retries(const struct consumer_spec *spec, const struct cJSON *config,
                                  struct err *err);

/* Whose it is, as the server keeps it: a restart of the script may change it, as a reload may.
 * knows_metadata: nats-server 2.10 and newer; else it is in the description, unless that is stated.
 */
void consumer_config_sign(struct cJSON *config, const struct consumer_spec *spec,
                          bool knows_metadata);
bool consumer_config_is_own(const struct cJSON *config, const struct consumer_spec *spec);
/* The command of the nats CLI for a difference that consumer_config_compare has shown. Returns buf.
 */
char *consumer_config_remedy(const struct consumer_spec *spec, const char *difference, char *buf,
                             size_t size);

#endif
