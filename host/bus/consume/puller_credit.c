/* What a puller does about the pull machine's answers: it asks for messages, and waits. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/container.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/consume/puller_private.h"

/* The bound of prefetch: what the fastest handlers start within 20 ms is about this many. */
#define PREFETCH_MOST 2048
/* Of what one consumer holds, queued and running: large messages must not add up to the memory of
 * the machine, nor those of one script to all that it may use by default (64 MB). A request under
 * way may pass it by its own bound. */
#define HELD_BYTES (32 << 20)
/* Of one request: keeps a batch of large messages within reason. */
#define REQUEST_BYTES (8 << 20)
/* Of a request that gets nothing. */
#define KEEP_EXPIRES_NS (100 * NS_PER_MS)
/* How long before a disconnect the server may have forgotten our verdicts (it writes them within
 * a second), and for how long after it they come again. */
#define DOUBT_BEFORE_NS (10 * NS_PER_S)
#define DOUBT_AFTER_NS (60 * NS_PER_S)

/* 0 or an error of link_send. */
static int send_pull(struct puller *puller, const struct pull_action *action)
{
    must_hold(&puller->lock);
    char body[512], group[256], reply[600], bytes[64] = "";
    if (action->max_bytes > 0)
        snprintf(bytes, sizeof bytes, ",\"max_bytes\":%" PRId64, action->max_bytes);
    int len = snprintf(body, sizeof body,
                       "{\"batch\":%d,\"expires\":%" PRId64 ",\"idle_heartbeat\":%" PRId64 "%s%s}",
                       action->batch, action->expires_ns, action->heartbeat_ns, bytes,
                       puller_group_print(puller, group, sizeof group));
    snprintf(reply, sizeof reply, "%s.%" PRIu64, puller->inbox, action->request);
    struct link_frame frame = {.subject = puller->next_subject,
                               .reply = reply,
                               .data = body,
                               .len = (size_t)len,
                               .gate = &puller->pull_gate};
    return link_send(puller->intake->link, LANE_URGENT, &frame, NULL);
}

/* Any message is larger than a byte: this one gets none, and the pin's timeout begins anew. */
static void send_keep(struct puller *puller)
{
    must_hold(&puller->lock);
    char body[512], group[256], reply[600];
    int len = snprintf(body, sizeof body, "{\"batch\":1,\"expires\":%" PRId64 ",\"max_bytes\":1%s}",
                       KEEP_EXPIRES_NS, puller_group_print(puller, group, sizeof group));
    snprintf(reply, sizeof reply, "%s.0", puller->inbox);
    struct link_frame frame = {
        .subject = puller->next_subject, .reply = reply, .data = body, .len = (size_t)len};
    bool sent = link_state(puller->intake->link) == LINK_CONNECTED &&
                link_send(puller->intake->link, LANE_URGENT, &frame, NULL) == 0;
    if (!sent && puller->stopping)
        puller->pull.pin.id[0] = '\0'; /* nobody would tell us that somebody else has it */
}

/* The deadline is only ever moved forward: when it fires too early,
 * pull_tick says when to come again, which costs less than moving it with each message. */
static void wake_by(struct puller *puller, uint64_t at_ns)
{
    must_hold(&puller->lock);
    if (at_ns == UINT64_MAX || (puller->tick_at_ns != 0 && puller->tick_at_ns <= at_ns))
        return;
    puller->tick_at_ns = at_ns;
    puller_retain(puller);
    if (!clock_arm(puller->intake->clock, &puller->tick, at_ns))
        puller_release(puller); /* the caller has another */
}

/* The requests of before are not counted on any more: their server may be gone,
 * and the one that leads now knows less of what was settled. */
