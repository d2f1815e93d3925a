/* script - a handler file, and what all of them have in common. */
#include "engine/version/script.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/value.h"
#include "engine/sched/dispatch.h"
#include "engine/version/policy.h"
#include "vm/machine_code.h"

/* While too much of a script waits to be written, the log says so this often. */
#define FULL_LOGGED_AGAIN_NS (10 * (unsigned long long)NS_PER_S)

struct script *script_new(struct scripts *scripts, const char *path, const char *name)
{
    struct script *script = calloc(1, sizeof *script);
    if (!script)
        return NULL;
    atomic_init(&script->references, 1);
    script->scripts = scripts;
    script->path = strdup(path);
    script->name = strdup(name);
    mutex_init(&script->changing);
    mutex_init(&script->starting);
    tally_book_init(&script->tallies);
    if (script->path && script->name)
        return script;
    script_release(script);
    return NULL;
}

struct script *script_retain(struct script *script)
{
    atomic_fetch_add_explicit(&script->references, 1, memory_order_relaxed);
    return script;
}

void script_release(struct script *script)
{
    if (atomic_fetch_sub_explicit(&script->references, 1, memory_order_acq_rel) != 1)
        return;
    mutex_destroy(&script->changing);
    mutex_destroy(&script->starting);
    tally_book_clear(&script->tallies);
    free(script->path);
    free(script->name);
    free(script);
}

bool script_is_served(const struct script *script)
{
    struct dispatch *dispatch = script->scripts->dispatch;
    dispatch_lock(dispatch);
    bool serves = script->served && !script->unloaded;
    dispatch_unlock(dispatch);
    return serves;
}

bool script_may_log_full(struct script *script)
{
    unsigned long long now = clock_now_ns(), logged = atomic_load(&script->full_logged_ns);
    return (logged == 0 || now > logged + FULL_LOGGED_AGAIN_NS) &&
           atomic_compare_exchange_strong(&script->full_logged_ns, &logged, now);
}

struct policy *scripts_policy(struct scripts *scripts)
{
    dispatch_lock(scripts->dispatch);
    struct policy *policy = policy_retain(scripts->policy);
    dispatch_unlock(scripts->dispatch);
    return policy;
}

void scripts_note_discarded(struct scripts *scripts)
{
    if (machine_code_left() > machine_code_most() && scripts->on_stuck)
        scripts->on_stuck(scripts->owner,
                          "too many Lua states were given up whose machine code stays mapped");
}
