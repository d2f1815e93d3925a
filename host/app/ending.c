/* ending - the order of an end: handlers, offload threads, answers that are awaited, what is to be
 * written; then clock, pool, engine and bus, none before what may still call it. */
#include "app/ending.h"

#include "base/log.h"
#include "base/value.h"

/* The share of the time left that is kept for handing back and flushing, and its most. */
#define RESERVE_SHARE 10
#define RESERVE_MOST_NS (1 * NS_PER_S)
/* Dead letters that are under way get so long for their answer, before they are handed back. */
#define ANSWERS_NS (200 * NS_PER_MS)
/* What offload threads still do is for nobody: they get so long to end. */
#define OFFLOAD_NS (500 * NS_PER_MS)

static uint64_t from_now(int64_t ns, uint64_t most_ns)
{
    uint64_t then = clock_now_ns() + (uint64_t)ns;
    return then < most_ns ? then : most_ns;
}

static bool wait_for_handlers(struct engine *engine, uint64_t until_ns, uint64_t cancelled_until_ns,
                              atomic_int *unfinished)
{
    int left = engine_wait_idle(engine, until_ns);
    atomic_store(unfinished, left);
    if (left == 0)
        return true;
    log_warn("%d handler%s unfinished at the graceful deadline, handing back", left,
             left == 1 ? " is" : "s are");
    engine_cancel(engine);
    return engine_wait_idle(engine, cancelled_until_ns) == 0;
}

bool ending_wait(struct engine *engine, struct bus *bus, uint64_t deadline_ns,
                 atomic_int *unfinished)
{
    uint64_t now_ns = clock_now_ns();
    uint64_t reserve = deadline_ns > now_ns ? (deadline_ns - now_ns) / RESERVE_SHARE : 0;
    if (reserve > RESERVE_MOST_NS)
        reserve = RESERVE_MOST_NS;
    uint64_t half_ns = deadline_ns - reserve / 2;
    bool ended = wait_for_handlers(engine, deadline_ns - reserve, half_ns, unfinished);
    if (engine_stuck(engine) > 0 || engine_stop_offload(engine, from_now(OFFLOAD_NS, half_ns)) > 0)
        ended = false;
    bus_wait_for_publishes(bus, from_now(ANSWERS_NS, half_ns));
    if (!bus_flush(bus, deadline_ns - reserve / 4))
        log_warn("not everything could be written to the server before the end");
    bus_stop(bus, deadline_ns);
    return ended && clock_now_ns() < deadline_ns;
}

/* The clock stands still first: it gives the pool jobs. Then the pool's last ones, for they know
 * the engine. The pool itself goes last: until engine_free a worker whose handler ends now may
 * still submit something. */
bool ending_free(struct engine *engine, struct bus *bus, struct clock *clock, struct pool *pool)
{
    if (clock)
        clock_stop(clock);
    if (pool)
        pool_stop(pool);
    if (engine && !engine_free(engine))
        return false;
    if (bus)
        bus_free(bus);
    pool_free(pool);
    return true;
}
