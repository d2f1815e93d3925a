/* health - whether the threads of the process do their work. /healthz tells it, and the watchdog of
 * a service manager lives by it: what is found here is mended by a new process, and by nothing
 * else. A server that is away is no trouble of this kind.
 *
 * Owner: the app, on the main thread; a beat of the clock's thread. */
#ifndef MOONBUS_APP_HEALTH_H
#define MOONBUS_APP_HEALTH_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/clock.h"

#define HEALTH_TROUBLES_MOST 2

struct engine;

struct health {
    struct clock *clock; /* borrowed; NULL: it has not begun */
    struct deadline beat;
    _Atomic uint64_t beat_ns; /* when the clock was last seen alive */
};

/* The clock beats, until health_end. */
void health_begin(struct health *health, struct clock *clock);
/* Before the clock is freed. */
void health_end(struct health *health);

/* What is wrong, as static texts. Returns how many there are; 0: it is well. engine may be NULL. */
int health_look(const struct health *health, struct engine *engine,
                const char *troubles[HEALTH_TROUBLES_MOST]);

#endif
