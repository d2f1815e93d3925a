/* app_private - what the files of app share; nobody else includes it.
 *
 *   app.c      start, signals, the loop
 *   scripts.c  from paths to handler files, loading them at start
 *   stamps.c   what a script was made of, compared with what is there
 *   reload.c   what comes next for each file, by its change machine (change.h)
 *   notice.c   what the watch has seen of the files
 *   judging.c  what is set wrong, logged once (judging.h)
 *   check.c    all of it loaded and judged, and nothing started (check.h)
 *   verdicts.c how a change ended, for the log and for requests that wait
 *   work.c     threads that load, and the pool's work, one piece at a time
 *   reconfig.c the config file, read again
 *   service.c  what a service manager is told
 *   stop.c     draining, on a thread of its own, under one deadline */
#ifndef MOONBUS_APP_APP_PRIVATE_H
#define MOONBUS_APP_APP_PRIVATE_H

#include <stdatomic.h>
#include <uv.h>

#include "app/app_options.h"
#include "app/change.h"
#include "app/health.h"
#include "app/judging.h"
#include "app/watch.h"
#include "base/thread.h"
#include "engine/engine.h"

/* A file that a script was made of, or that it looked for in vain. */
struct stamp {
    char *path;    /* owned */
    uint64_t hash; /* of watch_hash of what was read; 0: it was not there */
};

/* The load of one file, on a thread of its own: a load without an end delays no other one. Between
 * its start and `done` that thread owns it. */
struct load_job {
    struct thread thread;
    struct app *app;           /* not owned */
    struct handler_file *file; /* not owned: its path, its name, its script */
    struct texts *read;        /* a reference: what it reads, as it does */
    struct script *script;     /* the result; new if the file had none */
    struct generation *built;  /* owned; the result, if it had one */
    struct failure failure;    /* owned */
    uint64_t began_ns;
    atomic_bool hurry; /* nobody wants its result any more */
    atomic_bool done;
};

/* A script's file. The main thread's. */
struct handler_file {
    struct handler_file *next;
    char *path;            /* owned; as it was given, or folder/name */
    char *name;            /* owned; how messages call it */
    struct script *script; /* the engine's; NULL: not loaded */
    struct change change;  /* what is to be done about it */
    bool dropped;          /* it is lost because the config's handlers no longer lead to it */
    struct stamp *stamps;  /* owned; of its last load, refused or not */
    int stamp_count;
    struct load_job load;
    struct generation *candidate; /* owned; a version that could serve; NULL with the change LOADED:
                                     what the script was first loaded with */
    char *last_error;             /* owned; why its last change was refused; NULL: it was not */
    unsigned reloads, refusals;
    double reload_ms;      /* what the last one took; 0: there was none */
    int64_t refused_at_ns; /* when last_error was, by the wall clock */
    int64_t live_at_ns;    /* when its version began to serve, by the wall clock; 0: it does not */
};

enum work_kind { WORK_SETUP, WORK_CONFIG, WORK_ROLLOUT };

/* What a rollout does with one file, and how that ended. */
struct work_item {
    struct handler_file *file; /* not owned */
    int code;                  /* 0, or what err tells */
    struct err err;
};

/* What the pool does for the app; one at a time. Between submission and `done` it is the pool's. */
struct work {
    struct pool_job job;
    struct app *app; /* not owned */
    enum work_kind kind;
    struct work_item *items; /* owned; SETUP: what was loaded; ROLLOUT: what is rolled out, by place
                                in rollouts */
    struct rollout *rollouts; /* ROLLOUT; behind the items, in their memory */
    int count;
    struct config *fresh;           /* owned; CONFIG: the result, if it is good */
    int code;                       /* 0, or what failure tells */
    enum rollout_patience patience; /* ROLLOUT */
    int culprit;                    /* ROLLOUT: whose fault it was */
    struct failure failure;         /* err alone */
    uint64_t ended_ns;
    bool running; /* the main thread's */
    atomic_bool done;
};

