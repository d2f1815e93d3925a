/* app_private - what the files of app share; nobody else includes it.
 *
 *   app.c      start, signals, the loop
 *   scripts.c  from paths to handler files, loading them at start
 *   reload.c   the one piece of blocking work at a time: setting up, adding, reloading
 *   reconfig.c the config file, read anew
 *   stop.c     draining, on a thread of its own, under one deadline */
#ifndef MOONBUS_APP_APP_PRIVATE_H
#define MOONBUS_APP_APP_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "app/admin.h"
#include "app/app.h"
#include "app/watch.h"

/* A file that a script was made of, or that was looked for and not there. */
struct stamp {
    char *path;    /* owned */
    uint64_t hash; /* of watch_hash of what was read; 0: it was not there */
};

/* A script's file. The main thread's. */
struct handler_file {
    struct handler_file *next;
    char *path;            /* owned; as it was given, or folder/name */
    char *name;            /* owned; how messages call it */
    struct script *script; /* the engine's; NULL: not loaded */
    struct stamp *stamps;  /* owned; of its last load, refused or not */
    int stamp_count;
    char *last_error; /* owned; why its last load was refused; NULL: it was not */
    unsigned reloads, refusals;
    double reload_ms; /* what the last one took; 0: there was none */
    bool wanted;      /* it is to be loaded (anew) */
    bool refused;     /* its last load failed: any change may mend it */
    bool waits;       /* ... for want of a server: it is tried again when that is back */
    bool tried_again; /* ... and was, without anybody asking */
    bool taken;       /* ... as another script handles one of its durables */
    bool put_off;     /* ... which may end with what is to be done for others: after them */
    bool gone;        /* the file is not there; it may be back in a moment */
    bool told;        /* ... and will not be waited for any more */
    bool dropped;     /* it is gone because the config's handlers lead to it no more */
    bool removed;     /* its script is to be unloaded, or is */
};

enum work_kind { WORK_SETUP, WORK_CONFIG, WORK_ADD, WORK_RELOAD, WORK_UNLOAD };

/* What the pool does for the app; one at a time. Between submission and `done` it is the pool's. */
struct work {
    struct pool_job job;
    struct app *app; /* not owned */
    enum work_kind kind;
    struct handler_file *file; /* not owned; ADD, RELOAD */
    struct script *script;     /* the engine's; ADD: the result, if it loaded */
    struct sources *read;      /* a reference; ADD, RELOAD: what the script was made of */
    struct config *fresh;      /* owned; CONFIG: the result, if it is good */
    int code;                  /* 0, or what failure tells */
    unsigned generation;
    struct failure failure; /* owned; err alone for SETUP */
    uint64_t began_ns, ended_ns;
    bool running;        /* the main thread's */
    atomic_bool loading; /* ADD: the engine's list of scripts is about to change */
    atomic_bool done;
};

struct app {
    const struct app_options *options; /* borrowed */
    struct config *config;             /* borrowed */
    struct {
        const char *const *list; /* borrowed */
        int count;
    } paths;
    uv_loop_t loop;
    uv_signal_t signals[3];
    uv_async_t wake;     /* work is done, or the stop is */
    uv_timer_t guard;    /* the end, whatever the stop hangs on */
    uv_timer_t absence;  /* files that are gone get a moment to come back */
    uv_timer_t retry;    /* while files wait for the server */
    uint64_t retry_ms;   /* until the next try; longer each time */
    uv_timer_t late;     /* while watching: handlers may require modules that are not watched yet */
    struct child *child; /* owned, as the rest below; NULL until made */
    struct watch *watch;
    struct admin *admin; /* NULL: off */
    struct clock *clock;
    struct pool *pool;
    struct engine *engine;
    struct bus *bus;
    struct handler_file *files;
    struct work work;
    struct {
        bool wanted;  /* the config is to be read anew, and then all files be looked at */
        bool changed; /* the last time something of it had */
        unsigned reloads, refusals;
        char *last_error; /* owned; why the last one was refused; NULL: it was not */
    } reconfig;
    bool ready, child_ready;

    atomic_bool stopping;
    atomic_bool stuck; /* too many handlers that nothing stops */
    bool draining;     /* the stop has begun in earnest */
    uint64_t stop_deadline_ns;
    pthread_t stopper;
    bool stopper_runs;
    atomic_int unfinished; /* handlers at the graceful deadline; -1: not known yet */
    atomic_bool hangs;     /* a handler that does not end when cancelled, a connection that does
                              not close: what they use must stay */
    atomic_bool stopped;   /* the stopper has done its work */
    struct app_end end;
};

/* --- scripts.c --- */

/* Finds the files of all paths. 0, or ERR_NOT_FOUND with err. Warns of an empty folder. */
int scripts_find(struct app *app, struct err *err);
/* Loads all; every error is logged. Returns how many failed. */
int scripts_load(struct app *app);
/* Puts files that appeared in folders on the list, wanted, and notes which have gone. Returns how
 * many of these have just gone: ask scripts_missed in a moment. */
int scripts_rescan(struct app *app);
/* What is still gone is to be unloaded; with its folder gone, or named by itself, it serves on. */
void scripts_missed(struct app *app);
/* Notes what the file's script was made of, and watches that. Takes over the reference. */
void scripts_stamp(struct app *app, struct handler_file *file, struct sources *read);
/* The same for modules that a handler has required since. */
void scripts_stamp_late(struct app *app);
/* Is there something else now than what it was made of? Always, if that was refused. */
bool scripts_changed(const struct handler_file *file);
/* Puts what the scripts were made of under the watch. */
void scripts_watch(struct app *app);
/* The paths are others now: what they lead to no more is to be unloaded. */
void scripts_relist(struct app *app);
/* A new generation of each script is wanted. */
void scripts_want_all(struct app *app);
/* Is this path something else now than what it was made of, or refused for? If it was refused, any
 * other path may mend it. */
bool scripts_concerns(const struct handler_file *file, const char *path);
void scripts_warn_empty(struct app *app, const struct handler_file *file);
/* How many handlers all scripts register together. */
int scripts_handlers(struct app *app);
void scripts_free(struct app *app);
void scripts_log_failure(const char *name, const struct failure *failure);

/* --- reload.c --- */

/* Begins to serve what was loaded. */
void reload_setup(struct app *app);
/* The next file that is wanted, if nothing is under way. */
void reload_next(struct app *app);
/* SIGHUP, and a change of the config file. */
void reload_changed(struct app *app);
/* Files have been gone for a moment. */
void reload_on_absence(uv_timer_t *timer);
/* From time to time, while watching. */
void reload_on_late(uv_timer_t *timer);
/* A change was seen. */
void reload_on_change(void *owner, const char *const *paths, int count);
/* On the main thread, when work->done. */
void reload_done(struct app *app);

/* --- reconfig.c --- */

/* Begins to watch, or ends it, as configured. */
void reconfig_watch(struct app *app);
/* The pool. */
void reconfig_read(struct work *work);
/* On the main thread, when it has been read: takes it over, or says why not. True: taken. */
bool reconfig_done(struct app *app);

/* --- stop.c --- */

/* The first time: drains, under the graceful deadline. Again: stops at once. */
void stop_request(struct app *app);
/* What was put off while the engine's list of scripts was changing. */
void stop_continue(struct app *app);
/* Ends everything with this status, at once; nothing serves yet or what serves may be dropped. */
void stop_with(struct app *app, enum app_exit status);
/* On the main thread: joins the stopper and frees everything. Logs the end. */
void stop_finish(struct app *app);

#endif
