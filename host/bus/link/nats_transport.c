/* Making a transport over nats.c, connecting it, and the watch over connects.
 *
 * Each connection gets new options, so that renewed files are read again, and tries one server
 * alone, so that each failure has its reason. nats.c reconnects by itself only to another server of
 * the cluster, at once (nats_events.c). */
#include "bus/link/nats_transport.h"

#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/container.h"
#include "base/thread.h"
#include "bus/link/link_url.h"
#include "bus/link/nats_options.h"
#include "bus/link/nats_reason.h"
#include "bus/link/nats_session.h"
#include "bus/link/nats_tls.h"

/* --- the watch over connects, on the clock's thread --- */

static void release(struct nats_transport *nats, int references)
{
    mutex_lock(&nats->lock);
    nats->references -= references;
    bool last = nats->references == 0;
    mutex_unlock(&nats->lock);
    if (!last)
        return;
    BUG_ON(wheel_armed(&nats->due.timer));
    mutex_destroy(&nats->watch_lock);
    mutex_destroy(&nats->lock);
    free(nats);
}

/* How long a connect may take. */
static uint64_t most_ns(const struct nats_transport *nats)
{
    must_hold(&nats->lock);
    return nats->interrupted ? 0 : (uint64_t)link_connect_timeout_ns(nats->options);
}

/* Arms it, or moves it. */
static void arm(struct nats_transport *nats, uint64_t at_ns)
{
    must_hold(&nats->lock);
    nats->references += clock_arm(nats->clock, &nats->due, at_ns);
}

static bool has_something_to_watch(const struct nats_transport *nats)
{
    must_hold(&nats->lock);
    return !nats->freed && (nats->connecting || nats->returning);
}

static uint64_t next_look_ns(const struct nats_transport *nats)
{
    must_hold(&nats->lock);
    return clock_now_ns() + nats_watch_period_ns(most_ns(nats));
}

static void on_watch(struct deadline *deadline)
{
    struct nats_transport *nats = container_of(deadline, struct nats_transport, due);
    mutex_lock(&nats->lock);
    bool look = has_something_to_watch(nats);
    uint64_t most = look ? most_ns(nats) : 0; /* freed, its options may be gone */
    mutex_unlock(&nats->lock);
    if (look) {
        mutex_lock(&nats->watch_lock);
        nats_watch_look(&nats->watch, clock_now_ns(), most);
        mutex_unlock(&nats->watch_lock);
    }
    mutex_lock(&nats->lock);
    nats->watching = has_something_to_watch(nats);
    if (nats->watching)
        arm(nats, next_look_ns(nats));
    mutex_unlock(&nats->lock);
    release(nats, 1);
}

/* There is no connection, and one may be in the making. */
static void begin_watch(struct nats_transport *nats)
{
    must_hold(&nats->lock);
    if (nats->watching)
        return;
    nats->watching = true;
    arm(nats, next_look_ns(nats));
}

void nats_set_returning(struct nats_transport *nats, bool returning)
{
    mutex_lock(&nats->lock);
    nats->returning = returning;
    if (returning)
        begin_watch(nats);
    mutex_unlock(&nats->lock);
}

static void watch_port(struct nats_transport *nats, const char *url)
{
    struct link_url parts;
    if (link_url_parse(url, &parts, NULL) != 0)
        return;
    mutex_lock(&nats->watch_lock);
    nats_watch_port(&nats->watch, parts.port);
    mutex_unlock(&nats->watch_lock);
}

/* --- connecting --- */

/* A server of the cluster is known by an address, and its certificate by the name of the cluster.
 */
static natsStatus expect_name(const struct nats_transport *nats, natsOptions *made)
{
    char host[256];
    struct link_url parts;
    bool is_address = true;
    for (int i = 0; i < nats->options->server_count && is_address; i++) {
        if (link_url_parse(nats->options->servers[i], &parts, NULL) == 0)
            link_url_host(&parts, host, sizeof host, &is_address);
    }
    return is_address ? NATS_OK : natsOptions_SetExpectedHostname(made, host);
}

/* natsOptions for this server alone: what the files hold now. */
static int make_options(struct nats_transport *nats, const struct transport_server *server,
                        natsOptions **made, struct err *err)
{
    const char *const servers[] = {server->url};
    struct link_options options = *nats->options;
    struct link_url parts;
    char host[256] = "";
    bool is_address = true;
    options.servers = servers;
    options.server_count = 1;
    options.tls = options.tls || server->tls;
    int code = nats_options_make(&options, made, err);
    if (code)
        return code;
    natsStatus status = nats_set_callbacks(nats, *made);
    if (link_url_parse(server->url, &parts, NULL) == 0)
        link_url_host(&parts, host, sizeof host, &is_address);
    bool tls = options.tls || options.tls_ca || options.tls_cert;
    if (status == NATS_OK && tls && server->found && is_address)
        status = expect_name(nats, *made);
    if (status != NATS_OK) {
        natsOptions_Destroy(*made);
        code = err_set(err, ERR_SYSTEM, "nats.c: %s", natsStatus_GetText(status));
    }
    nats_tls_begin(host);
    return code;
}

void nats_note_connected(struct nats_transport *nats, natsConnection *nc)
{
    char url[sizeof nats->url] = "";
    natsConnection_GetConnectedUrl(nc, url, sizeof url);
    int64_t max_payload = natsConnection_GetMaxPayload(nc);
    mutex_lock(&nats->lock);
    memcpy(nats->url, url, sizeof url);
    nats->max_payload = max_payload > 0 ? (size_t)max_payload : 0;
    mutex_unlock(&nats->lock);
}

