/* signals - what the process does when it is signalled.
 *
 *   SIGTERM, SIGINT  the first: drain; another one, later: stop at once
 *   SIGHUP           reload what has changed; before the host serves: as soon as it does
 *   SIGUSR1          the log says more (debug), or again what is configured
 *   SIGUSR2          log the status
 *   SIGQUIT          the kernel's own way: the process ends at once, with a core where one is kept
 *
 * All others that can be are blocked (thread_block_signals). The main thread's. */
#include <cjson/cJSON.h>
#include <signal.h>

#include "app/app_private.h"
#include "app/log_level.h"
#include "app/report.h"
#include "base/value.h"

/* `timeout` of GNU signals its child and then its whole group; some supervisors do the like. What
 * comes so close behind another one is the same wish. */
#define DOUBLED_NS (500 * NS_PER_MS)

static const int watched[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};

_Static_assert(sizeof watched / sizeof *watched ==
                   sizeof((struct app *)0)->signals / sizeof *((struct app *)0)->signals,
               "each has its handle");

/* A drain that was asked for by POST, or began with a failure, is no first signal: this one hastens
 * nothing. */
static void stop(struct app *app)
{
    uint64_t now = clock_now_ns();
    if (!app->signalled_ns) {
        app->signalled_ns = now;
        if (atomic_load(&app->stopping))
            log_info("draining already; another signal stops at once");
        else
            stop_request(app);
    } else if (now - app->signalled_ns >= DOUBLED_NS) {
        stop_at_once(app);
    }
}

static void log_status(struct app *app)
{
    cJSON *status = report_status(app, true);
    char *fields = cJSON_PrintUnformatted(status);
    const struct log_context context = {.fields = fields};
    log_event(LOG_INFO, &context, "status: %s, %s",
              cJSON_GetObjectItem(status, "state")->valuestring,
              cJSON_IsTrue(cJSON_GetObjectItem(status, "ready")) ? "ready" : "not ready");
    cJSON_free(fields);
    cJSON_Delete(status);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct app *app = handle->data;
    if (number == SIGUSR1)
        log_level_toggle(app, "SIGUSR1");
    else if (number == SIGUSR2)
        log_status(app);
    else if (number != SIGHUP)
        stop(app);
    else if (!atomic_load(&app->stopping))
        reload_changed(app, true);
}

void signals_open(struct app *app)
{
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++) {
        uv_signal_init(&app->loop, &app->signals[i]);
        app->signals[i].data = app;
        uv_signal_start(&app->signals[i], on_signal, watched[i]);
    }
}

void signals_unblock(void)
{
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++)
        sigaddset(&set, watched[i]);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGCHLD);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}
