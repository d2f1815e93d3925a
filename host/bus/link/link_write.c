/* Writing: which frames come next, and how many of each flow. By whoever has the turn to write: the
 * writer, or, while that waits for something to do, a thread that has something to send. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/link/link_private.h"

/* How much of one flow is written before it is the next one's turn: what another script waits for
 * however much a script has handed over. */
#define TURN_FRAMES 16
#define TURN_BYTES (64 * 1024)

/* A write failed although nobody has said that the connection is lost: how long until it is
 * noticed. */
#define HOLD_NS (50 * NS_PER_MS)

/* A thread that writes in the writer's place has work of its own: it writes so much of a lane, and
 * looks so often whether others have sent something meanwhile. */
#define LENT_FRAMES 256
#define LENT_BYTES ((size_t)256 * 1024)
#define LENT_ROUNDS 4

enum fate { FATE_SENT, FATE_DROPPED, FATE_HELD };

/* --- frames --- */

static enum fate write_frame(struct link *link, const struct frame *frame)
{
    struct transport *transport = link->transport;
    struct transport_message message = encoded_message(&frame->encoded, frame->wire);
    message.waits = !link->lent;
    const char *why = NULL;
    if (frame->gate && !frame->gate->open(frame->gate))
        return FATE_DROPPED;
    switch (transport->kind->publish(transport, &message, &why)) {
    case TRANSPORT_SENT:
        stat_add(&link->sent, 1);
        stat_add(&link->sent_bytes, message.data.len + message.headers.len);
        return FATE_SENT;
    case TRANSPORT_REFUSED:
        log_error("%s connection: a message to \"%.*s\" cannot be sent: %s", link->label,
                  (int)message.subject.len, message.subject.at, why);
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

struct link_flow *link_pop_turn(struct flow_queue *turns)
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
        if (link->lent && frame->size > LENT_BYTES) /* so many copied bytes are the writer's */
            return false;
        enum fate fate = write_frame(link, frame);
        if (fate == FATE_HELD) {
            if (!link->lent)
                link->hold_until_ns = clock_now_ns() + HOLD_NS;
            return false;
        }
        hand->head = frame->next;
        if (!hand->head)
            hand->tail = NULL;
        if (frame->gate)
            frame->gate->done(frame->gate, fate == FATE_SENT);
        flow->wrote++;
        link->burst++;
        flow->wrote_bytes += frame->size;
        free(frame);
    }
    return true;
}

/* Flows of the lane in turn; one that is alone has no need to wait. */
bool link_write_lane(struct link *link, enum link_lane which, uint64_t most, size_t room)
{
    struct flow_queue *turns = &link->turns[which];
    bool go = true;
    while (go && most && room && turns->head) {
        struct link_flow *flow = link_pop_turn(turns);
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

/* A flow's list at a time, so that few frames cost few locks. */
void link_take_frames(struct link *link, enum link_lane which)
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

/* A link that stops has counted it already. */
void link_count_written(struct link *link)
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

bool link_hands_empty(const struct link *link)
{
    return !link->turns[LANE_URGENT].head && !link->turns[LANE_BULK].head;
}

/* --- in the writer's place --- */

static bool frames_wait(const struct link *link)
{
    must_hold(&link->lock);
    return link->lanes[LANE_URGENT].ready.head || link->lanes[LANE_BULK].ready.head;
}

bool link_work_waits(const struct link *link)
{
    must_hold(&link->lock);
    bool up = atomic_load(&link->state) == LINK_CONNECTED;
    return link->stopping || link->gone || link->closed >= link->opened || link->todo ||
           (up && (!link_hands_empty(link) || frames_wait(link) || link_flush_wanted(link) ||
                   link->confirm_ns));
}

/* Frames are all that the writer would be woken for. */
static bool frames_alone_wait(const struct link *link)
{
    must_hold(&link->lock);
    return atomic_load(&link->state) == LINK_CONNECTED && !link->stopping && !link->gone &&
           link->closed < link->opened && !link->todo && !link->confirm_ns &&
           !link_flush_wanted(link) && frames_wait(link);
}

/* Takes what waits and writes it. The lock is released meanwhile. False: there is more to be done
 * than that. */
static bool write_lent(struct link *link) NEEDS(link->lock);

static bool write_lent(struct link *link)
{
    must_hold(&link->lock);
    link_take_frames(link, LANE_URGENT);
    link_take_frames(link, LANE_BULK);
    mutex_unlock(&link->lock);
    bool took = link_write_lane(link, LANE_URGENT, LENT_FRAMES, LENT_BYTES) &&
                link_write_lane(link, LANE_BULK, LENT_FRAMES, LENT_BYTES);
    link->transport->kind->push(link->transport);
    link->burst = 0;
    mutex_lock(&link->lock);
    link_count_written(link);
    return took && link_hands_empty(link) && frames_alone_wait(link);
}

void link_write(struct link *link)
{
    mutex_lock(&link->lock);
    bool lent = link->writer_idle && link->any_thread && frames_alone_wait(link);
    bool wake = link->writer_idle && !lent && link_work_waits(link);
    if (lent) {
        link->writer_idle = false;
        link->lent = true;
        int rounds = 0;
        while (write_lent(link) && ++rounds < LENT_ROUNDS)
            ;
        link->lent = false;
        wake = link_work_waits(link);
        link->writer_idle = !wake;
    } else if (wake) {
        link->writer_idle = false;
    }
    mutex_unlock(&link->lock);
    if (wake)
        cond_signal(&link->work);
}

void link_wake(struct link *link)
{
    mutex_lock(&link->lock);
    bool wake = link->writer_idle && link_work_waits(link);
    if (wake)
        link->writer_idle = false;
    mutex_unlock(&link->lock);
    if (wake)
        cond_signal(&link->work);
}
