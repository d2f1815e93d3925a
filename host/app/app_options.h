/* app_options - what a process that runs handlers is told, and how it ends. */
#ifndef MOONBUS_APP_APP_OPTIONS_H
#define MOONBUS_APP_APP_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "app/child.h"
#include "app/config.h"

struct app;
struct trial_options;

/* Exit statuses, as docs/OPERATING.md lists them. */
enum app_exit { APP_OK = 0, APP_FAILED = 1, APP_USAGE = 2, APP_UNFINISHED = 3 };

struct app_options {
    struct config *config; /* borrowed; a child server's URL and reloaded settings are put in */
    const struct config_sources *sources; /* borrowed; for reading it again */
    const char *const *paths;             /* files, or folders of *.lua; 0: the config's handlers */
    int path_count;
    const struct child_options *child; /* borrowed; NULL: no server of our own */
    bool serves_what_it_can;           /* a file that does not load at the start does not end the
                                          host: it is tried again when it is saved */
    const struct trial_options *trial; /* borrowed; NULL: this is no load test */
    bool needs_start;                  /* a bus.on("start") that fails ends the host: APP_FAILED */
    bool no_http;                      /* bus.http fails: what handlers would call is somebody's */
    uint64_t began_ns;                 /* for "ready in N ms" (monotonic) */
    /* Everything serves, the first time: print a greeting. On the main thread; may be NULL. */
    void (*on_ready)(void *owner, struct app *app, int64_t elapsed_ms);
    /* The scripts are loaded, and nothing is connected. If it is set, the host ends after it, with
     * what it returns. */
    enum app_exit (*on_loaded)(void *owner, struct app *app);
    void *owner;
};

struct app_end {
    enum app_exit status;
    /* Some threads did not end in time and still run, so their memory was not freed: the process
     * has to end without its exit handlers. */
    bool left_behind;
};

#endif
