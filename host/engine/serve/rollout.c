/* rollout - its steps; rollout.h has their order. */
#include "engine/serve/rollout.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/bus.h"
#include "engine/serve/serve.h"
#include "engine/serve/setup.h"
#include "engine/source/kind.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/script.h"

/* One that is under way. */
struct making {
    struct scripts *scripts;
    struct rollout *items; /* the caller's */
    int count;
    uint64_t until_ns;       /* so long a connection is waited for; 0: as long as it takes */
    struct source **changed; /* owned: whose consumers the server was told of */
    int changes;
    bool bare; /* something is declared by its name alone */
};

/* What is to serve; NULL: nothing. */
static struct generation *target_of(const struct rollout *item)
{
    return item->kind == ROLLOUT_SERVE ? item->script->live : item->generation;
}

/* The list grows at its end, under the dispatch lock. NULL: the first. */
static struct script *next_script(struct scripts *scripts, const struct script *script)
{
    dispatch_lock(scripts->dispatch);
    struct script *next = script ? script->next : scripts->first;
    dispatch_unlock(scripts->dispatch);
    return next;
}

static struct rollout *item_of(const struct making *making, const struct script *script)
{
    for (int i = 0; i < making->count; i++) {
        if (making->items[i].script == script)
            return &making->items[i];
    }
    return NULL;
}

/* In the order of the list, though there is but one who takes more than one. */
UNCHECKED static void lock_all(const struct making *making)
{
    struct script *script = NULL;
    while ((script = next_script(making->scripts, script))) {
        if (item_of(making, script))
            mutex_lock(&script->changing);
    }
}

UNCHECKED static void unlock_all(const struct making *making)
{
    for (int i = 0; i < making->count; i++)
        mutex_unlock(&making->items[i].script->changing);
}

/* Others are compared with what this one will be. */
static void announce(const struct making *making, bool begins)
{
    dispatch_lock(making->scripts->dispatch);
    for (int i = 0; i < making->count; i++) {
        struct rollout *item = &making->items[i];
        item->script->next_live = begins ? target_of(item) : NULL;
        item->script->leaving = begins && item->kind == ROLLOUT_UNLOAD;
    }
    dispatch_unlock(making->scripts->dispatch);
}

/* What it publishes has a queue of its own, and is counted by itself. With `changing` held. */
static int make_flow(struct script *script, struct err *err)
{
    struct bus *bus = script->scripts->bus;
    if (!script->flow)
        script->flow = link_flow_new(bus->publish, LANE_BULK);
    if (!script->account) { /* before anything of it runs, which looks without the lock */
        struct outbox_account *account = outbox_account_new(bus->outbox);
        dispatch_lock(script->scripts->dispatch);
        script->account = account;
        dispatch_unlock(script->scripts->dispatch);
    }
    return script->flow && script->account ? 0 : err_set(err, ERR_MEMORY, "no memory for a script");
}

/* With a reference; NULL when it is unloaded, or about to be. */
static struct generation *live_of(struct script *script)
{
    dispatch_lock(script->scripts->dispatch);
    struct generation *generation =
        script->unloaded || script->leaving ? NULL : generation_retain(script->live);
    dispatch_unlock(script->scripts->dispatch);
    return generation;
}

/* A script may consume a stream that another one declares; but what is added later does not wait
 * for one that could not be served itself. */
static bool may_need(const struct script *other, uint64_t until_ns)
{
    return !until_ns || (script_is_served(other) && clock_now_ns() < until_ns);
}

/* What is declared by its name alone comes after what states settings, of all scripts. */
static int declare(struct making *making, struct generation *generation,
                   const struct generation *live, bool bare, struct err *err)
{
    for (int i = 0; !bare && i < generation->registration_count; i++)
        making->bare |= generation->registrations[i]->bare;
    return setup_declare(generation, live, bare, making->until_ns, err);
}

