/* admin_private - what the files of the admin endpoint share; nobody else includes it.
 *
 *   admin.c          requests; slow and hostile clients
 *   admin_paths.c    what each path answers
 *   admin_listen.c   addresses, and accepting connections
 *   admin_guard.c    which requests are allowed
 *   admin_scrape.c   the metrics
 *   admin_unserved.c durables that nothing serves
 *   admin_verdict.c  requests that wait for a reload or a drain, and their answers */
#ifndef MOONBUS_APP_ADMIN_PRIVATE_H
#define MOONBUS_APP_ADMIN_PRIVATE_H

#include <cjson/cJSON.h>
#include <microhttpd.h>
#include <sys/socket.h>

#include "app/admin.h"
#include "app/app_private.h"
#include "app/page.h"

#define CONNECTIONS_MOST 128
#define LISTENERS_MOST 8

enum wait { WAIT_NOTHING, WAIT_RELOAD, WAIT_DRAIN, WAIT_UNSERVED, WAIT_OVER };

/* One connection, and the one request on it. libmicrohttpd's: from its accept to its close. */
struct visit {
    struct visit *prev, *next;
    struct MHD_Connection *connection; /* not owned; while it is suspended */
    int socket;
    uint64_t began_ns;
    enum wait wait;
    bool cut_off;    /* its socket is shut down */
    bool scrapes;    /* it reads the metrics */
    bool on_reserve; /* it has the descriptor that is kept for when there is no other */
    const char
        *target;   /* libmicrohttpd's: what follows the NUL of what the request line asks for */
    int status;    /* WAIT_OVER: the answer */
    cJSON *answer; /* owned */
};

/* One address that it listens at. */
struct admin_listener {
    struct admin *admin; /* not owned */
    int fd;              /* owned */
    uv_poll_t poll;
};

struct admin {
    struct app *app;           /* not owned */
    struct MHD_Daemon *daemon; /* owned */
    uv_poll_t poll;
    uv_timer_t timer;
    struct visit *visits; /* libmicrohttpd's */
    int visit_count;
    struct admin_listener listeners[LISTENERS_MOST];
    int listener_count;
    int reserve; /* owned: a spare descriptor, for a connection when no other is left; -1: in use */
    int lent;    /* the socket that has its place; libmicrohttpd reports its end later; or -1 */
    bool paused; /* no connection is accepted until there is room */
    uint64_t warned_ns;              /* when that was logged last; 0: never */
    cJSON *notes;                    /* owned: what was reloaded since the first request waits */
    cJSON *config_notes;             /* owned: the same of the config */
    struct page page;                /* owned */
    bool loopback;                   /* at all of its addresses */
    struct unserved_search *search;  /* owned; NULL: nobody has asked yet */
    struct MHD_Response *scrapes[2]; /* by enum metrics_format: what was given out last; a reference
                                        each, or NULL */
    int scrape_readers;              /* connections that read one of them, or an older one */
    char host[256];                  /* of the address as it is configured */
    bool resumed;                    /* a verdict is there: libmicrohttpd has to be run */
};

/* The connection waits for its verdict. */
void admin_suspend(struct visit *visit, struct MHD_Connection *connection, enum wait wait);
bool admin_awaited(const struct admin *admin, enum wait wait);
/* Every request that waits for that gets this answer; body is copied. libmicrohttpd has to be run
 * then. */
void admin_resume_all(struct admin *admin, enum wait wait, int status, const cJSON *body);
/* The loop runs libmicrohttpd soon. */
void admin_run_soon(struct admin *admin);
/* Runs libmicrohttpd now. On the loop only, and not from one of its callbacks. */
void admin_run(struct admin *admin);

/* --- admin_paths.c --- */

struct admin_body {
    const char *type; /* Content-Type */
    void *bytes;
    size_t len;
    bool owned;         /* to be freed by the answer, in any case; else it is there until the end */
    const char *policy; /* Content-Security-Policy; NULL: none */
};

/* What each answer has. */
void admin_add_headers(struct MHD_Response *response, const char *type);
enum MHD_Result admin_answer_bytes(struct MHD_Connection *connection, int status,
                                   const struct admin_body *body);
/* The same with a body of JSON, which it takes. */
enum MHD_Result admin_answer(struct MHD_Connection *connection, int status, cJSON *body);
/* {"ok": false, "error": why} */
enum MHD_Result admin_refuse(struct MHD_Connection *connection, int status, const char *why);
/* A request that the guard has let in. */
enum MHD_Result admin_handle(struct admin *admin, struct visit *visit,
                             struct MHD_Connection *connection, const char *url,
                             const char *method);

/* --- admin_listen.c --- */

/* Binds every address that the configured one names, and notes whether all are loopback. 0, or an
 * error: one is taken, or none is this machine's. */
int admin_listen(struct admin *admin, struct err *err);
/* Accepts connections from now on, once libmicrohttpd is there. */
int admin_listen_begin(struct admin *admin);
/* Accepts connections again when there is room. After each run of libmicrohttpd. */
void admin_listen_again(struct admin *admin);
/* An address of this machine alone? Also an IPv4 one that is written as IPv6. */
bool admin_is_loopback(const struct sockaddr *address);
/* Closes whatever is open of it; the loop frees its handles. */
void admin_listen_end(struct admin *admin);

/* --- admin_unserved.c --- */

enum MHD_Result admin_unserved(struct admin *admin, struct visit *visit,
                               struct MHD_Connection *connection);
/* At the end: those who wait hear that there will be no answer; once the pool has ended. */
void admin_unserved_close(struct admin *admin);
void admin_unserved_free(struct admin *admin);

/* --- admin_scrape.c --- */

enum MHD_Result admin_scrape(struct admin *admin, struct visit *visit,
                             struct MHD_Connection *connection);
/* After libmicrohttpd's end. */
void admin_scrape_end(struct admin *admin);

/* --- admin_guard.c --- */

/* Why this request may not be answered at all, and with which status; NULL: it may. */
const char *admin_bars(const struct admin *admin, struct MHD_Connection *connection, int *status);
/* The same of a POST. */
const char *admin_bars_post(const struct admin *admin, struct MHD_Connection *connection,
                            int *status);

/* The same of what may quote messages: from this machine, or with the token. */
const char *admin_bars_private(const struct admin *admin, struct MHD_Connection *connection,
                               int *status);

#endif
