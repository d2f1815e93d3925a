/* service - what a service manager is told (base/notify.h): that the host serves, reloads and
 * stops, how it is in one line, and that it lives.
 *
 *   READY=1                it serves; or it has waited for its server for a while: that may take
 *                          hours, and nobody's boot shall hang on it
 *   RELOADING=1, READY=1   around each reload, whatever its verdict, which STATUS has
 *   STOPPING=1             then EXTEND_TIMEOUT_USEC, as long as the drain is within its deadline
 *   WATCHDOG=1             while the loop turns and health_look finds nothing
 *
 * The main thread's. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "app/app_private.h"
#include "app/report.h"
#include "base/notify.h"
#include "base/text.h"
#include "base/value.h"

#define BEAT_MS 1000
/* Of the time that the watchdog allows, a beat comes after this share. */
#define BEAT_SHARE 4
/* How often the manager is tried again that has not read what came before. */
#define RETRY_MS 50
/* So long a start may wait for the server before the manager hears that it has succeeded. */
#define PATIENCE_NS (5 * NS_PER_S)
/* How often the host is looked at, for its one line. */
#define LOOK_NS (2 * NS_PER_S)
/* While it drains, each beat allows for so much more; beats may come late on a busy machine. */
#define EXTENSION_US (10 * 1000000)
/* A manager reads its datagrams in order; what is owed is few, for each of it is a change. Of more
 * than so many the last ones count. */
#define OWED_MOST 8

struct owed {
    char state[96]; /* lines such as "READY=1\n"; "" for a status alone */
    char *status;   /* owned; NULL: none */
};

struct service {
    struct notify *notify; /* owned */
    uv_timer_t timer;      /* the beat; data is NULL until the loop has it */
    uint64_t beat_ms;
    struct owed owed[OWED_MOST]; /* what must arrive, in this order */
    int owed_count;
    char *status;     /* owned; what it was told last */
    bool status_lost; /* it was not told after all */
    uint64_t began_ns, looked_ns;
    bool told_ready, reloads;
};

/* --- sending --- */

/* As one datagram. The status is one line whatever it quotes. Without memory it is left out. */
static int send_lines(const struct service *service, const char *state, const char *status)
{
    struct text message;
    text_init(&message);
    text_puts(&message, state);
    if (status) {
        text_puts(&message, "STATUS=");
        text_escape(&message, status, strlen(status));
        text_puts(&message, "\n");
    }
    int code = notify_send(service->notify, message.failed ? state : message.bytes);
    text_clear(&message);
    return code;
}

static void drop_owed(struct service *service, int place, int count)
{
    for (int i = place; i < place + count; i++)
        free(service->owed[i].status);
    service->owed_count -= count;
    memmove(service->owed + place, service->owed + place + count,
            (size_t)(service->owed_count - place) * sizeof *service->owed);
}

/* False: later. */
static bool send_owed(struct service *service)
{
    int sent = 0;
    while (sent < service->owed_count &&
           send_lines(service, service->owed[sent].state, service->owed[sent].status) != ERR_FULL)
        sent++;
    drop_owed(service, 0, sent);
    return service->owed_count == 0;
}

/* A status alone, which is told again; or else the oldest state, which others have overtaken. */
static void make_room(struct service *service)
{
    int place = 0;
    while (place < service->owed_count && *service->owed[place].state)
        place++;
    if (place == service->owed_count)
        place = 0;
    service->status_lost = true;
    drop_owed(service, place, 1);
}

static void owe(struct service *service, const char *state, const char *status)
{
    if (service->owed_count == OWED_MOST)
        make_room(service);
    struct owed *owed = &service->owed[service->owed_count++];
    snprintf(owed->state, sizeof owed->state, "%s", state);
    owed->status = status ? strdup(status) : NULL;
    if (status && !owed->status)
        service->status_lost = true;
}

static void on_beat(uv_timer_t *timer);

/* What must arrive: a state, a status (or NULL), or both. */
static void tell(struct service *service, const char *state, const char *status)
{
    if (send_owed(service) && send_lines(service, state, status) != ERR_FULL)
        return;
    owe(service, state, status);
    if (service->timer.data)
        uv_timer_start(&service->timer, on_beat, RETRY_MS, 0);
}

/* What is told again with the next beat. */
static void mention(struct service *service, const char *lines)
{
    if (service->owed_count == 0)
        notify_send(service->notify, lines);
}

/* --- the one line --- */

/* The first reason; but "not everything is served yet" only where there is no better one. */
static void say_why(struct app *app, struct text *line, cJSON *reasons)
{
    int count = cJSON_GetArraySize(reasons), first = !app->ready && count > 1;
    const char *reason = cJSON_GetArrayItem(reasons, first)->valuestring;
    text_printf(line, "not ready: %s", reason);
    if (count - first > 1)
        text_printf(line, " (and %d more)", count - first - 1);
}

static void say_refused(struct app *app, struct text *line)
{
    const struct handler_file *file;
    if (app->reconfig.last_error)
        text_printf(line, "; config refused: %s", app->reconfig.last_error);
    LL_FOREACH(app->files, file) {
        if (file->last_error) {
            text_printf(line, "; %s refused: %s", file->name, file->last_error);
            return;
        }
    }
}

