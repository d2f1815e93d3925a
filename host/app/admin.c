#include <arpa/inet.h>
#include <cjson/cJSON.h>
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utlist.h>

#include "app/admin_private.h"
#include "app/report.h"
#include "base/value.h"

#define CONNECTIONS_MOST 128
/* When there are more, the oldest that has not sent its request yet is cut off: who opens many and
 * says nothing must not keep out who asks for our health. */
#define CONNECTIONS_KEPT 64
/* Nothing here has a body; so much is read past. */
#define BODY_BYTES_MOST 65536
#define CONNECTION_BYTES (16u << 10)
/* Of one connection, from its accept on; a reload or drain may take longer. */
#define REQUEST_NS (10 * NS_PER_S)
#define IDLE_SECONDS 5u
/* How long the end waits for answers to be written. */
#define FAREWELL_NS (300 * NS_PER_MS)
#define BEAT_NS (1 * NS_PER_S)
#define BEAT_LATE_NS (10 * NS_PER_S)

/* --- the loop --- */

static void run(struct admin *admin);

static void on_timer(uv_timer_t *timer)
{
    run(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    run(poll->data);
}

void admin_run_soon(struct admin *admin)
{
    uv_timer_start(&admin->timer, on_timer, 0, 0);
}

/* Who is slow for too long is cut off; libmicrohttpd's own timeout begins anew with each byte. */
static void cut_off(struct admin *admin)
{
    struct visit *visit;
    uint64_t now = clock_now_ns();
    DL_FOREACH(admin->visits, visit) {
        if (visit->wait == WAIT_NOTHING && now - visit->began_ns > REQUEST_NS) {
            visit->cut_off = true;
            shutdown(visit->socket, SHUT_RDWR);
        }
    }
}

static void run(struct admin *admin)
{
    cut_off(admin);
    do { /* a request may be answered while it is still being handled */
        admin->resumed = false;
        MHD_run(admin->daemon);
    } while (admin->resumed);
    MHD_UNSIGNED_LONG_LONG ms;
    if (MHD_get_timeout(admin->daemon, &ms) != MHD_YES)
        ms = 1000;
    if (admin->visits)
        uv_timer_start(&admin->timer, on_timer, ms < 1000 ? ms : 1000, 0);
    else
        uv_timer_stop(&admin->timer);
}

static void on_beat(struct deadline *deadline)
{
    struct admin *admin = (struct admin *)((char *)deadline - offsetof(struct admin, beat));
    uint64_t now = clock_now_ns();
    atomic_store(&admin->beat_ns, now);
    clock_arm(admin->app->clock, deadline, now + BEAT_NS);
}

bool admin_clock_lives(const struct admin *admin)
{
    return clock_now_ns() - atomic_load(&((struct admin *)admin)->beat_ns) < BEAT_LATE_NS;
}

/* --- answers --- */

static enum MHD_Result answer(struct MHD_Connection *connection, int status, cJSON *body)
{
    char *text = cJSON_Print(body);
    cJSON_Delete(body);
    if (!text)
        return MHD_NO;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, "Content-Type", "application/json");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "Connection", "close");
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    enum MHD_Result result = MHD_queue_response(connection, (unsigned)status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result refuse(struct MHD_Connection *connection, int status, const char *why)
{
    cJSON *body = cJSON_CreateObject();
    cJSON_AddBoolToObject(body, "ok", false);
    cJSON_AddStringToObject(body, "error", why);
    return answer(connection, status, body);
}

/* --- who may --- */

/* Takes as long for every text. */
static bool same_secret(const char *secret, const char *given)
{
    size_t len = strlen(given), secret_len = strlen(secret);
    volatile unsigned char differs = len != secret_len;
    for (size_t i = 0; i < len; i++)
        differs |= (unsigned char)(given[i] ^ secret[i % (secret_len + 1)]);
    return !differs;
}

/* NULL: it may. A page in a browser sends its Origin; nothing that belongs here does. */
static const char *forbidden(const struct admin *admin, struct MHD_Connection *connection,
                             int *status)
{
    const char *token = admin->app->config->admin_token;
    const char *given = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");
    *status = MHD_HTTP_FORBIDDEN;
    if (MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Origin"))
        return "not from a browser";
    if (!token && !admin->loopback)
        return "the endpoint is off loopback: set admin_token in the config";
    if (!token)
        return NULL;
    if (given && strncasecmp(given, "Bearer ", 7) == 0 && same_secret(token, given + 7))
        return NULL;
    *status = MHD_HTTP_UNAUTHORIZED;
    return "wants the header Authorization: Bearer with the config's admin_token";
}

/* --- POST --- */

static enum MHD_Result post(struct admin *admin, struct visit *visit,
                            struct MHD_Connection *connection, enum wait wait)
{
    struct app *app = admin->app;
    int status;
    const char *why = forbidden(admin, connection, &status);
    if (why)
        return refuse(connection, status, why);
    if (wait == WAIT_RELOAD && atomic_load(&app->stopping))
        return refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "the host is stopping");
    if (wait == WAIT_RELOAD && !app->ready)
        return refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                      "the host is not ready: it waits for its server");
    admin_suspend(visit, connection, wait);
    if (wait == WAIT_RELOAD)
        reload_changed(app);
    else if (!atomic_load(&app->stopping))
        stop_request(app);
    return MHD_YES;
}