struct app {
    const struct app_options *options; /* borrowed */
    int64_t began_wall_ns; /* when the process began, by the wall clock of then: it never moves */
    struct config *config; /* borrowed */
    struct {
        const char *const *list; /* borrowed */
        int count;
    } paths;
    uv_loop_t loop;
    uv_signal_t signals[5];
    uint64_t signalled_ns; /* when the first signal to stop came; 0: never */
    uv_async_t wake;       /* work is done, or the stop is */
    uv_timer_t guard;      /* ends the process if the stop itself hangs */
    uv_timer_t absence;    /* files that are gone get a moment to come back */
    uv_timer_t retry;      /* while files wait for the server */
    uint64_t retry_ms;     /* until the next try; longer each time */
    uv_timer_t late;     /* while watching: handlers may require modules that are not watched yet */
    struct child *child; /* owned, as the rest below; NULL until made */
    struct watch *watch;
    struct admin *admin;     /* NULL: off */
    struct recent *recent;   /* with the endpoint */
    struct service *service; /* NULL: no service manager wants to be told */
    struct health health;
    struct clock *clock;
    struct pool *pool;
    struct http *http;         /* owned; before the engine, which uses it */
    struct tracer *tracer;     /* owned, likewise; NULL: traces are not recorded, */
    struct exporter *exporter; /* nor sent; owned */
    struct engine *engine;
    struct bus *bus;
    struct handler_file *files;
    struct work work;
    uv_timer_t slow; /* while files load: slow loads make room for others */
    struct {
        int refused; /* of those that are rolled out together; 0: none so far */
    } together;
    struct {
        bool wanted;   /* read the config again, then look at all files */
        bool together; /* ... which are then rolled out, all or none */
        bool changed;  /* the last time something of it had */
        unsigned reloads, refusals;
        char *last_error;      /* owned; why the last one was refused; NULL: it was not */
        int64_t refused_at_ns; /* when last_error was, by the wall clock */
        int64_t read_at_ns;    /* when it was last good, by the wall clock; 0: at the start */
    } reconfig;
    struct judging judging;
    bool ready, child_ready;

    atomic_bool stopping;
    atomic_bool start_failed;    /* a "start" hook, without which the host is for nothing */
    _Atomic(const char *) stuck; /* why the process should end; static; or NULL */
    uint64_t stop_deadline_ns;
    struct thread stopper;
    bool stopper_runs;
    atomic_int unfinished; /* handlers at the graceful deadline; -1: not known yet */
    atomic_bool hangs;     /* a handler does not end though cancelled, or a connection does not
                              close: whatever they use must not be freed */
    atomic_bool stopped;   /* the stopper has done its work */
    struct app_end end;
};

/* --- app.c --- */

/* NULL: no memory. */
struct app *app_new(const struct app_options *options);
/* The clock, the pool, the engine. What could not be made is NULL. */
int app_make_engine(struct app *app, struct err *err);
/* Connects, without waiting for that. */
int app_connect_bus(struct app *app, struct err *err);

/* --- scripts.c --- */

/* Finds the files of all paths. 0, or ERR_NOT_FOUND with err. Warns of an empty folder. */
int scripts_find(struct app *app, struct err *err);
/* Loads all; every error is logged. Returns how many failed. */
int scripts_load(struct app *app);
/* Lists new files of the folders, as wanted, and notes which have gone or come back. Returns how
 * many have just gone: call scripts_missed in a moment. */
int scripts_rescan(struct app *app);
/* Unloads files that are still gone. A file that was named by itself, or whose folder is gone, too,
 * is served on. */
void scripts_missed(struct app *app);
/* The paths have changed: unloads the files that they no longer lead to. */
void scripts_relist(struct app *app);
/* "a.lua" is "./a.lua". */
bool scripts_same_path(const char *a, const char *b);
/* How many scripts serve, and how many handlers they register together. */
int scripts_serving(struct app *app, int *handlers);
void scripts_free(struct app *app);
void scripts_log_failure(const char *name, const struct failure *failure);

/* --- stamps.c --- */

/* Notes what the file's script was made of, and watches that. True: it has changed meanwhile,
 * before the watch could see. */
bool stamps_take(struct app *app, struct handler_file *file, struct texts *read);
/* The same for modules that a handler has required since. */
void stamps_take_late(struct app *app);
/* Has a file changed that it was made of? Always true if it was refused. */
bool stamps_changed(const struct handler_file *file);
/* Has this path changed since the file was loaded from it, or refused? If it was refused, a change
 * of any other path may mend it, too. *own: it was made of this one. */
bool stamps_concern(const struct handler_file *file, const char *path, bool *own);
/* Puts what the scripts were made of under the watch. */
void stamps_watch(struct app *app);
void stamps_clear(struct handler_file *file);

/* --- work.c --- */

