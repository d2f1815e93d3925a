/* Making a transport over a socket of our own, connecting and disconnecting it: the writer's calls.
 */
#include "bus/link/socket_transport.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/value.h"
#include "bus/link/link_url.h"
#include "bus/link/nats_tls.h"
#include "bus/link/socket_private.h"

/* How long a session may take to prove itself, whatever the reader finds out. */
#define PROOF_NS (12 * NS_PER_S)

/* --- connecting --- */

static bool wants_tls(const struct link_options *options, const struct transport_server *server)
{
    return options->tls || options->tls_first || options->tls_ca || options->tls_cert ||
           server->tls;
}

static void begin_connection(struct socket_transport *socket)
{
    mutex_lock(&socket->lock);
    socket->nc = NULL;
    socket->closing = socket->made = socket->over = socket->gone = socket->closed = false;
    socket->ended = socket->detached = socket->attached = false;
    mutex_unlock(&socket->lock);
    socket->own = true;
}

/* The reader knows nothing of it any more. */
static void wait_until_over(struct socket_transport *socket)
{
    mutex_lock(&socket->lock);
    while (!socket->over)
        cond_wait(&socket->changed, &socket->lock);
    mutex_unlock(&socket->lock);
}

/* What was sent is written, if the server takes it within the write deadline. */
static void disconnect(struct transport *transport)
{
    struct socket_transport *socket = socket_of(transport);
    if (!socket->own) {
        nats_disconnect(transport);
        return;
    }
    mutex_lock(&socket->lock);
    socket->closing = true;
    socket->closing_ns = clock_now_ns();
    socket_send(socket); /* the link stops in the middle of writing: nobody has pushed it */
    socket_wake(socket);
    while (socket->tcp >= 0 || socket->in_call)
        cond_wait(&socket->changed, &socket->lock);
    mutex_unlock(&socket->lock);
    nats_disconnect(transport); /* its on_closed comes in any case */
    wait_until_over(socket);
}

/* nats.c has given it up after it had a session; it tells nobody. */
static void forget_connection(struct socket_transport *socket)
{
    mutex_lock(&socket->lock);
    bool attached = socket->attached;
    socket->closing = true;
    socket->nc = NULL;
    socket->closed = attached;
    socket_wake(socket);
    mutex_unlock(&socket->lock);
    if (attached)
        wait_until_over(socket);
    mutex_lock(&socket->lock);
    socket->fitness = SOCKET_FIT; /* nothing was proven */
    mutex_unlock(&socket->lock);
}

static bool is_attached(struct socket_transport *socket)
{
    mutex_lock(&socket->lock);
    bool attached = socket->attached;
    mutex_unlock(&socket->lock);
    if (!attached)
        socket_unfit(socket, SOCKET_UNFIT, "it knows no event loops");
    return attached;
}

/* nats.c's PING has to come through the reader; it sends one to be answered here. */
static bool prove(struct socket_transport *socket)
{
    uint64_t until_ns = clock_now_ns() + (uint64_t)PROOF_NS;
    if (!is_attached(socket))
        return false;
    natsConnection_FlushTimeout(socket->nats.nc, PROOF_NS / 2 / NS_PER_MS);
    mutex_lock(&socket->lock);
    while (!socket->made && !socket->gone && !socket->closed && socket->fitness == SOCKET_FIT &&
           cond_wait_until(&socket->changed, &socket->lock, until_ns))
        ;
    bool made = socket->made;
    mutex_unlock(&socket->lock);
    return made;
}

enum attempt { ATTEMPT_MADE, ATTEMPT_FAILED, ATTEMPT_UNFIT };

static enum attempt connect_own(struct socket_transport *socket, struct transport_server *server)
{
    begin_connection(socket);
    if (!nats_connect(&socket->nats, server, socket_prepare)) {
        forget_connection(socket);
        return ATTEMPT_FAILED;
    }
    if (!nats_tls_wanted() && prove(socket))
        return ATTEMPT_MADE;
    disconnect(&socket->nats.transport);
    if (nats_tls_wanted() || socket->fitness != SOCKET_FIT)
        return ATTEMPT_UNFIT;
    snprintf(server->reason, sizeof server->reason,
             "the server closed the connection during the handshake");
    return ATTEMPT_FAILED;
}

