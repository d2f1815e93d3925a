/* snapshot - what the engine does at one moment, as plain structs: for the status, for readiness,
 * for metrics, for a page. Each of them says it in its own form.
 *
 * Made and freed by any thread; it is a copy, and what it borrows (names of scripts and stores)
 * lives as long as the engine. Counts are what was counted since the host began, over all versions
 * of a script. */
#ifndef MOONBUS_ENGINE_SNAPSHOT_H
#define MOONBUS_ENGINE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/consume/consumer_counts.h"
#include "engine/kinds/discovery.h"
#include "engine/offload/offload_stat.h"
#include "engine/version/tally_sum.h"

struct engine;
struct outbox_account;
struct store_stat;
struct tally_book;

/* A durable of a handler. */
struct durable_stat {
    int held;  /* messages without a verdict */
    int asked; /* messages that pull requests under way are owed */
    uint64_t ack_floor;
    bool gone, silent, paused;
    char paused_until[40];   /* "": the server does not say */
    char *group;             /* owned; its priority group; NULL: none */
    bool pins, pinned;       /* the group's messages go to one process; that is this one */
    char *edited;            /* owned; what somebody changed on the server; NULL: nothing */
    struct consumer_lag lag; /* as the server said last */
    /* Of backoff.park_after: "parked", or "naks" where the server has no schedules; static; NULL:
     * it is not stated. And what of the parked has come, and is not settled. */
    const char *retries;
    struct consumer_lag retries_lag;
};

/* What reads a stream in order, and how far it is. */
struct reading_stat {
    bool gone, silent, caught_up;
    uint64_t last;   /* the sequence of the last message that came */
    uint64_t behind; /* messages that were still to come, as of that one */
};

/* What is counted under a handler's name, in any version of its script. */
struct tally_stat {
    char *handler;          /* owned */
    unsigned twin;          /* of several that have that name: which, from 0 */
    const char *kind;       /* "consume", "subscribe", "every" ...; static */
    char *stream, *durable; /* owned; NULL: it is no durable */
    bool takes_messages;    /* else it is a timer or a hook */
    struct tally_sum sum;
    struct tally_error error; /* the last run that failed */
    bool is_live;             /* the live version registers it */
    int running, stuck, queued;
    int64_t oldest_running_ns; /* 0: nothing runs */
    /* Of a durable. */
    struct {
        uint64_t joined, leases_lost, heartbeats, pulls, answers[PULL_ANSWERS];
    } consumer;
    const struct durable_stat *now; /* the live handler's; or NULL */
};

/* A handler of a script's live generation, or a timer. */
struct handler_stat {
    char *handler, *what;      /* owned */
    unsigned twin;             /* of several that have that name: which, from 0 */
    bool is_durable, is_timer; /* neither: core messages */
    int running, stuck, queued;
    int64_t oldest_running_ns; /* 0: nothing runs */
    uint64_t dropped;          /* of core messages */
    int64_t next_s;            /* of a cron line: when it comes next, seconds since 1970; else 0 */
    struct durable_stat durable;
    bool is_reader; /* a watch or a cache of a bucket: */
    struct reading_stat reader;
    bool is_live;                     /* of the live version, and serving */
    const struct tally_stat *counted; /* the script's; NULL: of nothing that is live */
};

struct script_stat {
    const char *name, *path;
    bool served;
    unsigned generation; /* the live one */
    int live_generations, instances;
    int live_instances;  /* of the live generation */
    char *complaint;     /* owned; why its last further instance did not load; NULL: it did */
    char *start_failure; /* owned; of its first "start" hook that failed; NULL: none */
    struct {
        size_t used_bytes, fullest_bytes; /* of all its Lua states; of the one that has most */
        size_t limit_bytes;               /* of each; 0: none */
    } memory;
    struct handler_stat *handlers; /* owned */
    int handler_count;
    int source_count; /* with what follows the handlers: hooks, and sources that are about to end */
    struct tally_stat *tallies; /* owned */
    int tally_count;
    struct tally_calls_sum calls;
    struct tally_book *book;                /* not owned: the snapshot's, while it is made */
    const struct outbox_account *publishes; /* the bus's; NULL: it has not been served */
};

struct engine_snapshot {
    struct script_stat *scripts; /* owned, in order of loading; without those that have ended */
    int script_count;
    int running, queued;            /* handlers, with those that are stuck; messages */
    int workers, workers_busy;      /* threads */
    int lost_threads, lost_most;    /* to calls that nothing interrupts; limits.max_stuck */
    unsigned machine_code_left;     /* states whose machine code stays mapped */
    uint64_t raised, escaped, lost; /* how often the watchdog had to: watchdog.h */
    struct offload_stat offload;
    struct store_stat *stores; /* owned */
    int store_count;
    struct service_stat *services; /* owned: that are found by $SRV */
    int service_count;
};

/* NULL: no memory. */
struct engine_snapshot *engine_snapshot(struct engine *engine);
void engine_snapshot_free(struct engine_snapshot *snapshot); /* NULL is allowed */

/* Somebody reads how far durables are behind: the server is asked, if it was not lately, and the
 * next snapshot has its answer. Does not block. */
void engine_ask_lag(struct engine *engine);

/* One run of a handler that is under way. Copies, cut to their room; but for the script's name,
 * which lives as long as the engine. */
struct running_stat {
    const char *script;
    char handler[160], subject[160];
    uint64_t sequence; /* 0: no stored message */
    unsigned attempt;
    int64_t age_ns;
    /* "orders.lua:14": where it waits. "": not known, as it computes, or has begun since the last
     * call. */
    char place[160];
    bool computes; /* a worker runs it just now; then it has no place */
};

/* Fills list with the `most` oldest, the oldest first; returns how many. Any thread; takes the
 * dispatch lock for as long as it takes to look at `most` runs of each handler. Asks for the lines
 * that the next call tells: call it again in a moment. */
int engine_oldest_runs(struct engine *engine, struct running_stat *list, int most);

#endif
