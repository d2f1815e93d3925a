/* Subscriptions: in a table by the number that the server knows them by. They outlive a session,
 * and are sent again in the next one that nats.c makes; those that leave end with the session. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/value.h"
#include "bus/link/encode.h"
#include "bus/link/socket_private.h"

/* How long is waited for the reader to hand up what has come. */
#define AWAIT_NS (200 * NS_PER_MS)

static struct socket_transport *transport_of(const struct socket_sub *sub)
{
    return socket_of(sub->sub.transport);
}

/* --- on the wire --- */

/* Lock held. SUB subject [queue] number */
static bool send_sub(struct socket_transport *socket, const struct socket_sub *sub)
{
    must_hold(&socket->lock);
    char number[24];
    size_t digits = (size_t)(encode_number(number, sub->sid) - number);
    bool sent = socket_put(socket, "SUB ", 4) &&
                socket_put(socket, sub->subject, strlen(sub->subject)) &&
                socket_put(socket, " ", 1);
    if (sent && sub->queue)
        sent = socket_put(socket, sub->queue, strlen(sub->queue)) && socket_put(socket, " ", 1);
    return sent && socket_put(socket, number, digits) && socket_put(socket, "\r\n", 2);
}

static bool send_unsub(struct socket_transport *socket, const struct socket_sub *sub)
{
    must_hold(&socket->lock);
    char text[40] = "UNSUB ";
    char *end = encode_number(text + 6, sub->sid);
    memcpy(end, "\r\n", 2);
    return socket_put(socket, text, (size_t)(end + 2 - text));
}

void socket_subs_send(struct socket_transport *socket)
{
    must_hold(&socket->lock);
    for (struct socket_sub *sub = socket->subs; sub && socket->live; sub = sub->hh.next) {
        if (!sub->leaving)
            send_sub(socket, sub);
    }
}

/* --- the writer's calls --- */

static void free_sub(struct socket_sub *sub)
{
    free(sub->subject);
    free(sub->queue);
    free(sub);
}

static struct socket_sub *new_sub(struct transport *transport, const char *subject,
                                  const char *queue, const struct transport_handler *handler)
{
    struct socket_sub *sub = calloc(1, sizeof *sub);
    if (!sub)
        return NULL;
    sub->sub = (struct transport_sub){transport, &socket_transport_kind};
    sub->handler = *handler;
    sub->subject = strdup(subject);
    sub->queue = queue ? strdup(queue) : NULL;
    if (sub->subject && (!queue || sub->queue))
        return sub;
    free_sub(sub);
    return NULL;
}

/* False: out of memory. */
static bool add_sub(struct socket_transport *socket, struct socket_sub *sub)
{
    must_hold(&socket->lock);
    sub->sid = ++socket->last_sid;
    HASH_ADD(hh, socket->subs, sid, sizeof sub->sid, sub);
    sub->in_table = table_has(sub);
    if (sub->in_table && socket->live && send_sub(socket, sub))
        socket_send(socket);
    return sub->in_table;
}

enum transport_subscribed socket_subscribe(struct transport *transport, const char *subject,
                                           const char *queue,
                                           const struct transport_handler *handler,
                                           struct transport_sub **out, const char **why)
{
    struct socket_transport *socket = socket_of(transport);
    if (!socket->own)
        return nats_subscribe(transport, subject, queue, handler, out, why);
    struct socket_sub *sub = new_sub(transport, subject, queue, handler);
    *why = "out of memory";
    if (!sub)
        return TRANSPORT_UNSUBSCRIBED;
    mutex_lock(&socket->lock);
    bool over = socket->over, added = !over && add_sub(socket, sub);
    mutex_unlock(&socket->lock);
    if (added) {
        *out = &sub->sub;
        return TRANSPORT_SUBSCRIBED;
    }
    if (over)
        *why = NULL;
    free_sub(sub);
    return TRANSPORT_UNSUBSCRIBED;
}

/* Lock held. at: the PONG with which it ends, or 0. */
static void let_leave(struct socket_transport *socket, struct socket_sub *sub, uint64_t at)
{
    must_hold(&socket->lock);
    socket->leaving += !sub->leaving;
    sub->leaving = true;
    sub->leave_at = at;
    if (!at)
        socket_wake(socket);
}

void socket_drain(struct transport_sub *from)
{
    struct socket_sub *sub = (struct socket_sub *)from;
    struct socket_transport *socket = transport_of(sub);
    mutex_lock(&socket->lock);
    if (sub->in_table && !sub->leaving) {
        bool told = socket->live && send_unsub(socket, sub);
        let_leave(socket, sub, told ? socket_put_ping(socket) : 0);
        socket_send(socket);
    }
    mutex_unlock(&socket->lock);
}

/* --- any thread's --- */

void socket_unsubscribe(struct transport_sub *from)
{
    struct socket_sub *sub = (struct socket_sub *)from;
    struct socket_transport *socket = transport_of(sub);
    atomic_store(&sub->silent, true);
    mutex_lock(&socket->lock);
    if (sub->in_table) {
        if (!sub->leaving && socket->live && send_unsub(socket, sub))
            socket_send(socket);
        let_leave(socket, sub, 0);
    }
    mutex_unlock(&socket->lock);
}

/* What has come before a loss is handed up before it; else a round of the reader sees to it. */
void socket_await(struct transport_sub *from)
{
    struct socket_sub *sub = (struct socket_sub *)from;
    struct socket_transport *socket = transport_of(sub);
    uint64_t until_ns = clock_now_ns() + (uint64_t)AWAIT_NS;
    mutex_lock(&socket->lock);
    uint64_t round = socket->rounds + 1;
    socket_wake(socket);
    while (sub->in_table && socket->live && socket->rounds < round &&
           cond_wait_until(&socket->changed, &socket->lock, until_ns))
        ;
    mutex_unlock(&socket->lock);
}

void socket_sub_free(struct transport_sub *sub)
{
    free_sub((struct socket_sub *)sub);
}

/* --- the reader's --- */

struct socket_sub *socket_find_sub(struct socket_transport *socket, uint64_t sid)
{
    struct socket_sub *sub = socket->last;
    if (sub && sub->sid == sid)
        return sub;
    mutex_lock(&socket->lock);
    HASH_FIND(hh, socket->subs, &sid, sizeof sid, sub);
    mutex_unlock(&socket->lock);
    socket->last = sub;
    return sub;
}

/* Lock held. Takes one out of the table that is to end. */
static struct socket_sub *take_leaver(struct socket_transport *socket, enum socket_leavers which)
{
    must_hold(&socket->lock);
    if (which != SOCKET_ALL && !socket->leaving)
        return NULL;
    for (struct socket_sub *sub = socket->subs; sub; sub = sub->hh.next) {
        bool due = sub->leaving && (which == SOCKET_LEAVING || sub->leave_at <= socket->pongs);
        if (!due && which != SOCKET_ALL)
            continue;
        HASH_DEL(socket->subs, sub);
        sub->in_table = false;
        socket->leaving -= sub->leaving;
        return sub;
    }
    return NULL;
}

void socket_subs_end(struct socket_transport *socket, enum socket_leavers which)
{
    struct socket_sub *sub;
    mutex_lock(&socket->lock);
    while ((sub = take_leaver(socket, which))) {
        mutex_unlock(&socket->lock);
        socket->last = NULL;
        socket_end_read(socket);
        sub->handler.on_end(sub->handler.owner); /* it may be gone then */
        mutex_lock(&socket->lock);
    }
    mutex_unlock(&socket->lock);
}