static bool start_reader(struct socket_transport *socket, char *reason, size_t size)
{
    struct err err = {.code = ERR_NONE};
    if (!socket->reads)
        socket->reads = thread_start(&socket->reader, "mb-read", socket_reader, socket, &err) == 0;
    if (!socket->reads)
        snprintf(reason, size, "%.255s", err.message);
    return socket->reads;
}

/* Once: from now on nats.c has its sockets for itself. */
static void note_unfit(struct socket_transport *socket, const struct transport_server *server)
{
    char shown[300];
    mutex_lock(&socket->lock);
    enum socket_fitness fitness = socket->fitness;
    socket->fitness = SOCKET_FIT;
    mutex_unlock(&socket->lock);
    if (fitness != SOCKET_UNFIT)
        return;
    socket->given_up = true;
    log_warn(
        "%s: the socket of this connection cannot be taken from nats.c %s (%s): its messages go "
        "through nats.c, as with wire = \"nats.c\"",
        link_shown_server(server->url, shown, sizeof shown), nats_GetVersion(), socket->unfit_why);
}

static bool connect_to(struct transport *transport, struct transport_server *server)
{
    struct socket_transport *socket = socket_of(transport);
    note_unfit(socket, server);
    if (!socket->given_up && !wants_tls(socket->nats.options, server)) {
        if (!start_reader(socket, server->reason, sizeof server->reason))
            return false;
        enum attempt attempt = connect_own(socket, server);
        if (attempt != ATTEMPT_UNFIT)
            return attempt == ATTEMPT_MADE;
        note_unfit(socket, server);
        server->tls = server->tls || !socket->given_up;
    }
    socket->own = false;
    return nats_transport_kind.connect(transport, server);
}

/* --- looking --- */

static uint64_t network_rtt_ns(struct transport *transport)
{
    struct socket_transport *socket = socket_of(transport);
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (!socket->own)
        return nats_network_rtt_ns(transport);
    mutex_lock(&socket->lock);
    bool known =
        socket->tcp >= 0 && getsockopt(socket->tcp, IPPROTO_TCP, TCP_INFO, &info, &size) == 0;
    mutex_unlock(&socket->lock);
    return known ? (uint64_t)info.tcpi_rtt * 1000 : 0;
}

static void describe(struct transport *transport, struct transport_place *place)
{
    nats_describe(transport, place);
    place->any_thread = socket_of(transport)->own;
    if (place->any_thread)
        place->wire = "own";
}

/* --- coming and going --- */

static void free_transport(struct transport *transport)
{
    struct socket_transport *socket = socket_of(transport);
    if (socket->reads) {
        mutex_lock(&socket->lock);
        socket->stop = true;
        socket_wake(socket);
        mutex_unlock(&socket->lock);
        thread_join(socket->reader);
    }
    chunk_input_clear(&socket->in);
    free(socket->out.spare);
    close(socket->wake);
    cond_destroy(&socket->changed);
    mutex_destroy(&socket->lock);
    nats_free(transport); /* the memory is its */
}

const struct transport_kind socket_transport_kind = {
    .connect = connect_to,
    .disconnect = disconnect,
    .publish = socket_publish,
    .push = socket_push,
    .ping = socket_ping,
    .network_rtt_ns = network_rtt_ns,
    .subscribe = socket_subscribe,
    .drain = socket_drain,
    .unsubscribe = socket_unsubscribe,
    .await = socket_await,
    .sub_free = socket_sub_free,
    .describe = describe,
    .find_servers = nats_find_servers,
    .interrupt = nats_interrupt,
    .end_thread = nats_end_thread,
    .free = free_transport,
};

static struct transport *make(const struct transport_maker *maker,
                              const struct link_options *options, struct clock *clock,
                              const struct transport_events *events, struct err *err)
{
    struct socket_transport *socket = calloc(1, sizeof *socket);
    (void)maker;
    if (!socket) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    socket->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int code = socket->wake < 0
                   ? err_set(err, ERR_SYSTEM, "cannot make an eventfd: %s", strerror(errno))
                   : nats_init(&socket->nats, &socket_transport_kind, options, clock, events, err);
    if (code) {
        if (socket->wake >= 0)
            close(socket->wake);
        free(socket);
        return NULL;
    }
    socket->tcp = socket->ctl = socket->next_tcp = socket->next_ctl = -1;
    socket->descriptor = -1;
    mutex_init_spinning(&socket->lock);
    cond_init(&socket->changed);
    return &socket->nats.transport;
}

const struct transport_maker socket_transport_maker = {.make = make};
