/* HTTP by libmicrohttpd, whose epoll descriptor the main loop watches; one row for each path. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "app/admin_private.h"
#include "base/container.h"
#include "base/value.h"

/* When there are more, the oldest one that has not sent its request is disconnected: a client that
 * opens many and stays silent must not keep health checks out. */
#define CONNECTIONS_KEPT 64
/* Nothing here has a body; so much is read past. */
#define BODY_BYTES_MOST 65536
#define CONNECTION_BYTES (16u << 10)
/* Of one connection, from its accept on; a reload or drain may take longer. */
#define REQUEST_NS (10 * NS_PER_S)
/* Of one on the descriptor in reserve, for which others wait. */
#define RESERVE_NS (1 * NS_PER_S)
#define IDLE_SECONDS 5u
/* How often to check whether there is room again for clients that wait. */
#define PAUSE_MS 100
/* How long the end waits for answers to be written. */
#define FAREWELL_NS (300 * NS_PER_MS)

/* --- the loop --- */

static void on_timer(uv_timer_t *timer)
{
    admin_run(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    admin_run(poll->data);
}

void admin_run_soon(struct admin *admin)
{
    uv_timer_start(&admin->timer, on_timer, 0, 0);
}

/* Disconnects clients that are slow for too long; libmicrohttpd's own timeout begins again with
 * each byte. */
static void cut_off(struct admin *admin)
{
    struct visit *visit;
    uint64_t now = clock_now_ns();
    DL_FOREACH(admin->visits, visit) {
        uint64_t most_ns = visit->on_reserve ? RESERVE_NS : REQUEST_NS;
        if (visit->wait == WAIT_NOTHING && now - visit->began_ns > most_ns) {
            visit->cut_off = true;
            shutdown(visit->socket, SHUT_RDWR);
        }
    }
}

/* In how many ms at the latest it is to be run again; 0: when something comes. */
static uint64_t pause_of(struct admin *admin)
{
    MHD_UNSIGNED_LONG_LONG ms;
    if (!admin->visits)
        return admin->paused ? PAUSE_MS : 0;
    uint64_t most = admin->paused ? PAUSE_MS : 1000;
    return MHD_get_timeout(admin->daemon, &ms) == MHD_YES && ms < most ? ms + !ms : most;
}

void admin_run(struct admin *admin)
{
    cut_off(admin);
    do { /* a request may be answered while it is still being handled */
        admin->resumed = false;
        MHD_run(admin->daemon);
    } while (admin->resumed);
    admin_listen_again(admin);
    uint64_t ms = pause_of(admin);
    if (ms > 0)
        uv_timer_start(&admin->timer, on_timer, ms, 0);
    else
        uv_timer_stop(&admin->timer);
}

/* --- requests --- */

static struct visit *visit_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static bool has_long_body(struct MHD_Connection *connection)
{
    const char *length = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
    return (length && strtoull(length, NULL, 10) > BODY_BYTES_MOST) ||
           MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Transfer-Encoding");
}

/* Paths are compared as they were sent: there is none here that would have to be escaped. */
static size_t on_unescape(void *owner, struct MHD_Connection *connection, char *text)
{
    (void)owner;
    (void)connection;
    return strlen(text);
}

/* Before anything of the request line is changed. */
static void *on_target(void *owner, const char *target, struct MHD_Connection *connection)
{
    struct visit *visit = visit_of(connection);
    (void)owner;
    if (visit && target)
        visit->target = target + strlen(target) + 1;
    return NULL;
}

static enum MHD_Result on_request(void *owner, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **context)
{
    static const char seen = 0; /* the headers of this request have been seen */
    struct visit *visit = visit_of(connection);
    int status;
    (void)data;
    if (!visit)
        return MHD_NO;
    if (!*context) {
        *context = (void *)&seen;
        const char *why = admin_bars(owner, connection, &status);
        if (why)
            return admin_refuse(connection, status, why);
        /* The version comes right behind what is asked for, unless that has a NUL in it. */
        if (visit->target != version)
            return admin_refuse(connection, MHD_HTTP_NOT_FOUND,
                                "nothing here has a NUL in its name");
        if (has_long_body(connection))
            return admin_refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE, "nothing here has a body");
        return MHD_YES;
    }
    if (*size > 0) { /* nothing here has a body */
        *size = 0;
        return MHD_YES;
    }
    if (visit->wait == WAIT_OVER) {
        cJSON *body = visit->answer;
        visit->answer = NULL;
        visit->wait = WAIT_NOTHING;
        visit->began_ns = clock_now_ns();
        return admin_answer(connection, visit->status, body);
    }
    return admin_handle(owner, visit, connection, url, method);
}

/* The oldest that still says nothing makes room. */
static void make_room(struct admin *admin)
{
    struct visit *visit, *oldest = NULL;
    int count = admin->visit_count;
    DL_FOREACH(admin->visits, visit) {
        if (!oldest && visit->wait == WAIT_NOTHING && !visit->cut_off)
            oldest = visit;
        count -= visit->cut_off;
    }
    if (count > CONNECTIONS_KEPT && oldest) {
        oldest->cut_off = true;
        shutdown(oldest->socket, SHUT_RDWR);
    }
}

