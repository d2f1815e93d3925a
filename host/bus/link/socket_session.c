/* Between nats.c and us, on the reader's thread: a session's beginning and end, what the server
 * says to nats.c, and what nats.c has left word of. */
#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/link/socket_private.h"

/* How long nats.c may take to send the PING by which a session proves itself: nothing of it goes
 * over the network, so this is for a machine that has other things to do. */
#define VERIFY_NS (5 * NS_PER_S)
/* How often nats.c is told to read what it does not take. */
#define READS_MOST 256
/* The same for the end of its descriptor, with a pause between. */
#define ENDS_MOST 200
#define END_PAUSE_NS (2 * NS_PER_MS)

/* --- calls into nats.c, by the reader alone --- */

/* NULL: it may not be called. while_closing: this call may be made when the writer is about to
 * destroy it, too. */
static natsConnection *enter(struct socket_transport *socket, bool while_closing)
{
    mutex_lock(&socket->lock);
    bool may = socket->nc && !socket->detached && (while_closing || !socket->closing);
    natsConnection *nc = may ? socket->nc : NULL;
    socket->in_call = may;
    mutex_unlock(&socket->lock);
    return nc;
}

static void leave(struct socket_transport *socket)
{
    mutex_lock(&socket->lock);
    socket->in_call = false;
    cond_broadcast(&socket->changed);
    mutex_unlock(&socket->lock);
}

static bool has_ended(struct socket_transport *socket)
{
    mutex_lock(&socket->lock);
    bool ended = socket->ended;
    mutex_unlock(&socket->lock);
    return ended;
}

/* Has nats.c read all that is on its way to it? */
static bool has_read(const struct socket_transport *socket)
{
    int left = 0;
    return ioctl(socket->ctl, SIOCOUTQ, &left) != 0 || left == 0;
}

/* Writes to nats.c, and has it read that. False: there is nobody. */
static bool write_to_nats(struct socket_transport *socket, const char *text, size_t len,
                          bool while_closing)
{
    for (int i = 0; i < READS_MOST; i++) {
        ssize_t sent = socket->ctl < 0 ? -1 : len ? send(socket->ctl, text, len, MSG_NOSIGNAL) : 0;
        if (sent < 0 && (socket->ctl < 0 || errno != EAGAIN))
            return false;
        text += sent > 0 ? sent : 0;
        len -= sent > 0 ? (size_t)sent : 0;
        natsConnection *nc = enter(socket, while_closing);
        if (!nc)
            return true;
        natsConnection_ProcessReadEvent(nc);
        leave(socket);
        if (has_ended(socket) || (len == 0 && has_read(socket)))
            return true;
    }
    return len == 0;
}

/* What nats.c knows of the server; after each INFO. */
static void look_at_server(struct socket_transport *socket)
{
    const struct transport_events *events = &socket->nats.events;
    natsConnection *nc = enter(socket, false);
    if (!nc)
        return;
    nats_note_connected(&socket->nats, nc);
    atomic_store(&socket->headers, natsConnection_HasHeaderSupport(nc) == NATS_OK);
    leave(socket);
    mutex_lock(&socket->nats.lock);
    size_t max_payload = socket->nats.max_payload;
    mutex_unlock(&socket->nats.lock);
    size_t before = atomic_exchange(&socket->max_payload, max_payload ? max_payload : SIZE_MAX);
    if (socket->up && max_payload && max_payload != before)
        events->on_max_payload(events->owner, max_payload);
}

bool socket_feed(struct socket_transport *socket, const char *line, size_t len)
{
    bool there = write_to_nats(socket, line, len, false), ended = has_ended(socket);
    if (there && !ended) {
        look_at_server(socket);
        return true;
    }
    if (ended)
        socket_close(&socket->ctl);
    socket_lost(socket, ended ? NULL : "nats.c does not take what the server says");
    return false;
}

/* --- the ends of a session --- */

void socket_unfit(struct socket_transport *socket, enum socket_fitness fitness, const char *why)
{
    mutex_lock(&socket->lock);
    if (socket->fitness == SOCKET_FIT) {
        socket->fitness = fitness;
        snprintf(socket->unfit_why, sizeof socket->unfit_why, "%s", why);
    }
    bool made = socket->made;
    cond_broadcast(&socket->changed);
    mutex_unlock(&socket->lock);
    if (made) /* the writer makes another one */
        socket->nats.events.on_gone(socket->nats.events.owner);
}

