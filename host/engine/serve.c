/* serve - from what a script has registered to sources that serve it: streams, consumers and
 * dead-letter subjects are made sure of, then everything starts at once; and the switch from one
 * generation to the next. Blocks: pool threads only. */
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "base/value.h"
#include "engine/internal.h"

/* One try at the server; between tries we look whether the host is stopping. */
#define SETUP_TRY_NS (2 * NS_PER_S)
/* While connected, JetStream may take so long to come up after its server's start. */
#define JETSTREAM_COMES_UP_NS (5 * NS_PER_S)
/* A reload waits so long for its server: what it replaces serves on, and others want theirs. */
#define RELOAD_WAITS_NS (5 * NS_PER_S)

/* The server was not there, or not ready. */
static bool is_passing(int rc)
{
    return rc == ERR_TIMEOUT || rc == ERR_DISCONNECTED || rc == ERR_NO_RESPONDERS || rc == ERR_FULL;
}

/* Runs step until it has an answer that waiting cannot change. Waits for a connection until
 * until_ns; 0: as long as it takes. */
static int patiently(struct engine *engine, uint64_t until_ns,
                     int (*step)(void *, uint64_t deadline, struct err *), void *argument,
                     struct err *err)
{
    uint64_t connected_since = 0;
    for (;;) {
        if (atomic_load(&engine->draining))
            return err_set(err, ERR_CLOSED, "the host is stopping");
        uint64_t now = clock_now_ns();
        if (!bus_wait_connected(engine->bus, now + SETUP_TRY_NS / 10)) {
            connected_since = 0;
            if (until_ns && now > until_ns)
                return err_set(err, ERR_DISCONNECTED,
                               "not connected to the server; it is tried again when that is back");
            continue;
        }
        if (!connected_since)
            connected_since = now;
        int rc = step(argument, now + SETUP_TRY_NS, err);
        if (!is_passing(rc) || now - connected_since > JETSTREAM_COMES_UP_NS)
            return rc;
    }
}

struct setup {
    struct engine *engine;
    struct registration *registration;
    struct consumer *consumer;
    bool may_update;
};

static int ensure_stream(void *argument, uint64_t deadline, struct err *err)
{
    struct setup *setup = argument;
    return jsapi_ensure_stream(setup->engine->bus->jsapi, setup->registration->stream, deadline,
                               err);
}

static int ensure_consumer(void *argument, uint64_t deadline, struct err *err)
{
    struct setup *setup = argument;
    return consumer_ensure(setup->consumer, setup->may_update, deadline, err);
}

static int ensure_dead_letter(void *argument, uint64_t deadline, struct err *err)
{
    struct setup *setup = argument;
    const char *subject = setup->registration->dead_letter;
    int rc = jsapi_stream_of(setup->engine->bus->jsapi, subject, NULL, 0, deadline, err);
    if (rc == 0)
        return err_set(err, ERR_NO_STREAM,
                       "no stream takes the dead_letter subject \"%s\": declare one with "
                       "js.stream { name = ..., subjects = { \"%s\" } }",
                       subject, subject);
    return rc < 0 ? rc : 0;
}

/* Names the place of a registration before an error, and the registration unless the error does. */
static int at(const struct registration *registration, int rc, struct err *err)
{
    const char *handler = registration->handler;
    if (rc && rc != ERR_CLOSED) {
        if (strncmp(err->message, handler, strlen(handler)) != 0)
            err_prefix(err, "%s", handler);
        err_prefix(err, "%s:%d", registration->file, registration->line);
    }
    return rc;
}

/* Does the live generation state the same stream? Then it was made sure of. */
static bool is_stated(const struct generation *live, const struct registration *stream)
{
    for (int i = 0; live && i < live->registration_count; i++) {
        const struct registration *stated = live->registrations[i];
        if (stated->kind == REGISTER_STREAM && cJSON_Compare(stated->stream, stream->stream, true))
            return true;
    }
    return false;
}

/* A stream that was made sure of may have been deleted since. A reload does not wait for a server
 * that is away to say so: after one try without an answer the others are taken to be there, too. */
static int renew_stream(struct setup *setup, bool *away, struct err *err)
{
    uint64_t now = clock_now_ns();
    if (*away || !bus_wait_connected(setup->engine->bus, now))
        return 0;
    int rc = ensure_stream(setup, now + SETUP_TRY_NS, err);
    *away = is_passing(rc);
    return *away ? 0 : rc;
}

