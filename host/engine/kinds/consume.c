/* consume - js.consume: a durable, whose messages are pulled. Its options, what it needs on the
 * server, and how a reload changes it. */
#include <cjson/cJSON.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "bus/bus.h"
#include "bus/consume/consumer.h"
#include "bus/consume/delivery.h"
#include "engine/kinds/consume_copies.h"
#include "engine/kinds/kinds.h"
#include "engine/kinds/spec.h"
#include "engine/serve/serve.h"
#include "engine/serve/setup.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/instance.h"
#include "engine/version/script.h"
#include "engine/version/trial.h"

/* --- its options --- */

static void read_filters(lua_State *L, int spec, struct registration *registration)
{
    struct consumer_spec *consumer = &registration->consumer;
    spec_filters(L, spec, consumer);
    spec_name(L, registration, lua_tostring(L, -1), "%s/%s", consumer->stream, consumer->durable);
    lua_pop(L, 1);
}

static void read_deliver(lua_State *L, int spec, struct consumer_spec *consumer)
{
    static const char *const names[] = {
        [DELIVER_ALL] = "all",           [DELIVER_NEW] = "new",
        [DELIVER_LAST] = "last",         [DELIVER_LAST_PER_SUBJECT] = "last_per_subject",
        [DELIVER_SEQUENCE] = "sequence", [DELIVER_TIME] = "time",
    };
    spec_push(L, spec, "deliver");
    int deliver = lua_gettop(L);
    spec_push(L, deliver, "from");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], lua_tostring(L, -1)) == 0)
            consumer->deliver = (enum deliver_from)i;
    }
    consumer->deliver_sequence = (uint64_t)spec_number(L, deliver, "sequence", 0);
    consumer->deliver_time = spec_text(L, deliver, "time");
    lua_settop(L, deliver - 1);
}

static void read_backoff(lua_State *L, int spec, struct registration *registration)
{
    struct backoff *backoff = &registration->backoff;
    spec_push(L, spec, "backoff");
    int table = lua_gettop(L);
    backoff->min_ns = spec_duration_ns(L, table, "min");
    backoff->max_ns = spec_duration_ns(L, table, "max");
    backoff->factor = spec_number(L, table, "factor", 2);
    backoff->jitter = spec_number(L, table, "jitter", 0);
    registration->park_after_ns = spec_duration_ns(L, table, "park_after");
    lua_pop(L, 1);
}

