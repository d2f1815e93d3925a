/* lane - the keys of one source, and what waits for them. */
#include "engine/source/lane.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/table.h"
#include "base/value.h"
#include "bus/consume/consumer.h"
#include "engine/sched/dispatch.h"
#include "engine/source/handling.h"
#include "engine/version/registration.h"

/* How many waiting messages cost no credit: enough that a burst on one key hides nobody else's
 * messages, few enough that memory stays small (a parked message is its bytes and a heartbeat). */
#define PARKED_LEAST 256
#define PARKED_PER_HANDLER 8
#define LOGGED_AGAIN_NS (60 * NS_PER_S)

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
    struct clock *clock;       /* not owned */
    struct dispatch *dispatch; /* not owned; its lock guards all of this */
    void (*on_retry)(void *owner, struct delivery *delivery);
    void *owner;
    enum order order; /* as registered; these three never change */
    int token;        /* counted from 1 */
    char *header;     /* owned; or NULL */
    struct lane *table;
    struct delivery *behind;  /* utlist, a reference each: held back, by stream sequence */
    int orphans;              /* lanes that are gone but for their on_retry */
    int parked, parked_limit; /* messages that wait without costing credit */
    uint64_t logged_ns;
    bool starved; /* something is held back because there was no memory for its lane */
};

struct lanes *lanes_new(const struct registration *registration, struct clock *clock,
                        struct dispatch *dispatch,
                        void (*on_retry)(void *owner, struct delivery *delivery), void *owner)
{
    const char *header = registration->order_header;
    struct lanes *lanes = calloc(1, sizeof *lanes);
    if (!lanes || (header && !(lanes->header = strdup(header)))) {
        free(lanes);
        return NULL;
    }
    lanes->clock = clock;
    lanes->dispatch = dispatch;
    lanes->on_retry = on_retry;
    lanes->owner = owner;
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
static bool copy_token(const char *subject, int number, char key[LANE_KEY_MAX])
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
    struct span field;
    switch (lanes->order) {
    case ORDER_NONE:
        return false;
    case ORDER_SUBJECT:
        value = delivery->packet.subject;
        break;
    case ORDER_TOKEN:
        return copy_token(delivery->packet.subject, lanes->token, key);
    case ORDER_HEADER:
        field = header_block_find(&delivery->packet.headers, lanes->header);
        if (field.at)
            span_text(field, key, LANE_KEY_MAX);
        return field.at != NULL;
    }
    if (!value)
        return false;
    snprintf(key, LANE_KEY_MAX, "%s", value);
    return true;
}

