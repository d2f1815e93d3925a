/* judge - what is set wrong, before it hurts: a table of judgements over what is registered, what
 * is configured, and, where a server was asked, what that has.
 *
 *   facts ─ judge_all ─▶ each row of the table looks for its fault ─▶ findings, by place
 *
 * A judgement knows what stands in the facts and nothing else: it asks nobody, and logs nothing.
 * What a handler does is not known, only what it states; so the streams that it publishes to are
 * taken to be those that its script states and neither consumes, nor only reads, nor sends dead
 * letters to.
 *
 *   judge.c          findings, and the way through the table
 *   judge_table.c    the table
 *   judge_look.c     questions to the facts that several judgements have
 *   judge_time.c     judgements on durations and numbers
 *   judge_options.c  on options that do nothing, and files that are not there
 *   judge_letters.c  on dead letters
 *   judge_streams.c  on streams, and on handlers that get in each other's way
 *   judge_buckets.c  on buckets that locks and limits of a cluster are kept in
 *   judge_server.c   on what a server has
 *
 * Pure functions, any thread. Everything in the facts is borrowed. */
#ifndef MOONBUS_JUDGE_JUDGE_H
#define MOONBUS_JUDGE_JUDGE_H

#include <stdbool.h>
#include <stdint.h>

struct cJSON;

/* --- the facts --- */

/* Where something stands. NULL or 0: in no script, or not known. */
struct judge_place {
    const char *script, *handler, *file;
    int line;
};

enum judge_kind { JUDGE_SUBSCRIBE, JUDGE_CONSUME, JUDGE_OFFLOAD, JUDGE_SERVICE, JUDGE_OTHER };

/* May the server's settings be changed to what is stated? As the option `update`. */
enum judge_update { JUDGE_UPDATE_UNSTATED, JUDGE_UPDATE_NO, JUDGE_UPDATE_YES };

/* Something that a script registers, but for its streams. */
struct judge_handler {
    struct judge_place place;
    enum judge_kind kind;
    const char *what;    /* for people: "orders.created", "request/reply", "timer" */
    int64_t timeout_ns;  /* OFFLOAD: of a call; 0: none */
    bool timeout_stated; /* else it is the default */
    int concurrency;

    const char *subject, *queue; /* SUBSCRIBE; queue: or NULL */
    bool looks_on;               /* SUBSCRIBE: it never replies */
    bool is_endpoint;            /* SUBSCRIBE: of a service, so that it always replies */
    int64_t next_s;              /* of a cron line: its next time, seconds since 1970; else 0 */
    const char *zone;            /* of a cron line; else NULL */
    const char *schema;          /* of payloads, as JSON Schema; NULL: none is stated */
    const char *needs;           /* what of it not every server has; NULL: nothing */
    int needs_minor;             /* of the first nats-server 2.x that has it */

    /* CONSUME */
    const char *stream, *durable;
    const char *const *filters; /* none: all subjects */
    int filter_count;
    int64_t ack_wait_ns;
    int attempts;
    bool backoff_stated;
    int order_token;          /* order_by = N; 0: no token is the key */
    int64_t retries_ns;       /* the backoffs between all attempts, at their longest */
    int64_t backoff_max_ns;   /* the longest of them that there can be */
    int64_t longest_retry_ns; /* the longest that it comes to, with its jitter */
    int64_t park_after_ns;    /* longer ones are parked, where the server can; 0: none are */
    int messages;             /* that its handlers have at a time: of a batch all count */
    int max_ack_pending;      /* 0: not stated; -1: no limit */
    const char *dead_letter;
    bool drops; /* dead_letter = false */
    bool ordered, headers_only, bind;
    bool from_start; /* deliver = "all" */
    enum judge_update update;

    /* CONSUME, of a server that was asked */
    const struct cJSON *config; /* of the durable there; NULL: it is not there */
    const char *differs;        /* what of it is not as stated; NULL: nothing */
    bool own;                   /* this script made it: what is stated wins */
};