/* --- requests --- */

static enum MHD_Result get(struct admin *admin, struct MHD_Connection *connection, const char *url)
{
    bool good = true;
    cJSON *body;
    if (strcmp(url, "/status") == 0)
        body = report_status(admin->app, admin);
    else if (strcmp(url, "/readyz") == 0)
        body = report_ready(admin->app, &good);
    else
        body = report_health(admin->app, admin, &good);
    return answer(connection, good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, body);
}

static enum MHD_Result handle(struct admin *admin, struct visit *visit,
                              struct MHD_Connection *connection, const char *url,
                              const char *method)
{
    bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    bool readable =
        strcmp(url, "/healthz") == 0 || strcmp(url, "/readyz") == 0 || strcmp(url, "/status") == 0;
    enum wait wait = strcmp(url, "/reload") == 0  ? WAIT_RELOAD
                     : strcmp(url, "/drain") == 0 ? WAIT_DRAIN
                                                  : WAIT_NOTHING;
    if (readable && reads)
        return get(admin, connection, url);
    if (wait != WAIT_NOTHING && strcmp(method, "POST") == 0)
        return post(admin, visit, connection, wait);
    if (readable || wait != WAIT_NOTHING)
        return refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
                      readable ? "wants GET" : "wants POST");
    return refuse(connection, MHD_HTTP_NOT_FOUND,
                  "there are GET /healthz, /readyz, /status and POST /reload, /drain");
}

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

static enum MHD_Result on_request(void *owner, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **context)
{
    static const char seen = 0; /* the headers of this request have been seen */
    struct visit *visit = visit_of(connection);
    (void)version;
    (void)data;
    if (!visit)
        return MHD_NO;
    if (!*context) {
        *context = (void *)&seen;
        if (has_long_body(connection))
            return refuse(connection, MHD_HTTP_CONTENT_TOO_LARGE, "nothing here has a body");
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
        return answer(connection, visit->status, body);
    }
    return handle(owner, visit, connection, url, method);
}

/* The oldest that still says nothing makes room. */
static void make_room(struct admin *admin)
{
    struct visit *visit, *oldest = NULL;
    int count = 0;
    DL_FOREACH(admin->visits, visit) {
        count++;
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
        DL_APPEND(admin->visits, visit);
        *context = visit;
        make_room(admin);
    } else if (code == MHD_CONNECTION_NOTIFY_CLOSED && visit) {
        DL_DELETE(admin->visits, visit);
        cJSON_Delete(visit->answer);
        free(visit);
        *context = NULL;
    }
}