static void say(struct app *app, struct text *line)
{
    const char *troubles[HEALTH_TROUBLES_MOST];
    if (health_look(&app->health, app->engine, troubles) > 0) {
        text_printf(line, "unhealthy: %s", troubles[0]);
    } else if (atomic_load(&app->stopping)) {
        int running = engine_running(app->engine);
        text_printf(line, "draining: %d handler%s running", running, running == 1 ? "" : "s");
    } else {
        bool ready;
        cJSON *verdict = report_ready(app, &ready);
        int handlers, scripts = scripts_serving(app, &handlers);
        if (ready)
            text_printf(line, "ready: %d script%s, %d handler%s", scripts, scripts == 1 ? "" : "s",
                        handlers, handlers == 1 ? "" : "s");
        else
            say_why(app, line, cJSON_GetObjectItem(verdict, "reasons"));
        cJSON_Delete(verdict);
        say_refused(app, line);
    }
}

/* NULL: it is what the manager was told last. */
static const char *new_status(struct app *app)
{
    struct service *service = app->service;
    struct text line;
    text_init(&line);
    say(app, &line);
    service->looked_ns = clock_now_ns();
    bool told =
        !service->status_lost && service->status && strcmp(service->status, line.bytes) == 0;
    bool is_new = !line.failed && !told;
    if (is_new) {
        free(service->status);
        service->status = strdup(line.bytes);
        service->status_lost = false;
    }
    text_clear(&line);
    return is_new ? service->status : NULL;
}

static void tell_with_status(struct app *app, const char *state)
{
    const char *status = new_status(app);
    if (*state || status)
        tell(app->service, state, status);
}

/* --- the beat --- */

static void beat(struct app *app)
{
    struct service *service = app->service;
    const char *troubles[HEALTH_TROUBLES_MOST];
    uint64_t now = clock_now_ns();
    char lines[64];
    if (!service->told_ready && now - service->began_ns > PATIENCE_NS)
        service_ready(app);
    if (notify_watchdog_ns(service->notify) > 0 &&
        health_look(&app->health, app->engine, troubles) == 0)
        mention(service, "WATCHDOG=1");
    if (atomic_load(&app->stopping) && now < app->stop_deadline_ns) {
        snprintf(lines, sizeof lines, "EXTEND_TIMEOUT_USEC=%d", EXTENSION_US);
        mention(service, lines);
    }
    if (now - service->looked_ns >= LOOK_NS)
        tell_with_status(app, "");
}

static void on_beat(uv_timer_t *timer)
{
    struct app *app = timer->data;
    bool all = send_owed(app->service);
    if (all)
        beat(app);
    uv_timer_start(timer, on_beat, all ? app->service->beat_ms : RETRY_MS, 0);
}

/* --- the life of the process --- */

void service_open(struct app *app)
{
    struct err err;
    struct notify *notify = notify_open(&err);
    if (!notify && err.code)
        log_event(LOG_WARN, &(struct log_context){.code = err_name(err.code), .whole = true},
                  "the service manager hears nothing: %s", err.message);
    if (!notify)
        return;
    app->service = calloc(1, sizeof *app->service);
    if (!app->service) {
        notify_close(notify);
        return;
    }
    uint64_t share_ms = notify_watchdog_ns(notify) / NS_PER_MS / BEAT_SHARE;
    app->service->notify = notify;
    app->service->beat_ms = share_ms > 0 && share_ms < BEAT_MS ? share_ms : BEAT_MS;
    tell(app->service, "", "loading");
}

void service_begin(struct app *app)
{
    struct service *service = app->service;
    if (!service)
        return;
    service->began_ns = clock_now_ns();
    uv_timer_init(&app->loop, &service->timer);
    service->timer.data = app;
    tell_with_status(app, "");
    on_beat(&service->timer);
}

void service_ready(struct app *app)
{
    if (!app->service)
        return;
    tell_with_status(app, app->service->told_ready ? "" : "READY=1\n");
    app->service->told_ready = true;
}

void service_reload_begins(struct app *app)
{
    char lines[80];
    if (!app->service || !app->service->told_ready) /* its end would be taken for the start's */
        return;
    snprintf(lines, sizeof lines, "RELOADING=1\nMONOTONIC_USEC=%llu\n",
             (unsigned long long)(clock_now_ns() / 1000));
    tell(app->service, lines, NULL);
    app->service->reloads = true;
}

void service_reload_ends(struct app *app)
{
    if (!app->service || !app->service->reloads)
        return;
    app->service->reloads = false;
    tell_with_status(app, "READY=1\n");
}

void service_stopping(struct app *app)
{
    if (app->service)
        tell_with_status(app, "STOPPING=1\n");
}

void service_close(struct app *app)
{
    if (app->service && app->service->timer.data)
        uv_close((uv_handle_t *)&app->service->timer, NULL);
}

void service_free(struct app *app)
{
    struct service *service = app->service;
    if (!service)
        return;
    drop_owed(service, 0, service->owed_count);
    free(service->status);
    notify_close(service->notify);
    free(service);
    app->service = NULL;
}