static void on_connection(void *owner, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct admin *admin = owner;
    struct visit *visit = *context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED && (visit = calloc(1, sizeof *visit))) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        visit->socket = info ? info->connect_fd : -1;
        visit->began_ns = clock_now_ns();
        visit->on_reserve = visit->socket >= 0 && visit->socket == admin->lent;
        DL_APPEND(admin->visits, visit);
        admin->visit_count++;
        *context = visit;
        make_room(admin);
    } else if (code == MHD_CONNECTION_NOTIFY_CLOSED && visit) {
        if (visit->on_reserve)
            admin->lent = -1;
        admin->scrape_readers -= visit->scrapes;
        DL_DELETE(admin->visits, visit);
        admin->visit_count--;
        cJSON_Delete(visit->answer);
        free(visit);
        *context = NULL;
    }
}

/* --- life --- */

static void on_log(void *owner, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

static void on_log(void *owner, const char *format, va_list args)
{
    char text[256];
    (void)owner;
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = '\0';
    log_debug("admin: %s", text);
}

static int start_daemon(struct admin *admin, struct err *err)
{
    unsigned flags =
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_NO_LISTEN_SOCKET;
    errno = 0;
    admin->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, admin, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MOST, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, IDLE_SECONDS,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, admin, MHD_OPTION_URI_LOG_CALLBACK, on_target,
        NULL, MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL, MHD_OPTION_END);
    if (admin->daemon)
        return 0;
    return err_set(err, ERR_SYSTEM, "admin: libmicrohttpd does not start: %s", strerror(errno));
}

static int watch_sockets(struct admin *admin)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    uv_timer_init(&admin->app->loop, &admin->timer);
    admin->timer.data = admin;
    if (!info || uv_poll_init(&admin->app->loop, &admin->poll, info->epoll_fd) != 0)
        return ERR_SYSTEM;
    admin->poll.data = admin;
    uv_poll_start(&admin->poll, UV_READABLE, on_poll);
    return admin_listen_begin(admin);
}

static void close_handles(struct admin *admin)
{
    admin_listen_end(admin);
    if (admin->poll.data)
        uv_close((uv_handle_t *)&admin->poll, NULL);
    if (admin->timer.data)
        uv_close((uv_handle_t *)&admin->timer, NULL);
}

struct admin *admin_open(struct app *app, struct err *err)
{
    *err = (struct err){0};
    if (!app->config->admin || strcmp(app->config->admin, "off") == 0)
        return NULL;
    struct admin *admin = calloc(1, sizeof *admin);
    if (!admin) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    admin->app = app;
    admin->reserve = admin->lent = -1;
    int code = page_make(&admin->page);
    if (code)
        err_set(err, ERR_MEMORY, "out of memory");
    else
        code = admin_listen(admin, err);
    if (!code)
        code = start_daemon(admin, err);
    if (code) {
        admin_listen_end(admin);
        page_clear(&admin->page);
        free(admin);
        return NULL;
    }
    if (watch_sockets(admin) != 0) {
        err_set(err, ERR_SYSTEM, "admin: cannot watch its sockets");
        close_handles(admin); /* which the loop still has: so admin stays */
        MHD_stop_daemon(admin->daemon);
        return NULL;
    }
    log_debug("admin: listening at %s", app->config->admin);
    return admin;
}

/* The loop does not run any more. */
static void say_farewell(struct admin *admin)
{
    uint64_t until = clock_now_ns() + FAREWELL_NS;
    MHD_run(admin->daemon);
    while (admin_awaited(admin, WAIT_OVER) && clock_now_ns() < until)
        MHD_run_wait(admin->daemon, 10);
    MHD_run(admin->daemon);
}

void admin_close(struct admin *admin, int unfinished)
{
    if (!admin || !admin->daemon)
        return;
    cJSON *body = cJSON_CreateObject();
    cJSON_AddBoolToObject(body, "ok", unfinished == 0);
    cJSON_AddNumberToObject(body, "pid", getpid());
    cJSON_AddNumberToObject(body, "unfinished", unfinished);
    admin_resume_all(admin, WAIT_DRAIN, MHD_HTTP_OK, body);
    cJSON_Delete(body);
    admin_settled(admin, true);
    admin_unserved_close(admin);
    uv_poll_stop(&admin->poll);
    say_farewell(admin);
    close_handles(admin);
    MHD_stop_daemon(admin->daemon);
    admin->daemon = NULL;
    admin_scrape_end(admin);
}

void admin_free(struct admin *admin)
{
    if (!admin)
        return;
    cJSON_Delete(admin->notes);
    cJSON_Delete(admin->config_notes);
    page_clear(&admin->page);
    admin_unserved_free(admin);
    free(admin);
}
