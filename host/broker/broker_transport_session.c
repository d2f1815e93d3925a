/* A connection between a link and the broker: what is on its way, in both directions. All of it
 * with the server's lock held. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/value.h"
#include "broker/broker_transport_private.h"

/* --- notes --- */

static struct broker_note *note_new(enum broker_note_kind kind, uint64_t sid,
                                    const struct broker_message *message)
{
    static const struct broker_message nothing;
    const struct broker_message *from = message ? message : &nothing;
    size_t subject_len = from->subject ? strlen(from->subject) + 1 : 0;
    size_t reply_len = from->reply ? strlen(from->reply) + 1 : 0;
    struct broker_note *note =
        calloc(1, sizeof *note + subject_len + reply_len + from->headers_len + from->len);
    if (!note)
        return NULL;
    char *at = note->bytes;
    note->kind = kind;
    note->sid = sid;
    note->message = (struct broker_message){.headers_len = from->headers_len, .len = from->len};
    if (subject_len)
        note->message.subject = memcpy(at, from->subject, subject_len);
    at += subject_len;
    if (reply_len)
        note->message.reply = memcpy(at, from->reply, reply_len);
    at += reply_len;
    if (from->headers_len)
        note->message.headers = memcpy(at, from->headers, from->headers_len);
    at += from->headers_len;
    note->message.data = from->len ? memcpy(at, from->data, from->len) : at;
    return note;
}

static void note_free(struct broker_note *note)
{
    free(note->packet);
    free(note);
}

static void append(struct broker_notes *notes, struct broker_note *note, uint64_t due_ns)
{
    note->due_ns = notes->tail && notes->tail->due_ns > due_ns ? notes->tail->due_ns : due_ns;
    if (notes->tail)
        notes->tail->next = note;
    else
        notes->head = note;
    notes->tail = note;
}

static struct broker_note *take_arrived(struct broker_notes *notes, uint64_t now_ns)
{
    struct broker_note *note = notes->head;
    if (!note || note->due_ns > now_ns)
        return NULL;
    notes->head = note->next;
    if (!notes->head)
        notes->tail = NULL;
    return note;
}

static void drop_all(struct broker_notes *notes)
{
    struct broker_note *note;
    while ((note = take_arrived(notes, BROKER_NEVER)))
        note_free(note);
}

/* --- coming and going --- */

struct broker_session *broker_session_new(struct broker_line *line)
{
    struct broker_server *server = line->server;
    must_hold(&server->lock);
    struct broker_session *session = calloc(1, sizeof *session);
    if (!session)
        return NULL;
    session->server = server;
    session->line = line;
    session->client = broker_connect(server->broker);
    session->ping_at_ns = clock_now_ns() + (uint64_t)link_ping_interval_ns(line->options);
    if (!session->client) {
        free(session);
        return NULL;
    }
    DL_APPEND(server->sessions, session);
    return session;
}

void broker_session_reap(struct broker_session *session)
{
    must_hold(&session->server->lock);
    if (session->line || session->client)
        return;
    DL_DELETE(session->server->sessions, session);
    drop_all(&session->in);
    drop_all(&session->out);
    free(session);
}

void broker_session_disconnect(struct broker_session *session)
{
    must_hold(&session->server->lock);
    if (session->client)
        broker_disconnect(session->client);
    session->client = NULL;
    drop_all(&session->in);
}

/* --- to the server --- */

bool broker_session_send(struct broker_session *session, enum broker_note_kind kind, uint64_t sid,
                         const struct broker_message *message)
{
    struct broker_server *server = session->server;
    must_hold(&server->lock);
    if (session->cut) /* into a socket that nobody reads */
        return true;
    struct broker_note *note = note_new(kind, sid, message);
    if (!note)
        return false;
    append(&session->in, note, clock_now_ns() + server->in_ns);
    cond_signal(&server->work);
    return true;
}

/* One of those that are to be lost on their way to the server? */
static bool is_lost_in(struct broker_server *server, const char *subject)
{
    must_hold(&server->lock);
    if (server->losses_in == 0 || !subject_matches(server->lose_in, subject))
        return false;
    if (server->skip_in > 0) {
        server->skip_in--;
        return false;
    }
    server->losses_in--;
    return true;
}

