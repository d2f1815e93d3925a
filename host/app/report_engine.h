/* report_engine - a snapshot of the engine (engine/snapshot.h) as the status shows it, and what in
 * it keeps the host from being ready. The caller owns the JSON. Pure. */
#ifndef MOONBUS_APP_REPORT_ENGINE_H
#define MOONBUS_APP_REPORT_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

struct cJSON;
struct engine;
struct engine_snapshot;

/* Adds a time of the wall clock as RFC 3339 has it; nothing for 0. */
void report_time(struct cJSON *object, const char *name, int64_t wall_ns);

/* What each script serves, and how it went. quotes: with the texts of errors, which may quote
 * messages. */
struct cJSON *report_scripts(const struct engine_snapshot *snapshot, bool quotes);
/* The threads that are lost to handlers, and how many may be. */
struct cJSON *report_stuck(const struct engine_snapshot *snapshot);
struct cJSON *report_offload(const struct engine_snapshot *snapshot);
struct cJSON *report_shared(const struct engine_snapshot *snapshot);
/* The services that are found, each with its id. */
struct cJSON *report_services(const struct engine_snapshot *snapshot);

/* Adds a text for each script that has no Lua state or whose start failed, each pull loop that is
 * not what it should be, and one when no offload thread is left. */
void report_unready(const struct engine_snapshot *snapshot, struct cJSON *reasons);

/* [{"script", "handler", "age_ms", ...}], the oldest run first. NULL: no memory. */
struct cJSON *report_running(struct engine *engine, int most);

#endif
