/* permits - a table of permits by kind and name, each with those who hold it and a queue. */
#include "engine/permits.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/container.h"
#include "base/random.h"
#include "base/sync.h"
#include "base/table.h"

enum hold_state { STATE_NEW, STATE_WAITING, STATE_HELD, STATE_OVER };

struct hold {
    struct hold *prev, *next; /* in its permit's list */
    struct hold *granted;     /* the next one whose turn it has become, for on_end */
    struct permits *permits;  /* not owned */
    struct permit *permit;    /* not owned; NULL: it is in no list */
    atomic_int references; /* its caller's, one for each deadline that is armed, one when granted */
    enum hold_state state;
    struct deadline wait_over, ttl_over;
    void (*on_end)(void *context, enum err_code code);
    void *context;
    const void *taker;
    int64_t ttl_ns;
    unsigned places;
    size_t key_len;
    char key[]; /* the kind, then the name */
};

struct permit {
    UT_hash_handle hh;
    struct hold *holders, *waiting; /* not owned; in the order in which they came */
    unsigned held, places;
    size_t key_len;
    char key[];
};

struct permits {
    struct clock *clock;    /* not owned */
    struct mutex lock;      /* all below; before the clock's */
    struct permit *permits; /* owned */
    unsigned holds;
    uint64_t identity; /* 0: not drawn */
};

struct hold *hold_retain(struct hold *hold)
{
    atomic_fetch_add_explicit(&hold->references, 1, memory_order_relaxed);
    return hold;
}

void hold_release(struct hold *hold)
{
    if (atomic_fetch_sub_explicit(&hold->references, 1, memory_order_acq_rel) == 1)
        free(hold);
}

const char *hold_name(const struct hold *hold)
{
    return hold->key + 1;
}

/* With the lock held --------------------------------------------------------------------------- */

static void arm(struct hold *hold, struct deadline *deadline, int64_t ns)
{
    hold_retain(hold);
    clock_arm(hold->permits->clock, deadline, clock_now_ns() + (uint64_t)ns);
}

static void disarm(struct hold *hold, struct deadline *deadline)
{
    if (clock_cancel(hold->permits->clock, deadline))
        hold_release(hold);
}

static struct permit *find(struct permits *permits, const char *key, size_t len)
{
    struct permit *permit;
    must_hold(&permits->lock);
    HASH_FIND(hh, permits->permits, key, len, permit);
    return permit;
}

/* NULL: no memory. */
static struct permit *find_or_make(struct permits *permits, const struct hold *hold)
{
    struct permit *permit = find(permits, hold->key, hold->key_len);
    if (permit)
        return permit;
    permit = calloc(1, sizeof *permit + hold->key_len);
    if (!permit)
        return NULL;
    permit->key_len = hold->key_len;
    memcpy(permit->key, hold->key, hold->key_len);
    HASH_ADD_KEYPTR(hh, permits->permits, permit->key, permit->key_len, permit);
    if (table_has(permit))
        return permit;
    free(permit);
    return NULL;
}

static void free_if_idle(struct permits *permits, struct permit *permit)
{
    if (permit->holders || permit->waiting)
        return;
    HASH_DEL(permits->permits, permit);
    free(permit);
}

static void enter(struct hold *hold, struct permit *permit, enum hold_state state)
{
    hold->permit = permit;
    hold->state = state;
    hold->permits->holds++;
    if (state == STATE_WAITING) {
        DL_APPEND(permit->waiting, hold);
        return;
    }
    DL_APPEND(permit->holders, hold);
    permit->held++;
    if (hold->ttl_ns)
        arm(hold, &hold->ttl_over, hold->ttl_ns);
}

static void leave(struct hold *hold, enum hold_state state)
{
    struct permit *permit = hold->permit;
    if (hold->state == STATE_HELD) {
        DL_DELETE(permit->holders, hold);
        permit->held--;
        disarm(hold, &hold->ttl_over);
    } else {
        DL_DELETE(permit->waiting, hold);
        disarm(hold, &hold->wait_over);
    }
    hold->permit = NULL;
    hold->state = state;
    hold->permits->holds--;
}

/* Whose turn it is, as a list with references, for tell. */
static struct hold *grant(struct permit *permit)
{
    struct hold *first = NULL, **last = &first;
    while (permit->waiting && permit->held < permit->places) {
        struct hold *hold = permit->waiting;
        leave(hold, STATE_NEW);
        enter(hold, permit, STATE_HELD);
        *last = hold_retain(hold);
        hold->granted = NULL;
        last = &hold->granted;
    }
    return first;
}

/* Without the lock ----------------------------------------------------------------------------- */

static void tell(struct hold *granted)
{
    while (granted) {
        struct hold *hold = granted;
        granted = hold->granted;
        hold->on_end(hold->context, ERR_NONE);
        hold_release(hold);
    }
}

