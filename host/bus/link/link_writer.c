/* The writer thread of a link: when it writes, and when it flushes. */
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

/* After a burst the buffer is flushed and the PONG awaited for this long; meanwhile the next burst
 * gathers. Measured on loopback: round trip p50 0.23-0.26 ms, against 1 ms by nats.c's flusher. */
#define FLUSH_NS (2 * NS_PER_MS)

/* The longest that one wait for a PONG may keep the writer from urgent frames. */
#define FLUSH_WAITED_FOR_NS (500 * NS_PER_MS)

/* Where no PONG is waited for, the next burst gathers for so long behind one of several frames;
 * what comes alone, as of who waits for each reply, does not wait. Without it the writer of case 5
 * of the benchmark took twice the processor time, as it was woken for each frame. */
#define GATHER_NS (NS_PER_MS / 10)

/* A write failed although nobody has said that the connection is lost: how long until it is
 * noticed. */
#define HOLD_NS (50 * NS_PER_MS)

/* --- writing --- */

bool link_flush_wanted(const struct link *link)
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

/* Lock held. It is time to ask whether what was refused is granted now. */
static bool confirm_is_due(const struct link *link, uint64_t now_ns)
{
    must_hold(&link->lock);
    return link->confirm_ns && now_ns >= link->confirm_ns;
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
    while (go && !link_hands_empty(link)) {
        go = link_write_lane(link, LANE_URGENT, UINT32_MAX, SIZE_MAX / 2) &&
             link_write_lane(link, LANE_BULK, CHUNK_FRAMES, CHUNK_BYTES);
        lock_settled(link);
        link_count_written(link);
        go = go && !link->stopping && atomic_load(&link->state) == LINK_CONNECTED;
        link_take_frames(link, LANE_URGENT);
        if (!link_flush_wanted(link)) /* a flood must not put it off for ever */
            link_take_frames(link, LANE_BULK);
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
    bool anew = !link->asked_ns;
    link->flush_round += anew;
    DL_FOREACH(link->flushes, wait) {
        if (link->lanes[LANE_URGENT].finished < wait->targets[LANE_URGENT] ||
            link->lanes[LANE_BULK].finished < wait->targets[LANE_BULK])
            continue;
        if (anew)
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
    uint64_t asked_ns = link->asked_ns ? link->asked_ns : now_ns;
    bool rtt_wanted = link->rtt_wanted;
    link->rtt_wanted = false;
    mutex_unlock(&link->lock);

    enum transport_pong pong = link->transport->kind->ping(link->transport, wait_ns);
    if (pong == TRANSPORT_NO_PING)
        link->hold_until_ns = clock_now_ns() + HOLD_NS;
    /* It takes longer than frames may wait; the network's own time is known without waiting. */
    uint64_t network_ns = 0;
    if (pong == TRANSPORT_NO_PONG || pong == TRANSPORT_LATE)
        network_ns = link->transport->kind->network_rtt_ns(link->transport);

    mutex_lock(&link->lock);
    link->asked_ns = pong == TRANSPORT_LATE ? asked_ns : 0;
    if (pong == TRANSPORT_PONG) {
        if (asked_ns == now_ns) /* else it may have come long ago */
            link->rtt_ns = clock_now_ns() - now_ns;
        link->unanswered_ns = 0;
        link_subs_confirm(link, asked_ns);
    } else if (pong == TRANSPORT_NO_PONG && (int64_t)network_ns < wait_ns && !link->unanswered_ns) {
        link->unanswered_ns = asked_ns;
    }
    if (rtt_wanted && network_ns)
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

/* A PONG that nobody wants is not asked for, where writing goes without. */
static void push(struct link *link)
{
    lock_settled(link);
    bool asks = link_flush_wanted(link) || confirm_is_due(link, clock_now_ns());
    mutex_unlock(&link->lock);
    if (asks || !link->transport->kind->push(link->transport))
        flush(link);
    else if (link->burst > 1)
        link->hold_until_ns = clock_now_ns() + (uint64_t)GATHER_NS;
    link->burst = 0;
}

/* --- the loop --- */

/* Waits until there is something to do. False: this connection has ended, or the
 * link stops. *may_write: there is a connection. */
static bool wait_for_work(struct link *link, bool *may_write)
{
    mutex_lock(&link->lock);
    for (;;) {
        while (link->lent) { /* whoever writes in its place wakes it, if there is more to be done */
            cond_wait(&link->work, &link->lock);
            link->writer_idle = false;
        }
        if (link->stopping || link->gone || link->closed >= link->opened)
            break;
        uint64_t now_ns = clock_now_ns();
        bool frames = !link_hands_empty(link) || link->lanes[LANE_URGENT].ready.head ||
                      link->lanes[LANE_BULK].ready.head || link_flush_wanted(link) ||
                      confirm_is_due(link, now_ns);
        bool up = atomic_load(&link->state) == LINK_CONNECTED;
        bool held = link->hold_until_ns > now_ns;
        *may_write = up && frames && !held;
        if (*may_write || link->todo)
            break;
        if (up && held) { /* and nobody need wake us meanwhile */
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
    link_take_frames(link, LANE_URGENT);
    link_take_frames(link, LANE_BULK);
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
        if (link_hands_empty(link))
            push(link);
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
            link_drop_frames(&link_pop_turn(&link->turns[i])->hand);
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
