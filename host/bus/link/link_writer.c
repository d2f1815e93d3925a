/* The writer thread of a link: what it writes, in which order, and when it flushes. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/link/link_private.h"

/* How much of bulk is written before urgent frames, and other flows, are looked for again. */
#define CHUNK_FRAMES 64
#define CHUNK_BYTES (256 * 1024)

/* How much of one flow is written before it is the next one's turn: what another script waits for
 * however much a script has handed over. */
#define TURN_FRAMES 16
#define TURN_BYTES (64 * 1024)

/* After a burst the buffer is flushed and the PONG awaited for this long; meanwhile the next burst
 * gathers. Measured on loopback: round trip p50 0.23-0.26 ms, against 1 ms by nats.c's flusher. */
#define FLUSH_NS (2 * NS_PER_MS)

/* The longest that one wait for a PONG may keep the writer from urgent frames. */
#define FLUSH_WAITED_FOR_NS (500 * NS_PER_MS)

/* A write failed although nobody has said that the connection is lost: how long until it is
 * noticed. */
#define HOLD_NS (50 * NS_PER_MS)

enum fate { FATE_SENT, FATE_DROPPED, FATE_HELD };

/* --- writing --- */

static enum fate write_frame(struct link *link, const struct frame *frame)
{
    struct transport *transport = link->transport;
    struct transport_message message = {
        .subject = frame->bytes,
        .reply = frame->reply_at ? frame->bytes + frame->reply_at : NULL,
        .data = frame->bytes + frame->data_at,
        .len = frame->len,
        .headers = frame->bytes + frame->headers_at,
        .headers_len = frame->headers_len,
    };
    const char *why = NULL;
    if (frame->gate && !frame->gate->open(frame->gate))
        return FATE_DROPPED;
    switch (transport->kind->publish(transport, &message, &why)) {
    case TRANSPORT_SENT:
        stat_add(&link->sent, 1);
        stat_add(&link->sent_bytes, frame->len + frame->headers_len);
        return FATE_SENT;
    case TRANSPORT_REFUSED:
        log_error("%s connection: a message to \"%s\" cannot be sent: %s", link->label,
                  frame->bytes, why);
        return FATE_DROPPED;
    case TRANSPORT_HELD:
        break;
    }
    return FATE_HELD;
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

/* Lock held. Takes what is there; a flow's list at a time, so that few frames cost few locks. Only
 * while no subscription waits: what it is for may be among the frames, and must not come first. */
static void take_frames(struct link *link, enum link_lane which)
{
    must_hold(&link->lock);
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
    must_hold(&link->lock);
    for (struct link_flow *flow = link->wrote; flow; flow = flow->next_wrote) {
        struct frame_lane *lane = &link->lanes[flow->lane];
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
    must_hold(&link->lock);
    const struct flush_wait *wait;
    if (link->rtt_wanted)
        return true;
    DL_FOREACH(link->flushes, wait) {
        if (!wait->done)
            return true;
    }
    return false;
}

/* Takes the lock when no subscription waits: until it is given back, whatever is in the lanes was
 * handed over after each SUB that it may need. */
static void lock_settled(struct link *link) LOCKS(link->lock);

static void lock_settled(struct link *link)
{
    mutex_lock(&link->lock);
    while (link->todo) {
        mutex_unlock(&link->lock);
        link_subs_settle(link);
        mutex_lock(&link->lock);
    }
}

/* Writes until both lanes are empty, or the connection or the link ends. */
static void write_all(struct link *link)
{
    bool go = true;
    while (go && !hands_empty(link)) {
        go = write_lane(link, LANE_URGENT, UINT32_MAX, SIZE_MAX / 2) &&
             write_lane(link, LANE_BULK, CHUNK_FRAMES, CHUNK_BYTES);
        lock_settled(link);
        count_written(link);
        go = go && !link->stopping && atomic_load(&link->state) == LINK_CONNECTED;
        take_frames(link, LANE_URGENT);
        if (!flush_wanted(link)) /* a flood must not put it off for ever */
            take_frames(link, LANE_BULK);
        mutex_unlock(&link->lock);
    }
}

/* --- flushing --- */

/* Lock held. Marks the callers of link_flush whose frames are written; returns for how long a
 * PONG is worth waiting for. Flows overtake each other, but as nothing is in hand
 * here, all that was accepted up to some moment is finished, and to count is enough. */
static int64_t flush_begin(struct link *link, uint64_t now_ns)
{
    must_hold(&link->lock);
    int64_t wait_ns = FLUSH_NS;
    struct flush_wait *wait;
    link->flush_round++;
    DL_FOREACH(link->flushes, wait) {
        if (link->lanes[LANE_URGENT].finished < wait->targets[LANE_URGENT] ||
            link->lanes[LANE_BULK].finished < wait->targets[LANE_BULK])
            continue;
        wait->round = link->flush_round;
        int64_t left_ns = (int64_t)(wait->deadline_ns - now_ns);
        if (left_ns > wait_ns)
            wait_ns = left_ns;
    }
    return wait_ns < FLUSH_WAITED_FOR_NS ? wait_ns : FLUSH_WAITED_FOR_NS;
}

static void flush(struct link *link)
{
    uint64_t now_ns = clock_now_ns();
    lock_settled(link); /* a PING that is waited for comes after the SUBs, too */
    int64_t wait_ns = flush_begin(link, now_ns);
    bool rtt_wanted = link->rtt_wanted;
    link->rtt_wanted = false;
    mutex_unlock(&link->lock);

    enum transport_pong pong = link->transport->kind->ping(link->transport, wait_ns);
    if (pong == TRANSPORT_NO_PING)
        link->hold_until_ns = clock_now_ns() + HOLD_NS;
    /* It takes longer than frames may wait; the network's own time is known without waiting. */
    uint64_t network_ns = 0;
    if (rtt_wanted && pong == TRANSPORT_NO_PONG)
        network_ns = link->transport->kind->network_rtt_ns(link->transport);

    mutex_lock(&link->lock);
    if (pong == TRANSPORT_PONG) {
        link->rtt_ns = clock_now_ns() - now_ns;
        link->unanswered_ns = 0;
        link_subs_confirm(link, now_ns);
    } else if (pong == TRANSPORT_NO_PONG && !link->unanswered_ns) {
        link->unanswered_ns = now_ns;
    }
    if (network_ns)
        link->rtt_ns = network_ns;
    struct flush_wait *wait;
    DL_FOREACH(link->flushes, wait) {
        if (pong == TRANSPORT_PONG && wait->round == link->flush_round)
            wait->done = true;
    }
    if (link->flushes)
        cond_broadcast(&link->changed);
    mutex_unlock(&link->lock);
}

/* --- the loop --- */

/* Waits until there is something to do. False: this connection has ended, or the
 * link stops. *may_write: there is a connection. */
static bool wait_for_work(struct link *link, bool *may_write)
{
    mutex_lock(&link->lock);
    for (;;) {
        if (link->stopping || link->gone || link->closed >= link->opened)
            break;
        uint64_t now_ns = clock_now_ns();
        bool frames = !hands_empty(link) || link->lanes[LANE_URGENT].ready.head ||
                      link->lanes[LANE_BULK].ready.head || flush_wanted(link) ||
                      (link->confirm_ns && now_ns >= link->confirm_ns);
        bool up = atomic_load(&link->state) == LINK_CONNECTED;
        bool held = link->hold_until_ns > now_ns;
        *may_write = up && frames && !held;
        if (*may_write || link->todo)
            break;
        if (up && frames) {
            link_wait_until(link, &link->work, link->hold_until_ns);
            continue;
        }
        link->writer_idle = true;
        if (link->confirm_ns && up)
            link_wait_until(link, &link->work, link->confirm_ns);
        else
            cond_wait(&link->work, &link->lock);
        link->writer_idle = false;
    }
    bool go = !link->stopping && !link->gone && link->closed < link->opened;
    mutex_unlock(&link->lock);
    return go;
}

static void take_all_frames(struct link *link)
{
    lock_settled(link);
    take_frames(link, LANE_URGENT);
    take_frames(link, LANE_BULK);
    mutex_unlock(&link->lock);
}

static void serve(struct link *link)
{
    bool may_write = false;
    while (wait_for_work(link, &may_write)) {
        if (!may_write) {
            link_subs_settle(link);
            continue;
        }
        take_all_frames(link);
        write_all(link);
        if (hands_empty(link))
            flush(link);
    }
}

void *link_writer(void *arg)
{
    struct link *link = arg;
    while (link_connect(link)) {
        serve(link);
        link_disconnect(link);
    }
    for (int i = 0; i < LINK_LANES; i++) {
        while (link->turns[i].head)
            link_drop_frames(&pop_turn(&link->turns[i])->hand);
    }
    bool done = false;
    while (!done) {
        link_subs_settle(link);
        mutex_lock(&link->lock);
        done = !link->todo;
        link->writer_done = done;
        cond_broadcast(&link->changed);
        mutex_unlock(&link->lock);
    }
    link->transport->kind->end_thread(link->transport);
    return NULL;
}
