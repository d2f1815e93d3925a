/* What the admin endpoint answers: a row for each path. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "app/admin_private.h"
#include "app/log_level.h"
#include "app/report.h"

/* --- answers --- */

void admin_add_headers(struct MHD_Response *response, const char *type)
{
    MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Connection", "close");
}

enum MHD_Result admin_answer_bytes(struct MHD_Connection *connection, int status,
                                   const struct admin_body *body)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(
        body->len, body->bytes, body->owned ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
    if (!response) {
        if (body->owned)
            free(body->bytes);
        return MHD_NO;
    }
    admin_add_headers(response, body->type);
    if (body->policy)
        MHD_add_response_header(response, "Content-Security-Policy", body->policy);
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate",
                                "Bearer, Basic realm=\"moonbus\", charset=\"UTF-8\"");
    enum MHD_Result result = MHD_queue_response(connection, (unsigned)status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result admin_answer(struct MHD_Connection *connection, int status, cJSON *body)
{
    char *text = cJSON_Print(body);
    cJSON_Delete(body);
    if (!text)
        return MHD_NO;
    return admin_answer_bytes(
        connection, status,
        &(struct admin_body){
            .type = "application/json", .bytes = text, .len = strlen(text), .owned = true});
}

enum MHD_Result admin_refuse(struct MHD_Connection *connection, int status, const char *why)
{
    cJSON *body = cJSON_CreateObject();
    cJSON_AddBoolToObject(body, "ok", false);
    cJSON_AddStringToObject(body, "error", why);
    return admin_answer(connection, status, body);
}

/* --- the paths --- */

static cJSON *get_health(struct admin *admin, bool *good)
{
    return report_health(admin->app, good);
}

static cJSON *get_ready(struct admin *admin, bool *good)
{
    return report_ready(admin->app, good);
}

static enum MHD_Result show_status(struct admin *admin, struct visit *visit,
                                   struct MHD_Connection *connection)
{
    int status;
    (void)visit;
    bool quotes = !admin_bars_private(admin, connection, &status);
    return admin_answer(connection, MHD_HTTP_OK, report_status(admin->app, quotes));
}

static cJSON *get_log(struct admin *admin, bool *good)
{
    (void)good;
    return report_log(admin->app);
}

/* How many of the oldest runs are shown. */
#define RUNS_SHOWN 20

static cJSON *get_recent(struct admin *admin, bool *good)
{
    (void)good;
    return report_recent(admin->app, RUNS_SHOWN);
}

static enum MHD_Result show_page(struct admin *admin, struct visit *visit,
                                 struct MHD_Connection *connection)
{
    (void)visit;
    return admin_answer_bytes(connection, MHD_HTTP_OK,
                              &(struct admin_body){.type = "text/html; charset=utf-8",
                                                   .bytes = admin->page.text,
                                                   .len = admin->page.len,
                                                   .policy = admin->page.policy});
}

static const char *argument(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
}

static enum MHD_Result post_log(struct admin *admin, struct visit *visit,
                                struct MHD_Connection *connection)
{
    const char *wanted = argument(connection, "level");
    enum log_level level;
    (void)visit;
    if (!wanted || !log_parse_level(wanted, &level))
        return admin_refuse(connection, MHD_HTTP_BAD_REQUEST,
                            "wants ?level=, which is debug, info, warn, error or off");
    log_level_set(level, "POST /log");
    return admin_answer(connection, MHD_HTTP_OK, report_log(admin->app));
}

static enum MHD_Result post_reload(struct admin *admin, struct visit *visit,
                                   struct MHD_Connection *connection)
{
    struct app *app = admin->app;
    if (atomic_load(&app->stopping))
        return admin_refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "the host is stopping");
    if (visit->on_reserve) /* nor would there be one for its files */
        return admin_refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                            "no descriptor is left to wait with");
    if (!app->ready)
        return admin_refuse(connection, MHD_HTTP_SERVICE_UNAVAILABLE,
                            "the host is not ready: it waits for its server");
    admin_suspend(visit, connection, WAIT_RELOAD);
    reload_changed(app, !argument(connection, "each"));
    return MHD_YES;
}

static enum MHD_Result post_drain(struct admin *admin, struct visit *visit,
                                  struct MHD_Connection *connection)
{
    admin_suspend(visit, connection, WAIT_DRAIN);
    stop_request(admin->app);
    return MHD_YES;
}

/* What there is: a row each. NULL: not with that method. */
static const struct admin_path {
    const char *path;
    bool is_private; /* GET, too, has a guard of its own: it may quote messages */
    cJSON *(*get)(struct admin *admin, bool *good); /* the body; *good is true; false: 503 */
    enum MHD_Result (*show)(
        struct admin *admin, struct visit *visit,
        struct MHD_Connection *connection); /* GET of what is no JSON, or has to be waited for */
    enum MHD_Result (*post)(struct admin *admin, struct visit *visit,
                            struct MHD_Connection *connection); /* after the guard */
} paths[] = {
    {.path = "/", .is_private = true, .show = show_page},
    {.path = "/healthz", .get = get_health},
    {.path = "/readyz", .get = get_ready},
    {.path = "/status", .show = show_status},
    {.path = "/metrics", .show = admin_scrape},
    {.path = "/recent", .is_private = true, .get = get_recent},
    {.path = "/unserved", .is_private = true, .show = admin_unserved},
    {.path = "/log", .get = get_log, .post = post_log},
    {.path = "/reload", .post = post_reload},
    {.path = "/drain", .post = post_drain},
};

static enum MHD_Result read_path(struct admin *admin, struct visit *visit,
                                 struct MHD_Connection *connection, const struct admin_path *path)
{
    bool good = true;
    int status;
    const char *why = path->is_private ? admin_bars_private(admin, connection, &status) : NULL;
    if (why)
        return admin_refuse(connection, status, why);
    if (path->show)
        return path->show(admin, visit, connection);
    cJSON *body = path->get(admin, &good);
    return admin_answer(connection, good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, body);
}

enum MHD_Result admin_handle(struct admin *admin, struct visit *visit,
                             struct MHD_Connection *connection, const char *url, const char *method)
{
    bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    const struct admin_path *path = NULL;
    int status;
    for (size_t i = 0; i < sizeof paths / sizeof *paths && !path; i++)
        path = strcmp(url, paths[i].path) == 0 ? &paths[i] : NULL;
    if (!path)
        return admin_refuse(connection, MHD_HTTP_NOT_FOUND,
                            "there are GET /, /healthz, /readyz, /status, /metrics, /recent, "
                            "/unserved, /log and POST "
                            "/log, /reload, /drain");
    if (reads && (path->get || path->show))
        return read_path(admin, visit, connection, path);
    if (strcmp(method, "POST") != 0 || !path->post)
        return admin_refuse(connection, MHD_HTTP_METHOD_NOT_ALLOWED,
                            !path->post  ? "wants GET"
                            : !path->get ? "wants POST"
                                         : "wants GET or POST");
    const char *why = admin_bars_post(admin, connection, &status);
    return why ? admin_refuse(connection, status, why) : path->post(admin, visit, connection);
}
