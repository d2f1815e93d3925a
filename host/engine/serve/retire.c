/* retire - the end of a version that was replaced. */
#include <utlist.h>

#include "base/log.h"
#include "base/sync.h"
#include "engine/run/task.h"
#include "engine/serve/serve.h"
#include "engine/source/crew.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/script.h"

static void post_retire(struct generation *generation)
{
    for (struct instance *i = generation->instances; i && generation->running > 0; i = i->next) {
        if (i->retire_posted)
            continue;
        i->retire_posted = true;
        i->retire.run = task_on_retire;
        DL_APPEND(i->mailbox, &i->retire);
        instance_ready(i);
    }
}

/* Again for one that was cancelled before: its "stop" hooks may hang as well. */
static void cancel_generation(struct generation *generation)
{
    generation->cancelled = true;
    post_retire(generation);
}

static void cancel_start_hooks(struct generation *generation)
{
    const struct source *source;
    LL_FOREACH(generation->script->sources, source) {
        if (source->generation == generation && source->state.brings == SOURCE_BRINGS_START &&
            source->state.running > 0) {
            post_retire(generation);
            return;
        }
    }
}

/* When more of the script's generations live than `most`, what runs on
 * the oldest is cancelled, and its messages go to the one that serves now. True: one was that had
 * not been before, *number, on which *running handlers ran; ask again. */
static bool cancel_oldest(struct script *script, int most, unsigned *number, int *running)
{
    struct generation *generation;
    int living = 0;
    must_hold(&script->scripts->dispatch->lock);
    DL_FOREACH(script->generations, generation)
        living += generation->retired ? !generation->reaping : generation == script->live;
    DL_FOREACH(script->generations, generation) {
        bool cancelled = generation->cancelled;
        if (generation->reaping || !generation->retired)
            continue;
        if (living-- <= most)
            break;
        *number = generation->number;
        *running = generation->running;
        cancel_generation(generation);
        if (!cancelled)
            return true;
    }
    return false;
}

void retire_generation(struct generation *generation)
{
    generation->retired = true;
    cancel_start_hooks(generation);
    crew_reap(generation);
}

/* What runs on old generations has its own timeout; but frequent reloads must not fill the memory
 * with generations. */
static void bound_generations(struct script *script)
{
    struct dispatch *dispatch = script->scripts->dispatch;
    int most = atomic_load(&script->scripts->generations), running;
    unsigned number;
    for (;;) {
        dispatch_lock(dispatch);
        bool cancelled = cancel_oldest(script, most, &number, &running);
        dispatch_unlock(dispatch);
        if (!cancelled)
            return;
        log_event(LOG_WARN, &(struct log_context){.script = script->name},
                  "generation %u is cancelled: more than %d generations of the script are alive "
                  "(limits.generations); handlers that ran on it: %d",
                  number, most, running);
    }
}

void retire_replaced(struct script *script, struct generation *old)
{
    struct dispatch *dispatch = script->scripts->dispatch;
    struct source *source;
    mutex_lock(&script->starting);
    LL_FOREACH(script->sources, source) {
        if (source->generation == old)
            source_stop(source);
    }
    mutex_unlock(&script->starting);
    dispatch_lock(dispatch);
    retire_generation(old);
    dispatch_unlock(dispatch);
    bound_generations(script);
}
