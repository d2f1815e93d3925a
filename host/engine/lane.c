#include "engine/lane.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#include "base/value.h"
#include "bus/wire.h"
#include "engine/internal.h"

/* How many waiting messages cost no credit: enough that a burst on one key hides nobody else's
 * messages, few enough that memory stays small (a parked message is its bytes and a heartbeat). */
#define PARKED_LEAST 256
#define PARKED_PER_HANDLER 8
#define TOLD_AGAIN_NS (60 * NS_PER_S)

struct lane {
    UT_hash_handle hh;
    struct lanes *lanes;       /* not owned */
    struct delivery *occupant; /* queued, running or held; its reference is ours while held */
    struct delivery *waiting;  /* utlist, a reference each */
    int64_t hold_ns;           /* the occupant is to be held; -1: it is not */
    bool held;                 /* `retry` is armed, or fires */
    struct deadline retry;
    char key[];
};

struct lanes {
    struct source *source; /* not owned */
    enum order order;      /* as registered; these three never change */
    int token;             /* counted from 1 */
    char *header;          /* owned; or NULL */
    struct lane *table;
    int orphans;              /* lanes that are gone but for their on_retry */
    int parked, parked_limit; /* messages that wait without costing credit */
    uint64_t told_ns;
};

struct lanes *lanes_new(struct source *source, const struct registration *registration)
{
    const char *header = registration->order_header;
    struct lanes *lanes = calloc(1, sizeof *lanes);
    if (!lanes || (header && !(lanes->header = strdup(header)))) {
        free(lanes);
        return NULL;
    }
    lanes->source = source;
    lanes->order = registration->order;
    lanes->token = registration->order_token;
    lanes->parked_limit = registration->concurrency * PARKED_PER_HANDLER;
    if (lanes->parked_limit < PARKED_LEAST)
        lanes->parked_limit = PARKED_LEAST;
    return lanes;
}

void lanes_free(struct lanes *lanes)
{
    if (!lanes)
        return;
    struct lane *lane, *next;
    HASH_ITER(hh, lanes->table, lane, next) {
        HASH_DEL(lanes->table, lane);
        free(lane);
    }
    free(lanes->header);
    free(lanes);
}

/* The number-th token of a subject, counted from 1. */
static bool token(const char *subject, int number, char key[LANE_KEY_MAX])
{
    while (--number > 0) {
        subject = strchr(subject, '.');
        if (!subject)
            return false;
        subject++;
    }
    size_t len = strcspn(subject, ".");
    snprintf(key, LANE_KEY_MAX, "%.*s", (int)len, subject);
    return true;
}

bool lane_key(const struct lanes *lanes, struct delivery *delivery, char key[LANE_KEY_MAX])
{
    const char *value = NULL;
    switch (lanes->order) {
    case ORDER_NONE:
        return false;
    case ORDER_SUBJECT:
        value = delivery->subject;
        break;
    case ORDER_TOKEN:
        return token(delivery->subject, lanes->token, key);
    case ORDER_HEADER:
        value = wire_header(delivery->msg, lanes->header);
        break;
    }
    if (!value)
        return false;
    snprintf(key, LANE_KEY_MAX, "%s", value);
    return true;
}

/* The clock: a held message's backoff is over. */
static void on_retry(struct deadline *deadline)
{
    struct lane *lane = (struct lane *)((char *)deadline - offsetof(struct lane, retry));
    struct source *source = lane->lanes->source;
    struct dispatch *dispatch = &source->engine->dispatch;
    dispatch_lock(dispatch);
    lane->held = false;
    if (lane->occupant) {
        DL_APPEND(source->fifo, lane->occupant);
        dispatch_ready_source(dispatch, source);
    } else {
        lane->lanes->orphans--; /* it was emptied while this began */
        free(lane);
    }
    dispatch_unlock(dispatch);
}

