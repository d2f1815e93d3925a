/* broker_private - what the files of the broker share; nobody else includes it.
 *
 *   broker.c           clients, subscriptions, the way of a message, time
 *   broker_stream.c    streams: what is stored, limits, duplicates, PubAcks
 *   broker_newer.c     what newer servers do with a message: a time to live, counters
 *   broker_schedule.c  schedules at a time
 *   broker_ids.c       message ids that were stored lately
 *   broker_state.c     what is told of them
 *   broker_settings.c  the JSON of their settings, with the server's defaults
 *   broker_consumer.c  consumers: what is delivered, verdicts, redeliveries
 *   broker_pull.c      their pull requests and how these end
 *   broker_look.c      what is asked of durables from beside
 *   broker_accept.c    which settings of a consumer are taken for a stream
 *   broker_api.c       $JS.API.> */
#ifndef MOONBUS_BROKER_BROKER_PRIVATE_H
#define MOONBUS_BROKER_BROKER_PRIVATE_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "broker/broker.h"
#include "bus/header_block.h"

#define NEVER UINT64_MAX

struct text;

struct broker_interest {
    struct broker_interest *prev, *next; /* broker->subscriptions, in order of their making */
    struct broker_client *client;        /* not owned */
    uint64_t sid;
    char *subject, *queue; /* owned; queue may be NULL */
};

struct broker_client {
    struct broker_client *prev, *next; /* broker->clients */
    struct broker *broker;             /* not owned */
    struct broker_packet *head, *tail; /* owned: what has come */
};

struct broker {
    size_t max_payload;
    int64_t wall_ns;
    uint64_t random;
    uint64_t now_ns;
    struct broker_client *clients;         /* owned */
    struct broker_interest *subscriptions; /* owned */
    struct broker_stream *streams;         /* owned, in order of their making */
};

/* --- broker.c --- */

/* The time of day. */
int64_t broker_wall_ns(const struct broker *broker);

/* Hands a message to everybody who wants its subject: clients, streams, the API. How many did. A
 * message of the server itself; a client's goes through broker_publish. */
int broker_route(struct broker *broker, const struct broker_message *message);

/* The same with another subject to be routed by than the message has: pull consumers. Only
 * clients. */
int broker_deliver(struct broker *broker, const char *to, const struct broker_message *message);

/* Does any client want this subject? */
bool broker_has_interest(const struct broker *broker, const char *subject);

/* An answer without headers; does nothing when `to` is NULL. */
void broker_answer(struct broker *broker, const char *to, const char *data, size_t len);

/* --- broker_stream.c --- */

struct broker_stored {
    uint64_t sequence;
    int64_t timestamp_ns; /* of the day */
    uint64_t gone_ns;     /* by its own time to live; 0: it has none, NEVER: nor by max_age */
    uint64_t fires_ns;    /* a schedule: when; 0: it is none */
    char *subject;        /* owned: one block with what follows */
    const char *headers, *data;
    size_t headers_len, len;
};

#define BROKER_ID_CHAINS 1024

/* A message id that was stored lately. */
struct known_id {
    struct known_id *next;    /* newer */
    struct known_id *chained; /* of the same hash */
    uint64_t sequence, until_ns;
    char text[];
};

enum retention { RETENTION_LIMITS, RETENTION_INTEREST, RETENTION_WORKQUEUE };

/* A stream's settings, read from its JSON. 0 and NULL: no bound. */
struct stream_settings {
    char **subjects; /* owned, with their NULL at the end */
    enum retention retention;
    int64_t max_msgs, max_bytes, max_msgs_per_subject, max_msg_size;
    uint64_t max_age_ns, duplicate_window_ns;
    uint64_t marker_ns; /* subject_delete_marker_ttl */
    bool memory, discard_new, discard_new_per_subject, no_ack, sealed, deny_delete, deny_purge,
        rollup, ttls, counters, schedules;
};

struct broker_stream {
    struct broker_stream *next;
    struct broker *broker; /* not owned */
    char *name;            /* owned */
    cJSON *config;         /* owned: as the server echoes it */
    struct stream_settings settings;
    int64_t created_ns; /* of the day */
    /* Of the sequences from `first` on: messages[i] is first + i, NULL where it was removed. */
    struct broker_stored **messages;
    size_t slots, capacity;
    uint64_t first, last;
    uint64_t count, bytes;
    struct known_id *ids, *ids_tail; /* oldest first */
    struct known_id *ids_by_hash[BROKER_ID_CHAINS];
    bool has_ttls;                     /* a message with a time to live of its own was stored */
    bool has_schedules;                /* the same of a schedule */
    char last_id[512];                 /* of the last message; "" when it had none */
    struct broker_consumer *consumers; /* owned, in order of their making */
};

