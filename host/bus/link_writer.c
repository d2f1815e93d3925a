#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/value.h"
#include "bus/link_options.h"
#include "bus/link_private.h"
#include "bus/reap.h"

/* How much of bulk is written before urgent frames, and other flows, are looked for again. */
#define CHUNK_FRAMES 64
#define CHUNK_BYTES (256 * 1024)

/* How much of one flow is written before it is the next one's turn: what another script waits for
 * however much a script has handed over. */
#define TURN_FRAMES 16
#define TURN_BYTES (64 * 1024)

/* After a burst the buffer is flushed and the PONG awaited for this long; meanwhile the next burst
 * gathers. Measured on loopback: round trip p50 0.23-0.26 ms, against 1 ms by nats.c's flusher. */
#define FLUSH_MS 2

/* The longest that one wait for a PONG may keep the writer from urgent frames. */
#define FLUSH_WAITED_FOR_MS 500

/* A write failed although nats.c calls itself connected: how long until it has noticed. */
#define HOLD_NS (50 * NS_PER_MS)

enum fate { FATE_SENT, FATE_DROPPED, FATE_HELD };

/* --- connecting --- */

static const char *connect_reason(natsStatus status)
{
    if (status == NATS_NO_SERVER || status == NATS_TIMEOUT)
        return "nobody answers there";
    return link_reason(status);
}

static void connected(struct link *link)
{
    char url[1024] = "", server[sizeof link->server];
    link_close_on_exec(link->nc);
    natsConnection_GetConnectedUrl(link->nc, url, sizeof url);
    int64_t max_payload = natsConnection_GetMaxPayload(link->nc);
    if (max_payload > 0)
        atomic_store(&link->max_payload, (size_t)max_payload);
    link->connected_ns = clock_now_ns();
    link->hold_until_ns = 0;

    pthread_mutex_lock(&link->lock);
    if (url[0])
        link_shown_server(url, link->server, sizeof link->server);
    memcpy(server, link->server, sizeof server);
    double away_s = link->lost_ns ? (double)(link->connected_ns - link->lost_ns) / 1e9 : 0;
    link->lost_ns = 0;
    link->error[0] = '\0';
    link->unanswered_ns = 0;
    bool first = link->opened++ == 0;
    /* nats.c may have closed it already, and said so. */
    if (link->closed < link->opened)
        link_set_state(link, LINK_CONNECTED);
    link_subs_renew(link);
    pthread_mutex_unlock(&link->lock);
    if (!first)
        log_info("%s connection back on %s after %.1fs", link->label, server, away_s);
    else if (link->attempts > 0)
        log_info("%s connection to %s is up", link->label, server);
    else
        log_debug("%s connection to %s is up", link->label, server);
}

/* Waits before the next try; subscriptions that are not wanted any more end meanwhile. False: the
 * link stops. */
static bool wait_to_connect(struct link *link)
{
    int64_t wait_ms = link->attempts ? link_reconnect_wait_ms(link->options, link->attempts) : 0;
    uint64_t until = clock_now_ns() + (uint64_t)wait_ms * NS_PER_MS;
    for (;;) {
        link_subs_settle(link);
        pthread_mutex_lock(&link->lock);
        if (!link->stopping && !link->todo && clock_now_ns() < until)
            link_wait_until(link, &link->work, until);
        bool stopping = link->stopping, more = link->todo != NULL;
        pthread_mutex_unlock(&link->lock);
        if (stopping)
            return false;
        if (!more && clock_now_ns() >= until)
            return true;
    }
}

/* False: the link stops. */
static bool make_connection(struct link *link)
{
    char told[256] = "";
    while (wait_to_connect(link)) {
        natsStatus status = natsConnection_Connect(&link->nc, link->nats);
        if (status == NATS_OK) {
            connected(link);
            link_deliver_states(link);
            return true;
        }
        link->nc = NULL;
        link->attempts++;
        const char *reason = connect_reason(status);
        pthread_mutex_lock(&link->lock);
        bool stopping = link->stopping;
        pthread_mutex_unlock(&link->lock);
        if (!stopping && strncmp(told, reason, sizeof told - 1) != 0)
            log_warn("%s connection: waiting for %s: %s", link->label, link->servers, reason);
        snprintf(told, sizeof told, "%s", reason);
    }
    return false;
}