/* live: what this one is to replace; NULL: nothing. */
static int ensure_streams(struct generation *generation, const struct generation *live,
                          uint64_t until_ns, struct err *err)
{
    bool away = false;
    int rc = 0;
    for (int i = 0; rc == 0 && i < generation->registration_count; i++) {
        struct setup setup = {.engine = generation->engine,
                              .registration = generation->registrations[i]};
        if (setup.registration->kind != REGISTER_STREAM)
            continue;
        if (is_stated(live, setup.registration))
            rc = renew_stream(&setup, &away, err);
        else
            rc = patiently(generation->engine, until_ns, ensure_stream, &setup, err);
        rc = at(setup.registration, rc, err);
    }
    return rc;
}

/* A source with a consumer that the server has. On an error the source stays idle on the script's
 * list, without effect. */
static int prepare(struct source *source, bool may_update, uint64_t until_ns, struct err *err)
{
    struct registration *registration = source->registration;
    struct engine *engine = source->engine;
    if (registration->kind != REGISTER_CONSUME)
        return 0;
    struct log_context context = {.script = source->script->name,
                                  .handler = registration->handler,
                                  .file = registration->file,
                                  .line = registration->line};
    struct setup setup = {.engine = engine, .registration = registration, .may_update = may_update};
    int rc = 0;
    if (registration->dead_letter)
        rc = patiently(engine, until_ns, ensure_dead_letter, &setup, err);
    else
        log_event(LOG_WARN, &context,
                  "no dead_letter: a message that fails %d times will be terminated",
                  registration->attempts);
    if (rc == 0) {
        setup.consumer = source->consumer =
            consumer_new(engine->bus, &registration->consumer, source, err);
        rc = source->consumer ? patiently(engine, until_ns, ensure_consumer, &setup, err)
                              : ERR_MEMORY;
    }
    return at(registration, rc, err);
}

static bool has_heir(struct script *script, const struct registration *registration)
{
    struct source *source;
    dispatch_lock(&script->engine->dispatch);
    LL_SEARCH_SCALAR(script->sources, source, heir, registration);
    dispatch_unlock(&script->engine->dispatch);
    return source != NULL;
}

/* One that has never started; only its preparer drops it. */
static struct source *find_idle(struct script *script)
{
    struct source *source;
    dispatch_lock(&script->engine->dispatch);
    LL_SEARCH_SCALAR(script->sources, source, state, SOURCE_IDLE);
    dispatch_unlock(&script->engine->dispatch);
    return source;
}

/* Makes sources for the registrations of a generation that take over none; all or none. */
static int prepare_all(struct script *script, struct generation *generation, bool may_update,
                       uint64_t until_ns, struct err *err)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < generation->registration_count; i++) {
        struct registration *registration = generation->registrations[i];
        if (registration->kind == REGISTER_STREAM || has_heir(script, registration))
            continue;
        struct source *source = source_new(script, generation, registration);
        rc = source ? prepare(source, may_update, until_ns, err)
                    : err_set(err, ERR_MEMORY, "no memory");
    }
    struct source *source;
    while (rc != 0 && (source = find_idle(script)))
        source_drop(source);
    return rc;
}

static int start_some(struct script *script, bool hooks, struct err *err)
{
    struct engine *engine = script->engine;
    int rc = 0;
    struct source *source;
    pthread_mutex_lock(&script->starting);
    if (atomic_load(&engine->draining))
        rc = err_set(err, ERR_CLOSED, "the host is stopping");
    LL_FOREACH(script->sources, source) {
        bool hook = source->registration->kind == REGISTER_START;
        if (rc == 0 && hook == hooks && source_state(source) == SOURCE_IDLE)
            rc = source_start(source, err);
    }
    pthread_mutex_unlock(&script->starting);
    return rc;
}

/* "start" comes last: when it runs, and when we say ready, the server has the subscriptions. */
static int start_all(struct script *script, struct err *err)
{
    int rc = start_some(script, false, err);
    if (rc == 0) {
        link_flush(script->engine->bus->consume, clock_now_ns() + SETUP_TRY_NS);
        rc = start_some(script, true, err);
    }
    return rc;
}

/* With a reference; NULL when it is unloaded. */
static struct generation *live_of(struct script *script)
{
    dispatch_lock(&script->engine->dispatch);
    struct generation *generation = script->unloaded ? NULL : generation_retain(script->live);
    dispatch_unlock(&script->engine->dispatch);
    return generation;
}

/* A script may consume a stream that another one declares; but what is added later does not wait
 * for one that could not be served itself. */
