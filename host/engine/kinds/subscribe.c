/* subscribe - bus.subscribe: core messages. */
#include "engine/kinds/subscribe.h"

#include <stdlib.h>
#include <string.h>

#include "bus/bus.h"
#include "bus/consume/subscription.h"
#include "engine/kinds/kinds.h"
#include "engine/kinds/spec.h"
#include "engine/source/source.h"
#include "engine/version/script.h"

void subscribe_read(lua_State *L, int spec, struct registration *registration)
{
    registration->subject = spec_text(L, spec, "subject");
    registration->queue = spec_text(L, spec, "queue");
    char *drop = spec_text(L, spec, "drop");
    registration->drop_old = drop && strcmp(drop, "old") == 0;
    free(drop);
    registration->schema = spec_text(L, spec, "schema_json");
    registration->looks_on = !spec_flag(L, spec, "reply");
    registration->timeout_ns = spec_duration_ns(L, spec, "timeout");
    registration->timeout_stated = spec_flag(L, spec, "timeout_stated");
    registration->concurrency = (int)spec_number(L, spec, "concurrency", 0);
}

static const char *read_subscribe(lua_State *L, int spec, struct registration *registration)
{
    subscribe_read(L, spec, registration);
    spec_name(L, registration, registration->looks_on ? "looks on" : "request/reply", "%s",
              registration->subject);
    return NULL;
}

bool subscribe_continues(const struct registration *now, const struct registration *then)
{
    return registration_same_text(now->subject, then->subject) &&
           registration_same_text(now->queue, then->queue);
}

int subscribe_start(struct source *source, struct err *err)
{
    const struct registration *registration = source->registration;
    source->subscription = subscription_new(&source->scripts->bus->intake, registration->subject,
                                            registration->queue, source, err);
    return source->subscription ? 0 : (int)err->code;
}

void subscribe_stop(struct source *source, void (*on_drained)(void *source))
{
    struct subscription *subscription = source->subscription;
    source->subscription = NULL;
    subscription_stop(subscription, on_drained);
}

const struct kind kind_subscribe = {
    .name = "subscribe",
    .binding = "bus.subscribe",
    .brings = SOURCE_BRINGS_MESSAGES,
    .read = read_subscribe,
    .continues = subscribe_continues,
    .start = subscribe_start,
    .stop = subscribe_stop,
};
