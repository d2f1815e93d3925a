/* kinds - the table of all kinds of registration (engine/source/kind.h). */
#ifndef MOONBUS_ENGINE_KINDS_KINDS_H
#define MOONBUS_ENGINE_KINDS_KINDS_H

#include "engine/source/kind.h"

extern const struct kind kind_stream, kind_subscribe, kind_consume, kind_every, kind_after,
    kind_cron, kind_js_cron, kind_start, kind_stop, kind_offload, kind_watch, kind_mirror,
    kind_service, kind_endpoint;

/* By its name; NULL: there is none. */
const struct kind *kind_named(const char *name);

#endif
