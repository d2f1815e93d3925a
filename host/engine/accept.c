/* accept - may a version of a script serve, as far as the process itself can tell? One durable has
 * one handler: of two, each would get some of the messages. A script sees to that for itself
 * (api_load.c); here it is seen to across scripts. */
#include <string.h>

#include "engine/internal.h"

static bool same_durable(const struct registration *a, const struct registration *b)
{
    return a->kind == REGISTER_CONSUME && b->kind == REGISTER_CONSUME &&
           strcmp(a->consumer.stream, b->consumer.stream) == 0 &&
           strcmp(a->consumer.durable, b->consumer.durable) == 0;
}

static const struct registration *find_rival(const struct generation *other,
                                             const struct registration *mine)
{
    for (int i = 0; i < other->registration_count; i++) {
        if (same_durable(other->registrations[i], mine))
            return other->registrations[i];
    }
    return NULL;
}

/* With the dispatch lock held, which keeps what others have registered. */
static int refuse(const struct registration *mine, const struct registration *theirs,
                  struct err *err)
{
    return err_set(err, ERR_TAKEN,
                   "%s: this durable has a handler in another script already (%s:%d), and each "
                   "would get some of the messages: give this one a durable of its own",
                   mine->handler, theirs->file, theirs->line);
}

/* loaded: what others have loaded counts; else only what they serve. *mine: whose durable another
 * one has. */
static int check_durables(const struct script *script, const struct generation *generation,
                          bool loaded, const struct registration **mine, struct err *err)
{
    struct engine *engine = script->engine;
    int rc = 0;
    dispatch_lock(&engine->dispatch);
    for (struct script *other = engine->scripts; rc == 0 && other; other = other->next) {
        bool counts = other != script && !other->unloaded && (loaded || other->served);
        for (int i = 0; rc == 0 && counts && i < generation->registration_count; i++) {
            *mine = generation->registrations[i];
            const struct registration *theirs = find_rival(other->live, *mine);
            rc = theirs ? refuse(*mine, theirs, err) : 0;
        }
    }
    dispatch_unlock(&engine->dispatch);
    return rc;
}

/* A file that is being written is empty for a moment, or ends before its first handler. */
static int check_emptied(const struct script *script, const struct generation *generation,
                         struct err *err)
{
    if (generation->registration_count > 0 || !script_serves(script) ||
        script->live->registration_count == 0)
        return 0;
    return err_set(err, ERR_INVALID,
                   "it registers nothing any more; to end what it serves, remove the file");
}

int accept_generation(const struct script *script, const struct generation *generation,
                      struct err *err)
{
    const struct registration *mine;
    int rc = check_emptied(script, generation, err);
    if (rc == 0 && (rc = check_durables(script, generation, false, &mine, err)) != 0)
        err_prefix(err, "%s:%d", mine->file, mine->line);
    return rc;
}

int engine_check_loaded(struct script *script, struct failure *failure)
{
    const struct registration *mine;
    int rc = check_durables(script, script->live, true, &mine, &failure->err);
    if (rc != 0) {
        failure->file = strdup(mine->file);
        failure->line = mine->line;
    }
    return rc;
}
