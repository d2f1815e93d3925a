/* kinds - one row for each kind of registration. */
#include "engine/kinds/kinds.h"

#include <string.h>

static const struct kind *const kinds[] = {
    &kind_stream, &kind_subscribe, &kind_consume, &kind_every,    &kind_after,
    &kind_cron,   &kind_js_cron,   &kind_start,   &kind_stop,     &kind_offload,
    &kind_watch,  &kind_mirror,    &kind_service, &kind_endpoint,
};

const struct kind *kind_named(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
    }
    return NULL;
}