/* A stream that a script states (js.stream), or one that the server has. */
struct judge_stream {
    struct judge_place place;   /* script NULL: the server's */
    const struct cJSON *config; /* NATS' own fields, durations in ns */
    enum judge_update update;
    bool only_read; /* of one that is stated: its script reads it, and names none of its subjects */
    bool clustered; /* the server's: in a cluster */

    /* Of one that is stated, when a server was asked */
    const char *differs; /* what the server has otherwise; NULL: nothing */
};

struct judge_script {
    const char *name;
    int registrations;              /* how many, its streams included */
    bool requests, publishes, naks; /* the words stand somewhere in its files */
};

/* A bucket that a script keeps locks or limits of a cluster in, by the words of its files: once for
 * each script. */
struct judge_bucket {
    struct judge_place place; /* the first that names it */
    const char *name, *stream;
    bool own;       /* moonbus' own, which the first host makes */
    int64_t ttl_ns; /* the longest of a lock; 0: it has limits alone */
};

/* That the config names, as "tls.ca". */
struct judge_file {
    const char *key, *path;
};

/* Of the config. */
struct judge_settings {
    int64_t graceful_timeout_ns, request_timeout_ns, publish_timeout_ns;
    int64_t ping_interval_ns, reconnect_wait_ns, reconnect_jitter_ns;
    int max_pings_out;
    bool private_server; /* of `moonbus dev`, on this machine */
    struct judge_file unreadable[5];
    int unreadable_count;
};

struct judge_facts {
    struct judge_settings settings;
    const struct judge_script *scripts;
    int script_count;
    bool no_scripts;                      /* not even one that does not load */
    const struct judge_handler *handlers; /* in order of registration */
    int handler_count;
    const struct judge_stream *streams; /* those that are stated, then those of the server */
    int stream_count;
    const struct judge_bucket *buckets;
    int bucket_count;
    bool serving; /* by a host that starts: what it finds out by itself is not looked for */
    bool asked;   /* a server, which has told all: what is not among its streams is not there */
    /* Its version, when it is known: 2 and 9 of 2.9.10. */
    int server_major, server_minor;
    bool server_older; /* or an older one: 2.10 and 2.9 tell no difference without a stream */
};

/* --- findings --- */

enum judge_severity {
    JUDGE_NOTE,    /* worth knowing; also what rests on a default that nobody has chosen */
    JUDGE_WARNING, /* something will be lost, doubled, cut off or stuck one day */
    JUDGE_ERROR,   /* it cannot be served */
};

struct judgement;

struct judge_finding {
    const struct judgement *judgement;
    enum judge_severity severity;
    struct judge_place place; /* borrowed of the facts */
    struct judge_place other; /* the other one of two; or all NULL */
    char *text;               /* owned: what will happen, and what would be right */
};

struct judge_findings {
    struct judge_finding *list; /* owned */
    int count, capacity;
    bool failed; /* out of memory: some are missing */
};

/* One fault that is looked for: a row of the table. */
struct judgement {
    const char *name; /* as people and programs know it: "no_dead_letter" */
    enum judge_severity severity;
    bool startup;      /* a host that starts finds it out by itself: it refuses, or makes sure */
    const char *finds; /* for the documents: what is wrong then */
    void (*judge)(const struct judge_facts *facts, const struct judgement *self,
                  struct judge_findings *out);
};

extern const struct judgement judgements[];
extern const int judgement_count;

/* Adds what is found, by script, line and row. */
void judge_all(const struct judge_facts *facts, struct judge_findings *out);
void judge_findings_clear(struct judge_findings *findings);

/* "note", "warning", "error". */
const char *judge_severity_name(enum judge_severity severity);

/* For the judgements: one more finding; other may be NULL. */
void judge_find(struct judge_findings *out, const struct judgement *self,
                enum judge_severity severity, const struct judge_place *place,
                const struct judge_place *other, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

#endif