/* --- life --- */

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return (ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24) == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

/* "127.0.0.1:8223", "[::1]:8223", "localhost:8223". The caller frees. */
static struct addrinfo *resolve(const char *text, struct err *err)
{
    char host[256];
    const char *port = strrchr(text, ':');
    size_t len = port ? (size_t)(port - text) : 0;
    bool brackets = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(brackets ? len - 2 : len), text + brackets);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int code = getaddrinfo(host, port ? port + 1 : NULL, &hints, &found);
    if (code) {
        err_set(err, ERR_INVALID, "admin %s: %s", text, gai_strerror(code));
        return NULL;
    }
    return found;
}

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

/* Without MHD_OPTION_LISTENING_ADDRESS_REUSE, whose 0 is more than "no": it would also refuse a
 * port on which connections of a host that has just ended linger, and so its restart. */
static int listen_at(struct admin *admin, const struct addrinfo *address, struct err *err)
{
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
                     (address->ai_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    errno = 0;
    admin->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, admin, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
        MHD_OPTION_SOCK_ADDR, address->ai_addr, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MOST,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
        IDLE_SECONDS, MHD_OPTION_NOTIFY_CONNECTION, on_connection, admin, MHD_OPTION_END);
    if (admin->daemon)
        return 0;
    return err_set(err, ERR_SYSTEM, "admin %s: cannot listen: %s", admin->app->config->admin,
                   errno ? strerror(errno) : "libmicrohttpd refused");
}

static int watch_daemon(struct admin *admin, struct err *err)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info || uv_poll_init(&admin->app->loop, &admin->poll, info->epoll_fd) != 0)
        return err_set(err, ERR_SYSTEM, "admin: cannot watch its sockets");
    uv_timer_init(&admin->app->loop, &admin->timer);
    admin->poll.data = admin->timer.data = admin;
    uv_poll_start(&admin->poll, UV_READABLE, on_poll);
    return 0;
}

struct admin *admin_open(struct app *app, struct err *err)
{
    *err = (struct err){0};
    if (!app->config->admin || strcmp(app->config->admin, "off") == 0)
        return NULL;
    struct addrinfo *address = resolve(app->config->admin, err);
    struct admin *admin = address ? calloc(1, sizeof *admin) : NULL;
    if (!admin) {
        if (address)
            err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    admin->app = app;
    admin->loopback = is_loopback(address->ai_addr);
    int code = listen_at(admin, address, err);
    freeaddrinfo(address);
    if (code == 0)
        code = watch_daemon(admin, err);
    if (code) {
        if (admin->daemon)
            MHD_stop_daemon(admin->daemon);
        free(admin);
        return NULL;
    }
    admin->beat.on_due = on_beat;
    atomic_init(&admin->beat_ns, clock_now_ns());
    clock_arm(app->clock, &admin->beat, clock_now_ns());
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
    clock_cancel(admin->app->clock, &admin->beat);
    cJSON *body = cJSON_CreateObject();
    cJSON_AddBoolToObject(body, "ok", unfinished == 0);
    cJSON_AddNumberToObject(body, "pid", getpid());
    cJSON_AddNumberToObject(body, "unfinished", unfinished);
    admin_resume_all(admin, WAIT_DRAIN, MHD_HTTP_OK, body);
    cJSON_Delete(body);
    admin_settled(admin, true);
    uv_poll_stop(&admin->poll);
    say_farewell(admin);
    uv_close((uv_handle_t *)&admin->poll, NULL);
    uv_close((uv_handle_t *)&admin->timer, NULL);
    MHD_stop_daemon(admin->daemon);
    admin->daemon = NULL;
}

void admin_free(struct admin *admin)
{
    if (!admin)
        return;
    cJSON_Delete(admin->notes);
    cJSON_Delete(admin->config_notes);
    free(admin);
}
