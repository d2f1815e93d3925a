/* exporter - sends recorded spans to a collector, as OTLP over HTTP in JSON.
 *
 *   tracer's queue ── a batch ─▶ "mb-trace" ── otlp ─▶ http ─▶ collector
 *
 * A thread of its own waits for the collector, so that nobody else does. A batch that the collector
 * is too busy for (429, 502, 503, 504), or that does not reach it, is sent again with a growing
 * wait, or as Retry-After says, for a minute at most; meanwhile the queue fills, and what finds no
 * room is dropped. Any other answer ends the batch, above all one that took a part of it. What was
 * dropped is counted, and said at most each ten seconds. */
#ifndef MOONBUS_APP_EXPORTER_H
#define MOONBUS_APP_EXPORTER_H

#include <stdint.h>

#include "base/err.h"

struct config;
struct exporter;
struct http;
struct link;
struct tracer;

/* The tracer and the queue that the config wants. NULL with err->code 0: it wants none. */
struct tracer *exporter_tracer(const struct config *config, struct err *err);

/* Starts the thread. None of them is owned; config is read here alone. NULL, with err: ERR_INVALID
 * names what is wrong with the settings. */
struct exporter *exporter_new(const struct config *config, struct tracer *tracer, struct http *http,
                              struct err *err);

/* Whose server the spans name. */
void exporter_set_link(struct exporter *exporter, struct link *link);

/* Blocks, until deadline_ns at most, and not for long: what is queued is sent, the thread ends.
 * Before http_stop. Again, or NULL: no effect. */
void exporter_stop(struct exporter *exporter, uint64_t deadline_ns);

/* Stops it if need be. NULL is allowed. */
void exporter_free(struct exporter *exporter);

#endif
