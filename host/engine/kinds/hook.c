/* hook - bus.on("start") and bus.on("stop"): once per process and generation. When a "stop" hook
 * runs is its generation's matter (engine/source/crew.h), or the drain's. */
#include "engine/kinds/kinds.h"
#include "engine/kinds/spec.h"
#include "engine/source/source.h"

static const char *read_hook(lua_State *L, int spec, struct registration *registration)
{
    registration->required = spec_flag(L, spec, "required");
    registration->timeout_ns = spec_duration_ns(L, spec, "timeout");
    spec_name(L, registration, "hook", "on %s", registration->kind->name);
    return NULL;
}

static int run_now(struct source *source, struct err *err)
{
    (void)err;
    source_tick(source);
    return 0;
}

const struct kind kind_start = {
    .name = "start",
    .binding = "bus.on",
    .brings = SOURCE_BRINGS_START,
    .read = read_hook,
    .start = run_now,
};

const struct kind kind_stop = {
    .name = "stop",
    .binding = "bus.on",
    .brings = SOURCE_BRINGS_STOP,
    .read = read_hook,
};
