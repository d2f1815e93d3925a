/* What has come over the socket: read, parsed, and handed up. On the reader's thread. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/value.h"
#include "bus/link/burst.h"
#include "bus/link/parse.h"
#include "bus/link/socket_private.h"

/* So much is read before the reader looks at what else there is to do. */
#define READS_AT_ONCE 64
/* Sessions in a row that end so soon, as it is not NATS: it may be us who is wrong. */
#define BROKEN_MOST 3
#define BROKEN_NS NS_PER_S
/* A server that takes nothing, and asks all the same, gets no more answers behind so much. */
#define ANSWERED_BYTES ((size_t)1024 * 1024)

void socket_end_read(struct socket_transport *socket)
{
    if (!socket->reading)
        return;
    socket->reading = false;
    socket->nats.events.on_read_end(socket->nats.events.owner);
}

/* --- messages --- */

/* Ends a text where it lies; what is behind it has been read. */
static const char *end_text(struct span text)
{
    if (text.at)
        ((char *)text.at)[text.len] = '\0';
    return text.at;
}

static void hand_up(struct socket_transport *socket, const struct parsed *message)
{
    const struct socket_sub *sub = socket_find_sub(socket, message->sid);
    if (!sub || atomic_load_explicit(&sub->silent, memory_order_relaxed))
        return;
    struct packet packet = {
        .subject = end_text(message->subject),
        .reply = end_text(message->reply),
        .data = end_text(message->data),
        .len = message->data.len,
        .memory = chunk_hand_out(&socket->in),
        .free_memory = chunk_release,
        .shared = message->len < socket->in.chunk->capacity,
    };
    if (message->headers.at && header_block_is(message->headers.at, message->headers.len))
        packet.headers = (struct header_block){message->headers.at, message->headers.len, NULL};
    socket->reading = true;
    sub->handler.on_message(sub->handler.owner, &packet);
    if (packet.subject) /* it was not taken */
        chunk_take_back(&socket->in);
}

/* --- the rest --- */

static void answer_ping(struct socket_transport *socket)
{
    static const char pong[] = "PONG\r\n";
    mutex_lock(&socket->lock);
    bool stuck = socket->out.blocked && socket->out.bytes > ANSWERED_BYTES;
    if (socket->live && !stuck && socket_put(socket, pong, sizeof pong - 1))
        socket_send(socket);
    mutex_unlock(&socket->lock);
}

static void take_pong(struct socket_transport *socket)
{
    socket_end_read(socket); /* who waits for it may look at what has come before */
    mutex_lock(&socket->lock);
    if (socket->pongs < socket->pings)
        socket->pongs++;
    cond_broadcast(&socket->changed);
    mutex_unlock(&socket->lock);
    socket->unanswered = 0;
    socket->unanswered_ns = 0;
    socket_subs_end(socket, SOCKET_DUE);
}

/* -ERR 'sentence': first to the link, as it may be why nats.c ends the session next. */
static void tell_error(struct socket_transport *socket, const char *line, size_t len)
{
    const struct transport_events *events = &socket->nats.events;
    char text[4096 + 256];
    size_t from = sizeof "-ERR" - 1;
    while (len > from && strchr("\r\n' ", line[len - 1]))
        len--;
    while (from < len && strchr("' ", line[from]))
        from++;
    snprintf(text, sizeof text, "%.*s", (int)(len - from), line + from);
    socket_end_read(socket);
    if (strcasestr(text, "permissions violation"))
        nats_tell_refusal(events, text);
    else
        events->on_error(events->owner, text);
}

/* False: the session has ended. */
static bool feed(struct socket_transport *socket, const char *line, size_t len)
{
    socket_end_read(socket);
    return socket_feed(socket, line, len);
}

static bool end_broken(struct socket_transport *socket, const char *why)
{
    char text[128];
    bool at_once = clock_now_ns() < socket->live_ns + (uint64_t)BROKEN_NS;
    snprintf(text, sizeof text, "what it sends is not NATS: %s", why);
    socket->broken = at_once ? socket->broken + 1 : 1;
    socket_lost(socket, text);
    if (socket->broken >= BROKEN_MOST)
        socket_unfit(socket, SOCKET_UNFIT, text);
    return false;
}

/* False: the session has ended. */
static bool take(struct socket_transport *socket, const char *at, const struct parsed *parsed)
{
    switch (parsed->kind) {
    case PARSE_MESSAGE:
        hand_up(socket, parsed);
        return true;
    case PARSE_PING:
        answer_ping(socket);
        return true;
    case PARSE_PONG:
        take_pong(socket);
        return true;
    case PARSE_ERR:
        tell_error(socket, at, parsed->len);
        return feed(socket, at, parsed->len);
    case PARSE_INFO:
        return feed(socket, at, parsed->len);
    case PARSE_BROKEN:
        return end_broken(socket, parsed->why);
    case PARSE_OK:
    case PARSE_MORE:
        break;
    }
    return true;
}

/* False: the session has ended. */
static bool take_all(struct socket_transport *socket)
{
    struct chunk_input *in = &socket->in;
    struct parsed parsed;
    while (in->to - in->from >= socket->in_wanted && in->from < in->to) {
        const char *at = in->chunk->bytes + in->from;
        parse_next(at, in->to - in->from, socket->in_seen, &parsed);
        if (parsed.kind == PARSE_MORE) {
            socket->in_wanted = parsed.len;
            socket->in_seen = parsed.seen;
            return true;
        }
        socket->in_wanted = socket->in_seen = 0;
        in->from += parsed.len;
        if (!take(socket, at, &parsed))
            return false;
    }
    return true;
}

/* How much more there has to be; of a line whose end is not there yet nobody knows. */
static size_t more_wanted(const struct socket_transport *socket)
{
    size_t there = socket->in.to - socket->in.from;
    if (socket->in_seen)
        return there < CHUNK_BYTES ? 1 : there;
    return socket->in_wanted > there ? socket->in_wanted - there : 1;
}

/* False: there is no more for now, or no session. */
static bool read_once(struct socket_transport *socket)
{
    struct chunk_input *in = &socket->in;
    if (!chunk_make_room(in, more_wanted(socket))) {
        socket_lost(socket, "out of memory");
        return false;
    }
    size_t room = in->chunk->capacity - in->to;
    ssize_t got = recv(socket->tcp, in->chunk->bytes + in->to, room, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR)
        return true;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    if (got <= 0) {
        socket_lost(socket, NULL);
        return false;
    }
    in->to += (size_t)got;
    struct burst burst = {.frames = 0};
    burst_begin(&burst);
    bool goes_on = take_all(socket);
    socket_end_read(socket);
    burst_end(&burst);
    return goes_on && (size_t)got == room;
}

void socket_read(struct socket_transport *socket)
{
    for (int i = 0; i < READS_AT_ONCE && socket->tcp >= 0; i++) {
        if (!read_once(socket))
            return;
    }
}