struct broker_stream *broker_stream_find(const struct broker *broker, const char *name);
/* The one that takes a subject; NULL. */
struct broker_stream *broker_stream_for(const struct broker *broker, const char *subject);
/* config: taken, also on failure. NULL: out of memory. */
struct broker_stream *broker_stream_make(struct broker *broker, cJSON *config);
/* Takes config in place of what it has. False: out of memory; nothing has changed. */
bool broker_stream_change(struct broker_stream *stream, cJSON *config);
void broker_stream_delete(struct broker_stream *stream);
void broker_stream_free(struct broker_stream *stream);

/* Stores it, or refuses to, and answers. */
void broker_stream_store(struct broker_stream *stream, const struct broker_message *message);

/* Stores it as number `sequence`, of that time, in the place of all that is there. False: out of
 * memory. */
bool broker_stream_put(struct broker_stream *stream, const struct broker_message *message,
                       uint64_t sequence, int64_t timestamp_ns);

struct broker_stored *broker_stream_at(const struct broker_stream *stream, uint64_t sequence);
/* The newest of a subject (or pattern), below `before`; NULL. */
struct broker_stored *broker_stream_newest(const struct broker_stream *stream, const char *subject,
                                           uint64_t before);
void broker_stream_remove(struct broker_stream *stream, uint64_t sequence);
/* filter: NULL for all; below: 0, or sequences below it alone; keep: so many of the newest stay.
 * How many went. */
uint64_t broker_stream_purge(struct broker_stream *stream, const char *filter, uint64_t below,
                             uint64_t keep);
/* A message was settled for a consumer: does anybody still want it? */
void broker_stream_settled(struct broker_stream *stream, uint64_t sequence);
/* What is due; when something is due next. */
uint64_t broker_stream_tick(struct broker_stream *stream);

/* --- broker_state.c --- */

/* Adds its settings and its state, as STREAM.INFO tells them. */
void broker_state_describe(cJSON *answer, const struct broker_stream *stream);
/* Adds the subjects that the filter takes, a page of them from `offset` on, each with how many
 * messages it has. */
void broker_state_subjects(cJSON *answer, const struct broker_stream *stream, const char *filter,
                           int64_t offset);

/* --- broker_settings.c --- */

/* Puts defaults where nothing is stated, as the server echoes them. False: err_code and description
 * of what is wrong. */
struct broker_error {
    int code, err_code;
    char description[256];
};
/* May a server read it as the settings of a stream? No setting is a list of lists. */
bool broker_settings_readable(const cJSON *config);
bool broker_settings_complete_stream(cJSON *config, struct broker_error *error);
bool broker_settings_complete_consumer(cJSON *config, struct broker_error *error);
bool broker_settings_read_stream(const cJSON *config, struct stream_settings *out);
void broker_settings_clear_stream(struct stream_settings *settings);

/* Fields, with what stands for absent ones. */
const char *broker_json_text(const cJSON *object, const char *name);
int64_t broker_json_integer(const cJSON *object, const char *name, int64_t otherwise);
bool broker_json_true(const cJSON *object, const char *name);
/* A number, for who prints the answer: broker_json_integer does not read it. */
void broker_json_add_count(cJSON *object, const char *name, uint64_t count);
/* "2026-01-01T00:00:00.5Z" */
void broker_json_add_time(cJSON *object, const char *name, int64_t wall_ns);
/* Such a text. False: it is none. */
bool broker_read_time(const char *text, int64_t *wall_ns);
/* False: none. */
bool broker_json_time(const cJSON *object, const char *name, int64_t *wall_ns);

/* --- broker_accept.c --- */

/* Is there a subject that both patterns take? */
bool broker_accept_overlap(const char *a, const char *b);
/* A new consumer, or a change of the present one. False: why not. */
struct broker_consumer;
bool broker_accept_consumer(const struct broker_stream *stream,
                            const struct broker_consumer *present, const cJSON *config,
                            struct broker_error *error);

/* --- broker_newer.c --- */

#define BROKER_COUNT_MOST 512 /* bytes of a sum, with its NUL */

/* Why a time to live or a count is refused; NULL: it is not. */
const struct broker_error *broker_newer_refuses(const struct broker_stream *stream,
                                                const struct broker_message *message,
                                                const struct header_block *block);
/* Of a message; NEVER, or 0: none is stated. */
uint64_t broker_newer_ttl_ns(const struct broker_stream *stream, const struct header_block *block);
/* Removes what is too old, by its own time to live or by max_age. Returns when something is next.
 */
uint64_t broker_newer_age(struct broker_stream *stream);
/* Adds what the message counts to the sum of its subject (BROKER_COUNT_MOST bytes). False: the
 * stream counts nothing. */
bool broker_newer_count(const struct broker_stream *stream, const char *subject,
                        const struct header_block *block, char *sum);

/* --- broker_ids.c --- */

/* NULL: it was not stored within the duplicate window. */
const struct known_id *broker_ids_find(struct broker_stream *stream, const char *text);
/* The last message that was stored has it. */
void broker_ids_note(struct broker_stream *stream, const char *text);
void broker_ids_free(struct broker_stream *stream);

/* --- broker_schedule.c --- */

