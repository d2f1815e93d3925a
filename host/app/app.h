/* app - the life of a host process: load, connect, serve, reload, drain, stop.
 *
 *   loading ─▶ setting up (waits for the server) ─▶ serving ⇄ reloading ─▶ draining ─▶ stopped
 *
 * The main thread runs a uv loop for signals, file watching and the child server; what may block
 * (setting up streams, loading anew, waiting for handlers) runs on the pool or on a thread of its
 * own and wakes the loop. Owner: the main thread. */
#ifndef MOONBUS_APP_APP_H
#define MOONBUS_APP_APP_H

#include "app/child.h"
#include "app/config.h"
#include "engine/engine.h"

struct app;

struct app_options {
    struct config *config; /* borrowed; a child server's URL is put in, and what is read anew */
    const struct config_sources *sources; /* borrowed; for reading it anew */
    const char *const *paths;             /* files, or folders of *.lua; 0: the config's handlers */
    int path_count;
    const struct child_options *child; /* borrowed; NULL: no server of our own */
    uint64_t began_ns;                 /* for "ready in N ms" (monotonic) */
    /* Everything serves, the first time: print a greeting. On the main thread; may be NULL. */
    void (*on_ready)(void *owner, struct app *app, int64_t elapsed_ms);
    void *owner;
};

/* Exit statuses, as the contract says. */
enum app_exit { APP_OK = 0, APP_FAILED = 1, APP_USAGE = 2, APP_UNFINISHED = 3 };

struct app_end {
    enum app_exit status;
    /* Threads that would not end in time still run, on memory that is still there: the process is
     * to end with _exit. */
    bool left_behind;
};

/* Runs until stopped. What went wrong has been logged. */
struct app_end app_run(const struct app_options *options);

struct engine *app_engine(struct app *app);

#endif
