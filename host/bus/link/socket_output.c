/* What is to be sent: whoever has something puts it behind the rest, and it is sent without
 * waiting; what the network does not take, the reader sends when it does. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/value.h"
#include "bus/link/encode.h"
#include "bus/link/socket_private.h"

#define PIECE_BYTES ((size_t)32 * 1024)
/* So many pieces go with one call of the kernel. */
#define PIECES_AT_ONCE 16
/* From here on it is sent though there will be more; and from there on the writer waits. */
#define SEND_BYTES ((size_t)64 * 1024)
#define WAIT_BYTES ((size_t)256 * 1024)

/* --- pieces --- */

static struct socket_piece *new_piece(struct socket_output *out, size_t least)
{
    struct socket_piece *piece = out->spare;
    if (piece && least <= piece->capacity) {
        out->spare = NULL;
        return piece;
    }
    size_t capacity = least > PIECE_BYTES ? least : PIECE_BYTES;
    piece = malloc(sizeof *piece + capacity);
    if (piece)
        *piece = (struct socket_piece){.capacity = capacity};
    return piece;
}

static void drop_piece(struct socket_output *out, struct socket_piece *piece)
{
    if (out->spare || piece->capacity > PIECE_BYTES) {
        free(piece);
        return;
    }
    *piece = (struct socket_piece){.capacity = piece->capacity};
    out->spare = piece;
}

/* Where `most` bytes may be written, in one piece; NULL: out of memory. */
static char *make_room(struct socket_output *out, size_t most)
{
    struct socket_piece *piece = out->tail;
    if (piece && most <= piece->capacity - piece->to)
        return piece->bytes + piece->to;
    piece = new_piece(out, most);
    if (!piece)
        return NULL;
    if (out->tail)
        out->tail->next = piece;
    else
        out->head = piece;
    out->tail = piece;
    return piece->bytes;
}

static void count_put(struct socket_output *out, size_t len)
{
    out->tail->to += len;
    out->bytes += len;
}

static void count_sent(struct socket_output *out, size_t sent)
{
    out->bytes -= sent;
    while (out->head && sent >= out->head->to - out->head->from) {
        struct socket_piece *piece = out->head;
        sent -= piece->to - piece->from;
        out->head = piece->next;
        drop_piece(out, piece);
    }
    if (!out->head)
        out->tail = NULL;
    else
        out->head->from += sent;
}

void socket_output_clear(struct socket_transport *socket)
{
    must_hold(&socket->lock);
    count_sent(&socket->out, socket->out.bytes);
    socket->out.blocked = false;
}

/* --- sending --- */

static void fail(struct socket_transport *socket)
{
    must_hold(&socket->lock);
    socket->live = false;
    socket->failed = true;
    socket_wake(socket);
}

