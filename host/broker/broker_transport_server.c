/* The server that links connect to: its thread, and its faults. */
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "base/bug.h"
#include "base/clock.h"
#include "broker/broker_transport_private.h"
#include "bus/link/burst.h"

#define MAX_PAYLOAD ((size_t)1024 * 1024)

/* --- its thread --- */

/* Lock held. Reads what has arrived, and moves the time; when something is due next. */
static uint64_t move_broker(struct broker_server *server, uint64_t now_ns)
{
    struct broker_session *session, *next;
    must_hold(&server->lock);
    if (server->frozen || server->down)
        return BROKER_NEVER;
    broker_advance(server->broker, now_ns - server->began_ns);
    DL_FOREACH(server->sessions, session)
        broker_session_read(session, now_ns);
    uint64_t due_ns = broker_advance(server->broker, now_ns - server->began_ns);
    DL_FOREACH_SAFE(server->sessions, session, next) {
        broker_session_collect(session);
        broker_session_reap(session);
    }
    return due_ns == BROKER_NEVER ? BROKER_NEVER : due_ns + server->began_ns;
}

/* Lock held, left in between, held again. Hands one thing up; of each session in turn. */
static bool hand_up(struct broker_server *server, uint64_t now_ns)
{
    must_hold(&server->lock);
    struct broker_session *session;
    DL_FOREACH(server->sessions, session) {
        if (!broker_session_has_arrived(session, now_ns))
            continue;
        DL_DELETE(server->sessions, session);
        DL_APPEND(server->sessions, session);
        return broker_session_hand_up(session, now_ns);
    }
    return false;
}

/* Lock held. When something is due next. */
static uint64_t watch_all(struct broker_server *server, uint64_t now_ns, uint64_t due_ns)
{
    must_hold(&server->lock);
    struct broker_session *session;
    DL_FOREACH(server->sessions, session) {
        broker_session_watch(session, now_ns);
        uint64_t next_ns = broker_session_next_ns(session);
        due_ns = next_ns < due_ns ? next_ns : due_ns;
    }
    return due_ns;
}

static void *serve(void *arg)
{
    struct broker_server *server = arg;
    struct burst burst = {.frames = 0};
    burst_begin(&burst);
    mutex_lock(&server->lock);
    while (!server->stopping) {
        uint64_t now_ns = clock_now_ns();
        uint64_t due_ns = move_broker(server, now_ns);
        if (hand_up(server, now_ns)) {
            mutex_unlock(&server->lock);
            burst_write(&burst); /* what was sent meanwhile */
            mutex_lock(&server->lock);
            continue;
        }
        due_ns = watch_all(server, now_ns, due_ns);
        if (due_ns == BROKER_NEVER)
            cond_wait(&server->work, &server->lock);
        else if (due_ns > now_ns)
            cond_wait_until(&server->work, &server->lock, due_ns);
    }
    mutex_unlock(&server->lock);
    burst_end(&burst);
    return NULL;
}

/* --- coming and going --- */

static void destroy(struct broker_server *server)
{
    broker_free(server->broker);
    mutex_destroy(&server->lock);
    cond_destroy(&server->work);
    cond_destroy(&server->changed);
    free(server);
}