static bool may_need(const struct script *other, uint64_t until_ns)
{
    return !until_ns || (script_serves(other) && clock_now_ns() < until_ns);
}

static int ensure_streams_of(struct script *script, uint64_t until_ns, struct err *err)
{
    struct generation *generation = live_of(script);
    const struct generation *stated = script_serves(script) ? generation : NULL;
    int rc = generation ? ensure_streams(generation, stated, until_ns, err) : 0;
    if (generation)
        generation_release(generation);
    return rc;
}

static void note_served(struct script *script)
{
    dispatch_lock(&script->engine->dispatch);
    script->served = true;
    dispatch_unlock(&script->engine->dispatch);
}

/* What it publishes has a queue of its own. With `changing` held. */
static int make_flow(struct script *script, struct err *err)
{
    if (!script->flow)
        script->flow = link_flow_new(script->engine->bus->publish, LANE_BULK);
    return script->flow ? 0 : err_set(err, ERR_MEMORY, "no memory for a script");
}

int engine_serve(struct engine *engine, struct script *script, bool patient, struct err *err)
{
    pthread_mutex_lock(&script->changing);
    uint64_t until = patient ? 0 : clock_now_ns() + RELOAD_WAITS_NS;
    int rc = accept_generation(script, script->live, err);
    if (rc == 0)
        rc = make_flow(script, err);
    for (struct script *other = engine->scripts; rc == 0 && other; other = other->next) {
        if (other == script || may_need(other, until))
            rc = ensure_streams_of(other, until, err);
    }
    if (rc == 0)
        rc = prepare_all(script, script->live, false, until, err);
    if (rc == 0)
        rc = start_all(script, err);
    if (rc == 0)
        note_served(script);
    pthread_mutex_unlock(&script->changing);
    return rc;
}

/* Says which sources go on, and as what; without a generation: none. Each goes on once, so that
 * two handlers of one subject stay two. */
static void choose_heirs(struct script *script, struct generation *generation)
{
    struct dispatch *dispatch = &script->engine->dispatch;
    struct source *source;
    dispatch_lock(dispatch);
    LL_FOREACH(script->sources, source)
        source->heir = NULL;
    for (int i = 0; generation && i < generation->registration_count; i++) {
        struct registration *registration = generation->registrations[i];
        LL_FOREACH(script->sources, source) {
            if (source->state == SOURCE_SERVING && source->generation == script->live &&
                !source->heir && registration_continues(registration, source->registration)) {
                source->heir = registration;
                break;
            }
        }
    }
    dispatch_unlock(dispatch);
}

static int change_consumer(void *argument, uint64_t deadline, struct err *err)
{
    struct setup *setup = argument;
    return consumer_change(setup->consumer, &setup->registration->consumer, deadline, err);
}

/* A consumer that goes on takes over what the new registration states. */
static int change(struct source *source, uint64_t until_ns, bool *changed, struct err *err)
{
    struct registration *now = source->heir, *then = source->registration;
    struct setup setup = {
        .engine = source->engine, .registration = now, .consumer = source->consumer};
    int rc = 0;
    if (now->dead_letter &&
        (!then->dead_letter || strcmp(now->dead_letter, then->dead_letter) != 0))
        rc = patiently(source->engine, until_ns, ensure_dead_letter, &setup, err);
    if (rc == 0 && !registration_same_consumer(now, then)) {
        rc = patiently(source->engine, until_ns, change_consumer, &setup, err);
        *changed = rc == 0;
    }
    return at(now, rc, err);
}

/* Back to what the generation states that goes on. As far as the server lets us. */
static void change_back(struct source *source)
{
    struct err err;
    struct setup setup = {.engine = source->engine,
                          .registration = source->registration,
                          .consumer = source->consumer};
    if (patiently(source->engine, clock_now_ns() + RELOAD_WAITS_NS, change_consumer, &setup,
                  &err) != 0)
        log_warn("%s: %s keeps settings of the refused version: %s", source->script->name,
                 source->registration->handler, err.message);
}

/* The source that a registration goes on with, if it has a consumer. Only a reload frees heirs. */
static struct source *consumer_of(struct script *script, const struct registration *registration)
{
    struct source *source;
    dispatch_lock(&script->engine->dispatch);
    LL_SEARCH_SCALAR(script->sources, source, heir, registration);
    dispatch_unlock(&script->engine->dispatch);
    return source && source->consumer ? source : NULL;
}

