/* load - a script's top level runs on a thread of its own (vm/aside.h), because the main thread and
 * the pool, which wait for it, must come back whatever it does.
 *
 * It can be left at nearly any point; its Lua state is discarded then. A call that nothing
 * interrupts (with `trust` one that blocks, a function of the host, any call under a sanitizer)
 * keeps its thread, and what it uses: the generation with its script, the instance, what was
 * registered. After limits.max_stuck of these, nothing is loaded any more until one returns. Unlike
 * stuck handlers, they do not end the host: code that does not load must not end what works. */
#include <stdlib.h>

#include "base/value.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"
#include "engine/version/script.h"
#include "vm/aside.h"
#include "vm/loader.h"

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
    struct scripts *scripts = load->generation->scripts;
    if (load->instance)
        instance_release(load->instance);
    load_free(load);
    atomic_fetch_sub(&scripts->loads_left, 1); /* from here on all scripts may go */
}

static int check_room(struct scripts *scripts, struct failure *failure)
{
    int left = atomic_load(&scripts->loads_left), most = atomic_load(&scripts->max_stuck);
    if (left < most)
        return 0;
    return err_set(&failure->err, ERR_SYSTEM,
                   "%d load%s before it %s in calls that nothing interrupts (limits.max_stuck): "
                   "nothing is loaded until one of them returns, or the host is restarted",
                   left, left == 1 ? "" : "s", left == 1 ? "is" : "are");
}

static void describe_left(struct scripts *scripts, int64_t limit_ns, struct failure *failure)
{
    char limit[32];
    value_format_duration(limit_ns, limit, sizeof limit);
    err_set(&failure->err, ERR_CPU,
            "still loading after %s, in a call that nothing interrupts: its thread is lost until "
            "it returns (%d of at most %d); " LOADER_ADVICE,
            limit, atomic_load(&scripts->loads_left), atomic_load(&scripts->max_stuck));
}

/* It has ended: what it has brought goes to the caller. */
static struct instance *take_loaded(struct load *load, struct loading *loading,
                                    struct failure *failure)
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
    struct scripts *scripts = generation->scripts;
    /* A further instance is of what has loaded before: what works goes on. */
    if (!generation->registrations && check_room(scripts, failure) != 0)
        return NULL;
    struct load *load = calloc(1, sizeof *load);
    if (!load) {
        err_set(&failure->err, ERR_MEMORY, "no memory to load it");
        return NULL;
    }
    load->aside.run = on_run;
    load->aside.late = on_late;
    load->aside.hurry[0] = &scripts->ending;
    load->aside.hurry[1] = generation->hurry;
    load->generation = generation_retain(generation);
    switch (aside_run(&load->aside, &failure->err)) {
    case ASIDE_ENDED:
        return take_loaded(load, loading, failure);
    case ASIDE_LEFT:
        /* It may have come back already, and been counted down. */
        atomic_fetch_add(&scripts->loads_left, 1);
        describe_left(scripts, generation->loader.deadline_ns, failure);
        return NULL;
    case ASIDE_REFUSED:
        load_free(load);
        return NULL;
    }
    return NULL;
}
