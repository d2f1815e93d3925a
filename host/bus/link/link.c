/* What is called of a link from any thread: sending, waiting, stopping. */
#include "bus/link/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/stat.h"
#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/link/burst.h"
#include "bus/link/link_private.h"
#include "bus/link/link_url.h"

/* Bounds of the lanes. Urgent frames are small and bounded by what the process holds, so its
 * bound is only there to end something mad. */
#define URGENT_FRAMES (256 * 1024)
#define BULK_FRAMES (64 * 1024)
#define LANE_BYTES (64u * 1024 * 1024)

#define DEFAULT_MAX_PAYLOAD (1024 * 1024)

struct link *link_new(const char *label, const struct link_options *options,
                      const struct transport_maker *maker, struct clock *clock,
                      const struct link_events *events, struct err *err)
{
    struct link *link = calloc(1, sizeof *link);
    if (!link) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    link->label = label;
    link->options = options;
    link->maker = maker;
    link->clock = clock;
    if (events)
        link->events = *events;
    atomic_init(&link->state, LINK_CONNECTING);
    atomic_init(&link->max_payload, DEFAULT_MAX_PAYLOAD);
    link->lanes[LANE_URGENT].max_frames = URGENT_FRAMES;
    link->lanes[LANE_URGENT].max_bytes = LANE_BYTES;
    link->lanes[LANE_BULK].max_frames = BULK_FRAMES;
    link->lanes[LANE_BULK].max_bytes = LANE_BYTES;
    for (int i = 0; i < LINK_LANES; i++)
        link->lanes[i].own.lane = (enum link_lane)i;
    mutex_init_spinning(&link->lock);
    mutex_init(&link->listeners_lock);
    cond_init(&link->work);
    cond_init(&link->changed);
    return link;
}

int link_start(struct link *link, struct err *err)
{
    const struct link_options *options = link->options;
    const struct transport_events events = link_transport_events(link);
    int code = link_url_list(options->servers, options->server_count, &link->servers, err);
    if (code)
        return code;
    link->transport = link->maker->make(link->maker, options, link->clock, &events, err);
    if (!link->transport)
        return err->code;
    code = link_servers_make(link, err);
    if (code)
        return code;
    char name[16];
    snprintf(name, sizeof name, "mb-%.11s", link->label);
    code = thread_start(&link->writer, name, link_writer, link, err);
    mutex_lock(&link->lock);
    link->started = !code;
    mutex_unlock(&link->lock);
    return code;
}

void link_wait_until(struct link *link, struct cond *cond, uint64_t deadline_ns)
{
    must_hold(&link->lock);
    cond_wait_until(cond, &link->lock, deadline_ns);
}

/* --- sending --- */

/* Encoded where it is made, so that whoever writes it only copies bytes. */
static struct frame *frame_new(const struct link_frame *from, const struct encoded *measured)
{
    struct frame *frame = malloc(sizeof *frame + measured->size);
    if (!frame)
        return NULL;
    frame->next = NULL;
    frame->gate = from->gate;
    frame->size = sizeof *frame + measured->size;
    frame->encoded = *measured;
    encode(from, &frame->encoded, frame->wire);
    return frame;
}

static void list_append(struct frame_list *list, struct frame *frame)
{
    if (list->tail)
        list->tail->next = frame;
    else
        list->head = frame;
    list->tail = frame;
}

void link_join_frames(struct frame_list *to, struct frame_list *from)
{
    if (!from->head)
        return;
    if (to->tail)
        to->tail->next = from->head;
    else
        to->head = from->head;
    to->tail = from->tail;
    *from = (struct frame_list){0};
}

struct link_flow *link_flow_new(struct link *link, enum link_lane lane)
{
    struct link_flow *flow = calloc(1, sizeof *flow);
    if (!flow)
        return NULL;
    flow->lane = lane;
    mutex_lock(&link->lock);
    LL_PREPEND(link->flows, flow);
    mutex_unlock(&link->lock);
    return flow;
}

/* Lock held: whose messages wait, for the error. */
static int too_much(struct link *link, const struct link_flow *flow, bool all, struct err *err)
{
    must_hold(&link->lock);
    const struct frame_lane *lane = &link->lanes[flow->lane];
    uint64_t waiting = all ? lane->accepted - lane->finished : flow->waiting;
    size_t mb = (all ? lane->bytes : flow->bytes) >> 20;
    if (atomic_load(&link->state) != LINK_CONNECTED)
        return err_set(err, ERR_DISCONNECTED,
                       "no connection to %s, and %llu messages (%zu MB)%s wait",
                       link->servers ? link->servers : "NATS", (unsigned long long)waiting, mb,
                       all ? "" : " of this script");
    if (all)
        return err_set(err, ERR_FULL, "%llu messages (%zu MB) wait to be written to %s",
                       (unsigned long long)waiting, mb, link->server);
    return err_set(err, ERR_FULL,
                   "%llu messages (%zu MB) of this script wait to be written to %s: publish less "
                   "at a time, or by js.publish, which waits",
                   (unsigned long long)waiting, mb, link->server);
}

