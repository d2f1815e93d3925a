/* change - one function for each transition; change.h has the drawing. */
#include "app/change.h"

static const struct change_action nothing;

void change_init(struct change *change, bool wanted)
{
    *change = (struct change){.state = wanted ? CHANGE_WANTED : CHANGE_SETTLED};
}

void change_started(struct change *change, enum change_verdict verdict)
{
    change->verdict = verdict;
    change->known = change->known || verdict == CHANGE_LIVE;
}

/* --- what was seen of the file --- */

/* The candidate is of what was there before. */
static struct change_action load_anew(struct change *change)
{
    bool had_candidate = change->state == CHANGE_LOADED;
    change->state = CHANGE_WANTED;
    change->last = false;
    return (struct change_action){.discard = had_candidate};
}

struct change_action change_asked(struct change *change, bool together, bool by_itself)
{
    if (change->presence == CHANGE_LOST || change->state == CHANGE_LEAVING)
        return nothing;
    change->together = change->together || together;
    change->by_itself = by_itself && (change->state == CHANGE_SETTLED || change->by_itself);
    switch (change->state) {
    case CHANGE_LOADING:
        change->again = true;
        return (struct change_action){.stop = true};
    case CHANGE_ROLLING:
        change->again = true;
        return nothing;
    case CHANGE_SETTLED:
    case CHANGE_WANTED:
    case CHANGE_LOADED:
    case CHANGE_LEAVING:
        break;
    }
    return load_anew(change);
}

void change_join(struct change *change)
{
    bool goes = change->presence == CHANGE_MISSING && change->known;
    if (change->state == CHANGE_SETTLED ? goes : change->state != CHANGE_ROLLING)
        change->together = true;
}

bool change_missing(struct change *change)
{
    if (change->presence != CHANGE_HERE)
        return false;
    change->presence = CHANGE_MISSING;
    return true;
}

/* It is here again. Is anything of it to be loaded that is not, or was refused? */
static bool is_behind(const struct change *change, bool was_lost)
{
    if (change->owed || change->verdict == CHANGE_UNLOADED)
        return true;
    return was_lost && change->verdict != CHANGE_NEW && change_fails(change);
}

bool change_back(struct change *change)
{
    bool was_lost = change->presence == CHANGE_LOST;
    if (change->presence == CHANGE_HERE)
        return false;
    change->presence = CHANGE_HERE;
    if (change->leave || (change->state == CHANGE_ROLLING && change->unloads))
        change->again = true;
    else if (change->state == CHANGE_LOADING || change->state == CHANGE_ROLLING)
        change->again = change->again || change->owed;
    change->leave = false;
    if (change->state == CHANGE_LEAVING)
        change->state = CHANGE_SETTLED;
    if (change->state == CHANGE_SETTLED) {
        change->together = false;
        if (is_behind(change, was_lost))
            change->state = CHANGE_WANTED;
    }
    change->owed = false;
    return true;
}

/* Nothing is to be loaded any more; is anything to be unloaded? */
static void go(struct change *change)
{
    change->state = change->known ? CHANGE_LEAVING : CHANGE_SETTLED;
    change->together = change->together && change->known;
    change->last = change->again = change->leave = false;
}

struct change_action change_lost(struct change *change, bool unload)
{
    struct change_action action = {.stop = change->state == CHANGE_LOADING,
                                   .discard = change->state == CHANGE_LOADED};
    if (change->presence == CHANGE_LOST)
        return nothing;
    change->presence = CHANGE_LOST;
    change->owed = change->again || change->state == CHANGE_WANTED ||
                   change->state == CHANGE_LOADING || change->state == CHANGE_LOADED;
    switch (change->state) {
    case CHANGE_LOADING:
        change->leave = unload;
        change->again = false;
        break;
    case CHANGE_ROLLING:
        change->leave = unload && !change->unloads;
        change->again = false;
        break;
    case CHANGE_SETTLED:
    case CHANGE_WANTED:
    case CHANGE_LOADED:
    case CHANGE_LEAVING:
        change->state = CHANGE_SETTLED;
        change->last = false;
        if (unload)
            go(change);
        else
            change->together = false;
    }
    return action;
}

/* --- how work ended --- */