/* nats.c finds the end of its descriptor, and makes another session. in_call is held from before
 * that end until it has noticed, so that nobody destroys it in between. */
static void end_control(struct socket_transport *socket)
{
    natsConnection *nc = enter(socket, false);
    if (!nc)
        return; /* it is being closed: a last PING of its is still answered */
    socket_close(&socket->ctl);
    bool ended = false;
    for (int i = 0; i < ENDS_MOST && !ended; i++) {
        if (i)
            thread_sleep_until(clock_now_ns() + (uint64_t)END_PAUSE_NS);
        natsConnection_ProcessReadEvent(nc);
        mutex_lock(&socket->lock);
        ended = socket->ended || socket->next_tcp >= 0 || socket->detached;
        mutex_unlock(&socket->lock);
    }
    leave(socket);
    if (!ended)
        socket_unfit(socket, SOCKET_UNFIT, "it does not see the end of its descriptor");
}

/* Half a message must not go on in the next session: what was not sent is dropped. */
static void end_tcp(struct socket_transport *socket)
{
    mutex_lock(&socket->lock);
    if (socket->tcp >= 0)
        shutdown(socket->tcp, SHUT_RDWR);
    socket_close(&socket->tcp);
    socket->live = socket->failed = false;
    socket_output_clear(socket);
    socket->pongs = socket->pings;
    socket->ended_count++;
    cond_broadcast(&socket->changed);
    mutex_unlock(&socket->lock);
    chunk_input_clear(&socket->in);
    socket->in_wanted = socket->in_seen = 0;
    socket->verifying = false;
    socket->unanswered = 0;
    socket->unanswered_ns = 0;
}

static void tell_lost(struct socket_transport *socket, const char *why)
{
    const struct transport_events *events = &socket->nats.events;
    mutex_lock(&socket->lock);
    bool closing = socket->closing;
    mutex_unlock(&socket->lock);
    socket->up = false;
    if (closing)
        return;
    nats_set_returning(&socket->nats, true);
    if (why)
        events->on_error(events->owner, why);
    events->on_lost(events->owner);
}

void socket_lost(struct socket_transport *socket, const char *why)
{
    socket_end_read(socket);
    end_tcp(socket);
    socket_subs_end(socket, SOCKET_LEAVING);
    if (socket->up)
        tell_lost(socket, why);
    socket->line_len = 0;
    if (socket->ctl >= 0)
        end_control(socket);
}

/* --- the beginning of one --- */

static void go_live(struct socket_transport *socket)
{
    const struct transport_events *events = &socket->nats.events;
    look_at_server(socket);
    mutex_lock(&socket->lock);
    bool again = socket->made;
    bool closing = socket->closing;
    if (!closing) {
        socket->live = true;
        socket->made = true;
        socket_subs_send(socket);
        socket_send(socket);
    }
    cond_broadcast(&socket->changed);
    mutex_unlock(&socket->lock);
    socket->verifying = false;
    if (closing)
        return;
    socket->up = true;
    socket->live_ns = clock_now_ns();
    socket->ping_at_ns = socket->live_ns + (uint64_t)link_ping_interval_ns(socket->nats.options);
    nats_set_returning(&socket->nats, false);
    if (again)
        events->on_back(events->owner);
}

/* One line of nats.c's. False: it is none that it may write. */
static bool take_line(struct socket_transport *socket, const char *line)
{
    static const char pong[] = "PONG\r\n";
    if (strncmp(line, "PONG", 4) == 0)
        return true;
    if (strncmp(line, "PING", 4) != 0)
        return false;
    if (write_to_nats(socket, pong, sizeof pong - 1, true) && socket->verifying)
        go_live(socket);
    return true;
}

static bool is_tls(const char *line)
{
    return *line >= 0x14 && *line <= 0x18;
}

static void end_unfit(struct socket_transport *socket, bool tls)
{
    socket_lost(socket, NULL);
    if (tls)
        socket_unfit(socket, SOCKET_TLS, "TLS");
    else
        socket_unfit(socket, SOCKET_UNFIT, "it writes there what is no PING");
}