static void note_epoch(struct puller *puller)
{
    must_hold(&puller->lock);
    if (puller->pull.epoch == puller->epoch)
        return;
    uint64_t now_ns = clock_now_ns();
    puller->epoch = puller->pull.epoch;
    bool paused = puller->pull.state == PULL_PAUSED;
    gap_broken(&puller->gap, paused ? UINT64_MAX : now_ns + DOUBT_AFTER_NS);
    if (!paused && puller->doubt_until_ns != UINT64_MAX)
        puller_doubt(puller, now_ns > DOUBT_BEFORE_NS ? now_ns - DOUBT_BEFORE_NS : 0,
                     now_ns + DOUBT_AFTER_NS);
}

const char *puller_act(struct puller *puller, struct pull_action action)
{
    must_hold(&puller->lock);
    const char *warn = action.warn;
    note_epoch(puller);
    if (action.look && puller->looking) {
        puller->look_again = true; /* what that one finds may be of before */
    } else if (action.look && !puller->stopping) {
        puller->looking = true;
        puller_retain(puller);
        pool_submit(puller->intake->pool, &puller->look_job);
    }
    if (action.batch > 0) {
        puller_retain(puller); /* the frame's */
        if (send_pull(puller, &action) != 0) {
            puller_release(puller);
            action = pull_sent(&puller->pull, false, clock_now_ns());
        } else {
            stat_add_shared(&puller->counts->pulls, 1);
        }
    }
    if (action.keep)
        send_keep(puller);
    wake_by(puller, action.wake_ns);
    return warn;
}

void puller_look(struct puller *puller)
{
    puller_act(puller, (struct pull_action){.look = true, .wake_ns = UINT64_MAX});
}

void puller_unlock(struct puller *puller, const char *warn)
{
    mutex_unlock(&puller->lock);
    if (warn)
        puller_log(puller, LOG_WARN, "%s", warn);
}

static bool pull_gate_open(struct link_gate *gate)
{
    struct puller *puller = container_of(gate, struct puller, pull_gate);
    mutex_lock(&puller->lock);
    bool open = pull_wants_last(&puller->pull) && !puller->stopping;
    mutex_unlock(&puller->lock);
    return open;
}

static void pull_gate_done(struct link_gate *gate, bool sent)
{
    struct puller *puller = container_of(gate, struct puller, pull_gate);
    mutex_lock(&puller->lock);
    const char *warn = puller_act(puller, pull_sent(&puller->pull, sent, clock_now_ns()));
    puller_unlock(puller, warn);
    puller_release(puller);
}

static void on_tick(struct deadline *deadline)
{
    struct puller *puller = container_of(deadline, struct puller, tick);
    mutex_lock(&puller->lock);
    puller->tick_at_ns = 0;
    const char *warn = puller_act(puller, pull_tick(&puller->pull, clock_now_ns()));
    puller_unlock(puller, warn);
    puller_release(puller);
}

int puller_cancel_tick(struct puller *puller)
{
    must_hold(&puller->lock);
    if (!clock_cancel(puller->intake->clock, &puller->tick))
        return 0;
    puller->tick_at_ns = 0;
    return 1;
}

const char *puller_make_room(struct puller *puller)
{
    must_hold(&puller->lock);
    struct pull *pull = &puller->pull;
    if (pull->bytes_held >= pull->bytes_limit)
        pull->bytes_limit = pull->bytes_held + 1;
    return puller_act(puller, pull_tick(pull, clock_now_ns()));
}

void puller_end_room(struct puller *puller)
{
    must_hold(&puller->lock);
    puller->pull.bytes_limit = HELD_BYTES;
}

void puller_doubt(struct puller *puller, uint64_t from_ns, uint64_t until_ns)
{
    must_hold(&puller->lock);
    bool in_doubt = clock_now_ns() < puller->doubt_until_ns;
    if (!in_doubt || from_ns < puller->doubt_from_ns)
        puller->doubt_from_ns = from_ns;
    puller->doubt_until_ns = until_ns;
}

bool puller_in_doubt(const struct puller *puller, uint64_t settled_ns, uint64_t now_ns)
{
    must_hold(&puller->lock);
    return now_ns < puller->doubt_until_ns && settled_ns >= puller->doubt_from_ns;
}