static void read_note(struct broker_session *session, const struct broker_note *note)
{
    must_hold(&session->server->lock);
    struct err err = {.code = ERR_NONE};
    switch (note->kind) {
    case NOTE_PUBLISH:
        if (!is_lost_in(session->server, note->message.subject))
            broker_publish(session->client, &note->message, &err);
        break;
    case NOTE_SUBSCRIBE:
        broker_subscribe(session->client, note->sid, note->message.subject, note->message.reply,
                         &err);
        break;
    case NOTE_UNSUBSCRIBE:
        broker_unsubscribe(session->client, note->sid);
        broker_session_collect(session);
        broker_session_answer(session, NOTE_ENDED, note->sid, NULL);
        break;
    case NOTE_PING:
        broker_session_collect(session);
        broker_session_answer(session, NOTE_PONG, 0, NULL);
        break;
    case NOTE_BYE:
        broker_session_disconnect(session);
        break;
    default:
        break;
    }
    if (err.code)
        broker_session_answer(session, NOTE_ERROR, 0, err.message);
}

void broker_session_read(struct broker_session *session, uint64_t now_ns)
{
    must_hold(&session->server->lock);
    struct broker_note *note;
    while (session->client && (note = take_arrived(&session->in, now_ns))) {
        read_note(session, note);
        note_free(note);
    }
}

/* --- to the link --- */

bool broker_session_answer(struct broker_session *session, enum broker_note_kind kind, uint64_t sid,
                           const char *text)
{
    struct broker_server *server = session->server;
    struct broker_message message = {.subject = text};
    must_hold(&server->lock);
    if (session->cut && kind < NOTE_ENDED)
        return true;
    struct broker_note *note = note_new(kind, sid, &message);
    if (!note)
        return false;
    append(&session->out, note, clock_now_ns() + (kind < NOTE_LOST ? server->out_ns : 0));
    cond_signal(&server->work);
    return true;
}

/* One of those that are to be lost? */
static bool is_lost(struct broker_server *server, const char *subject)
{
    must_hold(&server->lock);
    if (server->losses == 0 || !subject_matches(server->lose, subject))
        return false;
    server->losses--;
    return true;
}

void broker_session_collect(struct broker_session *session)
{
    struct broker_server *server = session->server;
    struct broker_packet *packet;
    must_hold(&server->lock);
    while (session->client && (packet = broker_take(session->client))) {
        bool lost = session->cut || is_lost(server, packet->message.subject);
        struct broker_note *note = lost ? NULL : note_new(NOTE_PACKET, packet->sid, NULL);
        if (!note) {
            free(packet);
            continue;
        }
        note->packet = packet;
        append(&session->out, note, clock_now_ns() + server->out_ns);
    }
}

static struct broker_sub *find_sub(const struct broker_session *session, uint64_t sid)
{
    must_hold(&session->server->lock);
    struct broker_sub *sub;
    DL_FOREACH(session->subs, sub) {
        if (sub->sid == sid)
            return sub;
    }
    return NULL;
}

static struct packet make_packet(struct broker_note *note)
{
    const struct broker_message *message = &note->packet->message;
    struct packet packet = {
        .subject = message->subject,
        .reply = message->reply,
        .data = message->data,
        .len = message->len,
        .headers = {.at = message->headers, .len = message->headers_len},
        .memory = note->packet,
        .free_memory = free,
    };
    note->packet = NULL;
    return packet;
}

/* Lock held, left in between, held again. A sub is freed in its on_end, which only this thread
 * calls. */
UNCHECKED static void hand_up_packet(struct broker_session *session, struct broker_note *note)
{
    must_hold(&session->server->lock);
    struct broker_server *server = session->server;
    const struct broker_sub *sub = find_sub(session, note->sid);
    if (!sub || sub->dropped)
        return;
    struct packet packet = make_packet(note);
    mutex_unlock(&server->lock);
    sub->handler.on_message(sub->handler.owner, &packet);
    packet_clear(&packet);
    mutex_lock(&server->lock);
    session->reading = true;
}

/* The same. */
UNCHECKED static void hand_up_read_end(struct broker_session *session)
{
    must_hold(&session->server->lock);
    struct broker_server *server = session->server;
    struct transport_events events = session->line->events;
    session->reading = false;
    mutex_unlock(&server->lock);
    events.on_read_end(events.owner);
    mutex_lock(&server->lock);
}

/* Lock held, left in between, held again. */
UNCHECKED static void hand_up_end(struct broker_session *session, struct broker_sub *sub)
{
    must_hold(&session->server->lock);
    struct broker_server *server = session->server;
    struct transport_handler handler = sub->handler;
    DL_DELETE(session->subs, sub);
    sub->session = NULL;
    mutex_unlock(&server->lock);
    handler.on_end(handler.owner);
    mutex_lock(&server->lock);
}

/* The same. What is asked for meanwhile is asked for in vain. */
UNCHECKED static void hand_up_lost(struct broker_session *session)
{
    must_hold(&session->server->lock);
    struct broker_server *server = session->server;
    struct transport_events events = session->line->events;
    session->lost = true;
    cond_broadcast(&server->changed);
    mutex_unlock(&server->lock);
    events.on_lost(events.owner);
    events.on_gone(events.owner);
    mutex_lock(&server->lock);
}

