/* view - what the floors above see of a registration. */
#include "base/clock.h"
#include "base/value.h"
#include "base/zone.h"
#include "engine/engine.h"
#include "engine/kinds/kinds.h"
#include "engine/version/generation.h"
#include "engine/version/registration.h"
#include "engine/version/script.h"

static void view_consumer(const struct registration *registration, struct registration_view *out)
{
    out->consumer = &registration->consumer;
    out->attempts = registration->attempts;
    out->batch_size = registration->batch_size;
    out->backoff_stated = registration->backoff_stated;
    out->order_token = registration->order_token;
    out->retries_ns = registration_retries_ns(registration);
    out->backoff_max_ns = registration->backoff.max_ns;
    out->longest_retry_ns = registration_longest_retry_ns(registration);
    out->park_after_ns = registration->park_after_ns;
    out->dead_letter = registration->dead_letter;
    out->drops = registration->drops;
}

static void view_cron(const struct registration *registration, struct registration_view *out)
{
    out->zone = zone_name(registration->zone);
    out->next_s = cron_next(&registration->cron, registration->zone, clock_wall_ns() / NS_PER_S);
}

bool engine_registration(struct engine *engine, struct script *script, int i,
                         struct registration_view *out)
{
    (void)engine;
    struct generation *generation = script->live;
    if (i < 0 || i >= generation->registration_count)
        return false;
    const struct registration *registration = generation->registrations[i];
    *out = (struct registration_view){.script = script->name,
                                      .handler = registration->handler,
                                      .what = registration->what,
                                      .file = registration->file,
                                      .line = registration->line,
                                      .binding = registration->kind->binding,
                                      .declared = !kind_handles(registration->kind),
                                      .timeout_ns = registration->timeout_ns,
                                      .timeout_stated = registration->timeout_stated,
                                      .concurrency = registration->concurrency,
                                      .subject = registration->subject,
                                      .needs = registration->needs,
                                      .needs_level = registration->needs_level,
                                      .schema = registration->schema,
                                      .queue = registration->queue,
                                      .service = registration->service,
                                      .looks_on = registration->looks_on,
                                      .stream = registration->stream,
                                      .update_stated = registration->update != UPDATE_UNSTATED,
                                      .update = registration->update == UPDATE_YES};
    if (registration->zone)
        view_cron(registration, out);
    if (registration->kind == &kind_consume)
        view_consumer(registration, out);
    return true;
}
