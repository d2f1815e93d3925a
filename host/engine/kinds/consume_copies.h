/* consume_copies - the second consumer of a js.consume with backoff.park_after, by which its long
 * retries come back (bus/consume/retries.h): prepared, changed, started and stopped with the first.
 *
 * Of one source; the same threads as the functions of its kind. */
#ifndef MOONBUS_ENGINE_KINDS_CONSUME_COPIES_H
#define MOONBUS_ENGINE_KINDS_CONSUME_COPIES_H

#include <stdint.h>

struct err;
struct source;

/* Once the source has its consumer: makes source->copies, or says in the log that this server has
 * no schedules, so that long retries are delayed naks. Blocks. */
int consume_copies_prepare(struct source *source, uint64_t until_ns, struct err *err);

/* Takes over what the source's heir states. */
int consume_copies_change(struct source *source, uint64_t until_ns, struct err *err);

/* Both consumers. on_drained(source), once, when both have stopped. */
int consume_copies_start(struct source *source, struct err *err);
void consume_copies_stop(struct source *source, void (*on_drained)(void *source));

#endif