/* The clock. */
static void on_wait_over(struct deadline *deadline)
{
    struct hold *hold = container_of(deadline, struct hold, wait_over);
    struct permits *permits = hold->permits;
    mutex_lock(&permits->lock);
    bool waits = hold->state == STATE_WAITING;
    if (waits) {
        struct permit *permit = hold->permit;
        leave(hold, STATE_OVER);
        free_if_idle(permits, permit);
    }
    mutex_unlock(&permits->lock);
    if (waits)
        hold->on_end(hold->context, ERR_TIMEOUT);
    hold_release(hold);
}

/* The place is the next one's. */
static enum hold_left give_up(struct hold *hold, bool held_only)
{
    struct permits *permits = hold->permits;
    struct hold *granted = NULL;
    enum hold_left left = HOLD_NEITHER;
    mutex_lock(&permits->lock);
    struct permit *permit = hold->permit;
    if (permit && (hold->state == STATE_HELD || !held_only)) {
        left = hold->state == STATE_HELD ? HOLD_HELD : HOLD_WAITED;
        leave(hold, STATE_OVER);
        granted = grant(permit);
        free_if_idle(permits, permit);
    }
    mutex_unlock(&permits->lock);
    tell(granted);
    return left;
}

/* The clock. */
static void on_ttl_over(struct deadline *deadline)
{
    struct hold *hold = container_of(deadline, struct hold, ttl_over);
    give_up(hold, true);
    hold_release(hold);
}

/* What is called from outside ------------------------------------------------------------------ */

struct hold *hold_new(struct permits *permits, const struct permit_wish *wish)
{
    struct hold *hold = calloc(1, sizeof *hold + wish->name_len + 2);
    if (!hold)
        return NULL;
    atomic_init(&hold->references, 1);
    hold->permits = permits;
    hold->wait_over.on_due = on_wait_over;
    hold->ttl_over.on_due = on_ttl_over;
    hold->taker = wish->taker;
    hold->ttl_ns = wish->ttl_ns;
    hold->places = wish->places;
    hold->key[0] = (char)wish->kind;
    memcpy(hold->key + 1, wish->name, wish->name_len);
    hold->key_len = wish->name_len + 1;
    return hold;
}

enum hold_taken hold_take(struct hold *hold, int64_t wait_ns,
                          void (*on_end)(void *context, enum err_code code), void *context)
{
    struct permits *permits = hold->permits;
    enum hold_taken taken = HOLD_FULL;
    struct hold *granted = NULL;
    mutex_lock(&permits->lock);
    struct permit *permit = permits->holds < PERMITS_HOLDS_MAX ? find_or_make(permits, hold) : NULL;
    if (permit) {
        permit->places = hold->places;
        granted = grant(permit);
        taken = permit->held < permit->places ? HOLD_TAKEN : wait_ns ? HOLD_WAITS : HOLD_BUSY;
    }
    if (taken == HOLD_TAKEN)
        enter(hold, permit, STATE_HELD);
    if (taken == HOLD_WAITS) {
        hold->on_end = on_end;
        hold->context = context;
        enter(hold, permit, STATE_WAITING);
        if (wait_ns != HOLD_FOR_EVER)
            arm(hold, &hold->wait_over, wait_ns);
    }
    mutex_unlock(&permits->lock);
    tell(granted);
    return taken;
}

enum hold_left hold_leave(struct hold *hold)
{
    return give_up(hold, false);
}

bool hold_is_held(struct hold *hold)
{
    mutex_lock(&hold->permits->lock);
    bool held = hold->state == STATE_HELD;
    mutex_unlock(&hold->permits->lock);
    return held;
}

unsigned permits_held(struct permits *permits, const struct permit_wish *wish,
                      bool (*is_mine)(const void *taker, const void *whom), const void *whom)
{
    char key[PERMITS_NAME_MAX + 1];
    unsigned count = 0;
    if (wish->name_len > PERMITS_NAME_MAX)
        return 0;
    key[0] = (char)wish->kind;
    memcpy(key + 1, wish->name, wish->name_len);
    mutex_lock(&permits->lock);
    const struct permit *permit = find(permits, key, wish->name_len + 1);
    const struct hold *hold;
    for (hold = permit ? permit->holders : NULL; hold; hold = hold->next)
        count += is_mine(hold->taker, whom);
    mutex_unlock(&permits->lock);
    return count;
}

uint64_t permits_identity(struct permits *permits)
{
    mutex_lock(&permits->lock);
    while (!permits->identity)
        random_bytes((unsigned char *)&permits->identity, sizeof permits->identity);
    uint64_t identity = permits->identity;
    mutex_unlock(&permits->lock);
    return identity;
}

struct permits *permits_new(struct clock *clock)
{
    struct permits *permits = calloc(1, sizeof *permits);
    if (!permits)
        return NULL;
    permits->clock = clock;
    mutex_init(&permits->lock);
    return permits;
}

void permits_free(struct permits *permits)
{
    if (!permits)
        return;
    mutex_destroy(&permits->lock);
    free(permits);
}
