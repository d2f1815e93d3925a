/* cron - bus.cron: at the times of a cron line, once per process; and what publishes the firings of
 * js.cron, in each process (lua/moonbus/js_cron.lua).
 *
 *   the clock ── look ──▶ planned has come ──▶ owed, with its time ──▶ take (a worker)
 *                 ▲                └─ or missed: left out, the last, all
 *                 └── again at the next time, after LOOK_NS at the latest
 *
 * A time is run at most once, for only later ones are planned after it: a clock that is set back
 * makes the line wait. What is waited for is a span of the monotonic clock, which neither follows
 * the wall clock when that is set, nor goes on while the machine sleeps: so it is looked again and
 * again. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/container.h"
#include "base/log.h"
#include "base/value.h"
#include "base/zone.h"
#include "engine/kinds/kinds.h"
#include "engine/kinds/spec.h"
#include "engine/source/source.h"
#include "engine/version/script.h"

#define LOOK_NS (30 * NS_PER_S)
#define LOOK_SIMULATED_NS (3600 * NS_PER_S)
/* A clock that was set back further was wrong, and is right now: its times come anew. */
#define SET_BACK_NS (3 * 3600 * NS_PER_S)

/* --- what a script states --- */

/* Into the registration, which owns the zone. */
static int read_line(struct registration *registration, const char *zone, struct err *err)
{
    const char *line = registration->cron_line;
    int code = cron_parse(line, strlen(line), &registration->cron, err);
    if (!code && !(registration->zone = zone_open(zone, err)))
        code = (int)err->code;
    return code;
}

static enum missed read_missed(lua_State *L, int spec)
{
    static const char *const names[] = {
        [MISSED_SKIP] = "skip", [MISSED_LAST] = "last", [MISSED_ALL] = "all"};
    enum missed missed = MISSED_SKIP;
    if (spec_push(L, spec, "missed") == LUA_TSTRING) {
        while (missed < MISSED_ALL && strcmp(lua_tostring(L, -1), names[missed]) != 0)
            missed = (enum missed)(missed + 1);
    }
    lua_pop(L, 1);
    return missed;
}

static const char *read_cron(lua_State *L, int spec, struct registration *registration)
{
    struct err err;
    registration->cron_line = spec_text(L, spec, "line");
    spec_push(L, spec, "tz");
    int code = read_line(registration, lua_tostring(L, -1), &err);
    lua_pop(L, 1);
    if (code) /* its options were checked: the zone's file has gone since, or there is no memory */
        return lua_pushstring(L, err.message), lua_tostring(L, -1);
    registration->missed = read_missed(L, spec);
    registration->timeout_ns = spec_duration_ns(L, spec, "timeout");
    registration->timeout_stated = registration->timeout_ns > 0;
    registration->concurrency = 1; /* never on top of itself */
    spec_push(L, spec, "name");
    spec_name(L, registration, "timer", "cron %s", lua_tostring(L, -1));
    lua_pop(L, 1);
    return NULL;
}

/* The times are the same: none is left out by a reload, and none comes again. */
static bool continues(const struct registration *now, const struct registration *then)
{
    return strcmp(now->cron_line, then->cron_line) == 0 &&
           strcmp(zone_name(now->zone), zone_name(then->zone)) == 0 &&
           strcmp(now->handler, then->handler) == 0;
}

/* --- at work; all of it with the dispatch lock held --- */

static int64_t next_after(const struct source *source, int64_t time)
{
    return cron_next(&source->registration->cron, source->registration->zone, time);
}

/* So many seconds since 1970 have passed: a time of the line has come, or several. */
static void come(struct source *source, int64_t now)
{
    const struct registration *registration = source->registration;
    struct source_state *state = &source->state;
    bool busy = state->owed > 0 || state->running > 0;
    int64_t last;
    if (registration->missed == MISSED_ALL) {
        if (state->owed > 0)
            return; /* take will see to it */
        source->cron.due = source->cron.planned;
        source->cron.planned = next_after(source, source->cron.due);
    } else {
        last = cron_last(&registration->cron, registration->zone, source->cron.planned - 1, now);
        source->cron.planned = next_after(source, now);
        if (registration->missed == MISSED_SKIP && (busy || last <= now - CRON_LATE_S))
            return;
        source->cron.due = last;
    }
    if (source_state_owe(state))
        source_ready(source);
}