/* --- writing --- */

static natsStatus publish_with_headers(struct link *link, const struct frame *frame,
                                       const char *reply)
{
    natsMsg *msg = NULL;
    natsStatus status =
        natsMsg_Create(&msg, frame->bytes, reply, frame->bytes + frame->data_at, (int)frame->len);
    const char *at = frame->bytes + frame->headers_at, *end = at + frame->headers_len;
    while (status == NATS_OK && at < end) {
        const char *value = at + strlen(at) + 1;
        status = natsMsgHeader_Add(msg, at, value);
        at = value + strlen(value) + 1;
    }
    if (status == NATS_OK)
        status = natsConnection_PublishMsg(link->nc, msg);
    reap(msg);
    return status;
}

static natsStatus publish(struct link *link, const struct frame *frame)
{
    const char *reply = frame->reply_at ? frame->bytes + frame->reply_at : NULL;
    const char *data = frame->bytes + frame->data_at;
    if (frame->headers_len)
        return publish_with_headers(link, frame, reply);
    if (reply)
        return natsConnection_PublishRequest(link->nc, frame->bytes, reply, data, (int)frame->len);
    return natsConnection_Publish(link->nc, frame->bytes, data, (int)frame->len);
}

static enum fate write_frame(struct link *link, const struct frame *frame)
{
    if (frame->gate && !frame->gate->open(frame->gate))
        return FATE_DROPPED;
    natsStatus status = publish(link, frame);
    switch (status) {
    case NATS_OK:
        return FATE_SENT;
    case NATS_INVALID_ARG:
    case NATS_INVALID_SUBJECT:
    case NATS_MAX_PAYLOAD:
    case NATS_NO_SERVER_SUPPORT:
    case NATS_NO_MEMORY:
        log_error("%s connection: a message to \"%s\" cannot be sent: %s", link->label,
                  frame->bytes, natsStatus_GetText(status));
        return FATE_DROPPED;
    default:
        /* The connection: nats.c shuts the socket down when a write fails, so a frame of which a
         * part was written is none for the server, and may be written again. */
        return FATE_HELD;
    }
}

static void push_turn(struct flow_queue *turns, struct link_flow *flow)
{
    flow->next_turn = NULL;
    if (turns->tail)
        turns->tail->next_turn = flow;
    else
        turns->head = flow;
    turns->tail = flow;
}

static struct link_flow *pop_turn(struct flow_queue *turns)
{
    struct link_flow *flow = turns->head;
    turns->head = flow->next_turn;
    if (!turns->head)
        turns->tail = NULL;
    return flow;
}

/* Writes at most so much of what the flow has in hand, but one frame at least. False: the
 * connection does not take it. */
static bool write_some(struct link *link, struct link_flow *flow, uint64_t frames, size_t bytes)
{
    struct frame_list *hand = &flow->hand;
    while (hand->head && flow->wrote < frames && flow->wrote_bytes < bytes) {
        struct frame *frame = hand->head;
        enum fate fate = write_frame(link, frame);
        if (fate == FATE_HELD) {
            link->hold_until_ns = clock_now_ns() + HOLD_NS;
            return false;
        }
        hand->head = frame->next;
        if (!hand->head)
            hand->tail = NULL;
        if (frame->gate)
            frame->gate->done(frame->gate, fate == FATE_SENT);
        flow->wrote++;
        flow->wrote_bytes += frame->size;
        free(frame);
    }
    return true;
}

/* Writes at most `most` frames of one lane, and about `room` bytes, its flows in turn; one that is
 * alone has no need to wait. False: the connection does not take them. */
