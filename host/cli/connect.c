/* natsOptions for a command, and its one connection. */
#include "cli/connect.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/link/library.h"
#include "bus/link/link_url.h"
#include "bus/link/nats_options.h"
#include "bus/link/nats_reason.h"
#include "bus/link/nats_tls.h"
#include "bus/link/nats_watch.h"
#include "cli/lookup.h"
#include "cli/receive.h"
#include "cli/say.h"

/* Far more than nats.c takes, so that a fault of it holds nobody up for ever. */
#define NATS_CLOSE_MS 2000

int client_failed(const struct client *client, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_any(client->cli, LOG_ERROR, format, args);
    va_end(args);
    return CLI_FAILED;
}

const char *client_server(const struct client *client, char *buf, size_t size)
{
    *buf = '\0';
    natsConnection_GetConnectedUrl(client->nc, buf, size);
    const char *at = strrchr(buf, '@');
    return at ? at + 1 : buf;
}

static int64_t to_ms(int64_t ns)
{
    return (ns + NS_PER_MS - 1) / NS_PER_MS;
}

int client_failed_status(const struct client *client, natsStatus status, const char *subject,
                         size_t len)
{
    switch (status) {
    case NATS_NO_RESPONDERS:
        return client_failed(client, "no_responders: nobody serves \"%s\"", subject);
    case NATS_TIMEOUT:
        return client_failed(client, "timeout: no answer on \"%s\" in time", subject);
    case NATS_MAX_PAYLOAD:
        return client_failed(
            client,
            "too_large: %zu bytes, headers not counted: the server takes at most %lld with "
            "them",
            len, (long long)natsConnection_GetMaxPayload(client->nc));
    case NATS_NOT_PERMITTED:
        return client_failed(client, "permission: the server refuses \"%s\" to this user", subject);
    default: {
        const char *text = natsStatus_GetText(status), *last = nats_reason(status);
        return client_failed(client, "disconnected: %s%s%s", text, last != text ? ": " : "",
                             last != text ? last : "");
    }
    }
}

int client_flush(const struct client *client, const char *subject)
{
    natsStatus status =
        natsConnection_FlushTimeout(client->nc, to_ms(client->config->connect_timeout_ns));
    const char *text = NULL;
    if (status == NATS_OK)
        status = natsConnection_GetLastError(client->nc, &text);
    return status == NATS_OK ? CLI_OK : client_failed_status(client, status, subject, 0);
}

/* --- the guard: nats.c may wait for a server for ever (nats_watch) --- */

struct client_guard {
    struct thread thread;
    uint64_t most_ns;
    struct nats_watch watch;

    struct mutex lock;
    struct cond woken;
    bool over;
};

static void *guard_run(void *arg)
{
    struct client_guard *guard = arg;
    uint64_t period_ns = nats_watch_period_ns(guard->most_ns);
    mutex_lock(&guard->lock);
    while (!guard->over) {
        cond_wait_until(&guard->woken, &guard->lock, clock_now_ns() + period_ns);
        nats_watch_look(&guard->watch, clock_now_ns(), guard->most_ns);
    }
    mutex_unlock(&guard->lock);
    return NULL;
}

/* Without one, if there is no memory for it, a connect may just take long. */
static void guard_start(struct client *client, const struct link_options *options)
{
    struct client_guard *guard = calloc(1, sizeof *guard);
    struct link_url url;
    if (!guard)
        return;
    guard->most_ns = (uint64_t)link_connect_timeout_ns(options);
    for (int i = 0; i < options->server_count; i++) {
        if (link_url_parse(options->servers[i], &url, NULL) == 0)
            nats_watch_port(&guard->watch, url.port);
    }
    cond_init(&guard->woken);
    mutex_init(&guard->lock);
    if (thread_start(&guard->thread, "mb-guard", guard_run, guard, NULL) == 0)
        client->guard = guard;
    else
        free(guard);
}

static void guard_stop(struct client_guard *guard)
{
    if (!guard)
        return;
    mutex_lock(&guard->lock);
    guard->over = true;
    cond_signal(&guard->woken);
    mutex_unlock(&guard->lock);
    thread_join(guard->thread);
    cond_destroy(&guard->woken);
    mutex_destroy(&guard->lock);
    free(guard);
}

/* --- connecting --- */

static void on_reconnected(natsConnection *nc, void *closure)
{
    (void)closure;
    nats_watch_close_on_exec(nc);
}

/* nats.c's own prints to standard error. What matters is asked for in client_flush. */
static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *closure)
{
    (void)nc;
    (void)sub;
    (void)status;
    (void)closure;
}

/* asap: what is sent is waited for, one after the other: nats.c would hold each back for a
 * millisecond, to write several at once. */
static void set_up(natsOptions *options, bool lasting, bool asap)
{
    natsOptions_SetSendAsap(options, asap);
    natsOptions_SetErrorHandler(options, on_error, NULL);
    natsOptions_SetReconnectedCB(options, on_reconnected, NULL);
    natsOptions_SetReconnectWait(options, 250);
    natsOptions_SetAllowReconnect(options, lasting);
}

/* nats.c 3.4.1 leaves out a signature whose first byte is 0, as one of 256 has, and is refused. The
 * next try has something else to sign. */
#define SIGNED_TRIES 3

