/* load - a script's top level runs on a thread of its own (vm/aside.h), because the main thread and
 * the pool, who wait for it, must come back whatever it does.
 *
 * It can be left at nearly any point: its Lua state is discarded then. What nothing interrupts
 * (with `trust` a call that blocks, a function of the host, any call under a sanitizer) keeps its
 * thread, and what it uses: the generation with its script, the instance, what was registered. Up
 * to limits.max_stuck of these are waited for; then nothing is loaded any more. They do not end the
 * host, as handlers that are stuck do: code that does not load must not end what works. */
#include <stdlib.h>

#include "base/value.h"
#include "engine/internal.h"
#include "vm/aside.h"

struct load {
    struct aside aside;
    struct generation *generation; /* a reference */
    struct loading loading;        /* owned, with what was registered */
    struct failure failure;        /* owned */
    struct instance *instance;     /* a reference; NULL: failure tells */
};

/* The embedded struct is the first. */
static struct load *load_of(struct aside *aside)
{
    return (struct load *)aside;
}

static void on_run(struct aside *aside)
{
    struct load *load = load_of(aside);
    load->instance = instance_load(load->generation, &load->loading, &load->failure);
}

static void load_free(struct load *load)
{
    loading_clear(&load->loading);
    failure_clear(&load->failure);
    generation_release(load->generation);
    free(load);
}

/* It has come back, and nobody waits for it. */
static void on_late(struct aside *aside)
{
    struct load *load = load_of(aside);
    struct engine *engine = load->generation->engine;
    if (load->instance)
        instance_release(load->instance);
    load_free(load);
    atomic_fetch_sub(&engine->loads_left, 1); /* from here on the engine may go */
}

static int check_room(struct engine *engine, struct failure *failure)
{
    int left = atomic_load(&engine->loads_left), most = atomic_load(&engine->max_stuck);
    if (left < most)
        return 0;
    return err_set(&failure->err, ERR_SYSTEM,
                   "%d load%s before it %s in calls that nothing interrupts (limits.max_stuck): "
                   "nothing is loaded until one of them returns, or the host is started anew",
                   left, left == 1 ? "" : "s", left == 1 ? "is" : "are");
}

static void say_left(struct engine *engine, int64_t limit_ns, struct failure *failure)
{
    char limit[32];
    value_format_duration(limit_ns, limit, sizeof limit);
    err_set(&failure->err, ERR_CPU,
            "still loading after %s, in a call that nothing interrupts: its thread is left to it "
            "until it returns (%d of at most %d); " LOADER_ADVICE,
            limit, atomic_load(&engine->loads_left), atomic_load(&engine->max_stuck));
}

/* It has ended: what it has brought goes to the caller. */
static struct instance *take(struct load *load, struct loading *loading, struct failure *failure)
{
    struct instance *instance = load->instance;
    if (instance) {
        *loading = load->loading;
        load->loading = (struct loading){0};
    } else {
        *failure = load->failure;
        load->failure = (struct failure){0};
    }
    load_free(load);
    return instance;
}

struct instance *load_aside(struct generation *generation, struct loading *loading,
                            struct failure *failure)
{
    struct engine *engine = generation->engine;
    /* A further instance is of what has loaded before: what works goes on. */
    if (!generation->registrations && check_room(engine, failure) != 0)
        return NULL;
    struct load *load = calloc(1, sizeof *load);
    if (!load) {
        err_set(&failure->err, ERR_MEMORY, "no memory to load it");
        return NULL;
    }
    load->aside.run = on_run;
    load->aside.late = on_late;
    load->aside.hurry = &engine->ending;
    load->generation = generation_retain(generation);
    switch (aside_run(&load->aside, &failure->err)) {
    case ASIDE_ENDED:
        return take(load, loading, failure);
    case ASIDE_LEFT:
        /* It may have come back already, and been counted down. */
        atomic_fetch_add(&engine->loads_left, 1);
        say_left(engine, generation->loader.deadline_ns, failure);
        return NULL;
    case ASIDE_REFUSED:
        load_free(load);
        return NULL;
    }
    return NULL;
}
