/* app - the life of a host process: load, connect, serve, reload, drain, stop.
 *
 *   loading ─▶ setting up (waits for the server) ─▶ serving ⇄ reloading ─▶ draining ─▶ stopped
 *
 * The main thread runs a uv loop for signals, file watching and the child server. Work that may
 * block (setting up streams, loading, waiting for handlers) runs on the pool or on a thread of its
 * own, and wakes the loop. Owner: the main thread. */
#ifndef MOONBUS_APP_APP_H
#define MOONBUS_APP_APP_H

#include "app/app_options.h"
#include "engine/engine.h"

struct app;

/* Runs until stopped. What went wrong has been logged. */
struct app_end app_run(const struct app_options *options);

struct engine *app_engine(struct app *app);

/* The name of the i-th file that was refused, from 0; NULL past the last. */
const char *app_refused(const struct app *app, int i);

#endif
