/* The calls of a link's writer, to a broker in this process. */
#include "broker/broker_transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/value.h"
#include "broker/broker_transport_private.h"

static struct broker_line *line_of(struct transport *transport)
{
    return (struct broker_line *)transport;
}

/* --- connecting --- */

/* Lock held. Why it takes no connection now; NULL: it does. */
static const char *why_not(const struct broker_line *line)
{
    const struct broker_server *server = line->server;
    must_hold(&server->lock);
    if (server->down)
        return "nobody answers there";
    return server->refused[0] ? server->refused : NULL;
}

/* Lock held. The greeting goes to the link and back; a frozen server does not answer it. */
static bool shake_hands(struct broker_line *line, uint64_t deadline_ns)
{
    struct broker_server *server = line->server;
    uint64_t now_ns = clock_now_ns(), ready_ns = now_ns + server->in_ns + server->out_ns;
    must_hold(&server->lock);
    while (!line->interrupted && !why_not(line) && now_ns < deadline_ns &&
           (server->frozen || now_ns < ready_ns)) {
        uint64_t until_ns = server->frozen || deadline_ns < ready_ns ? deadline_ns : ready_ns;
        cond_wait_until(&server->changed, &server->lock, until_ns);
        now_ns = clock_now_ns();
    }
    return !line->interrupted && !server->frozen && now_ns >= ready_ns;
}

static bool connect_to(struct transport *transport, struct transport_server *to)
{
    struct broker_line *line = line_of(transport);
    struct broker_server *server = line->server;
    int64_t timeout_ns = link_connect_timeout_ns(line->options);
    mutex_lock(&server->lock);
    bool answered = shake_hands(line, clock_now_ns() + (uint64_t)timeout_ns);
    const char *why = why_not(line);
    if (why)
        snprintf(to->reason, sizeof to->reason, "%s", why);
    else if (!answered)
        snprintf(to->reason, sizeof to->reason, "it does not end the handshake within %.3gs",
                 (double)timeout_ns / 1e9);
    else if (!(line->session = broker_session_new(line)))
        snprintf(to->reason, sizeof to->reason, "out of memory");
    bool connected = !why && answered && line->session;
    cond_signal(&server->work);
    mutex_unlock(&server->lock);
    return connected;
}

static void disconnect(struct transport *transport)
{
    struct broker_line *line = line_of(transport);
    struct broker_server *server = line->server;
    mutex_lock(&server->lock);
    broker_session_close(line->session);
    line->session = NULL;
    mutex_unlock(&server->lock);
}

/* --- messages --- */

static enum transport_sent send_message(struct broker_line *line,
                                        const struct broker_message *message, const char **why)
{
    struct broker_server *server = line->server;
    enum transport_sent sent = TRANSPORT_SENT;
    mutex_lock(&server->lock);
    if (line->session->lost) {
        sent = TRANSPORT_HELD;
    } else if (!broker_session_send(line->session, NOTE_PUBLISH, 0, message)) {
        sent = TRANSPORT_REFUSED;
        *why = "out of memory";
    }
    mutex_unlock(&server->lock);
    return sent;
}

static enum transport_sent publish(struct transport *transport,
                                   const struct transport_message *from, const char **why)
{
    struct broker_line *line = line_of(transport);
    char room[2][TRANSPORT_LINE_MAX];
    const struct broker_message message = {
        .subject = transport_text(from->subject, room[0]),
        .reply = transport_text(from->reply, room[1]),
        .headers = from->headers.len ? from->headers.at : NULL,
        .headers_len = from->headers.len,
        .data = from->data.at,
        .len = from->data.len,
    };
    if (message.headers_len + message.len > line->server->max_payload) {
        *why = "it is larger than the server takes";
        return TRANSPORT_REFUSED;
    }
    return send_message(line, &message, why);
}

static enum transport_pong ping(struct transport *transport, int64_t wait_ns)
{
    struct broker_line *line = line_of(transport);
    struct broker_server *server = line->server;
    uint64_t deadline_ns = clock_now_ns() + (uint64_t)wait_ns;
    mutex_lock(&server->lock);
    struct broker_session *session = line->session;
    bool asked = !session->lost && broker_session_send(session, NOTE_PING, 0, NULL);
    uint64_t target = ++session->pings;
    while (asked && !session->lost && session->pongs < target &&
           cond_wait_until(&server->changed, &server->lock, deadline_ns))
        ;
    enum transport_pong pong = !asked || session->lost    ? TRANSPORT_NO_PING
                               : session->pongs >= target ? TRANSPORT_PONG
                                                          : TRANSPORT_NO_PONG;
    mutex_unlock(&server->lock);
    return pong;
}

/* Nothing waits to be written. Where the writer is alone it asks for PONGs, as it does of nats.c.
 */
static bool push(struct transport *transport)
{
    return line_of(transport)->server->any_thread;
}