static int ensure_streams_of(struct making *making, struct script *script, bool bare,
                             struct err *err)
{
    struct generation *generation = live_of(script);
    const struct generation *stated = script_is_served(script) ? generation : NULL;
    int code = generation ? declare(making, generation, stated, bare, err) : 0;
    if (generation)
        generation_release(generation);
    return code;
}

/* Of all scripts, before one that has not served yet. */
static int ensure_other_streams(struct making *making, const struct script *served, bool bare,
                                struct err *err)
{
    int code = 0;
    struct script *other = NULL;
    while (!code && (other = next_script(making->scripts, other))) {
        if (other == served || may_need(other, making->until_ns))
            code = ensure_streams_of(making, other, bare, err);
    }
    return code;
}

static int require_all(struct making *making, const struct rollout *item, struct err *err)
{
    return item->kind == ROLLOUT_UNLOAD ? 0 : setup_require(target_of(item), making->until_ns, err);
}

static int prepare_streams(struct making *making, const struct rollout *item, bool bare,
                           struct err *err)
{
    struct script *script = item->script;
    if (item->kind == ROLLOUT_UNLOAD)
        return 0;
    if (item->kind == ROLLOUT_SERVE)
        return ensure_other_streams(making, script, bare, err);
    return declare(making, item->generation, script_is_served(script) ? script->live : NULL, bare,
                   err);
}

static int prepare_stated(struct making *making, const struct rollout *item, struct err *err)
{
    return prepare_streams(making, item, false, err);
}

static int prepare_named(struct making *making, const struct rollout *item, struct err *err)
{
    return making->bare ? prepare_streams(making, item, true, err) : 0;
}

/* Consumers that go on take over what the new version states. */
static int change_consumers(struct making *making, const struct rollout *item, struct err *err)
{
    int code = 0;
    for (int i = 0; !code && i < item->generation->registration_count; i++) {
        struct source *source = serve_heir_of(item->script, item->generation->registrations[i]);
        bool changed = false;
        if (source)
            code = setup_change(source, making->until_ns, &changed, err);
        if (changed)
            making->changed[making->changes++] = source;
    }
    return code;
}

static int prepare_sources(struct making *making, const struct rollout *item, struct err *err)
{
    struct script *script = item->script;
    int code = 0;
    if (item->kind == ROLLOUT_UNLOAD)
        return 0;
    if (item->kind == ROLLOUT_SWITCH) {
        serve_choose_heirs(script, item->generation);
        code = change_consumers(making, item, err);
    }
    /* One that never served has no right to a durable that it found there. */
    bool may_update = item->kind == ROLLOUT_SWITCH && script->served;
    return code ? code : setup_sources(script, target_of(item), may_update, making->until_ns, err);
}

static int room_for_changes(struct making *making, struct err *err)
{
    size_t most = 1;
    for (int i = 0; i < making->count; i++)
        most += making->items[i].generation
                    ? (size_t)making->items[i].generation->registration_count
                    : 0;
    making->changed = calloc(most, sizeof *making->changed);
    return making->changed ? 0 : err_set(err, ERR_MEMORY, "no memory");
}

static int accept_item(struct making *making, const struct rollout *item, struct err *err)
{
    (void)making;
    if (item->kind == ROLLOUT_UNLOAD)
        return 0;
    int code = accept_generation(item->script, target_of(item), err);
    return code ? code : make_flow(item->script, err); /* it may have been refused when added */
}

static int run_required(struct making *making, const struct rollout *item, struct err *err)
{
    (void)making;
    return item->kind == ROLLOUT_UNLOAD ? 0 : start_required(item->script, target_of(item), err);
}

/* Everything that can be refused, one step for all after the other. *culprit: the place of the item
 * that was. */
static int prepare_all(struct making *making, int *culprit, struct err *err)
{
    static int (*const steps[])(struct making *, const struct rollout *, struct err *) = {
        accept_item, require_all, prepare_stated, prepare_named, prepare_sources, run_required};
    int code = room_for_changes(making, err);
    for (size_t step = 0; step < sizeof steps / sizeof *steps; step++) {
        for (int i = 0; i < making->count && !code; i++) {
            *culprit = i;
            code = steps[step](making, &making->items[i], err);
        }
    }
    return code;
}