/* False: nothing is there. */
static bool read_some_control(struct socket_transport *socket)
{
    char *line = socket->line, *end;
    ssize_t got = recv(socket->ctl, line + socket->line_len, sizeof socket->line - socket->line_len,
                       MSG_DONTWAIT);
    if (got < 0)
        return false;
    if (got == 0) {
        bool used = !socket->verifying || has_ended(socket);
        socket_close(&socket->ctl);
        socket_lost(socket, NULL);
        if (!used)
            socket_unfit(socket, SOCKET_UNFIT, "it does not use its descriptor");
        return false;
    }
    socket->line_len += (size_t)got;
    while ((end = memchr(line, '\n', socket->line_len))) {
        size_t len = (size_t)(end + 1 - line);
        if (!take_line(socket, line)) {
            end_unfit(socket, is_tls(line));
            return false;
        }
        if (socket->line_len < len) /* the session has ended with it */
            return false;
        socket->line_len -= len;
        memmove(line, line + len, socket->line_len);
    }
    if (is_tls(line) || socket->line_len == sizeof socket->line) {
        end_unfit(socket, is_tls(line));
        return false;
    }
    return true;
}

void socket_read_control(struct socket_transport *socket)
{
    while (socket->ctl >= 0 && read_some_control(socket))
        ;
}

/* --- orders --- */

/* A session may come before the end of the last one was noticed. */
static void take_session(struct socket_transport *socket)
{
    mutex_lock(&socket->lock);
    int tcp = socket->next_tcp, ctl = socket->next_ctl;
    socket->next_tcp = socket->next_ctl = -1;
    mutex_unlock(&socket->lock);
    if (socket->tcp >= 0 || socket->ctl >= 0) {
        socket_close(&socket->ctl);
        socket_lost(socket, NULL);
    }
    mutex_lock(&socket->lock);
    if (socket->closing)
        socket_close(&tcp);
    socket->tcp = tcp;
    cond_broadcast(&socket->changed);
    mutex_unlock(&socket->lock);
    socket->ctl = ctl;
    socket->line_len = 0;
    socket->verifying = tcp >= 0;
    socket->verify_until_ns = clock_now_ns() + (uint64_t)VERIFY_NS;
}

static void let_nats_write(struct socket_transport *socket)
{
    natsConnection *nc = enter(socket, true);
    if (!nc)
        return;
    natsConnection_ProcessWriteEvent(nc);
    leave(socket);
    socket_read_control(socket);
}

/* The last call up of a connection. */
static void end_connection(struct socket_transport *socket)
{
    const struct transport_events *events = &socket->nats.events;
    socket_close(&socket->ctl);
    if (socket->tcp >= 0 || socket->up)
        socket_lost(socket, NULL);
    nats_set_returning(&socket->nats, false);
    mutex_lock(&socket->lock);
    bool made = socket->made;
    socket->closed = socket->gone = false;
    mutex_unlock(&socket->lock);
    socket_subs_end(socket, SOCKET_ALL);
    if (made)
        events->on_closed(events->owner);
    mutex_lock(&socket->lock);
    socket->over = true;
    cond_broadcast(&socket->changed);
    mutex_unlock(&socket->lock);
}

struct socket_orders {
    bool session, failed, ended, wants_write, closing, gone, closed;
};

static struct socket_orders read_orders(struct socket_transport *socket)
{
    uint64_t count;
    ssize_t got = read(socket->wake, &count, sizeof count);
    (void)got;
    mutex_lock(&socket->lock);
    bool session = socket->next_tcp >= 0;
    struct socket_orders orders = {
        .session = session,
        .failed = socket->failed,
        .ended = socket->ended && !session && socket->ctl >= 0,
        .wants_write = socket->wants_write,
        .closing = socket->closing && socket->tcp >= 0 && !socket->out.bytes,
        .gone = socket->gone && socket->made,
        .closed = socket->closed,
    };
    if (orders.gone)
        socket->gone = false;
    mutex_unlock(&socket->lock);
    return orders;
}

void socket_take_orders(struct socket_transport *socket)
{
    const struct transport_events *events = &socket->nats.events;
    struct socket_orders orders = read_orders(socket);
    if (orders.failed || orders.ended) {
        if (!socket->verifying)
            socket_read(socket); /* what had come before */
        if (orders.ended)
            socket_close(&socket->ctl);
        if (socket->tcp >= 0)
            socket_lost(socket, NULL);
    }
    if (orders.session)
        take_session(socket);
    if (orders.wants_write && socket->ctl >= 0)
        let_nats_write(socket);
    if (orders.closing)
        socket_lost(socket, NULL);
    socket_subs_end(socket, SOCKET_DUE);
    if (orders.gone) {
        nats_set_returning(&socket->nats, false);
        events->on_gone(events->owner);
    }
    if (orders.closed)
        end_connection(socket);
}