static bool write_lane(struct link *link, enum link_lane which, uint64_t most, size_t room)
{
    struct flow_queue *turns = &link->turns[which];
    bool go = true;
    while (go && most && room && turns->head) {
        struct link_flow *flow = pop_turn(turns);
        uint64_t before = flow->wrote;
        size_t bytes = flow->wrote_bytes;
        bool alone = !turns->head;
        go = write_some(link, flow, before + (alone || most < TURN_FRAMES ? most : TURN_FRAMES),
                        bytes + (alone || room < TURN_BYTES ? room : TURN_BYTES));
        most -= flow->wrote - before;
        bytes = flow->wrote_bytes - bytes;
        room -= bytes < room ? bytes : room;
        if (before == 0 && flow->wrote) {
            flow->next_wrote = link->wrote;
            link->wrote = flow;
        }
        if (flow->hand.head)
            push_turn(turns, flow);
    }
    return go;
}

/* Lock held. Takes what is there; a flow's list at a time, so that few frames cost few locks. */
static void take_lane(struct link *link, enum link_lane which)
{
    struct flow_queue *ready = &link->lanes[which].ready;
    for (struct link_flow *flow = ready->head; flow; flow = flow->next_ready) {
        if (!flow->hand.head)
            push_turn(&link->turns[which], flow);
        link_join_frames(&flow->hand, &flow->list);
    }
    *ready = (struct flow_queue){0};
}

/* Lock held. What was written waits no more. (A link that stops has counted it already.) */
static void count_written(struct link *link)
{
    for (struct link_flow *flow = link->wrote; flow; flow = flow->next_wrote) {
        struct lane *lane = &link->lanes[flow->lane];
        if (!link->stopping) {
            lane->finished += flow->wrote;
            lane->bytes -= flow->wrote_bytes;
            flow->waiting -= flow->wrote;
            flow->bytes -= flow->wrote_bytes;
        }
        flow->wrote = 0;
        flow->wrote_bytes = 0;
    }
    link->wrote = NULL;
}

static bool hands_empty(const struct link *link)
{
    return !link->turns[LANE_URGENT].head && !link->turns[LANE_BULK].head;
}

/* Lock held. */
static bool flush_wanted(const struct link *link)
{
    const struct flush_wait *wait;
    DL_FOREACH(link->flushes, wait) {
        if (!wait->done)
            return true;
    }
    return false;
}

/* Writes until both lanes are empty, or the connection or the link ends. */
static void write_all(struct link *link)
{
    bool go = true;
    while (go && !hands_empty(link)) {
        go = write_lane(link, LANE_URGENT, UINT32_MAX, SIZE_MAX / 2) &&
             write_lane(link, LANE_BULK, CHUNK_FRAMES, CHUNK_BYTES);
        pthread_mutex_lock(&link->lock);
        count_written(link);
        go = go && !link->stopping && atomic_load(&link->state) == LINK_CONNECTED;
        take_lane(link, LANE_URGENT);
        if (!flush_wanted(link)) /* who floods must not put it off for ever */
            take_lane(link, LANE_BULK);
        pthread_mutex_unlock(&link->lock);
    }
}

/* --- flushing --- */

/* Lock held. Marks the callers of link_flush whose frames are written; returns for how many
 * milliseconds a PONG is worth waiting for. Flows overtake each other, but as nothing is in hand
 * here, all that was accepted up to some moment is finished, and to count is enough. */
static int64_t flush_begin(struct link *link, uint64_t now_ns)
{
    int64_t wait_ms = FLUSH_MS;
    struct flush_wait *wait;
    link->flush_round++;
    DL_FOREACH(link->flushes, wait) {
        if (link->lanes[LANE_URGENT].finished < wait->targets[LANE_URGENT] ||
            link->lanes[LANE_BULK].finished < wait->targets[LANE_BULK])
            continue;
        wait->round = link->flush_round;
        int64_t left_ms = (int64_t)(wait->deadline_ns - now_ns) / NS_PER_MS;
        if (left_ms > wait_ms)
            wait_ms = left_ms;
    }
    return wait_ms < FLUSH_WAITED_FOR_MS ? wait_ms : FLUSH_WAITED_FOR_MS;
}