static natsStatus try_connect(struct client *client, natsOptions *options, bool is_signed)
{
    int tries = is_signed ? SIGNED_TRIES : 1;
    natsStatus status = NATS_CONNECTION_AUTH_FAILED;
    nats_tls_begin("");
    while (tries-- > 0 && status == NATS_CONNECTION_AUTH_FAILED)
        status = natsConnection_Connect(&client->nc, options);
    return status;
}

/* *status: of nats.c, when the options are good (0); a server that wants TLS unasked is asked for
 * it. */
static int connect_with(struct client *client, struct link_options *options, bool lasting,
                        natsStatus *status, struct err *err)
{
    natsOptions *nats;
    int code = nats_options_make(options, &nats, err);
    if (code)
        return code;
    set_up(nats, lasting, lasting || client->cli->jetstream);
    *status =
        try_connect(client, nats, options->creds_file || options->nkey_seed_file || options->seed);
    natsOptions_Destroy(nats);
    if (*status == NATS_OK || options->tls || !nats_tls_wanted())
        return 0;
    options->tls = true;
    return connect_with(client, options, lasting, status, err);
}

/* Those whose names are not resolved in time are not tried, so that the others are. Returns how
 * many. kept: has room for all; the options borrow it. */
static int leave_unnamed(struct link_options *options, const char **kept)
{
    int all = options->server_count;
    options->server_count =
        lookup_servers(options->servers, all, link_connect_timeout_ns(options), kept);
    options->servers = kept;
    return all - options->server_count;
}

static int connect_to(struct client *client, const char *found, bool lasting)
{
    struct bus_options options;
    struct err err;
    natsStatus status = NATS_OK;
    char *servers = NULL, reason[256];
    config_bus_options(client->config, &options);
    guard_start(client, &options.link);
    const char **kept = calloc((size_t)options.link.server_count + 1, sizeof *kept);
    if (!kept)
        return client_failed(client, "out of memory");
    int code = link_url_list(options.link.servers, options.link.server_count, &servers, &err);
    int unnamed = code ? 0 : leave_unnamed(&options.link, kept);
    bool none = unnamed > 0 && options.link.server_count == 0;
    if (!code && !none)
        code = connect_with(client, &options.link, lasting, &status, &err);
    if (code) {
        free(servers);
        free(kept);
        client_failed(client, "%s", err.message);
        return CLI_USAGE;
    }
    int result = CLI_OK;
    if (none) {
        result = client_failed(client,
                               "disconnected: cannot connect to %s: the resolver says nothing of "
                               "%s within %.3gs (connect_timeout)",
                               servers, unnamed == 1 ? "its name" : "their names",
                               (double)link_connect_timeout_ns(&options.link) / 1e9);
    } else if (status == NATS_OK) {
        nats_watch_close_on_exec(client->nc);
    } else {
        const char *only = options.link.server_count == 1 ? options.link.servers[0] : NULL;
        nats_reason_connect(status, only, client->guard && atomic_load(&client->guard->watch.ended),
                            link_connect_timeout_ns(&options.link), reason, sizeof reason);
        result = client_failed(client, "disconnected: cannot connect to %s: %s%s%s%s", servers,
                               reason, found ? " (its URL is in " : "", found ? found : "",
                               found ? ": does `moonbus dev` still run?)" : "");
    }
    free(servers);
    free(kept);
    return result;
}

int client_config(const struct cli *cli, struct config_sources *sources, char *path, size_t size,
                  struct config **out)
{
    struct err err;
    struct config *without;
    char url[256];
    bool found = cli_find_url(path, size, url, sizeof url);
    sources->no_selected = found;
    struct config *config = *out = cli_config(sources, &without, &err);
    if (!config) {
        say_error(cli, "%s%s", err.message,
                  without ? "; mend the file, or name another one with -c" : "");
        config_free(without);
        return CLI_USAGE;
    }
    say_as(config);
    if (!found || config->servers_given) {
        *path = '\0';
    } else {
        say_note(cli, "using %s of %s", url, path);
        if (config_use_server(config, url, &err) != 0) {
            say_error(cli, "%s", err.message);
            return CLI_USAGE;
        }
    }
    if (config->context_note)
        say_note(cli, "%s", config->context_note);
    return CLI_OK;
}

int client_open(struct client *client, const struct cli *cli, bool lasting)
{
    static const struct config_flag text_log = {"log.format", "text", "default"};
    struct config_sources sources = cli_sources(cli);
    char path[PATH_MAX];
    sources.defaults = &text_log;
    sources.default_count = 1;
    *client = (struct client){.cli = cli};
    thread_block_signals(&client->unblocked); /* nats.c's threads inherit the mask */
    if (client_config(cli, &sources, path, sizeof path, &client->config) != CLI_OK)
        return CLI_USAGE;
    config_announce(client->config);
    int result = connect_to(client, *path ? path : NULL, lasting);
    if (!lasting)
        pthread_sigmask(SIG_SETMASK, &client->unblocked, NULL);
    return result;
}

void client_close(struct client *client)
{
    receiver_close(client->receivers);
    natsConnection_Destroy(client->nc);
    guard_stop(client->guard);
    config_free(client->config);
    /* Waiting: the last of its threads would otherwise meet what exit takes down. */
    if (library_end(NATS_CLOSE_MS))
        receiver_free(client->receivers);
}