struct broker_server *broker_server_new(const struct broker_options *options, struct err *err)
{
    struct broker_options own = *options;
    struct broker_server *server = calloc(1, sizeof *server);
    own.wall_ns = own.wall_ns ? own.wall_ns : clock_wall_ns();
    if (server)
        server->broker = broker_new(&own);
    if (!server || !server->broker) {
        free(server);
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    server->maker.make = broker_line_make;
    server->any_thread = own.any_thread;
    server->max_payload = own.max_payload ? own.max_payload : MAX_PAYLOAD;
    server->began_ns = clock_now_ns();
    mutex_init(&server->lock);
    cond_init(&server->work);
    cond_init(&server->changed);
    if (thread_start(&server->thread, "mb-broker", serve, server, err) == 0)
        return server;
    destroy(server);
    return NULL;
}

/* Lock held. The server has no connection any more, and nothing that was on its way to it. */
static void end_sessions(struct broker_server *server)
{
    struct broker_session *session, *next;
    must_hold(&server->lock);
    DL_FOREACH_SAFE(server->sessions, session, next) {
        broker_session_disconnect(session);
        broker_session_reap(session);
    }
}

void broker_server_free(struct broker_server *server)
{
    if (!server)
        return;
    mutex_lock(&server->lock);
    BUG_ON(server->lines);
    server->stopping = true;
    cond_signal(&server->work);
    mutex_unlock(&server->lock);
    thread_join(server->thread);
    mutex_lock(&server->lock);
    end_sessions(server);
    mutex_unlock(&server->lock);
    destroy(server);
}

const struct transport_maker *broker_server_transport(struct broker_server *server)
{
    return &server->maker;
}

UNCHECKED struct broker *broker_server_lock(struct broker_server *server)
{
    mutex_lock(&server->lock);
    if (!server->frozen && !server->down)
        broker_advance(server->broker, clock_now_ns() - server->began_ns);
    return server->broker;
}

UNCHECKED void broker_server_unlock(struct broker_server *server)
{
    cond_signal(&server->work);
    mutex_unlock(&server->lock);
}

/* --- faults --- */

/* What has changed is for its thread and for writers that wait. */
static void unlock_changed(struct broker_server *server) UNLOCKS(server->lock);

static void unlock_changed(struct broker_server *server)
{
    cond_signal(&server->work);
    cond_broadcast(&server->changed);
    mutex_unlock(&server->lock);
}

/* Lock held. */
static void cut(struct broker_server *server, int link, enum broker_loss loss)
{
    struct broker_session *session;
    must_hold(&server->lock);
    DL_FOREACH(server->sessions, session) {
        if (session->line && (link == BROKER_ALL_LINKS || session->line->number == link))
            broker_session_cut(session, loss);
    }
}

void broker_server_cut(struct broker_server *server, int link, enum broker_loss loss)
{
    mutex_lock(&server->lock);
    cut(server, link, loss);
    unlock_changed(server);
}

void broker_server_freeze(struct broker_server *server, bool frozen)
{
    mutex_lock(&server->lock);
    server->frozen = frozen;
    unlock_changed(server);
}

void broker_server_down(struct broker_server *server, bool down)
{
    mutex_lock(&server->lock);
    server->down = down;
    if (down) {
        cut(server, BROKER_ALL_LINKS, BROKER_LOSE_BOTH);
        end_sessions(server);
    }
    unlock_changed(server);
}

void broker_server_refuse(struct broker_server *server, const char *reason)
{
    mutex_lock(&server->lock);
    snprintf(server->refused, sizeof server->refused, "%s", reason ? reason : "");
    unlock_changed(server);
}

void broker_server_delay(struct broker_server *server, uint64_t in_ns, uint64_t out_ns)
{
    mutex_lock(&server->lock);
    server->in_ns = in_ns;
    server->out_ns = out_ns;
    unlock_changed(server);
}

void broker_server_lose(struct broker_server *server, const char *subject, int count)
{
    mutex_lock(&server->lock);
    snprintf(server->lose, sizeof server->lose, "%s", subject);
    server->losses = count;
    mutex_unlock(&server->lock);
}

void broker_server_lose_in(struct broker_server *server, const char *subject, int skip, int count)
{
    mutex_lock(&server->lock);
    snprintf(server->lose_in, sizeof server->lose_in, "%s", subject);
    server->skip_in = skip;
    server->losses_in = count;
    mutex_unlock(&server->lock);
}

int broker_server_losses_left(struct broker_server *server)
{
    mutex_lock(&server->lock);
    int left = server->losses;
    mutex_unlock(&server->lock);
    return left;
}

int broker_server_connections(struct broker_server *server)
{
    int count = 0;
    struct broker_session *session;
    mutex_lock(&server->lock);
    DL_FOREACH(server->sessions, session)
        count += session->client != NULL;
    mutex_unlock(&server->lock);
    return count;
}