/* The required "start" hooks have run, or one has failed: what was made for their version goes. */
static void after_start_hooks(const struct rollout *item)
{
    struct script *script = item->script;
    struct source *source;
    if (item->kind == ROLLOUT_UNLOAD)
        return;
    mutex_lock(&script->starting);
    LL_FOREACH(script->sources, source) {
        if (source->generation == target_of(item))
            source_stop(source);
    }
    mutex_unlock(&script->starting);
}

static void undo_change(struct source *source)
{
    source->registration->kind->change_back(source);
}

static void undo_rollout(struct making *making)
{
    while (making->changes > 0)
        undo_change(making->changed[--making->changes]);
    for (int i = 0; i < making->count; i++) {
        setup_free_unstarted(making->items[i].script);
        after_start_hooks(&making->items[i]);
        serve_choose_heirs(making->items[i].script, NULL);
    }
}

/* At one moment for all. olds: the generations before, by the place of the item. */
static void switch_all(const struct making *making, struct generation **olds)
{
    for (int i = 0; i < making->count; i++) {
        if (making->items[i].kind == ROLLOUT_UNLOAD)
            serve_choose_heirs(making->items[i].script, NULL);
    }
    dispatch_lock(making->scripts->dispatch);
    for (int i = 0; i < making->count; i++) {
        struct rollout *item = &making->items[i];
        olds[i] = item->script->live;
        if (item->kind != ROLLOUT_SERVE)
            serve_switch(item->script, item->generation);
        item->generation = NULL;
    }
    dispatch_unlock(making->scripts->dispatch);
}

/* What went comes first, for another one may have its durable now. */
static int go_on(const struct making *making, struct generation **olds, int *culprit,
                 struct err *err)
{
    int code = 0;
    for (int i = 0; i < making->count; i++) {
        const struct rollout *item = &making->items[i];
        if (item->kind != ROLLOUT_SERVE)
            retire_replaced(item->script, olds[i]);
        if (item->kind == ROLLOUT_SWITCH)
            generation_release(olds[i]);
    }
    for (int i = 0; i < making->count; i++) {
        struct script *script = making->items[i].script;
        if (making->items[i].kind == ROLLOUT_UNLOAD)
            continue;
        struct err later;
        int failed = serve_start(script, code ? &later : err);
        if (!failed || making->items[i].kind == ROLLOUT_SWITCH)
            serve_note(script);
        if (failed && !code) {
            code = failed;
            *culprit = i;
        }
    }
    return code;
}

/* 0: as long as it takes. */
static uint64_t wait_until(enum rollout_patience patience)
{
    switch (patience) {
    case ROLLOUT_HASTY:
        return clock_now_ns();
    case ROLLOUT_WAITS:
        return clock_now_ns() + SETUP_RELOAD_NS;
    case ROLLOUT_PATIENT:
        break;
    }
    return 0;
}

int rollout_run(struct scripts *scripts, struct rollout *items, int count,
                enum rollout_patience patience, int *culprit, struct err *err)
{
    struct making making = {
        .scripts = scripts, .items = items, .count = count, .until_ns = wait_until(patience)};
    struct generation **olds = calloc((size_t)count + 1, sizeof(struct generation *));
    *culprit = 0;
    if (!olds)
        return err_set(err, ERR_MEMORY, "no memory");
    lock_all(&making);
    announce(&making, true);
    int code = prepare_all(&making, culprit, err);
    announce(&making, false);
    if (code) {
        undo_rollout(&making);
    } else {
        switch_all(&making, olds);
        code = go_on(&making, olds, culprit, err);
    }
    unlock_all(&making);
    free(making.changed);
    free(olds);
    return code;
}