/* Loads the file, on a thread; its end wakes the loop. False, with load.failure: no thread could be
 * started. */
bool work_load(struct app *app, struct handler_file *file);
/* On the main thread, when load.done: joins its thread, returns what it has read. */
struct texts *work_loaded(struct handler_file *file);
/* Room for so many items, and for their rollouts. NULL: no memory. */
struct work_item *work_items(int most);
/* items: of work_items, taken over; or NULL for WORK_CONFIG. Needs no more memory. */
void work_submit(struct app *app, enum work_kind kind, struct work_item *items, int count);
/* Nothing is under way; nothing uses the engine, though the main thread may not know yet. */
bool work_is_over(const struct app *app);
bool work_has_ended(const struct app *app);
/* What a stop has left of it. */
void work_clear(struct app *app);

/* --- verdicts.c --- */

void verdict_live(struct app *app, struct handler_file *file, uint64_t ended_ns);
void verdict_unloaded(struct app *app, struct handler_file *file);
/* If it was refused, and is gone now without ever having served: nobody need mend it any more. */
void verdict_over(struct app *app, struct handler_file *file);
/* failure: also when it is not logged again, by change.by_itself. The file keeps it as its last
 * error. */
void verdict_refused(struct app *app, struct handler_file *file, const struct failure *failure);
/* Puts the place in by which a sentence begins: "orders.lua:14: ...". file: room for it. */
void verdict_place(const char *text, struct log_context *context, char *file, size_t size);
/* The same error, as verdict_refused will compare it; for the start. */
void verdict_keep(struct handler_file *file, const struct failure *failure);
void verdict_held(struct app *app, struct handler_file *file);

/* --- reload.c --- */

/* Begins to serve what was loaded. */
void reload_setup(struct app *app);
/* Begins whatever can be begun now. */
void reload_next(struct app *app);
/* SIGHUP, `moonbus reload`, and a change of the config file. together: all or none. Before the host
 * serves: as soon as it does. */
void reload_changed(struct app *app, bool together);
/* Does what a change says: the load is stopped, the candidate discarded. */
void reload_act(struct handler_file *file, struct change_action action);
/* The host stops: nothing is loaded or rolled out any more. */
void reload_stop(struct app *app);
/* Wants a new generation of each script. */
void reload_want_all(struct app *app);
/* Files have been gone for a moment. */
void reload_on_absence(uv_timer_t *timer);
/* From time to time, while watching. */
void reload_on_late(uv_timer_t *timer);
/* A change was seen. */
void reload_on_change(void *owner, const char *const *paths, int count);
/* On the main thread, when work or a load is done. */
void reload_done(struct app *app);

/* --- notice.c --- */

/* Files have gone, and get a moment to come back. */
bool notice_absent(struct app *app);
/* The config has been read: what of the scripts has changed? */
void notice_all(struct app *app, bool together);

/* --- reconfig.c --- */

/* Starts or stops watching, as configured. */
void reconfig_watch(struct app *app);
/* The pool. */
void reconfig_read(struct work *work);
/* On the main thread, when it has been read: applies it, or says why not. True: applied. */
bool reconfig_done(struct app *app);

/* --- service.c --- */

/* Before there are threads. What the manager's socket does not take is sent later. */
void service_open(struct app *app);
/* From now on the loop tells what changes, and keeps the watchdog quiet as long as all is well. */
void service_begin(struct app *app);
/* Everything serves, the first time. */
void service_ready(struct app *app);
void service_reload_begins(struct app *app);
/* Nothing is left to reload. */
void service_reload_ends(struct app *app);
/* The drain begins; the manager waits for its end, however long it may take. */
void service_stopping(struct app *app);
/* Its handles are closed; the loop frees them. */
void service_close(struct app *app);
/* After the loop. */
void service_free(struct app *app);

/* --- signals.c --- */

void signals_open(struct app *app);
/* On the main thread, after everything that starts threads: those inherit the mask. */
void signals_unblock(void);

/* --- stop.c --- */

/* Drains, under the graceful deadline; once. */
void stop_request(struct app *app);
/* Stops waiting for the drain. */
void stop_at_once(struct app *app);
/* Ends the process with this status, at once: nothing serves yet, or nothing has to be waited for.
 */
void stop_with(struct app *app, enum app_exit status);
/* On the main thread: joins the stopper and frees everything. Logs the end. */
void stop_finish(struct app *app);

#endif