static struct lane *add_lane(struct lanes *lanes, const char *key)
{
    size_t len = strlen(key);
    struct lane *lane = calloc(1, sizeof *lane + len + 1);
    if (!lane)
        return NULL;
    memcpy(lane->key, key, len + 1);
    lane->lanes = lanes;
    lane->hold_ns = -1;
    lane->retry.on_due = on_retry;
    HASH_ADD_KEYPTR(hh, lanes->table, lane->key, len, lane);
    return lane;
}

/* Returns how many wait, when that is to be said: the bound is reached. */
static int park(struct lanes *lanes, struct delivery *delivery)
{
    uint64_t now = clock_now_ns();
    if (lanes->parked < lanes->parked_limit) {
        lanes->parked++;
        consumer_park(delivery->consumer, delivery, true);
        return 0;
    }
    if (lanes->told_ns && now - lanes->told_ns <= TOLD_AGAIN_NS)
        return 0;
    lanes->told_ns = now;
    return lanes->parked;
}

static void unpark(struct lanes *lanes, struct delivery *delivery)
{
    if (consumer_park(delivery->consumer, delivery, false))
        lanes->parked--;
}

bool lane_enter(struct lanes *lanes, struct delivery *delivery, const char *key, int *tell)
{
    struct lane *lane;
    *tell = 0;
    HASH_FIND(hh, lanes->table, key, strlen(key), lane);
    if (lane) {
        delivery->lane = lane;
        DL_APPEND(lane->waiting, delivery);
        *tell = park(lanes, delivery);
        return false;
    }
    lane = add_lane(lanes, key);
    delivery->lane = lane;
    if (lane)
        lane->occupant = delivery;
    return true;
}

void lane_hold(struct delivery *delivery, int64_t delay_ns)
{
    struct lane *lane = delivery->lane;
    if (lane)
        lane->hold_ns = delay_ns;
}

bool lane_wants_hold(const struct delivery *delivery)
{
    const struct lane *lane = delivery->lane;
    return lane && lane->hold_ns >= 0;
}

static void drop_lane(struct lane *lane)
{
    HASH_DEL(lane->lanes->table, lane);
    free(lane);
}

bool lane_over(struct lanes *lanes, struct delivery *delivery, struct delivery **next)
{
    struct lane *lane = delivery->lane;
    *next = NULL;
    if (!lane)
        return false;
    int64_t hold_ns = lane->hold_ns;
    lane->hold_ns = -1;
    if (hold_ns >= 0 && !delivery_settled(delivery)) {
        lane->held = true;
        clock_arm(lanes->source->engine->clock, &lane->retry, clock_now_ns() + (uint64_t)hold_ns);
        return true;
    }
    delivery->lane = NULL;
    lane->occupant = lane->waiting;
    if (lane->waiting) {
        DL_DELETE(lane->waiting, lane->occupant);
        unpark(lanes, lane->occupant);
        *next = lane->occupant;
    } else {
        drop_lane(lane);
    }
    return false;
}

/* on_retry, which has begun, frees it. */
static void orphan(struct lane *lane)
{
    HASH_DEL(lane->lanes->table, lane);
    lane->lanes->orphans++;
}

static void empty_lane(struct lane *lane, struct delivery **all)
{
    DL_CONCAT(*all, lane->waiting);
    lane->waiting = NULL;
    if (!lane->held)
        return; /* queued or running: lane_over drops the lane */
    DL_APPEND(*all, lane->occupant);
    lane->occupant->lane = NULL;
    lane->occupant = NULL;
    if (clock_cancel(lane->lanes->source->engine->clock, &lane->retry))
        drop_lane(lane);
    else
        orphan(lane);
}

bool lanes_quiet(const struct lanes *lanes)
{
    return !lanes || (!lanes->table && lanes->orphans == 0);
}

struct delivery *lanes_empty(struct lanes *lanes)
{
    struct delivery *all = NULL, *delivery;
    struct lane *lane, *next;
    HASH_ITER(hh, lanes->table, lane, next)
        empty_lane(lane, &all);
    DL_FOREACH(all, delivery) {
        unpark(lanes, delivery);
        delivery->lane = NULL;
    }
    return all;
}
