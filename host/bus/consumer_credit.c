/* What a consumer does about the pull machine's answers: it asks for messages, and waits. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/value.h"
#include "bus/consumer_internal.h"

/* The bound of prefetch: what the fastest handlers start within 20 ms is about this many. */
#define PREFETCH_MOST 2048
/* Of what one consumer holds, queued and running: large messages must not add up to the memory of
 * the machine, nor those of one script to all that it may use by default (64 MB). A request under
 * way may pass it by its own bound. */
#define HELD_BYTES (32 << 20)
/* Of one request: keeps a batch of large messages within reason. */
#define REQUEST_BYTES (8 << 20)
/* How much may run again when a consumer was deleted is what came since the floor was last asked
 * for; so few requests are nothing to the server. */
#define POLL_NS (2 * NS_PER_S)
#define POLL_BUSY_NS (250 * NS_PER_MS)
#define BUSY_RELEASED 1000
/* How long before a disconnect the server may have forgotten our verdicts (it writes them within
 * a second), and for how long after it they come again. */
#define DOUBT_BEFORE_NS (10 * NS_PER_S)
#define DOUBT_AFTER_NS (60 * NS_PER_S)
/* With the lock held. 0 or an error of link_send. */
static int send_pull(struct consumer *consumer, const struct pull_action *action)
{
    char body[256], reply[600], bytes[64] = "";

    if (action->max_bytes > 0)
        snprintf(bytes, sizeof(bytes), ",\"max_bytes\":%" PRId64, action->max_bytes);
    int len = snprintf(body, sizeof(body),
                       "{\"batch\":%d,\"expires\":%" PRId64 ",\"idle_heartbeat\":%" PRId64 "%s}",
                       action->batch, action->expires_ns, action->heartbeat_ns, bytes);
    snprintf(reply, sizeof(reply), "%s.%u", consumer->inbox, action->epoch);
    struct link_frame frame = {.subject = consumer->next_subject,
                               .reply = reply,
                               .data = body,
                               .len = (size_t)len,
                               .gate = &consumer->pull_gate};
    return link_send(consumer->bus->consume, LANE_URGENT, &frame, NULL);
}

/* With the lock held. The deadline is only ever moved forward: when it fires too early,
 * pull_tick says when to come again, which costs less than moving it with each message. */
static void wake(struct consumer *consumer, uint64_t at_ns)
{
    if (at_ns == UINT64_MAX || consumer->stopping ||
        (consumer->tick_at_ns != 0 && consumer->tick_at_ns <= at_ns))
        return;
    consumer->tick_at_ns = at_ns;
    consumer_retain(consumer);
    if (!clock_arm(consumer->bus->clock, &consumer->tick, at_ns))
        consumer_release(consumer); /* the caller has another */
}

/* With the lock held. The requests of before are not counted on any more: their server may be gone,
 * and the one that leads now knows less of what was settled. */
static void note_epoch(struct consumer *consumer)
{
    uint64_t now_ns = clock_now_ns();

    if (consumer->pull.epoch == consumer->epoch)
        return;
    consumer->epoch = consumer->pull.epoch;
    if (consumer->pull.state != PULL_PAUSED && consumer->doubt_until_ns != UINT64_MAX)
        consumer_doubt(consumer, now_ns > DOUBT_BEFORE_NS ? now_ns - DOUBT_BEFORE_NS : 0,
                       now_ns + DOUBT_AFTER_NS);
}

const char *consumer_act(struct consumer *consumer, struct pull_action action)
{
    const char *warn = action.warn;

    note_epoch(consumer);
    if (action.look && !consumer->looking && !consumer->stopping) {
        consumer->looking = true;
        consumer_retain(consumer);
        pool_submit(consumer->bus->pool, &consumer->look_job);
    }
    if (action.batch > 0) {
        consumer_retain(consumer); /* the frame's */
        if (send_pull(consumer, &action) != 0) {
            consumer_release(consumer);
            action = pull_sent(&consumer->pull, false, clock_now_ns());
        }
    }
    wake(consumer, action.wake_ns);
    return warn;
}

void consumer_unlock(struct consumer *consumer, const char *warn)
{
    pthread_mutex_unlock(&consumer->lock);
    if (warn != NULL)
        consumer_log(consumer, LOG_WARN, "%s", warn);
}

static bool pull_gate_open(struct link_gate *gate)
{
    struct consumer *consumer =
        (struct consumer *)((char *)gate - offsetof(struct consumer, pull_gate));

    pthread_mutex_lock(&consumer->lock);
    bool open = consumer->pull.made_epoch == consumer->pull.epoch && !consumer->stopping;
    pthread_mutex_unlock(&consumer->lock);
    return open;
}