void puller_on_link(struct link_listener *listener, enum link_state state)
{
    struct puller *puller = container_of(listener, struct puller, listener);
    uint64_t now_ns = clock_now_ns();
    uint64_t before_ns = now_ns > DOUBT_BEFORE_NS ? now_ns - DOUBT_BEFORE_NS : 0;
    mutex_lock(&puller->lock);
    if (state != LINK_CONNECTED && puller->pull.state != PULL_PAUSED)
        puller_doubt(puller, before_ns, UINT64_MAX);
    else if (state == LINK_CONNECTED && puller->doubt_until_ns == UINT64_MAX)
        puller->doubt_until_ns = now_ns + DOUBT_AFTER_NS;
    const char *warn =
        puller_act(puller, state == LINK_CONNECTED ? pull_connected(&puller->pull, now_ns)
                                                   : pull_disconnected(&puller->pull, now_ns));
    puller_unlock(puller, warn);
}

static void note_looked(struct puller *puller, enum looked found)
{
    uint64_t now_ns = clock_now_ns();
    mutex_lock(&puller->lock);
    bool again = puller->look_again && !puller->stopping;
    puller->looking = puller->look_again = false;
    if (again) {
        puller_look(puller);
        mutex_unlock(&puller->lock);
        return;
    }
    const char *warn = NULL;
    /* A server that is slow to answer says nothing of a consumer that messages come from. */
    if (found == LOOKED_THERE)
        warn = puller_act(puller, pull_found(&puller->pull, now_ns));
    else if (found == LOOKED_GONE || puller->pull.state == PULL_LOOKING)
        warn = puller_act(puller, pull_gone(&puller->pull, now_ns));
    puller_unlock(puller, warn);
}

/* On a pool thread; has a reference. An owner whose messages have no verdict is called up by what
 * is found, so that its stop waits for the look. */
static void run_look(struct pool_job *job)
{
    struct puller *puller = container_of(job, struct puller, look_job);
    bool may = puller->settles || puller_call_begin(puller);
    if (may)
        note_looked(puller, puller->calls->look(puller));
    if (may && !puller->settles)
        puller_call_end(puller);
    puller_release(puller);
}

void puller_credit_init(struct puller *puller, int concurrency, int64_t bytes)
{
    int64_t of_request = bytes > 0 && bytes < REQUEST_BYTES ? bytes : REQUEST_BYTES;
    puller->tick.on_due = on_tick;
    puller->look_job.run = run_look;
    puller->pull_gate = (struct link_gate){.open = pull_gate_open, .done = pull_gate_done};
    pull_init(&puller->pull, concurrency, PREFETCH_MOST, of_request);
    if (puller->intake->calm > 1)
        pull_calm(&puller->pull, puller->intake->calm);
    puller->pull.bytes_limit = bytes > 0 ? bytes : HELD_BYTES;
}

void puller_resize(struct puller *puller, int concurrency)
{
    mutex_lock(&puller->lock);
    pull_resize(&puller->pull, concurrency, puller->pull.most);
    mutex_unlock(&puller->lock);
}

const char *puller_give_back(struct puller *puller, size_t len, bool parked, uint64_t now_ns)
{
    must_hold(&puller->lock);
    puller->pull.bytes_held -= (int64_t)len;
    puller->pull.held += parked; /* pull_released takes it back */
    const char *warn = NULL;
    if (!pull_released(&puller->pull, puller_tick_ns(puller), now_ns))
        warn = puller_act(puller, pull_tick(&puller->pull, now_ns));
    puller_poll_settled(puller, now_ns);
    if (puller->stopped)
        puller_group_leave(puller);
    return warn;
}

void puller_released(struct puller *puller, size_t len, bool parked, uint64_t now_ns)
{
    mutex_lock(&puller->lock);
    puller_unlock(puller, puller_give_back(puller, len, parked, now_ns));
}

const char *puller_park(struct puller *puller, bool parked)
{
    must_hold(&puller->lock);
    puller->pull.held += parked ? -1 : 1;
    return parked ? puller_act(puller, pull_tick(&puller->pull, clock_now_ns())) : NULL;
}
