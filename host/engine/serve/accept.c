/* accept - may a version of a script serve, as far as the process itself can tell? One durable has
 * one handler: of two, each would get some of the messages; a service is the same wherever it is
 * stated. A script sees to that for itself (api_load.c); here it is seen to across scripts. */
#include "engine/sched/dispatch.h"
#include "engine/serve/serve.h"
#include "engine/source/kind.h"
#include "engine/version/generation.h"
#include "engine/version/script.h"

static const struct registration *find_rival(const struct generation *other,
                                             const struct registration *mine)
{
    for (int i = 0; i < other->registration_count; i++) {
        if (mine->kind->is_rival && mine->kind->is_rival(mine, other->registrations[i]))
            return other->registrations[i];
    }
    return NULL;
}

/* What others are compared with; NULL: nothing. */
static const struct generation *version_of(const struct script *other, bool loaded)
{
    must_hold(&other->scripts->dispatch->lock);
    if (other->leaving)
        return NULL;
    if (other->next_live)
        return other->next_live;
    return !other->unloaded && (loaded || other->served) ? other->live : NULL;
}

/* loaded: what others have loaded counts; else only what they serve. *mine: whose rival another one
 * has. The dispatch lock keeps what others have registered. */
static int check_rivals(const struct script *script, const struct generation *generation,
                        bool loaded, const struct registration **mine, struct err *err)
{
    struct scripts *scripts = script->scripts;
    int code = 0;
    dispatch_lock(scripts->dispatch);
    for (struct script *other = scripts->first; !code && other; other = other->next) {
        const struct generation *theirs_all = other != script ? version_of(other, loaded) : NULL;
        for (int i = 0; !code && theirs_all && i < generation->registration_count; i++) {
            *mine = generation->registrations[i];
            const struct registration *theirs = find_rival(theirs_all, *mine);
            if (!theirs)
                continue;
            (*mine)->kind->tell_rival(*mine, theirs, false, err);
            code = ERR_TAKEN;
        }
    }
    dispatch_unlock(scripts->dispatch);
    return code;
}

/* A file that is being written is empty for a moment, or ends before its first handler. */
static int check_emptied(const struct script *script, const struct generation *generation,
                         struct err *err)
{
    if (generation->registration_count > 0 || !script_is_served(script) ||
        script->live->registration_count == 0)
        return 0;
    return err_set(err, ERR_INVALID,
                   "it no longer registers anything; to stop serving it, remove the file");
}

int accept_generation(const struct script *script, const struct generation *generation,
                      struct err *err)
{
    const struct registration *mine;
    int code = check_emptied(script, generation, err);
    if (!code && (code = check_rivals(script, generation, false, &mine, err)) != 0)
        err_prefix(err, "%s:%d", mine->file, mine->line);
    return code;
}

int accept_loaded(const struct script *script, const struct registration **mine, struct err *err)
{
    return check_rivals(script, script->live, true, mine, err);
}