/* Lock held. */
static int find_room(struct link *link, const struct link_flow *flow, const struct frame *frame,
                     bool owed, struct err *err)
{
    must_hold(&link->lock);
    const struct frame_lane *lane = &link->lanes[flow->lane];
    size_t frames_left = lane->max_frames - (size_t)(lane->accepted - lane->finished);
    size_t bytes_left = lane->max_bytes - lane->bytes, more = frame->size;
    if (frames_left == 0 || more > bytes_left)
        return too_much(link, flow, true, err);
    size_t share = owed ? SHARE_OWED : SHARE;
    if (flow == &lane->own || flow->waiting == 0 ||
        (flow->waiting < share * frames_left && flow->bytes + more <= share * (bytes_left - more)))
        return 0;
    return too_much(link, flow, false, err);
}

/* The two lengths of a line, its first word and its spaces. */
#define LINE_NUMBERS 32

/* A reply subject may be anything that a requester has thought of. */
static int check_line(const struct link_frame *from, const struct encoded *measured,
                      struct err *err)
{
    size_t line = measured->subject_len + measured->reply_len;
    if (line + LINE_NUMBERS <= TRANSPORT_LINE_MAX)
        return 0;
    return err_set(err, ERR_TOO_LARGE,
                   "a subject (with its reply subject) of %zu bytes: \"%.60s...\"", line,
                   from->subject);
}

/* Lock held. */
static void make_ready(struct frame_lane *lane, struct link_flow *flow)
{
    flow->next_ready = NULL;
    if (lane->ready.tail)
        lane->ready.tail->next_ready = flow;
    else
        lane->ready.head = flow;
    lane->ready.tail = flow;
}

int link_send(struct link *link, enum link_lane which, const struct link_frame *from,
              struct err *err)
{
    struct encoded measured;
    encode_measure(from, &measured);
    size_t payload = measured.len + measured.headers_len;
    size_t max_payload = atomic_load_explicit(&link->max_payload, memory_order_relaxed);
    if (payload > max_payload)
        return err_set(err, ERR_TOO_LARGE,
                       "%zu bytes to \"%s\", headers included: the server takes at most %zu",
                       payload, from->subject, max_payload);
    if (check_line(from, &measured, err) != 0)
        return ERR_TOO_LARGE;
    struct frame *frame = frame_new(from, &measured);
    if (!frame)
        return err_set(err, ERR_MEMORY, "out of memory");

    struct frame_lane *lane = &link->lanes[which];
    struct link_flow *flow = from->flow ? from->flow : &lane->own;
    bool wake = false;
    mutex_lock(&link->lock);
    int code = link->stopping ? err_set(err, ERR_CLOSED, "the connection is closed")
                              : find_room(link, flow, frame, from->owed, err);
    if (!code) {
        if (!flow->list.head)
            make_ready(lane, flow);
        list_append(&flow->list, frame);
        flow->waiting++;
        flow->bytes += frame->size;
        lane->accepted++;
        lane->bytes += frame->size;
        wake = link->writer_idle && atomic_load(&link->state) == LINK_CONNECTED &&
               !(link->any_thread && burst_note(link));
        if (wake)
            link->writer_idle = false;
    }
    mutex_unlock(&link->lock);
    if (wake)
        cond_signal(&link->work);
    if (code)
        free(frame);
    return code;
}

void link_drop_frames(struct frame_list *list)
{
    struct frame *frame = list->head;
    *list = (struct frame_list){0};
    while (frame) {
        struct frame *next = frame->next;
        if (frame->gate)
            frame->gate->done(frame->gate, false);
        free(frame);
        frame = next;
    }
}

/* --- waiting --- */

bool link_wait_connected(struct link *link, uint64_t deadline_ns)
{
    mutex_lock(&link->lock);
    while (atomic_load(&link->state) != LINK_CONNECTED && !link->stopping &&
           clock_now_ns() < deadline_ns)
        link_wait_until(link, &link->changed, deadline_ns);
    bool connected = atomic_load(&link->state) == LINK_CONNECTED && !link->stopping;
    mutex_unlock(&link->lock);
    return connected;
}

bool link_flush(struct link *link, uint64_t deadline_ns)
{
    struct flush_wait wait = {.deadline_ns = deadline_ns};
    mutex_lock(&link->lock);
    for (int i = 0; i < LINK_LANES; i++)
        wait.targets[i] = link->lanes[i].accepted;
    DL_APPEND(link->flushes, &wait);
    link->writer_idle = false;
    cond_signal(&link->work);
    while (!wait.done && !link->stopping && clock_now_ns() < deadline_ns)
        link_wait_until(link, &link->changed, deadline_ns);
    DL_DELETE(link->flushes, &wait);
    mutex_unlock(&link->lock);
    return wait.done;
}

/* --- stopping --- */

void link_stop_begin(struct link *link)
{
    mutex_lock(&link->lock);
    link->stopping = true;
    cond_broadcast(&link->work);
    cond_broadcast(&link->changed);
    mutex_unlock(&link->lock);
    if (link->transport)
        link->transport->kind->interrupt(link->transport);
}