/* Connects under the watch. */
static natsStatus connect_watched(struct nats_transport *nats, natsOptions *made)
{
    mutex_lock(&nats->lock);
    nats->connecting = true;
    begin_watch(nats);
    mutex_unlock(&nats->lock);
    atomic_store(&nats->watch.ended, false);
    natsStatus status = natsConnection_Connect(&nats->nc, made);
    mutex_lock(&nats->lock);
    nats->connecting = false;
    mutex_unlock(&nats->lock);
    return status;
}

bool nats_connect(struct nats_transport *nats, struct transport_server *server,
                  natsStatus (*prepare)(struct nats_transport *nats, natsOptions *options))
{
    natsOptions *made = NULL;
    struct err err = {.code = ERR_NONE};
    if (make_options(nats, server, &made, &err) != 0) {
        snprintf(server->reason, sizeof server->reason, "%.255s", err.message);
        return false;
    }
    watch_port(nats, server->url);
    natsStatus status = prepare ? prepare(nats, made) : NATS_OK;
    if (status == NATS_OK)
        status = connect_watched(nats, made);
    natsOptions_Destroy(made);
    server->tls = nats_tls_wanted() || (server->tls && status != NATS_SECURE_CONNECTION_WANTED);
    if (status == NATS_OK)
        return true;
    nats->nc = NULL;
    nats_reason_connect(status, server->url, atomic_load(&nats->watch.ended),
                        link_connect_timeout_ns(nats->options), server->reason,
                        sizeof server->reason);
    return false;
}

static bool connect_to(struct transport *transport, struct transport_server *server)
{
    struct nats_transport *nats = nats_of(transport);
    if (!nats_connect(nats, server, NULL))
        return false;
    nats_watch_close_on_exec(nats->nc);
    nats_note_connected(nats, nats->nc);
    return true;
}

/* --- looking --- */

void nats_describe(struct transport *transport, struct transport_place *place)
{
    struct nats_transport *nats = nats_of(transport);
    place->wire = "nats.c";
    mutex_lock(&nats->lock);
    memcpy(place->url, nats->url, sizeof place->url);
    place->max_payload = nats->max_payload;
    mutex_unlock(&nats->lock);
}

bool nats_find_servers(struct transport *transport, char ***urls, int *count)
{
    struct nats_transport *nats = nats_of(transport);
    if (natsConnection_GetDiscoveredServers(nats->nc, urls, count) != NATS_OK)
        return false;
    for (int i = 0; i < *count; i++)
        watch_port(nats, (*urls)[i]);
    return true;
}

/* --- coming and going --- */

void nats_interrupt(struct transport *transport)
{
    struct nats_transport *nats = nats_of(transport);
    mutex_lock(&nats->lock);
    nats->interrupted = true;
    if (nats->watching)
        arm(nats, clock_now_ns());
    mutex_unlock(&nats->lock);
}

void nats_end_thread(struct transport *transport)
{
    (void)transport;
    nats_ReleaseThreadMemory();
}

void nats_free(struct transport *transport)
{
    struct nats_transport *nats = nats_of(transport);
    mutex_lock(&nats->lock);
    nats->freed = true;
    int references = 1 + clock_cancel(nats->clock, &nats->due);
    mutex_unlock(&nats->lock);
    release(nats, references);
}

const struct transport_kind nats_transport_kind = {
    .connect = connect_to,
    .disconnect = nats_disconnect,
    .publish = nats_publish,
    .push = nats_push,
    .ping = nats_ping,
    .network_rtt_ns = nats_network_rtt_ns,
    .subscribe = nats_subscribe,
    .drain = nats_drain,
    .unsubscribe = nats_unsubscribe,
    .await = nats_await,
    .sub_free = nats_sub_free,
    .describe = nats_describe,
    .find_servers = nats_find_servers,
    .interrupt = nats_interrupt,
    .end_thread = nats_end_thread,
    .free = nats_free,
};

/* What no waiting can mend is found here, as options are made once without being used. */
static int check_options(const struct link_options *options, struct err *err)
{
    sigset_t before;
    natsOptions *made = NULL;
    thread_block_signals(&before); /* nats.c starts threads of its own here */
    int code = nats_options_make(options, &made, err);
    natsStatus status = code ? NATS_OK : nats_SetMessageDeliveryPoolSize(1);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    natsOptions_Destroy(made);
    if (status != NATS_OK)
        code = err_set(err, ERR_SYSTEM, "nats.c: %s", natsStatus_GetText(status));
    return code;
}

int nats_init(struct nats_transport *nats, const struct transport_kind *kind,
              const struct link_options *options, struct clock *clock,
              const struct transport_events *events, struct err *err)
{
    int code = check_options(options, err);
    if (code)
        return code;
    nats->transport.kind = kind;
    nats->references = 1;
    nats->options = options;
    nats->clock = clock;
    nats->events = *events;
    nats->due.on_due = on_watch;
    mutex_init(&nats->watch_lock);
    mutex_init(&nats->lock);
    return 0;
}

static struct transport *make(const struct transport_maker *maker,
                              const struct link_options *options, struct clock *clock,
                              const struct transport_events *events, struct err *err)
{
    (void)maker;
    struct nats_transport *nats = calloc(1, sizeof *nats);
    if (!nats) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    if (nats_init(nats, &nats_transport_kind, options, clock, events, err) == 0)
        return &nats->transport;
    free(nats);
    return NULL;
}

const struct transport_maker nats_transport_maker = {.make = make};
