/* The consumer of copies, and both of a source together. */
#include "engine/kinds/consume_copies.h"

#include "base/log.h"
#include "bus/bus.h"
#include "bus/consume/consumer.h"
#include "bus/consume/retries.h"
#include "bus/consume/retry_copy.h"
#include "engine/serve/setup.h"
#include "engine/source/source.h"
#include "engine/version/script.h"
#include "engine/version/tally.h"

/* --- what is stated of it --- */

struct stated {
    struct consumer_spec spec;
    char name[RETRY_DURABLE_BYTES], filter[800];
    const char *filters[1];
};

/* As the handler's own durable, but for where it is and what it takes. False: no such name. */
static bool state(const struct registration *registration, struct stated *out)
{
    const struct consumer_spec *own = &registration->consumer;
    if (!retry_copy_durable(own->stream, own->durable, out->name, sizeof out->name))
        return false;
    out->filters[0] = retry_copy_filter(own->stream, own->durable, out->filter, sizeof out->filter);
    out->spec = (struct consumer_spec){.stream = RETRIES_STREAM,
                                       .durable = out->name,
                                       .filters = out->filters,
                                       .filter_count = 1,
                                       .ack_wait_ns = own->ack_wait_ns,
                                       .ack_wait_stated = own->ack_wait_stated,
                                       .concurrency = own->concurrency,
                                       .update = true,
                                       .owner = own->owner};
    return true;
}

/* --- on the server --- */

/* Of setup_patiently. */
struct copies_step {
    struct source *source;
    const struct registration *registration;
    bool without; /* this server has no schedules, or this user may not ask whether it has */
};

static int look_for_schedules(void *argument, uint64_t deadline_ns, struct err *err)
{
    struct copies_step *step = argument;
    int level = jslevel_wait(step->source->scripts->bus->jslevel, deadline_ns, err);
    step->without = level == ERR_PERMISSION || (level >= 0 && level < JSLEVEL_2_12);
    return level < 0 && level != ERR_PERMISSION ? level : 0;
}

static int ensure_stream(void *argument, uint64_t deadline_ns, struct err *err)
{
    struct copies_step *step = argument;
    return retries_ensure(&step->source->scripts->bus->intake, step->registration->consumer.stream,
                          deadline_ns, err);
}

static int ensure_copies(void *argument, uint64_t deadline_ns, struct err *err)
{
    struct copies_step *step = argument;
    return consumer_ensure(step->source->copies, true, deadline_ns, err);
}

static void say_without(const struct source *source)
{
    const struct registration *registration = source->registration;
    log_event(LOG_INFO,
              &(struct log_context){.script = source->script->name,
                                    .handler = registration->handler,
                                    .file = registration->file,
                                    .line = registration->line},
              "backoff.park_after needs message schedules (nats-server %s or newer): long retries "
              "are delayed naks here, and count for max_ack_pending",
              jslevel_release(JSLEVEL_2_12));
}

static int make_copies(struct source *source, struct err *err)
{
    const struct registration *registration = source->registration;
    const char *stream = registration->consumer.stream, *durable = registration->consumer.durable;
    int64_t after_ns = registration->park_after_ns;
    struct stated stated;
    int code = consumer_set_retries(source->consumer, stream, durable, false, after_ns, err);
    if (code)
        return code;
    state(registration, &stated); /* there is such a name, as it was just set */
    source->copies = consumer_new(&source->scripts->bus->intake, &stated.spec,
                                  registration->tally->consumer, source, err);
    return source->copies
               ? consumer_set_retries(source->copies, stream, durable, true, after_ns, err)
               : ERR_MEMORY;
}

int consume_copies_prepare(struct source *source, uint64_t until_ns, struct err *err)
{
    struct copies_step step = {.source = source, .registration = source->registration};
    if (!source->registration->park_after_ns || source->scripts->bus->intake.calm)
        return 0;
    int code = setup_patiently(source->scripts, until_ns, look_for_schedules, &step, err);
    if (code)
        return code;
    if (step.without) {
        say_without(source);
        return 0;
    }
    code = setup_patiently(source->scripts, until_ns, ensure_stream, &step, err);
    if (!code)
        code = make_copies(source, err);
    return code ? code : setup_patiently(source->scripts, until_ns, ensure_copies, &step, err);
}

static int change(void *argument, uint64_t deadline_ns, struct err *err)
{
    struct copies_step *step = argument;
    struct stated stated;
    if (!state(step->registration, &stated))
        return 0;
    return consumer_change(step->source->copies, &stated.spec, deadline_ns, err);
}

int consume_copies_change(struct source *source, uint64_t until_ns, struct err *err)
{
    struct copies_step step = {.source = source, .registration = source->heir};
    if (!source->copies)
        return 0;
    return setup_patiently(source->scripts, until_ns, change, &step, err);
}

/* --- at work --- */

int consume_copies_start(struct source *source, struct err *err)
{
    int code = consumer_start(source->consumer, err);
    if (!code && source->copies)
        code = consumer_start(source->copies, err);
    return code;
}

static void on_stopped(void *argument)
{
    struct source *source = argument;
    if (atomic_fetch_sub(&source->draining, 1) == 1)
        source->on_drained(source);
}

void consume_copies_stop(struct source *source, void (*on_drained)(void *source))
{
    struct consumer *copies = source->copies;
    source->on_drained = on_drained;
    atomic_store(&source->draining, copies ? 2 : 1);
    consumer_stop(source->consumer, on_stopped);
    if (copies)
        consumer_stop(copies, on_stopped);
}
