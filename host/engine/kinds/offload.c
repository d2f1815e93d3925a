/* offload - bus.offload while a script loads: a proxy, of which it is known what it calls and how
 * long that may take. It has no handler, and nothing is made for it (engine/offload/ makes the
 * calls). */
#include "engine/kinds/kinds.h"
#include "engine/kinds/spec.h"

static const char *read_offload(lua_State *L, int spec, struct registration *registration)
{
    char *module = spec_text(L, spec, "module");
    registration->module = module; /* owned from here on */
    registration->timeout_ns = spec_duration_ns(L, spec, "timeout");
    registration->timeout_stated = registration->timeout_ns > 0;
    spec_name(L, registration, "offload", "offload %s", module);
    return NULL;
}

const struct kind kind_offload = {
    .name = "offload",
    .binding = "bus.offload",
    .declared = true,
    .read = read_offload,
};
