/* ending - how what serves ends, by one deadline for all: the handlers first, then what they left
 * to be sent, then the connections. Whatever hangs, it returns. */
#ifndef MOONBUS_APP_ENDING_H
#define MOONBUS_APP_ENDING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus/bus.h"
#include "engine/engine.h"

/* After engine_drain. Blocks until deadline_ns at most. *unfinished: how many handlers did not end
 * in time, as soon as that is known. False: something hangs, and still uses engine and bus: they
 * must not be freed. */
bool ending_wait(struct engine *engine, struct bus *bus, uint64_t deadline_ns,
                 atomic_int *unfinished);

/* Nothing runs any more. Frees all but the clock, which is stopped. Any may be NULL. False: some
 * thread of the engine did not end in time, or a task of it is left, and engine and bus were not
 * freed. */
bool ending_free(struct engine *engine, struct bus *bus, struct clock *clock, struct pool *pool);

#endif