/* Why a message with a schedule is refused; NULL: it is not. */
const struct broker_error *broker_schedule_refuses(const struct broker_stream *stream,
                                                   const char *subject,
                                                   const struct header_block *block);
/* A schedule takes the place of all that is at its subject. True: it is one that does not say so,
 * and these are its headers, as it is stored. */
bool broker_schedule_rolls_up(const struct header_block *block, struct text *headers);
/* A message that was stored may be a schedule. */
void broker_schedule_note(struct broker_stream *stream, struct broker_stored *stored);
/* Publishes what is due. Returns when something is next. */
uint64_t broker_schedule_tick(struct broker_stream *stream);

/* --- broker_consumer.c, broker_pull.c --- */

#define BROKER_BACKOFFS 32

/* A message that was delivered and has no verdict. */
struct broker_pending {
    uint64_t sequence;          /* of the stream */
    uint64_t consumer_sequence; /* of its last delivery */
    uint64_t due_ns;            /* when it is delivered again */
    uint64_t attempts;
    bool again; /* it is due, and waits for a request */
};

struct broker_request {
    struct broker_request *next;
    char *reply; /* owned */
    int64_t batch;
    uint64_t expires_ns, heartbeat_ns, beat_at_ns; /* NEVER and 0: none */
    int64_t max_bytes, bytes;
    bool no_wait;
};

struct broker_consumer {
    struct broker_consumer *next;
    struct broker_stream *stream; /* not owned */
    char *name;                   /* owned */
    cJSON *config;                /* owned */
    char **filters;               /* owned, with a NULL at the end; none: all */
    int64_t created_ns;
    uint64_t
        backoff_ns[BROKER_BACKOFFS]; /* in place of ack_wait, by attempt; the last one for more */
    int backoffs;
    uint64_t ack_wait_ns, inactive_ns; /* inactive_ns: 0, or it goes after so long without a pull */
    uint64_t idle_since_ns;
    int64_t max_deliver, max_ack_pending, max_waiting, max_batch;
    bool ack_none, headers_only;
    uint64_t delivered, delivered_consumer; /* the last sequences */
    uint64_t count_from; /* the next new message counts as delivered so often before */
    uint64_t floor, floor_consumer;
    uint64_t *first_ones; /* owned: of last_per_subject, what comes before all that is new */
    size_t first_count, first_at;
    struct broker_pending *pending; /* owned; in order of the stream */
    size_t pending_count, pending_capacity;
    struct broker_request *waiting; /* owned, oldest first */
};

struct broker_consumer *broker_consumer_find(const struct broker_stream *stream, const char *name);
/* config: taken. NULL: out of memory. */
struct broker_consumer *broker_consumer_make(struct broker_stream *stream, const char *name,
                                             cJSON *config);
bool broker_consumer_change(struct broker_consumer *consumer, cJSON *config);
/* Its requests are answered with 409 "Consumer Deleted". */
void broker_consumer_delete(struct broker_consumer *consumer);
/* Does one of its filters take the subject? */
bool broker_consumer_wants(const struct broker_consumer *consumer, const char *subject);
/* Is there a message of the stream that it has not settled? */
bool broker_consumer_needs(const struct broker_consumer *consumer, uint64_t sequence,
                           const char *subject);
/* So many that it has not delivered. */
uint64_t broker_consumer_unseen(const struct broker_consumer *consumer);
/* "$JS.ACK.<stream>.<consumer>...." and what was published there. */
void broker_consumer_verdict(struct broker *broker, const struct broker_message *message);
/* Delivers what it can. */
void broker_consumer_serve(struct broker_consumer *consumer);
uint64_t broker_consumer_tick(struct broker_consumer *consumer);

/* The next message that would be delivered, or NULL; *again: the pending one that it is. */
struct broker_stored *broker_consumer_next(struct broker_consumer *consumer,
                                           struct broker_pending **again);
/* How many bytes it counts for a request with a bound on them. */
int64_t broker_consumer_size(const struct broker_consumer *consumer,
                             const struct broker_stored *stored,
                             const struct broker_pending *again);
/* Delivers it to `to`: counts, holds. False: out of memory. */
bool broker_consumer_send(struct broker_consumer *consumer, const char *to,
                          struct broker_stored *stored, struct broker_pending *again);

/* A request came ("$JS.API.CONSUMER.MSG.NEXT..."). */
void broker_pull_came(struct broker_consumer *consumer, const struct broker_message *message);
/* Gives each request what there is. */
void broker_pull_serve(struct broker_consumer *consumer);
/* Ends all of them. */
void broker_pull_end(struct broker_consumer *consumer, const char *status);
uint64_t broker_pull_tick(struct broker_consumer *consumer);

/* --- broker_api.c --- */

/* Answers it; what is no operation has no answer. False: nobody is there who would (a pull request
 * for a consumer that is none; servers before 2.10 are silent). */
bool broker_api_request(struct broker *broker, const struct broker_message *message);

#endif
