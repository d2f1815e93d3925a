/* The reader thread of a connection: waits for the server, for nats.c, and for what is due. */
#include <poll.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/value.h"
#include "bus/link/socket_private.h"

/* It looks at least this often. */
#define LOOK_NS (10 * NS_PER_S)

/* --- what is due --- */

static void ping_server(struct socket_transport *socket, uint64_t now_ns)
{
    const struct link_options *options = socket->nats.options;
    if (socket->unanswered >= link_max_pings_out(options)) {
        char why[80];
        snprintf(why, sizeof why, "the server has not answered for %.1fs",
                 (double)(now_ns - socket->unanswered_ns) / 1e9);
        socket_lost(socket, why);
        return;
    }
    if (!socket->unanswered++)
        socket->unanswered_ns = now_ns;
    socket->ping_at_ns = now_ns + (uint64_t)link_ping_interval_ns(options);
    mutex_lock(&socket->lock);
    if (socket_put_ping(socket))
        socket_send(socket);
    mutex_unlock(&socket->lock);
}

/* When a write takes too long; of whatever it was that the network took last. Who closes waits for
 * all that is left no longer than that, though the server takes a byte now and then. */
static uint64_t write_deadline_ns(const struct socket_transport *socket)
{
    must_hold(&socket->lock);
    uint64_t since_ns = socket->out.progress_ns;
    if (!socket->out.blocked)
        return UINT64_MAX;
    if (socket->closing && socket->closing_ns < since_ns)
        since_ns = socket->closing_ns;
    return since_ns + (uint64_t)link_write_deadline_ns(socket->nats.options);
}

static void look_at_time(struct socket_transport *socket)
{
    uint64_t now_ns = clock_now_ns();
    mutex_lock(&socket->lock);
    bool late = socket->live && now_ns >= write_deadline_ns(socket);
    mutex_unlock(&socket->lock);
    if (late) {
        char why[80];
        snprintf(why, sizeof why, "the server has taken nothing for %.1fs",
                 (double)link_write_deadline_ns(socket->nats.options) / 1e9);
        socket_lost(socket, why);
    } else if (socket->verifying && now_ns >= socket->verify_until_ns) {
        socket_lost(socket, NULL);
        socket_unfit(socket, SOCKET_UNFIT, "it does not use its descriptor");
    } else if (socket->up && now_ns >= socket->ping_at_ns) {
        ping_server(socket, now_ns);
    }
}

static uint64_t next_look_ns(struct socket_transport *socket, uint64_t now_ns)
{
    uint64_t at_ns = now_ns + (uint64_t)LOOK_NS;
    mutex_lock(&socket->lock);
    uint64_t write_ns = write_deadline_ns(socket);
    mutex_unlock(&socket->lock);
    if (write_ns < at_ns)
        at_ns = write_ns;
    if (socket->verifying && socket->verify_until_ns < at_ns)
        at_ns = socket->verify_until_ns;
    if (socket->up && socket->ping_at_ns < at_ns)
        at_ns = socket->ping_at_ns;
    return at_ns;
}

static int timeout_ms(struct socket_transport *socket)
{
    uint64_t now_ns = clock_now_ns(), at_ns = next_look_ns(socket, now_ns);
    return at_ns > now_ns ? (int)((at_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS) : 0;
}

/* --- the loop --- */

/* Lock held. While a session is verified nothing of the server's is read: it may be TLS. */
static struct pollfd poll_tcp(const struct socket_transport *socket)
{
    must_hold(&socket->lock);
    short events = (short)(POLLIN | (socket->out.blocked ? POLLOUT : 0));
    return (struct pollfd){socket->verifying ? -1 : socket->tcp, events, 0};
}

static void wait_and_serve(struct socket_transport *socket)
{
    mutex_lock(&socket->lock);
    socket->rounds++;
    cond_broadcast(&socket->changed);
    struct pollfd tcp = poll_tcp(socket);
    mutex_unlock(&socket->lock);
    struct pollfd ready[] = {{socket->wake, POLLIN, 0}, {socket->ctl, POLLIN, 0}, tcp};
    if (poll(ready, 3, timeout_ms(socket)) > 0) {
        if (ready[1].revents)
            socket_read_control(socket);
        if (ready[2].revents & POLLOUT) {
            mutex_lock(&socket->lock);
            socket_send_on(socket);
            mutex_unlock(&socket->lock);
        }
        if (ready[2].revents & (POLLIN | POLLHUP | POLLERR) && socket->tcp == tcp.fd)
            socket_read(socket);
    }
    if (ready[0].revents || ready[1].revents)
        socket_take_orders(socket);
    look_at_time(socket);
}

void *socket_reader(void *arg)
{
    struct socket_transport *socket = arg;
    bool stop = false;
    while (!stop) {
        wait_and_serve(socket);
        mutex_lock(&socket->lock);
        stop = socket->stop;
        mutex_unlock(&socket->lock);
    }
    nats_ReleaseThreadMemory();
    return NULL;
}
