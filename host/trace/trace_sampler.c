/* trace_sampler - by parent, and by ratio. */
#include "trace/trace_sampler.h"

#include <stddef.h>
#include <string.h>

bool trace_sampler_named(const char *name, double ratio, struct trace_sampler *out)
{
    static const char prefix[] = "parentbased_";
    bool by_parent = strncmp(name, prefix, sizeof prefix - 1) == 0;
    const char *root = by_parent ? name + sizeof prefix - 1 : name;
    if (strcmp(root, "always_on") == 0)
        ratio = 1;
    else if (strcmp(root, "always_off") == 0)
        ratio = 0;
    else if (strcmp(root, "traceidratio") != 0 || !(ratio >= 0 && ratio <= 1))
        return false;
    *out = (struct trace_sampler){.by_parent = by_parent, .ratio = ratio};
    return true;
}

/* As others that count by ratio do it: the last bytes of the id, which are random, as a number. */
static bool takes_id(double ratio, const uint8_t trace_id[TRACE_ID_BYTES])
{
    uint64_t number = 0;
    for (size_t i = TRACE_ID_BYTES - sizeof number; i < TRACE_ID_BYTES; i++)
        number = number << 8 | trace_id[i];
    return ratio >= 1 || (double)(number >> 1) < ratio * 0x1p63;
}

bool trace_sampler_takes(const struct trace_sampler *sampler, const struct trace_context *trace,
                         const struct trace_context *parent)
{
    if (sampler->by_parent && parent)
        return (parent->flags & TRACE_SAMPLED) != 0;
    return takes_id(sampler->ratio, trace->trace_id);
}
