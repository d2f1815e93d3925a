/* admin_private - what the files of the admin endpoint share; nobody else includes it.
 *
 *   admin.c          listening, requests, who may; slow and hostile clients
 *   admin_verdict.c  who waits for a reload or a drain, and what they get to hear */
#ifndef MOONBUS_APP_ADMIN_PRIVATE_H
#define MOONBUS_APP_ADMIN_PRIVATE_H

#include <cjson/cJSON.h>
#include <microhttpd.h>

#include "app/admin.h"
#include "app/app_private.h"

enum wait { WAIT_NOTHING, WAIT_RELOAD, WAIT_DRAIN, WAIT_OVER };

/* One connection, and the one request on it. libmicrohttpd's: from its accept to its close. */
struct visit {
    struct visit *prev, *next;
    struct MHD_Connection *connection; /* not owned; while it is suspended */
    int socket;
    uint64_t began_ns;
    enum wait wait;
    bool cut_off;  /* its socket is shut down */
    int status;    /* WAIT_OVER: the answer */
    cJSON *answer; /* owned */
};

struct admin {
    struct app *app;           /* not owned */
    struct MHD_Daemon *daemon; /* owned */
    uv_poll_t poll;
    uv_timer_t timer;
    struct visit *visits; /* libmicrohttpd's */
    cJSON *notes;         /* owned: what was reloaded since somebody waits */
    cJSON *config_notes;  /* owned: the same of the config */
    bool loopback;
    bool resumed; /* somebody's verdict is there, and libmicrohttpd is to be run */
    struct deadline beat;
    _Atomic uint64_t beat_ns; /* when the clock was last seen alive */
};

/* The connection waits for its verdict. */
void admin_suspend(struct visit *visit, struct MHD_Connection *connection, enum wait wait);
bool admin_awaited(const struct admin *admin, enum wait wait);
/* Everybody who waits for that gets this answer; body is copied. libmicrohttpd is to be run then.
 */
void admin_resume_all(struct admin *admin, enum wait wait, int status, const cJSON *body);
/* The loop runs libmicrohttpd soon. */
void admin_run_soon(struct admin *admin);

#endif