/* The same; the line may be gone then. */
UNCHECKED static void hand_up_closed(struct broker_session *session)
{
    must_hold(&session->server->lock);
    struct broker_server *server = session->server;
    struct transport_events events = session->line->events;
    while (session->subs)
        hand_up_end(session, session->subs);
    session->line = NULL;
    broker_session_reap(session);
    mutex_unlock(&server->lock);
    events.on_closed(events.owner);
    mutex_lock(&server->lock);
}

UNCHECKED static void hand_up_error(struct broker_session *session, const struct broker_note *note)
{
    must_hold(&session->server->lock);
    struct broker_server *server = session->server;
    struct transport_events events = session->line->events;
    mutex_unlock(&server->lock);
    events.on_error(events.owner, note->message.subject);
    mutex_lock(&server->lock);
}

bool broker_session_has_arrived(const struct broker_session *session, uint64_t now_ns)
{
    must_hold(&session->server->lock);
    const struct broker_note *note = session->out.head;
    return session->line && (session->reading || (note && note->due_ns <= now_ns));
}

static bool next_is_packet(const struct broker_session *session, uint64_t now_ns)
{
    const struct broker_note *note = session->out.head;
    return note && note->due_ns <= now_ns && note->kind == NOTE_PACKET;
}

bool broker_session_hand_up(struct broker_session *session, uint64_t now_ns)
{
    struct broker_server *server = session->server;
    must_hold(&server->lock);
    if (!broker_session_has_arrived(session, now_ns))
        return false;
    if (session->reading && !next_is_packet(session, now_ns)) {
        hand_up_read_end(session);
        return true;
    }
    struct broker_note *note = take_arrived(&session->out, now_ns);
    struct broker_sub *sub;
    switch (note->kind) {
    case NOTE_PACKET:
        hand_up_packet(session, note);
        break;
    case NOTE_PONG:
        session->pongs++;
        cond_broadcast(&server->changed);
        break;
    case NOTE_ENDED:
        if ((sub = find_sub(session, note->sid)))
            hand_up_end(session, sub);
        break;
    case NOTE_LOST:
        hand_up_lost(session);
        break;
    case NOTE_CLOSED:
        hand_up_closed(session);
        break;
    case NOTE_ERROR:
        hand_up_error(session, note);
        break;
    default:
        break;
    }
    note_free(note);
    return true;
}

/* --- how it ends --- */

void broker_session_cut(struct broker_session *session, enum broker_loss loss)
{
    must_hold(&session->server->lock);
    if (session->cut || !session->line)
        return;
    if (loss & BROKER_LOSE_OUT)
        drop_all(&session->out);
    if (loss & BROKER_LOSE_IN)
        broker_session_disconnect(session);
    else
        broker_session_send(session, NOTE_BYE, 0, NULL);
    session->cut = true;
    broker_session_answer(session, NOTE_LOST, 0, NULL);
}

void broker_session_close(struct broker_session *session)
{
    must_hold(&session->server->lock);
    broker_session_send(session, NOTE_BYE, 0, NULL);
    drop_all(&session->out);
    session->cut = session->lost = true;
    broker_session_answer(session, NOTE_CLOSED, 0, NULL);
}

/* A server that is frozen gives no sign of life. */
void broker_session_watch(struct broker_session *session, uint64_t now_ns)
{
    must_hold(&session->server->lock);
    if (!session->line || session->cut || now_ns < session->ping_at_ns)
        return;
    const struct link_options *options = session->line->options;
    session->ping_at_ns = now_ns + (uint64_t)link_ping_interval_ns(options);
    session->pings_out = session->server->frozen ? session->pings_out + 1 : 0;
    if (session->pings_out <= link_max_pings_out(options))
        return;
    broker_session_send(session, NOTE_BYE, 0, NULL);
    session->cut = true;
    broker_session_answer(session, NOTE_LOST, 0, NULL);
}

uint64_t broker_session_next_ns(const struct broker_session *session)
{
    const struct broker_server *server = session->server;
    must_hold(&server->lock);
    uint64_t next_ns = BROKER_NEVER;
    if (session->line && session->out.head)
        next_ns = session->out.head->due_ns;
    if (session->client && session->in.head && !server->frozen && !server->down &&
        session->in.head->due_ns < next_ns)
        next_ns = session->in.head->due_ns;
    if (session->line && !session->cut && session->ping_at_ns < next_ns)
        next_ns = session->ping_at_ns;
    return next_ns;
}