/* Lock held. */
static bool at_rest(const struct link *link)
{
    must_hold(&link->lock);
    return (!link->started || link->writer_done) && link->closed == link->opened &&
           link->lives == 0 && link->calls_up == 0;
}

/* Lock held, or nobody else is there. */
static void take_all_frames(struct link *link, struct frame_list *frames)
{
    for (int i = 0; i < LINK_LANES; i++) {
        struct frame_lane *lane = &link->lanes[i];
        for (struct link_flow *flow = lane->ready.head; flow; flow = flow->next_ready)
            link_join_frames(frames, &flow->list);
        lane->ready = (struct flow_queue){0};
        lane->finished = lane->accepted;
        lane->bytes = 0;
    }
}

void link_stop(struct link *link, uint64_t deadline_ns)
{
    struct frame_list dropped = {0};
    link_stop_begin(link);
    mutex_lock(&link->lock);
    while (!at_rest(link) && clock_now_ns() < deadline_ns)
        link_wait_until(link, &link->changed, deadline_ns);
    bool join = link->started && link->writer_done && !link->writer_joined;
    link->writer_joined = link->writer_joined || join;
    take_all_frames(link, &dropped);
    link_set_state(link, LINK_CLOSED);
    mutex_unlock(&link->lock);
    if (join)
        thread_join(link->writer);
    link_drop_frames(&dropped);
}

bool link_stuck(struct link *link)
{
    mutex_lock(&link->lock);
    bool stuck = !at_rest(link);
    mutex_unlock(&link->lock);
    return stuck;
}

void link_free(struct link *link)
{
    if (!link || link_stuck(link))
        return;
    if (link->started && !link->writer_joined)
        thread_join(link->writer);
    struct link_sub *sub, *next;
    DL_FOREACH_SAFE(link->subs, sub, next) {
        free(sub->subject);
        free(sub->queue);
        free(sub);
    }
    struct frame_list dropped = {0};
    take_all_frames(link, &dropped);
    link_drop_frames(&dropped);
    struct link_flow *flow, *next_flow;
    LL_FOREACH_SAFE(link->flows, flow, next_flow)
        free(flow);
    link_servers_free(link);
    if (link->transport)
        link->transport->kind->free(link->transport);
    free(link->servers);
    mutex_destroy(&link->listeners_lock);
    cond_destroy(&link->work);
    cond_destroy(&link->changed);
    mutex_destroy(&link->lock);
    free(link);
}

/* --- looking --- */

bool link_trouble(struct link *link, char *buf, size_t size)
{
    mutex_lock(&link->lock);
    snprintf(buf, size, "%s", link->trouble);
    mutex_unlock(&link->lock);
    return buf[0] != '\0';
}

bool link_server(struct link *link, char *buf, size_t size)
{
    mutex_lock(&link->lock);
    snprintf(buf, size, "%s", link->server);
    mutex_unlock(&link->lock);
    return buf[0] != '\0';
}

enum link_state link_state(const struct link *link)
{
    return (enum link_state)atomic_load(&link->state);
}

size_t link_max_payload(const struct link *link)
{
    return atomic_load_explicit(&link->max_payload, memory_order_relaxed);
}

void link_stat(struct link *link, struct link_stat *stat)
{
    uint64_t now_ns = clock_now_ns();
    mutex_lock(&link->lock);
    bool away = link->lost_ns && link->connects > 0;
    *stat = (struct link_stat){
        .up = atomic_load(&link->state) == LINK_CONNECTED,
        .wire = link->wire ? link->wire : "",
        .connects = link->connects,
        .disconnected_ns = link->away_ns + (away ? now_ns - link->lost_ns : 0),
        .rtt_ns = link->rtt_ns,
        .sent = stat_get(&link->sent),
        .sent_bytes = stat_get(&link->sent_bytes),
        .received = stat_get(&link->received),
        .received_bytes = stat_get(&link->received_bytes),
    };
    for (int i = 0; i < LINK_LANES; i++)
        stat->waiting += link->lanes[i].accepted - link->lanes[i].finished;
    mutex_unlock(&link->lock);
}

void link_ask_rtt(struct link *link)
{
    uint64_t now_ns = clock_now_ns();
    mutex_lock(&link->lock);
    if (atomic_load(&link->state) == LINK_CONNECTED &&
        now_ns >= link->rtt_asked_ns + (uint64_t)LINK_RTT_AGAIN_NS) {
        link->rtt_asked_ns = now_ns;
        link->rtt_wanted = true;
        link->writer_idle = false;
        cond_signal(&link->work);
    }
    mutex_unlock(&link->lock);
}

size_t link_pending(struct link *link)
{
    size_t frames = 0;
    mutex_lock(&link->lock);
    for (int i = 0; i < LINK_LANES; i++)
        frames += (size_t)(link->lanes[i].accepted - link->lanes[i].finished);
    mutex_unlock(&link->lock);
    return frames;
}
