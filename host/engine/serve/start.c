/* start - bus.on("start"): those that a version waits for before it serves, and what is known of
 * those that failed. */
#include <utlist.h>

#include "base/clock.h"
#include "base/sync.h"
#include "base/value.h"
#include "engine/sched/dispatch.h"
#include "engine/serve/serve.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/script.h"

/* Between two looks at hooks that are waited for. */
#define LOOK_NS (20 * NS_PER_MS)
/* Beyond its timeout: for one that does not begin, or does not end when it is cancelled. */
#define LATE_NS (10 * NS_PER_S)

static bool is_required(const struct source *source, const struct generation *generation)
{
    return source->generation == generation && source->registration->required;
}

static bool is_under_way(const struct script *script, const struct generation *generation)
{
    const struct source *source;
    must_hold(&script->scripts->dispatch->lock);
    LL_FOREACH(script->sources, source) {
        if (is_required(source, generation) &&
            (source->state.owed > 0 || source->state.running > 0))
            return true;
    }
    return false;
}

/* Their own timeouts end them; longest_ns is the longest of those. */
static int wait_for_all(struct script *script, const struct generation *generation,
                        int64_t longest_ns, struct err *err)
{
    struct dispatch *dispatch = script->scripts->dispatch;
    const atomic_bool *draining = &script->scripts->draining;
    uint64_t until_ns = clock_now_ns() + (uint64_t)longest_ns + LATE_NS;
    int code = 0;
    dispatch_lock(dispatch);
    while (is_under_way(script, generation) && !atomic_load(draining) && clock_now_ns() < until_ns)
        dispatch_wait(dispatch, &dispatch->idle, clock_now_ns() + LOOK_NS);
    if (generation->start_failure)
        code = err_set(err, ERR_HANDLER, "%s", generation->start_failure);
    else if (atomic_load(draining))
        code = err_set(err, ERR_CLOSED, "the host is stopping");
    else if (is_under_way(script, generation))
        code = err_set(err, ERR_HANDLER, "bus.on(\"start\") did not end in time");
    dispatch_unlock(dispatch);
    return code;
}

int start_required(struct script *script, struct generation *generation, struct err *err)
{
    struct source *source;
    int64_t longest_ns = 0;
    int code = 0, count = 0;
    mutex_lock(&script->starting);
    LL_FOREACH(script->sources, source) {
        if (!code && is_required(source, generation) && source_phase(source) == SOURCE_IDLE) {
            code = source_start(source, err);
            count++;
            if (source->registration->timeout_ns > longest_ns)
                longest_ns = source->registration->timeout_ns;
        }
    }
    mutex_unlock(&script->starting);
    return !code && count > 0 ? wait_for_all(script, generation, longest_ns, err) : code;
}