static ssize_t send_some(const struct socket_transport *socket)
{
    struct iovec pieces[PIECES_AT_ONCE];
    struct msghdr message = {.msg_iov = pieces};
    for (struct socket_piece *piece = socket->out.head;
         piece && message.msg_iovlen < PIECES_AT_ONCE; piece = piece->next)
        pieces[message.msg_iovlen++] =
            (struct iovec){piece->bytes + piece->from, piece->to - piece->from};
    return sendmsg(socket->tcp, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void socket_send_on(struct socket_transport *socket)
{
    must_hold(&socket->lock);
    struct socket_output *out = &socket->out;
    bool was_blocked = out->blocked;
    while (socket->live && out->bytes) {
        ssize_t sent = send_some(socket);
        if (sent > 0) {
            count_sent(out, (size_t)sent);
            if (out->blocked)
                out->progress_ns = clock_now_ns();
        } else if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            if (!out->blocked) {
                out->blocked = true;
                out->progress_ns = clock_now_ns();
                socket_wake(socket);
            }
            break;
        } else if (sent == 0 || errno != EINTR) {
            fail(socket);
        }
    }
    if (!out->bytes)
        out->blocked = false;
    if (!was_blocked)
        return;
    cond_broadcast(&socket->changed);
    if (!out->bytes)
        socket_wake(socket); /* a writer that closes has waited for that */
}

void socket_send(struct socket_transport *socket)
{
    must_hold(&socket->lock);
    if (!socket->out.blocked)
        socket_send_on(socket);
}

bool socket_put(struct socket_transport *socket, const char *text, size_t len)
{
    must_hold(&socket->lock);
    char *room = make_room(&socket->out, len);
    if (!room) { /* the server would miss it for ever */
        fail(socket);
        return false;
    }
    memcpy(room, text, len);
    count_put(&socket->out, len);
    return true;
}

uint64_t socket_put_ping(struct socket_transport *socket)
{
    static const char ping[] = "PING\r\n";
    must_hold(&socket->lock);
    bool asked = socket->live && socket_put(socket, ping, sizeof ping - 1);
    return asked ? ++socket->pings : 0;
}

/* --- the writer's calls --- */

static const char *refuse(const struct socket_transport *socket,
                          const struct transport_message *message)
{
    size_t headers = message->headers.len;
    if (!message->subject.len)
        return natsStatus_GetText(NATS_INVALID_SUBJECT);
    if (headers + message->data.len > atomic_load(&socket->max_payload))
        return natsStatus_GetText(NATS_MAX_PAYLOAD);
    if (headers && !atomic_load(&socket->headers))
        return natsStatus_GetText(NATS_NO_SERVER_SUPPORT);
    return NULL;
}

/* Until there is room, or no session. Whoever ends a session that takes nothing is the reader.
 * False: there is no session, or no room and it does not wait. */
static bool find_room(struct socket_transport *socket, bool waits) NEEDS(socket->lock);

static bool find_room(struct socket_transport *socket, bool waits)
{
    must_hold(&socket->lock);
    while (socket->live && socket->out.blocked && socket->out.bytes > WAIT_BYTES) {
        if (!waits)
            return false;
        cond_wait(&socket->changed, &socket->lock);
    }
    return socket->live;
}

enum transport_sent socket_publish(struct transport *transport,
                                   const struct transport_message *message, const char **why)
{
    struct socket_transport *socket = socket_of(transport);
    if (!socket->own)
        return nats_publish(transport, message, why);
    enum transport_sent sent = TRANSPORT_HELD;
    *why = refuse(socket, message);
    if (*why)
        return TRANSPORT_REFUSED;
    mutex_lock(&socket->lock);
    if (find_room(socket, message->waits)) {
        char *room = make_room(&socket->out, message->wire.len);
        sent = room ? TRANSPORT_SENT : TRANSPORT_REFUSED;
        if (room) {
            memcpy(room, message->wire.at, message->wire.len);
            count_put(&socket->out, message->wire.len);
        } else {
            *why = "out of memory";
        }
        if (socket->out.bytes >= SEND_BYTES)
            socket_send(socket);
    }
    mutex_unlock(&socket->lock);
    return sent;
}

bool socket_push(struct transport *transport)
{
    struct socket_transport *socket = socket_of(transport);
    if (!socket->own)
        return false;
    mutex_lock(&socket->lock);
    socket_send(socket);
    mutex_unlock(&socket->lock);
    return true;
}

/* The number of the PONG that is waited for: of a PING that is under way, or of a new one. 0: none
 * will come. */
static uint64_t await_pong(struct socket_transport *socket)
{
    must_hold(&socket->lock);
    if (!socket->awaited || socket->awaited_in != socket->ended_count) {
        socket->awaited = socket_put_ping(socket);
        socket->awaited_in = socket->ended_count;
    }
    if (socket->awaited)
        socket_send(socket); /* what was published meanwhile, too */
    return socket->awaited;
}

enum transport_pong socket_ping(struct transport *transport, int64_t wait_ns)
{
    struct socket_transport *socket = socket_of(transport);
    if (!socket->own)
        return nats_ping(transport, wait_ns);
    uint64_t until_ns = clock_now_ns() + (uint64_t)(wait_ns > 0 ? wait_ns : 0);
    mutex_lock(&socket->lock);
    uint64_t number = await_pong(socket), session = socket->ended_count;
    while (number && socket->live && socket->ended_count == session && socket->pongs < number &&
           cond_wait_until(&socket->changed, &socket->lock, until_ns))
        ;
    bool live = socket->live && socket->ended_count == session; /* another one answers nothing */
    bool answered = number && live && socket->pongs >= number;
    if (answered || !live)
        socket->awaited = 0;
    mutex_unlock(&socket->lock);
    if (answered)
        return TRANSPORT_PONG;
    return live ? TRANSPORT_LATE : TRANSPORT_NO_PING;
}