static void pull_gate_done(struct link_gate *gate, bool sent)
{
    struct consumer *consumer =
        (struct consumer *)((char *)gate - offsetof(struct consumer, pull_gate));

    pthread_mutex_lock(&consumer->lock);
    const char *warn = consumer_act(consumer, pull_sent(&consumer->pull, sent, clock_now_ns()));
    consumer_unlock(consumer, warn);
    consumer_release(consumer);
}

static void on_tick(struct deadline *deadline)
{
    struct consumer *consumer =
        (struct consumer *)((char *)deadline - offsetof(struct consumer, tick));

    pthread_mutex_lock(&consumer->lock);
    consumer->tick_at_ns = 0;
    const char *warn = consumer_act(consumer, pull_tick(&consumer->pull, clock_now_ns()));
    consumer_unlock(consumer, warn);
    consumer_release(consumer);
}

void consumer_credit_init(struct consumer *consumer, int concurrency)
{
    consumer->tick.on_due = on_tick;
    consumer->pull_gate.open = pull_gate_open;
    consumer->pull_gate.done = pull_gate_done;
    pull_init(&consumer->pull, concurrency, PREFETCH_MOST, REQUEST_BYTES);
    consumer->pull.bytes_limit = HELD_BYTES;
}

void consumer_doubt(struct consumer *consumer, uint64_t from_ns, uint64_t until_ns)
{
    bool in_doubt = clock_now_ns() < consumer->doubt_until_ns;

    if (!in_doubt || from_ns < consumer->doubt_from_ns)
        consumer->doubt_from_ns = from_ns;
    consumer->doubt_until_ns = until_ns;
}

void consumer_on_link(struct consumer *consumer, enum link_state state)
{
    uint64_t now_ns = clock_now_ns();
    uint64_t before_ns = now_ns > DOUBT_BEFORE_NS ? now_ns - DOUBT_BEFORE_NS : 0;

    pthread_mutex_lock(&consumer->lock);
    if (state != LINK_CONNECTED && consumer->pull.state != PULL_PAUSED)
        consumer_doubt(consumer, before_ns, UINT64_MAX);
    else if (state == LINK_CONNECTED && consumer->doubt_until_ns == UINT64_MAX)
        consumer->doubt_until_ns = now_ns + DOUBT_AFTER_NS;
    const char *warn = consumer_act(consumer, state == LINK_CONNECTED
                                                  ? pull_connected(&consumer->pull, now_ns)
                                                  : pull_disconnected(&consumer->pull, now_ns));
    consumer_unlock(consumer, warn);
}

void consumer_looked(struct consumer *consumer, bool found)
{
    uint64_t now_ns = clock_now_ns();

    pthread_mutex_lock(&consumer->lock);
    consumer->looking = false;
    const char *warn = consumer_act(consumer, found ? pull_found(&consumer->pull, now_ns)
                                                    : pull_gone(&consumer->pull, now_ns));
    consumer_unlock(consumer, warn);
}

void consumer_released(struct consumer *consumer, struct delivery *delivery, uint64_t now_ns)
{
    pthread_mutex_lock(&consumer->lock);
    consumer->pull.bytes_held -= (int64_t)delivery->len;
    if (delivery->parked)
        consumer->pull.held++; /* pull_released takes it back */
    delivery->parked = false;
    const char *warn = consumer_act(consumer, pull_released(&consumer->pull, now_ns));
    consumer->poll_released++;
    if (!consumer->polling && !consumer->stopping) {
        bool busy = consumer->poll_released > BUSY_RELEASED;
        consumer->polling = true;
        consumer->poll_released = 0;
        consumer_retain(consumer);
        clock_arm(consumer->bus->clock, &consumer->poll,
                  now_ns + (uint64_t)(busy ? POLL_BUSY_NS : POLL_NS));
    }
    consumer_unlock(consumer, warn);
}

bool consumer_park(struct consumer *consumer, struct delivery *delivery, bool parked)
{
    const char *warn = NULL;

    pthread_mutex_lock(&consumer->lock);
    bool changed = delivery->parked != parked && delivery->verdict == VERDICT_NONE;
    if (changed) {
        delivery->parked = parked;
        consumer->pull.held += parked ? -1 : 1;
        if (parked)
            warn = consumer_act(consumer, pull_tick(&consumer->pull, clock_now_ns()));
    }
    consumer_unlock(consumer, warn);
    return changed;
}