/* Everything of the new generation that needs the server: all of it, or nothing changes. */
static int prepare_reload(struct script *script, struct generation *generation, struct err *err)
{
    int count = generation->registration_count, changes = 0;
    struct source **changed = calloc((size_t)count + 1, sizeof *changed);
    if (!changed)
        return err_set(err, ERR_MEMORY, "no memory");
    uint64_t until = clock_now_ns() + RELOAD_WAITS_NS;
    int rc = ensure_streams(generation, script_serves(script) ? script->live : NULL, until, err);
    choose_heirs(script, generation);
    for (int i = 0; rc == 0 && i < count; i++) {
        struct source *source = consumer_of(script, generation->registrations[i]);
        bool differs = false;
        if (source)
            rc = change(source, until, &differs, err);
        if (differs)
            changed[changes++] = source;
    }
    if (rc == 0)
        /* One that never served has no right to a durable that it found there. */
        rc = prepare_all(script, generation, script->served, until, err);
    while (rc != 0 && changes > 0)
        change_back(changed[--changes]);
    if (rc != 0)
        choose_heirs(script, NULL);
    free(changed);
    return rc;
}

/* With the dispatch lock held. */
static void hand_over(struct source *source, struct generation *generation)
{
    struct generation *old = source->generation;
    if (source->waiting) {
        DL_DELETE2(old->waiting, source, wait_prev, wait_next);
        source->waiting = false;
    }
    source->generation = generation_retain(generation);
    source->registration = source->heir;
    source->heir = NULL;
    if (source->consumer)
        consumer_pardon(source->consumer);
    source->limit = source->registration->concurrency;
    dispatch_ready_source(&source->engine->dispatch, source);
    generation_release(old); /* never the last: the script has one */
}

/* The switch: what is queued goes to the new generation, what runs finishes on the old. Without a
 * new one, nothing goes on. */
static void switch_to(struct script *script, struct generation *generation)
{
    struct dispatch *dispatch = &script->engine->dispatch;
    struct generation *old = script->live;
    struct source *source;
    dispatch_lock(dispatch);
    LL_FOREACH(script->sources, source) {
        if (source->generation == old && source->heir)
            hand_over(source, generation);
        else if (source->generation == old)
            source_mute(source);
    }
    script->unloaded = !generation;
    if (generation)
        script->live = generation;
    dispatch_unlock(dispatch);
}

static void retire(struct script *script, struct generation *old)
{
    struct dispatch *dispatch = &script->engine->dispatch;
    struct source *source;
    pthread_mutex_lock(&script->starting);
    LL_FOREACH(script->sources, source) {
        if (source->generation == old)
            source_stop(source);
    }
    pthread_mutex_unlock(&script->starting);
    dispatch_lock(dispatch);
    generation_retire(old);
    dispatch_unlock(dispatch);
}

static void discard(struct generation *generation)
{
    struct dispatch *dispatch = &generation->engine->dispatch;
    dispatch_lock(dispatch);
    generation->stop_ran = true;
    generation_retire(generation);
    dispatch_unlock(dispatch);
    generation_release(generation);
}

static int instances_of(struct generation *generation)
{
    struct dispatch *dispatch = &generation->engine->dispatch;
    dispatch_lock(dispatch);
    int count = generation->instance_count;
    dispatch_unlock(dispatch);
    return count;
}

int engine_reload(struct engine *engine, struct script *script, unsigned *number,
                  struct sources **read, struct failure *failure)
{
    pthread_mutex_lock(&script->changing);
    struct generation *old = script->live;
    struct generation *generation =
        generation_build(engine, script, old->number + 1, instances_of(old), read, failure);
    int rc = generation ? 0 : (int)failure->err.code;
    if (generation) {
        rc = accept_generation(script, generation, &failure->err);
        if (rc == 0) /* it may have been refused when it was added */
            rc = make_flow(script, &failure->err);
        if (rc == 0)
            rc = prepare_reload(script, generation, &failure->err);
        if (rc == 0) {
            switch_to(script, generation);
            retire(script, old);
            generation_release(old);
            rc = start_all(script, &failure->err);
            note_served(script);
            *number = generation->number;
        } else {
            discard(generation);
        }
    }
    pthread_mutex_unlock(&script->changing);
    return rc;
}

void engine_unload(struct engine *engine, struct script *script)
{
    (void)engine;
    pthread_mutex_lock(&script->changing);
    choose_heirs(script, NULL);
    switch_to(script, NULL);
    retire(script, script->live);
    pthread_mutex_unlock(&script->changing);
}