static void read_order(lua_State *L, int spec, struct registration *registration)
{
    if (spec_push(L, spec, "order_by") == LUA_TTABLE) {
        int table = lua_gettop(L);
        spec_push(L, table, "by");
        const char *by = lua_tostring(L, -1);
        registration->order = strcmp(by, "subject") == 0 ? ORDER_SUBJECT
                              : strcmp(by, "token") == 0 ? ORDER_TOKEN
                                                         : ORDER_HEADER;
        registration->order_token = (int)spec_number(L, table, "token", 0);
        registration->order_header = spec_text(L, table, "header");
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* Credit is counted in messages: a handler may have a whole batch of them. */
#define BATCHED_MOST 65536

static void read_batch(lua_State *L, int spec, struct registration *registration)
{
    if (spec_push(L, spec, "batch") == LUA_TTABLE) {
        int table = lua_gettop(L);
        registration->batch_size = (int)spec_number(L, table, "size", 1);
        registration->batch_wait_ns = spec_duration_ns(L, table, "wait");
    }
    lua_pop(L, 1);
}

static void set_credit(struct registration *registration)
{
    int64_t messages = registration->concurrency;
    if (registration->batch_size)
        messages *= registration->batch_size;
    registration->consumer.concurrency =
        registration->batch_size && messages > BATCHED_MOST ? BATCHED_MOST : (int)messages;
}

/* The option `group`, with the one that says what it is for. */
static void read_group(lua_State *L, int spec, struct consumer_spec *consumer)
{
    static const char *const policies[] = {[POLICY_OVERFLOW] = "overflow",
                                           [POLICY_PINNED] = "pinned",
                                           [POLICY_PRIORITIZED] = "priority"};
    consumer->group = spec_text(L, spec, "group");
    if (spec_push(L, spec, "policy") == LUA_TTABLE) {
        int policy = lua_gettop(L);
        spec_push(L, policy, "name");
        for (size_t i = POLICY_OVERFLOW; i < sizeof policies / sizeof *policies; i++) {
            if (strcmp(lua_tostring(L, -1), policies[i]) == 0)
                consumer->policy = (enum consumer_policy)i;
        }
        consumer->pin_timeout_ns = spec_duration_ns(L, policy, "timeout");
        consumer->priority = (int)spec_number(L, policy, "priority", 0);
        consumer->min_pending = (int64_t)spec_number(L, policy, "min_pending", 0);
        consumer->min_ack_pending = (int64_t)spec_number(L, policy, "min_ack_pending", 0);
        lua_settop(L, policy);
    }
    lua_pop(L, 1);
}

static void read_consumer(lua_State *L, int spec, struct consumer_spec *consumer)
{
    consumer->stream = spec_text(L, spec, "stream");
    consumer->durable = spec_text(L, spec, "durable");
    consumer->owner = spec_copy(L, instance_of(L)->generation->script->name);
    consumer->ack_wait_ns = spec_duration_ns(L, spec, "ack_wait");
    consumer->ack_wait_stated = spec_flag(L, spec, "ack_wait_stated");
    consumer->max_ack_pending = (int)spec_number(L, spec, "max_ack_pending", 0);
    consumer->max_ack_pending_stated = consumer->max_ack_pending != 0;
    consumer->concurrency = (int)spec_number(L, spec, "concurrency", 0);
    consumer->bind = spec_flag(L, spec, "bind");
    read_deliver(L, spec, consumer);
    read_group(L, spec, consumer);
}

/* The option `consumer`: NATS' own fields. */
static const char *read_extra(lua_State *L, int spec, struct registration *registration)
{
    const char *wrong = NULL;
    if (spec_push(L, spec, "consumer") == LUA_TTABLE) {
        wrong = spec_json(L, lua_gettop(L), &registration->extra);
        registration->consumer.extra = registration->extra;
    }
    if (!wrong)
        lua_pop(L, 1);
    return wrong;
}

static void read_failures(lua_State *L, int spec, struct registration *registration)
{
    registration->attempts = (int)spec_number(L, spec, "attempts", 0);
    read_backoff(L, spec, registration);
    registration->dead_letter = spec_text(L, spec, "dead_letter");
    registration->drops = spec_push(L, spec, "dead_letter") == LUA_TBOOLEAN;
    lua_pop(L, 1);
}

static const char *read_consume(lua_State *L, int spec, struct registration *registration)
{
    struct consumer_spec *consumer = &registration->consumer;
    read_consumer(L, spec, consumer);
    read_filters(L, spec, registration);
    registration->update = spec_update(L, spec);
    consumer->update = registration->update == UPDATE_YES;
    consumer->fixed = registration->update == UPDATE_NO;
    const char *wrong = read_extra(L, spec, registration);
    if (wrong)
        return wrong;
    registration->schema = spec_text(L, spec, "schema_json");
    registration->timeout_ns = spec_duration_ns(L, spec, "timeout");
    registration->timeout_stated = spec_flag(L, spec, "timeout_stated");
    registration->backoff_stated = spec_flag(L, spec, "backoff_stated");
    registration->concurrency = consumer->concurrency;
    read_failures(L, spec, registration);
    read_order(L, spec, registration);
    consumer->ordered = registration->order != ORDER_NONE;
    read_batch(L, spec, registration);
    struct trial *trial = instance_of(L)->generation->scripts->trial;
    if (trial)
        trial_take(trial, registration);
    set_credit(registration);
    return NULL;
}

/* --- which is which --- */

static bool is_rival(const struct registration *mine, const struct registration *other)
{
    return other->kind == &kind_consume &&
           strcmp(mine->consumer.stream, other->consumer.stream) == 0 &&
           strcmp(mine->consumer.durable, other->consumer.durable) == 0;
}

static void tell_rival(const struct registration *mine, const struct registration *other,
                       bool same_script, struct err *err)
{
    if (same_script)
        err_set(
            err, ERR_TAKEN,
            "the durable \"%s\" of %s has a handler already (%s:%d): give this one a durable of "
            "its own",
            mine->consumer.durable, mine->consumer.stream, other->file, other->line);
    else
        err_set(err, ERR_TAKEN,
                "%s: this durable has a handler in another script already (%s:%d), and each would "
                "get some of the messages: give this one a durable of its own",
                mine->handler, other->file, other->line);
}

/* How messages are queued, what waits could not be sorted anew; and by how many consumers they
 * come.
 */
static bool same_way(const struct registration *a, const struct registration *b)
{
    return a->order == b->order && a->order_token == b->order_token &&
           registration_same_text(a->order_header, b->order_header) &&
           a->batch_size == b->batch_size && a->park_after_ns == b->park_after_ns;
}

static bool continues(const struct registration *now, const struct registration *then)
{
    return is_rival(now, then) && same_way(now, then);
}

/* --- on the server --- */

/* Of setup_patiently. */
struct consume_step {
    struct scripts *scripts;
    const struct registration *registration;
    struct consumer *consumer;
    bool may_update;
};

static int ensure_consumer(void *argument, uint64_t deadline_ns, struct err *err)
{
    struct consume_step *step = argument;
    bool allowed = step->may_update || setup_stated_wins(step->scripts, step->registration);
    return consumer_ensure(step->consumer, allowed, deadline_ns, err);
}

static int ensure_dead_letter(void *argument, uint64_t deadline_ns, struct err *err)
{
    struct consume_step *step = argument;
    return serve_check_letters(step->scripts->bus, step->registration, deadline_ns, err);
}

static int change_consumer(void *argument, uint64_t deadline_ns, struct err *err)
{
    struct consume_step *step = argument;
    return consumer_change(step->consumer, &step->registration->consumer, deadline_ns, err);
}

static int prepare_consumer(struct source *source, bool may_update, uint64_t until_ns,
                            struct err *err)
{
    const struct registration *registration = source->registration;
    struct scripts *scripts = source->scripts;
    struct consume_step step = {
        .scripts = scripts, .registration = registration, .may_update = may_update};
    int code = 0;
    if (registration->dead_letter)
        code = setup_patiently(scripts, until_ns, ensure_dead_letter, &step, err);
    if (code)
        return code;
    step.consumer = source->consumer = consumer_new(&scripts->bus->intake, &registration->consumer,
                                                    registration->tally->consumer, source, err);
    if (!source->consumer)
        return ERR_MEMORY;
    code = setup_patiently(scripts, until_ns, ensure_consumer, &step, err);
    return code ? code : consume_copies_prepare(source, until_ns, err);
}

static int change_over(struct source *source, uint64_t until_ns, bool *changed, struct err *err)
{
    const struct registration *now = source->heir, *then = source->registration;
    struct consume_step step = {
        .scripts = source->scripts, .registration = now, .consumer = source->consumer};
    bool same = registration_same_consumer(now, then);
    int code = 0;
    if (now->dead_letter &&
        (!same || !then->dead_letter || strcmp(now->dead_letter, then->dead_letter) != 0))
        code = setup_patiently(source->scripts, until_ns, ensure_dead_letter, &step, err);
    if (!code && !same) {
        code = setup_patiently(source->scripts, until_ns, change_consumer, &step, err);
        *changed = !code;
        if (!code)
            code = consume_copies_change(source, until_ns, err);
    }
    return code;
}

static void change_back(struct source *source)
{
    struct err err;
    struct consume_step step = {.scripts = source->scripts,
                                .registration = source->registration,
                                .consumer = source->consumer};
    if (setup_patiently(source->scripts, clock_now_ns() + SETUP_RELOAD_NS, change_consumer, &step,
                        &err) != 0)
        log_event(LOG_WARN,
                  &(struct log_context){.script = source->script->name,
                                        .handler = source->registration->handler,
                                        .code = err_name(err.code),
                                        .whole = true},
                  "%s: %s keeps settings of the refused version: %s", source->script->name,
                  source->registration->handler, err.message);
}

/* --- at work --- */

static int start_pulling(struct source *source, struct err *err)
{
    return consume_copies_start(source, err);
}

/* What is queued parts at once, and is handed back when nothing more arrives. */
static void stop_pulling(struct source *source, void (*on_drained)(void *source))
{
    struct dispatch *dispatch = source->scripts->dispatch;
    struct delivery *all = source_empty(source);
    dispatch_lock(dispatch);
    DL_CONCAT(source->parting, all);
    dispatch_unlock(dispatch);
    consume_copies_stop(source, on_drained);
}

static void pardon(struct source *source)
{
    consumer_pardon(source->consumer);
    if (source->copies)
        consumer_pardon(source->copies);
}

static void free_consumer(struct source *source)
{
    if (source->copies)
        consumer_free(source->copies);
    if (source->consumer)
        consumer_free(source->consumer);
}

const struct kind kind_consume = {
    .name = "consume",
    .binding = "js.consume",
    .brings = SOURCE_BRINGS_DELIVERIES,
    .read = read_consume,
    .is_rival = is_rival,
    .tell_rival = tell_rival,
    .continues = continues,
    .prepare = prepare_consumer,
    .change = change_over,
    .change_back = change_back,
    .start = start_pulling,
    .stop = stop_pulling,
    .on_hand_over = pardon,
    .clear = free_consumer,
};
