/* source_state - how far a source is, and how much it has: a pure machine. It knows no list, no
 * lock, no clock; it is told what happens, and says what follows.
 *
 *           start              stop, of what drains               drained
 *   IDLE ──────────▶ SERVING ───────────────────────▶ STOPPING ────────────▶ STOPPED
 *                       └────── stop, of what does not; cancel; fail ───────────▲
 *
 * What holds:
 *   IDLE      it was made, and nothing comes. Whoever made it may free it.
 *   SERVING   work comes, and begins.
 *   STOPPING  its subscription ends. Core messages that still arrive are handled, until it is
 *             late; those of a durable are kept, and handed back when it has drained.
 *   STOPPED   nothing comes. What is queued or runs goes on to its end.
 *
 * A "stop" hook stays SERVING: nobody stops it, for it runs when all else has ended.
 *
 * Counts, in any state: queued (and waiting in lanes), owed (ticks and hooks), running (at most
 * `limit` at a time), armed (timers of the clock's that are to fire). A source has ended when
 * nothing comes any more and nothing is queued, running or armed. Owner: its source, under the
 * dispatch lock. */
#ifndef MOONBUS_ENGINE_SOURCE_SOURCE_STATE_H
#define MOONBUS_ENGINE_SOURCE_SOURCE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum source_phase { SOURCE_IDLE, SOURCE_SERVING, SOURCE_STOPPING, SOURCE_STOPPED };

/* What its work is. */
enum source_brings {
    SOURCE_BRINGS_MESSAGES,   /* of core NATS: dropped when there are too many; drains */
    SOURCE_BRINGS_DELIVERIES, /* of a durable: never dropped, handed back; drains */
    SOURCE_BRINGS_TICKS,      /* of a timer */
    SOURCE_BRINGS_START,      /* a "start" hook: runs once */
    SOURCE_BRINGS_STOP,       /* a "stop" hook: likewise, at the end */
    SOURCE_BRINGS_NOTHING,    /* it has no handler: it is there, or it is not */
};

/* What is stated by the registration that it serves for; a reload changes it. */
struct source_rules {
    int limit;          /* so many run at a time; 0: any number */
    int messages;       /* MESSAGES: so many wait at most, */
    size_t bytes;       /* with so many bytes */
    bool drop_old;      /* MESSAGES: when it is full the oldest goes */
    int batch;          /* so many run together; 0: each by itself */
    size_t batch_bytes; /* a batch that has so many is large enough */
};

struct source_state {
    enum source_phase phase;
    enum source_brings brings;
    struct source_rules rules;
    int queued;
    size_t queued_bytes;
    uint64_t dropped;
    unsigned owed;
    int running;
    int armed;
    bool late;      /* STOPPING for too long: core messages that still arrive are left out */
    bool batch_due; /* the oldest of a batch has waited enough */
    bool pinned;    /* a lost thread may still come back to it: it never ends */
};

void source_state_init(struct source_state *state, enum source_brings brings);

/* Transitions. */

void source_state_start(struct source_state *state);
/* It could not begin. */
void source_state_fail(struct source_state *state);

enum source_stop {
    SOURCE_STOP_NOTHING, /* it does not serve, or is a "stop" hook */
    SOURCE_STOP_DRAIN,   /* its subscription is to be ended, then source_state_drained */
    SOURCE_STOP_ENDED,   /* it is STOPPED now */
};
enum source_stop source_state_stop(struct source_state *state);
void source_state_drained(struct source_state *state);
/* The stop waits no longer for its subscription. */
void source_state_late(struct source_state *state);
/* A timer ticks no more, not even a tick that is owed. False: it is none that serves. */
bool source_state_cancel(struct source_state *state);

/* What comes, and what becomes of it. */

enum source_fate {
    SOURCE_QUEUE,     /* it is queued */
    SOURCE_MAKE_ROOM, /* the oldest in the queue is dropped; then ask again */
    SOURCE_DROP,      /* there is no room for it */
    SOURCE_PART,      /* it came too late: kept, and handed back when the source has drained */
    SOURCE_HAND_BACK, /* it came too late: handed back at once */
};
/* Of a message of so many bytes. waits: another one could be dropped for it. */
enum source_fate source_state_fate(const struct source_state *state, size_t bytes, bool waits);

void source_state_queue(struct source_state *state, size_t bytes);
/* One begins, or is dropped: it is not queued any more. */
void source_state_unqueue(struct source_state *state, size_t bytes);
/* Nothing is queued any more. How many were. */
int source_state_empty(struct source_state *state);
/* True: a run is owed now. A tick on top of the last one is left out. */
bool source_state_tick(struct source_state *state);
/* True: a hook's run is owed now. */
bool source_state_owe(struct source_state *state);

/* What runs. */

/* May a run begin? waits: a message is there that could. */
bool source_state_may_begin(const struct source_state *state, bool waits);
/* How many may begin together, of messages that run by themselves: a share of what is queued and
 * has a place, so that others get theirs; at least 1. */
int source_state_share(const struct source_state *state, int shares, int most);
void source_state_begin(struct source_state *state, int count);
void source_state_end(struct source_state *state, int count);

/* Does nothing come for its version any more? */
bool source_state_is_quiet(const struct source_state *state);
/* Has everything of it ended, so that it may be freed? */
bool source_state_has_ended(const struct source_state *state);

#endif