/* Of a broker in this process there is no network. */
static uint64_t network_rtt_ns(struct transport *transport)
{
    (void)transport;
    return 0;
}

/* --- subscriptions --- */

static const struct transport_kind calls;

static enum transport_subscribed subscribe(struct transport *transport, const char *subject,
                                           const char *queue,
                                           const struct transport_handler *handler,
                                           struct transport_sub **out, const char **why)
{
    struct broker_line *line = line_of(transport);
    struct broker_server *server = line->server;
    struct broker_message message = {.subject = subject, .reply = queue};
    struct broker_sub *sub = calloc(1, sizeof *sub);
    mutex_lock(&server->lock);
    struct broker_session *session = line->session;
    bool lost = session->lost;
    bool sent = sub && !lost &&
                broker_session_send(session, NOTE_SUBSCRIBE, session->last_sid + 1, &message);
    if (sent) {
        sub->sub = (struct transport_sub){transport, &calls};
        sub->session = session;
        sub->handler = *handler;
        sub->sid = ++session->last_sid;
        DL_APPEND(session->subs, sub);
        *out = &sub->sub;
    }
    mutex_unlock(&server->lock);
    if (sent)
        return TRANSPORT_SUBSCRIBED;
    free(sub);
    *why = lost ? NULL : "out of memory";
    return TRANSPORT_UNSUBSCRIBED;
}

/* Lock held. Where the server cannot be asked, what has come is all that comes. */
static void end_sub(struct broker_session *session, const struct broker_sub *sub)
{
    must_hold(&session->server->lock);
    if (session->lost)
        broker_session_answer(session, NOTE_ENDED, sub->sid, NULL);
    else
        broker_session_send(session, NOTE_UNSUBSCRIBE, sub->sid, NULL);
}

static void drain(struct transport_sub *from)
{
    struct broker_sub *sub = (struct broker_sub *)from;
    struct broker_server *server = line_of(from->transport)->server;
    mutex_lock(&server->lock);
    if (sub->session)
        end_sub(sub->session, sub);
    mutex_unlock(&server->lock);
}

static void unsubscribe(struct transport_sub *from)
{
    struct broker_sub *sub = (struct broker_sub *)from;
    struct broker_server *server = line_of(from->transport)->server;
    mutex_lock(&server->lock);
    sub->dropped = true;
    if (sub->session)
        end_sub(sub->session, sub);
    mutex_unlock(&server->lock);
}

/* What has come before a loss is handed up before it. */
static void await(struct transport_sub *sub)
{
    (void)sub;
}

static void sub_free(struct transport_sub *sub)
{
    free(sub);
}

/* --- the rest --- */

static void describe(struct transport *transport, struct transport_place *place)
{
    const struct broker_line *line = line_of(transport);
    snprintf(place->url, sizeof place->url, "%s", line->options->servers[0]);
    place->max_payload = line->server->max_payload;
    place->wire = "broker";
    place->any_thread = line->server->any_thread;
}

static bool find_servers(struct transport *transport, char ***urls, int *count)
{
    (void)transport;
    (void)urls;
    (void)count;
    return false;
}

static void interrupt(struct transport *transport)
{
    struct broker_line *line = line_of(transport);
    mutex_lock(&line->server->lock);
    line->interrupted = true;
    cond_broadcast(&line->server->changed);
    mutex_unlock(&line->server->lock);
}

static void end_thread(struct transport *transport)
{
    (void)transport;
}

static void free_line(struct transport *transport)
{
    struct broker_line *line = line_of(transport);
    struct broker_server *server = line->server;
    mutex_lock(&server->lock);
    DL_DELETE(server->lines, line);
    mutex_unlock(&server->lock);
    free(line);
}

static const struct transport_kind calls = {
    .connect = connect_to,
    .disconnect = disconnect,
    .publish = publish,
    .push = push,
    .ping = ping,
    .network_rtt_ns = network_rtt_ns,
    .subscribe = subscribe,
    .drain = drain,
    .unsubscribe = unsubscribe,
    .await = await,
    .sub_free = sub_free,
    .describe = describe,
    .find_servers = find_servers,
    .interrupt = interrupt,
    .end_thread = end_thread,
    .free = free_line,
};

struct transport *broker_line_make(const struct transport_maker *maker,
                                   const struct link_options *options, struct clock *clock,
                                   const struct transport_events *events, struct err *err)
{
    struct broker_server *server = (struct broker_server *)maker;
    struct broker_line *line = calloc(1, sizeof *line);
    (void)clock;
    if (!line) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    line->transport.kind = &calls;
    line->server = server;
    line->options = options;
    line->events = *events;
    mutex_lock(&server->lock);
    line->number = server->made++;
    DL_APPEND(server->lines, line);
    mutex_unlock(&server->lock);
    return &line->transport;
}