/* What has come meanwhile. False: nothing. */
static bool follow(struct change *change)
{
    bool again = change->again, leave = change->leave;
    change->again = change->leave = false;
    if (leave)
        go(change);
    else if (again && change->presence != CHANGE_LOST)
        change->state = CHANGE_WANTED;
    return leave || again;
}

/* The verdict, until something else happens. A file that waits for the server keeps the others of
 * its request waiting. */
static void settle(struct change *change, enum change_verdict verdict)
{
    change->state = CHANGE_SETTLED;
    change->verdict = verdict;
    change->last = false;
    change->together = change->together && verdict == CHANGE_WAITS;
}

void change_begin_load(struct change *change)
{
    change->state = CHANGE_LOADING;
    change->again = change->leave = change->owed = false;
}

struct change_action change_loaded(struct change *change, enum change_verdict verdict)
{
    bool good = verdict == CHANGE_LIVE;
    change->known = change->known || good;
    change->state = CHANGE_SETTLED;
    if (follow(change))
        return (struct change_action){.discard = good};
    if (change->presence == CHANGE_LOST) { /* and it serves on, or never did */
        change->together = false;
        return (struct change_action){.discard = good};
    }
    if (good) {
        change->state = CHANGE_LOADED;
        return nothing;
    }
    settle(change, verdict);
    return (struct change_action){.tell = true};
}

void change_begin_rollout(struct change *change)
{
    change->unloads = change->state == CHANGE_LEAVING;
    change->state = CHANGE_ROLLING;
    change->last = change->again = change->leave = false;
}

struct change_action change_rolled_out(struct change *change, enum change_verdict verdict)
{
    bool done = verdict == CHANGE_LIVE || verdict == CHANGE_UNLOADED;
    bool together = change->together && change->again;
    struct change_action action = {.discard = !done && !change->unloads, .tell = true};
    if (verdict == CHANGE_UNLOADED)
        change->known = false;
    if (!done && change->unloads && change->presence == CHANGE_LOST)
        change->presence = CHANGE_HERE; /* that it is gone will be seen anew */
    settle(change, verdict);
    if (done)
        change->by_itself = false;
    if (follow(change))
        change->together = change->together || together;
    return action;
}

struct change_action change_put_off(struct change *change)
{
    change->state = CHANGE_LOADED;
    change->last = true;
    bool goes_on = follow(change);
    if (!goes_on && change->presence != CHANGE_LOST)
        return nothing;
    if (!goes_on) { /* begun anew when it is back */
        change->owed = true;
        change->together = false;
        change->state = CHANGE_SETTLED;
    }
    change->last = false;
    return (struct change_action){.discard = true};
}

struct change_action change_hold(struct change *change)
{
    struct change_action action = {.discard = change->state == CHANGE_LOADED, .tell = true};
    if (change->state == CHANGE_LEAVING)
        change->presence = CHANGE_HERE; /* that it is gone will be seen anew */
    settle(change, CHANGE_HELD);
    return action;
}

/* --- what others did --- */

void change_freed(struct change *change)
{
    if (change->state == CHANGE_LOADED)
        change->last = false;
    if (change->state == CHANGE_SETTLED && change->verdict == CHANGE_TAKEN)
        change_asked(change, false, true);
}

void change_connected(struct change *change)
{
    if (change->state == CHANGE_SETTLED && change->verdict == CHANGE_WAITS)
        change_asked(change, change->together, true);
}

/* --- questions --- */

bool change_may_load(const struct change *change)
{
    return change->state == CHANGE_WANTED && change->presence == CHANGE_HERE;
}

bool change_may_roll_out(const struct change *change)
{
    return change->state == CHANGE_LEAVING ||
           (change->state == CHANGE_LOADED && change->presence == CHANGE_HERE);
}

bool change_works(const struct change *change)
{
    return change->state != CHANGE_SETTLED;
}

bool change_fails(const struct change *change)
{
    return change->verdict != CHANGE_LIVE;
}

bool change_leaves(const struct change *change)
{
    return change->presence == CHANGE_MISSING || change->state == CHANGE_LEAVING ||
           (change->state == CHANGE_ROLLING && change->unloads);
}

bool change_is_over(const struct change *change)
{
    return change->presence == CHANGE_LOST && change->state == CHANGE_SETTLED && !change->known;
}
