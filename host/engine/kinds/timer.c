/* timer - bus.every and bus.after while a script loads: once per process, whatever instances there
 * are. */
#include "base/clock.h"
#include "base/container.h"
#include "base/value.h"
#include "engine/kinds/kinds.h"
#include "engine/kinds/spec.h"
#include "engine/source/source.h"
#include "engine/version/script.h"

static const char *read_timer(lua_State *L, int spec, struct registration *registration)
{
    char period[32];
    registration->period_ns = spec_duration_ns(L, spec, "period");
    registration->at_once = spec_flag(L, spec, "at_once");
    if (spec_push(L, spec, "name") == LUA_TSTRING)
        spec_name(L, registration, "timer", "%s", lua_tostring(L, -1));
    else
        spec_name(L, registration, "timer", "%s %s", registration->kind->name,
                  value_format_duration(registration->period_ns, period, sizeof period));
    lua_pop(L, 1);
    return NULL;
}

/* When the next tick is due, after this one: those that were missed are left out. */
static uint64_t next_tick_ns(const struct source *source)
{
    uint64_t period = (uint64_t)source->registration->period_ns, now = clock_now_ns();
    uint64_t next = source->next_ns + period;
    return next > now ? next : next + (now - next) / period * period + period;
}

/* The clock. A tick while the last one still runs is left out: never on top of itself. */
static void on_tick(struct deadline *deadline)
{
    struct source *source = container_of(deadline, struct source, timer);
    struct dispatch *dispatch = source->scripts->dispatch;
    source_tick(source);
    dispatch_lock(dispatch);
    source->state.armed--;
    if (source->state.phase == SOURCE_SERVING && source->registration->kind->repeats)
        source_arm(source, next_tick_ns(source));
    dispatch_unlock(dispatch);
}

static int start_timer(struct source *source, struct err *err)
{
    struct dispatch *dispatch = source->scripts->dispatch;
    (void)err;
    source->timer.on_due = on_tick;
    const struct registration *registration = source->registration;
    dispatch_lock(dispatch);
    if (registration->timer_cancelled)
        source_cancel(source);
    else
        source_arm(source, clock_now_ns() +
                               (registration->at_once ? 0 : (uint64_t)registration->period_ns));
    dispatch_unlock(dispatch);
    return 0;
}

const struct kind kind_every = {
    .name = "every",
    .binding = "bus.every",
    .brings = SOURCE_BRINGS_TICKS,
    .repeats = true,
    .read = read_timer,
    .start = start_timer,
};

const struct kind kind_after = {
    .name = "after",
    .binding = "bus.after",
    .brings = SOURCE_BRINGS_TICKS,
    .read = read_timer,
    .start = start_timer,
};