/* It is looked again at the next time, or before. */
static void arm(struct source *source, int64_t wall_ns)
{
    int64_t wait_ns = clock_is_simulated() ? LOOK_SIMULATED_NS : LOOK_NS;
    int64_t left_s = source->cron.planned - wall_ns / NS_PER_S;
    if (left_s > 0 && left_s <= wait_ns / NS_PER_S)
        wait_ns = source->cron.planned * NS_PER_S - wall_ns;
    source_arm(source, clock_now_ns() + (uint64_t)wait_ns);
}

/* True: the clock was set back by hours. */
static bool look(struct source *source)
{
    int64_t wall_ns = clock_wall_ns(), now = wall_ns / NS_PER_S;
    bool set_back = source->cron.seen_ns && wall_ns < source->cron.seen_ns - SET_BACK_NS;
    if (!source->cron.planned || set_back)
        source->cron.planned = next_after(source, now);
    source->cron.seen_ns = wall_ns;
    if (source->cron.planned <= now)
        come(source, now);
    arm(source, wall_ns);
    return set_back;
}

/* The clock. */
static void on_look(struct deadline *deadline)
{
    struct source *source = container_of(deadline, struct source, timer);
    struct dispatch *dispatch = source->scripts->dispatch;
    bool set_back = false;
    char script[512];
    dispatch_lock(dispatch);
    source->state.armed--;
    if (source->state.phase == SOURCE_SERVING)
        set_back = look(source);
    if (set_back) /* without the lock both may be gone */
        snprintf(script, sizeof script, "%s", source->script->name);
    dispatch_unlock(dispatch);
    if (set_back)
        log_event(LOG_WARN, &(struct log_context){.script = script},
                  "the machine's clock was set back by hours: the times of cron lines are counted "
                  "from now on, and may come a second time");
}

static int64_t take(struct source *source)
{
    int64_t due = source->cron.due, wall_ns = clock_wall_ns();
    if (source->registration->missed != MISSED_ALL || source->state.phase != SOURCE_SERVING)
        return due;
    if (source->cron.planned <= wall_ns / NS_PER_S) {
        source->cron.due = source->cron.planned;
        source->cron.planned = next_after(source, source->cron.due);
        source->state.owed++;
    }
    arm(source, wall_ns);
    return due;
}

static int start_cron(struct source *source, struct err *err)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    (void)err;
    source->timer.on_due = on_look;
    dispatch_lock(dispatch);
    if (source->registration->timer_cancelled)
        source_cancel(source);
    else
        look(source);
    dispatch_unlock(dispatch);
    return 0;
}

/* The first run comes at once: it looks for what was missed while no host was there. It is given
 * the present time, as a negative number. */
static int start_js_cron(struct source *source, struct err *err)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    dispatch_lock(dispatch);
    source->cron.due = -(clock_wall_ns() / NS_PER_S);
    if (source_state_owe(&source->state))
        source_ready(source);
    dispatch_unlock(dispatch);
    return start_cron(source, err);
}

/* No version goes on with the source of another: what it has fired is in the stream. */
const struct kind kind_js_cron = {
    .name = "js_cron",
    .binding = "js.cron",
    .brings = SOURCE_BRINGS_TICKS,
    .repeats = true,
    .read = read_cron,
    .start = start_js_cron,
    .take = take,
};

const struct kind kind_cron = {
    .name = "cron",
    .binding = "bus.cron",
    .brings = SOURCE_BRINGS_TICKS,
    .repeats = true,
    .read = read_cron,
    .continues = continues,
    .start = start_cron,
    .take = take,
};
