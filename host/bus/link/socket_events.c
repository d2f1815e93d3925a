/* What nats.c calls. It takes the reader for the event loop of a program, which tells it when its
 * descriptor may be read or written; only that the descriptor leads to the reader.
 *
 * Its calls come with its connection's lock held, but for on_detach: they leave word and return. */
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bus/link/socket_private.h"

/* Only newer ones have these, and want them: from 3.9.2 on we say when a descriptor may be closed;
 * from 3.11 on when we know the connection no more. */
extern void natsConnection_ProcessCloseEvent(natsSock *descriptor) __attribute__((weak));
extern void natsConnection_ProcessDetachedEvent(natsConnection *nc) __attribute__((weak));

void socket_close(int *descriptor)
{
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

void socket_wake(struct socket_transport *socket)
{
    static const uint64_t one = 1;
    must_hold(&socket->lock);
    ssize_t wrote = write(socket->wake, &one, sizeof one); /* full: it is awake */
    (void)wrote;
}

/* --- what nats.c calls as an event loop's --- */

/* Our copy of the TCP socket and our end of the pair; the other end is where nats.c's socket was.
 */
static bool take_socket(natsSock theirs, int *tcp, int *ctl)
{
    int pair[2];
    *tcp = fcntl(theirs, F_DUPFD_CLOEXEC, 3);
    if (*tcp < 0)
        return false;
    bool made = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0;
    bool put = made && dup3(pair[1], theirs, O_CLOEXEC) >= 0;
    if (made)
        close(pair[1]);
    if (put) {
        *ctl = pair[0];
        return true;
    }
    if (made)
        close(pair[0]);
    close(*tcp);
    return false;
}

static natsStatus on_attach(void **data, void *loop, natsConnection *nc, natsSock theirs)
{
    struct socket_transport *socket = loop;
    int tcp = -1, ctl = -1;
    *data = socket;
    if (!take_socket(theirs, &tcp, &ctl))
        return NATS_SYS_ERROR; /* it closes its socket, and tries again */
    mutex_lock(&socket->lock);
    socket_close(&socket->next_tcp);
    socket_close(&socket->next_ctl);
    socket->nc = nc;
    socket->descriptor = theirs;
    socket->next_tcp = tcp;
    socket->next_ctl = ctl;
    socket->wants_write = socket->ended = socket->detached = false;
    socket->attached = true;
    socket_wake(socket);
    mutex_unlock(&socket->lock);
    return NATS_OK;
}

/* What it wants to read is always wanted; that it wants nothing more is its end. */
static natsStatus on_read(void *data, bool add)
{
    struct socket_transport *socket = data;
    if (add)
        return NATS_OK;
    mutex_lock(&socket->lock);
    natsSock descriptor = socket->descriptor;
    socket->descriptor = -1;
    socket->ended = true;
    socket_wake(socket);
    cond_broadcast(&socket->changed);
    mutex_unlock(&socket->lock);
    if (natsConnection_ProcessCloseEvent && descriptor >= 0)
        natsConnection_ProcessCloseEvent(&descriptor); /* else it closes it itself */
    return NATS_OK;
}

static natsStatus on_write(void *data, bool add)
{
    struct socket_transport *socket = data;
    mutex_lock(&socket->lock);
    socket->wants_write = add;
    if (add)
        socket_wake(socket);
    mutex_unlock(&socket->lock);
    return NATS_OK;
}

static bool is_reader(const struct socket_transport *socket)
{
    return pthread_equal(pthread_self(), socket->reader.raw);
}

/* Without its lock. What it frees next, the reader is in no call of any more. */
static natsStatus on_detach(void *data)
{
    struct socket_transport *socket = data;
    mutex_lock(&socket->lock);
    socket->detached = true;
    socket_wake(socket);
    while (socket->in_call && !is_reader(socket))
        cond_wait(&socket->changed, &socket->lock);
    natsConnection *nc = socket->nc;
    mutex_unlock(&socket->lock);
    if (natsConnection_ProcessDetachedEvent && nc)
        natsConnection_ProcessDetachedEvent(nc);
    return NATS_OK;
}

/* --- what it calls otherwise, on its thread for that --- */

static void on_closed(natsConnection *nc, void *closure)
{
    struct socket_transport *socket = closure;
    (void)nc;
    mutex_lock(&socket->lock);
    socket->closed = true;
    socket_wake(socket);
    cond_broadcast(&socket->changed);
    mutex_unlock(&socket->lock);
}

/* There is no other server that could be tried at once. */
static int64_t on_reconnect_delay(natsConnection *nc, int attempts, void *closure)
{
    struct socket_transport *socket = closure;
    (void)nc;
    (void)attempts;
    mutex_lock(&socket->lock);
    socket->gone = true;
    socket_wake(socket);
    cond_broadcast(&socket->changed);
    mutex_unlock(&socket->lock);
    return NATS_UNTIL_TAKEN_OVER_MS;
}

/* The reader has seen what the server said itself. */
static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *closure)
{
    (void)nc;
    (void)sub;
    (void)status;
    (void)closure;
}

natsStatus socket_prepare(struct nats_transport *nats, natsOptions *options)
{
    struct socket_transport *socket = (struct socket_transport *)nats;
    natsStatus status =
        natsOptions_SetEventLoop(options, socket, on_attach, on_read, on_write, on_detach);
    if (status == NATS_OK)
        status = natsOptions_SetPingInterval(options, 0); /* the reader's are enough */
    if (status == NATS_OK)
        status = natsOptions_SetSendAsap(options, true); /* needs no thread for it */
    if (status == NATS_OK)
        status = natsOptions_SetDisconnectedCB(options, NULL, NULL);
    if (status == NATS_OK)
        status = natsOptions_SetReconnectedCB(options, NULL, NULL);
    if (status == NATS_OK)
        status = natsOptions_SetClosedCB(options, on_closed, socket);
    if (status == NATS_OK)
        status = natsOptions_SetErrorHandler(options, on_error, NULL);
    if (status == NATS_OK)
        status = natsOptions_SetCustomReconnectDelay(options, on_reconnect_delay, socket);
    return status;
}