static void flush(struct link *link)
{
    uint64_t now_ns = clock_now_ns();
    pthread_mutex_lock(&link->lock);
    int64_t wait_ms = flush_begin(link, now_ns);
    pthread_mutex_unlock(&link->lock);

    natsStatus status = natsConnection_FlushTimeout(link->nc, wait_ms);
    bool answered =
        status == NATS_OK && natsConnection_Status(link->nc) == NATS_CONN_STATUS_CONNECTED;
    if (!answered && status != NATS_TIMEOUT)
        link->hold_until_ns = clock_now_ns() + HOLD_NS;

    pthread_mutex_lock(&link->lock);
    if (answered)
        link->unanswered_ns = 0;
    else if (status == NATS_TIMEOUT && !link->unanswered_ns)
        link->unanswered_ns = now_ns;
    struct flush_wait *wait;
    DL_FOREACH(link->flushes, wait) {
        if (answered && wait->round == link->flush_round)
            wait->done = true;
    }
    if (link->flushes)
        pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

/* --- the loop --- */

/* Waits until there is something to do, and takes it. False: this connection has ended, or the
 * link stops. *may_write: there is a connection. */
static bool take_work(struct link *link, bool *may_write)
{
    pthread_mutex_lock(&link->lock);
    for (;;) {
        if (link->stopping || link->closed >= link->opened)
            break;
        bool frames = !hands_empty(link) || link->lanes[LANE_URGENT].ready.head ||
                      link->lanes[LANE_BULK].ready.head || flush_wanted(link);
        bool up = atomic_load(&link->state) == LINK_CONNECTED;
        bool held = link->hold_until_ns > clock_now_ns();
        *may_write = up && frames && !held;
        if (*may_write || link->todo)
            break;
        if (up && frames) {
            link_wait_until(link, &link->work, link->hold_until_ns);
            continue;
        }
        link->writer_idle = true;
        pthread_cond_wait(&link->work, &link->lock);
        link->writer_idle = false;
    }
    bool go = !link->stopping && link->closed < link->opened;
    if (go && *may_write) {
        take_lane(link, LANE_URGENT);
        take_lane(link, LANE_BULK);
    }
    pthread_mutex_unlock(&link->lock);
    return go;
}

static void serve(struct link *link)
{
    bool may_write = false;
    while (take_work(link, &may_write)) {
        link_subs_settle(link); /* before the frames: a SUB goes before the request it is for */
        if (!may_write)
            continue;
        write_all(link);
        if (hands_empty(link))
            flush(link);
    }
}

/* The connection is destroyed; what made it end may make the next one end, too, so only one that
 * lasted starts the waits anew. */
static void end_connection(struct link *link)
{
    uint64_t lasted_ns = clock_now_ns() - link->connected_ns;
    link->attempts =
        lasted_ns > (uint64_t)link->options->reconnect_max_wait_ns ? 0 : link->attempts + 1;
    link_subs_forget(link);
    natsConnection_Destroy(link->nc);
    link->nc = NULL;
}

void *link_writer(void *arg)
{
    struct link *link = arg;
    while (make_connection(link)) {
        serve(link);
        end_connection(link);
    }
    for (int i = 0; i < LINK_LANES; i++) {
        while (link->turns[i].head)
            link_drop_frames(&pop_turn(&link->turns[i])->hand);
    }
    bool done = false;
    while (!done) {
        link_subs_settle(link);
        pthread_mutex_lock(&link->lock);
        done = !link->todo;
        link->writer_done = done;
        pthread_cond_broadcast(&link->changed);
        pthread_mutex_unlock(&link->lock);
    }
    nats_ReleaseThreadMemory();
    return NULL;
}
