/* setup - what the kinds of a version declare and prepare, one after the other, with patience. */
#include "engine/serve/setup.h"

#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/value.h"
#include "bus/bus.h"
#include "engine/source/kind.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/script.h"

/* While connected, JetStream may take so long to come up after its server's start. */
#define JETSTREAM_COMES_UP_NS (5 * NS_PER_S)

int setup_patiently(struct scripts *scripts, uint64_t until_ns,
                    int (*step)(void *, uint64_t deadline, struct err *), void *argument,
                    struct err *err)
{
    uint64_t connected_since = 0;
    for (;;) {
        if (atomic_load(&scripts->draining))
            return err_set(err, ERR_CLOSED, "the host is stopping");
        uint64_t now = clock_now_ns();
        if (!bus_wait_connected(scripts->bus, now + SETUP_TRY_NS / 10)) {
            connected_since = 0;
            if (until_ns && now > until_ns)
                return err_set(
                    err, ERR_DISCONNECTED,
                    "not connected to the server; this is tried again on the next connection");
            continue;
        }
        if (!connected_since)
            connected_since = now;
        int code = step(argument, now + SETUP_TRY_NS, err);
        if (!err_passes(code) || now - connected_since > JETSTREAM_COMES_UP_NS)
            return code;
    }
}

bool setup_stated_wins(const struct scripts *scripts, const struct registration *registration)
{
    return registration->update == UPDATE_YES ||
           (registration->update == UPDATE_UNSTATED && scripts->updates);
}

/* Names the place of a registration before an error, and the registration unless the error does. */
static int name_place(const struct registration *registration, int code, struct err *err)
{
    const char *handler = registration->handler;
    if (code && code != ERR_CLOSED) {
        if (strncmp(err->message, handler, strlen(handler)) != 0)
            err_prefix(err, "%s", handler);
        err_prefix(err, "%s:%d", registration->file, registration->line);
    }
    return code;
}

/* Of setup_patiently. */
struct declaration {
    struct scripts *scripts;
    const struct registration *registration;
};

static int declare(void *argument, uint64_t deadline_ns, struct err *err)
{
    const struct declaration *declaration = argument;
    const struct registration *registration = declaration->registration;
    return registration->kind->declare(declaration->scripts, registration, deadline_ns, err);
}

/* --- what the server must be able to do --- */

static int require_level(void *argument, uint64_t deadline_ns, struct err *err)
{
    const struct declaration *wanted = argument;
    const struct registration *registration = wanted->registration;
    int level = jslevel_wait(wanted->scripts->bus->jslevel, deadline_ns, err);
    if (level >= 0)
        return jslevel_check(level, registration->needs_level, registration->needs, err);
    return err_prefix(err, "%s needs nats-server %s or newer", registration->needs,
                      jslevel_release(registration->needs_level));
}

int setup_require(struct generation *generation, uint64_t until_ns, struct err *err)
{
    int code = 0;
    for (int i = 0; !code && i < generation->registration_count; i++) {
        struct declaration wanted = {generation->scripts, generation->registrations[i]};
        /* What the last connection told will do: a reload must not wait for the next one. */
        int needed = wanted.registration->needs_level;
        if (needed == 0 || jslevel_now(generation->scripts->bus->jslevel) >= needed)
            continue;
        code = setup_patiently(generation->scripts, until_ns, require_level, &wanted, err);
        code = name_place(wanted.registration, code, err);
    }
    return code;
}

/* --- what is declared --- */

/* Does the live generation declare the same? Then it was made sure of. */
static bool is_declared(const struct generation *live, const struct registration *registration)
{
    for (int i = 0; live && i < live->registration_count; i++) {
        const struct registration *stated = live->registrations[i];
        if (stated->kind == registration->kind && stated->kind->is_declared(registration, stated))
            return true;
    }
    return false;
}

/* What was made sure of may have been deleted since. A reload does not wait for a server that is
 * away to say so: after one try without an answer the others are taken to be there, too. */
static int declare_again(struct declaration *declaration, bool *away, struct err *err)
{
    uint64_t now = clock_now_ns();
    if (*away || !bus_wait_connected(declaration->scripts->bus, now))
        return 0;
    int code = declare(declaration, now + SETUP_TRY_NS, err);
    *away = err_passes(code);
    return *away ? 0 : code;
}

/* Where one handler alone serves, it does so after the "start" hooks. */
static bool is_left_out(const struct scripts *scripts, const struct registration *registration)
{
    return scripts->only && registration->kind->brings != SOURCE_BRINGS_START &&
           strcmp(registration->handler, scripts->only) != 0;
}

int setup_declare(struct generation *generation, const struct generation *live, bool bare,
                  uint64_t until_ns, struct err *err)
{
    bool away = false;
    int code = 0;
    for (int i = 0; !code && i < generation->registration_count; i++) {
        struct declaration declaration = {generation->scripts, generation->registrations[i]};
        if (!declaration.registration->kind->declare || declaration.registration->bare != bare ||
            is_left_out(generation->scripts, declaration.registration))
            continue;
        if (is_declared(live, declaration.registration))
            code = declare_again(&declaration, &away, err);
        else
            code = setup_patiently(generation->scripts, until_ns, declare, &declaration, err);
        code = name_place(declaration.registration, code, err);
    }
    return code;
}

static bool has_heir(struct script *script, const struct registration *registration)
{
    struct source *source;
    dispatch_lock(script->scripts->dispatch);
    LL_SEARCH_SCALAR(script->sources, source, heir, registration);
    dispatch_unlock(script->scripts->dispatch);
    return source != NULL;
}

/* One that has never started; only its preparer drops it. */
static struct source *find_idle(struct script *script)
{
    struct source *source;
    dispatch_lock(script->scripts->dispatch);
    LL_SEARCH_SCALAR(script->sources, source, state.phase, SOURCE_IDLE);
    dispatch_unlock(script->scripts->dispatch);
    return source;
}

void setup_free_unstarted(struct script *script)
{
    struct source *source;
    while ((source = find_idle(script)))
        source_free_unstarted(source);
}

/* On an error the source stays idle on the script's list, without effect. */
static int prepare_source(struct source *source, bool may_update, uint64_t until_ns,
                          struct err *err)
{
    const struct kind *kind = source->registration->kind;
    int code = kind->prepare ? kind->prepare(source, may_update, until_ns, err) : 0;
    return name_place(source->registration, code, err);
}

int setup_sources(struct script *script, struct generation *generation, bool may_update,
                  uint64_t until_ns, struct err *err)
{
    int code = 0;
    for (int i = 0; !code && i < generation->registration_count; i++) {
        struct registration *registration = generation->registrations[i];
        if (registration->kind->declared || has_heir(script, registration) ||
            is_left_out(script->scripts, registration))
            continue;
        struct source *source = source_new(script, generation, registration);
        code = source ? prepare_source(source, may_update, until_ns, err)
                      : err_set(err, ERR_MEMORY, "no memory");
    }
    if (code)
        setup_free_unstarted(script);
    return code;
}

int setup_change(struct source *source, uint64_t until_ns, bool *changed, struct err *err)
{
    const struct registration *now = source->heir;
    return name_place(now, now->kind->change(source, until_ns, changed, err), err);
}
