/* serve - from one version of a script to the next. */
#include "engine/serve/serve.h"

#include <ctype.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "bus/bus.h"
#include "engine/serve/setup.h"
#include "engine/source/kind.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/script.h"
#include "vm/texts.h"

static bool is_heir(const struct script *script, const struct registration *registration)
{
    const struct source *source;
    LL_SEARCH_SCALAR(script->sources, source, heir, registration);
    return source != NULL;
}

static bool goes_on(const struct registration *now, const struct registration *then)
{
    return now->kind == then->kind && now->kind->continues && now->kind->continues(now, then);
}

/* alike: only where the handler's function is the same, too, so that
 * of two on one subject none gets what is queued for the other. */
static void choose_heirs(struct script *script, struct generation *generation, bool alike)
{
    struct source *source;
    for (int i = 0; i < generation->registration_count; i++) {
        struct registration *registration = generation->registrations[i];
        if (is_heir(script, registration))
            continue;
        LL_FOREACH(script->sources, source) {
            if (source->state.phase == SOURCE_SERVING && source->generation == script->live &&
                !source->heir && (!alike || registration->alike == source->registration->alike) &&
                goes_on(registration, source->registration)) {
                source->heir = registration;
                break;
            }
        }
    }
}

void serve_choose_heirs(struct script *script, struct generation *generation)
{
    struct dispatch *dispatch = script->scripts->dispatch;
    struct source *source;
    dispatch_lock(dispatch);
    LL_FOREACH(script->sources, source)
        source->heir = NULL;
    if (generation) {
        choose_heirs(script, generation, true);
        choose_heirs(script, generation, false);
    }
    dispatch_unlock(dispatch);
}

struct source *serve_heir_of(struct script *script, const struct registration *registration)
{
    struct source *source;
    dispatch_lock(script->scripts->dispatch);
    LL_SEARCH_SCALAR(script->sources, source, heir, registration);
    dispatch_unlock(script->scripts->dispatch);
    return source && registration->kind->change ? source : NULL;
}

void serve_switch(struct script *script, struct generation *generation)
{
    struct generation *old = script->live;
    struct source *source;
    LL_FOREACH(script->sources, source) {
        if (source->generation == old && source->heir)
            source_hand_over(source, generation);
        else if (source->generation == old)
            source_cancel(source);
    }
    script->unloaded = !generation;
    if (generation)
        script->live = generation;
}

/* Runs at once, and may count on all that the script has. */
static bool begins_last(const struct source *source)
{
    return source->state.brings == SOURCE_BRINGS_START || source->registration->at_once;
}

static int start_some(struct script *script, bool last, struct err *err)
{
    int code = 0;
    struct source *source;
    mutex_lock(&script->starting);
    if (atomic_load(&script->scripts->draining))
        code = err_set(err, ERR_CLOSED, "the host is stopping");
    LL_FOREACH(script->sources, source) {
        if (!code && begins_last(source) == last && source_phase(source) == SOURCE_IDLE)
            code = source_start(source, err);
    }
    mutex_unlock(&script->starting);
    return code;
}

static bool is_word(const char *text, size_t len, size_t at, size_t word)
{
    bool before = at > 0 && (isalnum((unsigned char)text[at - 1]) || text[at - 1] == '_');
    bool behind =
        at + word < len && (isalnum((unsigned char)text[at + word]) || text[at + word] == '_');
    return !before && !behind;
}

static bool has_word(const char *text, size_t len, const char *word)
{
    size_t word_len = strlen(word);
    const char *at = text;
    while ((at = memmem(at, len - (size_t)(at - text), word, word_len))) {
        if (is_word(text, len, (size_t)(at - text), word_len))
            return true;
        at++;
    }
    return false;
}

/* A script that never says the words publishes nothing later. */
static void find_later(void *owner, const char *path, const char *text, size_t len)
{
    bool *found = owner;
    (void)path;
    if (text && has_word(text, len, "publish"))
        *found |= has_word(text, len, "after") || has_word(text, len, "at");
}

/* What others have parked, or this script before it was started, is served by whoever may park. */
static void serve_later(struct script *script)
{
    bool found = false;
    texts_each(script->live->texts, find_later, &found);
    if (found)
        later_serve(script->scripts->bus->later);
}

int serve_start(struct script *script, struct err *err)
{
    int code = start_some(script, false, err);
    if (!code) {
        link_flush(script->scripts->bus->consume, clock_now_ns() + SETUP_TRY_NS);
        code = start_some(script, true, err);
    }
    if (!code)
        serve_later(script);
    return code;
}

void serve_note(struct script *script)
{
    dispatch_lock(script->scripts->dispatch);
    script->served = true;
    dispatch_unlock(script->scripts->dispatch);
}