/* The clock: a held message's backoff is over. */
static void on_retry(struct deadline *deadline)
{
    struct lane *lane = container_of(deadline, struct lane, retry);
    struct lanes *lanes = lane->lanes;
    struct dispatch *dispatch = lanes->dispatch;
    dispatch_lock(dispatch);
    lane->held = false;
    if (lane->occupant) {
        lanes->on_retry(lanes->owner, lane->occupant);
    } else {
        lanes->orphans--; /* it was emptied while this began */
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
    if (table_has(lane))
        return lane;
    free(lane);
    return NULL;
}

/* Returns how many wait, when that is to be said: the bound is reached. */
static int park(struct lanes *lanes, struct delivery *delivery)
{
    uint64_t now = clock_now_ns();
    if (lanes->parked < lanes->parked_limit) {
        lanes->parked++;
        delivery_park(delivery, true);
        return 0;
    }
    if (lanes->logged_ns && now - lanes->logged_ns <= LOGGED_AGAIN_NS)
        return 0;
    lanes->logged_ns = now;
    return lanes->parked;
}

static void unpark(struct lanes *lanes, struct delivery *delivery)
{
    if (delivery_park(delivery, false))
        lanes->parked--;
}

/* What is held back costs no credit, however much it is: what is missing could not come otherwise.
 */
static void put_behind(struct lanes *lanes, struct delivery *delivery)
{
    struct delivery *after = lanes->behind ? lanes->behind->prev : NULL;
    while (after && after->stream_sequence > delivery->stream_sequence)
        after = after == lanes->behind ? NULL : after->prev;
    DL_APPEND_ELEM(lanes->behind, after, delivery);
    lanes->parked += delivery_park(delivery, true);
}

bool lane_enter(struct lanes *lanes, struct delivery *delivery, const char *key, int *tell)
{
    struct lane *lane;
    must_hold(&lanes->dispatch->lock);
    *tell = 0;
    HASH_FIND(hh, lanes->table, key, strlen(key), lane);
    if (lane) {
        handling_of(delivery)->lane = lane;
        DL_APPEND(lane->waiting, delivery);
        *tell = park(lanes, delivery);
        return false;
    }
    lane = add_lane(lanes, key);
    if (!lane) {
        lanes->starved = true;
        put_behind(lanes, delivery);
        return false;
    }
    handling_of(delivery)->lane = lane;
    lane->occupant = delivery;
    return true;
}

bool lanes_hold_back(struct lanes *lanes, struct delivery *delivery)
{
    must_hold(&lanes->dispatch->lock);
    if (!lanes->behind && !consumer_misses(delivery->consumer))
        return false;
    put_behind(lanes, delivery);
    return true;
}

void lanes_end_hold_back(struct lanes *lanes, struct delivery **queue)
{
    struct delivery *delivery;
    char key[LANE_KEY_MAX];
    int tell;
    must_hold(&lanes->dispatch->lock);
    /* More was lost meanwhile: the end of that will be reported, too. */
    if (!lanes->behind || consumer_misses(lanes->behind->consumer))
        return;
    lanes->starved = false;
    while (!lanes->starved && (delivery = lanes->behind)) {
        DL_DELETE(lanes->behind, delivery);
        unpark(lanes, delivery);
        if (!lane_key(lanes, delivery, key) || lane_enter(lanes, delivery, key, &tell))
            DL_APPEND(*queue, delivery);
    }
}

bool lanes_starved(const struct lanes *lanes)
{
    must_hold(&lanes->dispatch->lock);
    return lanes->starved;
}

void lane_hold(struct delivery *delivery, int64_t delay_ns)
{
    struct lane *lane = handling_of(delivery)->lane;
    if (lane)
        lane->hold_ns = delay_ns;
}

bool lane_wants_hold(const struct delivery *delivery)
{
    const struct lane *lane = handling_of(delivery)->lane;
    return lane && lane->hold_ns >= 0;
}

static void free_lane(struct lane *lane)
{
    HASH_DEL(lane->lanes->table, lane);
    free(lane);
}

bool lane_over(struct lanes *lanes, struct delivery *delivery, struct delivery **next)
{
    struct lane *lane = handling_of(delivery)->lane;
    must_hold(&lanes->dispatch->lock);
    *next = NULL;
    if (!lane)
        return false;
    int64_t hold_ns = lane->hold_ns;
    lane->hold_ns = -1;
    if (hold_ns >= 0 && !delivery_settled(delivery)) {
        lane->held = true;
        clock_arm(lanes->clock, &lane->retry, clock_now_ns() + (uint64_t)hold_ns);
        return true;
    }
    handling_of(delivery)->lane = NULL;
    lane->occupant = lane->waiting;
    if (lane->waiting) {
        DL_DELETE(lane->waiting, lane->occupant);
        unpark(lanes, lane->occupant);
        *next = lane->occupant;
    } else {
        free_lane(lane);
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
        return; /* queued or running: lane_over frees the lane */
    DL_APPEND(*all, lane->occupant);
    handling_of(lane->occupant)->lane = NULL;
    lane->occupant = NULL;
    if (clock_cancel(lane->lanes->clock, &lane->retry))
        free_lane(lane);
    else
        orphan(lane);
}

bool lanes_quiet(const struct lanes *lanes)
{
    return !lanes || (!lanes->table && !lanes->behind && lanes->orphans == 0);
}

struct delivery *lanes_empty(struct lanes *lanes)
{
    struct delivery *all = NULL, *delivery;
    struct lane *lane, *next;
    must_hold(&lanes->dispatch->lock);
    HASH_ITER(hh, lanes->table, lane, next)
        empty_lane(lane, &all);
    DL_CONCAT(all, lanes->behind);
    lanes->behind = NULL;
    DL_FOREACH(all, delivery) {
        unpark(lanes, delivery);
        handling_of(delivery)->lane = NULL;
    }
    return all;
}
