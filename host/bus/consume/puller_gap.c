/* What a puller does for an order: it watches for deliveries that were lost on their way, and
 * says when they have come again. */
#include <cjson/cJSON.h>
#include <inttypes.h>

#include "base/container.h"
#include "base/json.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/ack_subject.h"
#include "bus/consume/puller_private.h"

/* How much later than ack_wait a server may come to it. */
#define LATE_NS (2 * NS_PER_S)
/* How often room is made for it meanwhile: all that was held back may be as large as may be held.
 */
#define ROOMS 4

/* What is missing comes after ack_wait, or is given up a little later. */
static void await_missing(struct puller *puller, uint64_t now_ns)
{
    must_hold(&puller->lock);
    uint64_t due_ns = puller->gap.until_ns - (uint64_t)LATE_NS;
    if (now_ns >= due_ns)
        due_ns = now_ns + (uint64_t)LATE_NS / ROOMS;
    puller_retain(puller);
    if (!clock_arm(puller->intake->clock, &puller->gap_due, due_ns))
        puller_release(puller); /* the caller has another */
}

enum gap_event puller_gap_arrived(struct puller *puller, const struct ack_subject *ack,
                                  uint64_t now_ns)
{
    must_hold(&puller->lock);
    struct gap_delivery delivery = {.consumer_sequence = ack->consumer_sequence,
                                    .stream_sequence = ack->stream_sequence,
                                    .again = ack->delivered > 1,
                                    .known = puller->calls->knows(puller, ack, now_ns)};
    enum gap_event event =
        gap_arrived(&puller->gap, &delivery, puller->ack_wait_ns + LATE_NS, now_ns);
    if (event == GAP_OPENED && !puller->stopping) {
        await_missing(puller, now_ns);
        puller_poll_soon(puller, now_ns);
    }
    return event;
}

bool puller_gap_is_open(const struct puller *puller, enum gap_event event, uint64_t now_ns)
{
    must_hold(&puller->lock);
    const struct gap *gap = &puller->gap;
    return event != GAP_NOTHING || gap->missing > 0 || now_ns < gap->broken_ns;
}

void puller_gap_unseen(struct puller *puller, const struct gap *before, uint64_t now_ns)
{
    must_hold(&puller->lock);
    uint64_t until_ns = now_ns + (uint64_t)(puller->ack_wait_ns + LATE_NS);
    puller->gap = *before;
    gap_broken(&puller->gap, until_ns);
    if (puller->gap.missing > 0)
        puller->gap.until_ns = until_ns;
}

enum gap_event puller_gap_info(struct puller *puller, const cJSON *info)
{
    must_hold(&puller->lock);
    double outstanding = json_number(info, "num_ack_pending", 0);
    uint64_t left = puller->forgotten - puller->poll_forgotten;
    /* Those were held while it was asked, and are still: they are among the outstanding ones. */
    uint64_t ours = left < puller->poll_held ? puller->poll_held - left : 0;
    uint64_t most = outstanding > (double)ours ? (uint64_t)outstanding - ours : 0;
    enum gap_event event = gap_floor(&puller->gap, puller->ack_floor, clock_now_ns());

    return event != GAP_NOTHING ? event : gap_outstanding(&puller->gap, most);
}

static void log_missing(struct puller *puller)
{
    char wait[32];
    mutex_lock(&puller->lock);
    uint64_t missing = puller->gap.missing;
    mutex_unlock(&puller->lock);
    value_format_duration(puller->ack_wait_ns, wait, sizeof wait);
    puller_log(puller, LOG_WARN,
               "lost on the way here: %" PRIu64 " message%s; newer ones are held back until "
               "they come again, after ack_wait (%s), so that each key keeps its order",
               missing, missing == 1 ? "" : "s", wait);
}

void puller_gap_act(struct puller *puller, enum gap_event event)
{
    if (event == GAP_OPENED)
        log_missing(puller);
    else if (event == GAP_GIVEN_UP)
        puller_log(puller, LOG_WARN,
                   "messages lost on the way here did not come again within ack_wait: going on "
                   "without them; if one comes later, its key is out of order");
    if (event != GAP_CLOSED && event != GAP_GIVEN_UP)
        return;
    mutex_lock(&puller->lock);
    puller_end_room(puller);
    mutex_unlock(&puller->lock);
    if (!puller_call_begin(puller))
        return;
    puller->calls->on_whole(puller);
    puller_call_end(puller);
}

static void on_gap_due(struct deadline *deadline)
{
    struct puller *puller = container_of(deadline, struct puller, gap_due);
    uint64_t now_ns = clock_now_ns();
    const char *warn = NULL;
    mutex_lock(&puller->lock);
    enum gap_event event = gap_tick(&puller->gap, now_ns);
    if (puller->gap.missing > 0 && !puller->stopping) {
        if (now_ns + (uint64_t)LATE_NS >= puller->gap.until_ns)
            warn = puller_make_room(puller);
        await_missing(puller, now_ns);
    }
    puller_unlock(puller, warn);
    puller_gap_act(puller, event);
    puller_release(puller);
}

void puller_gap_init(struct puller *puller)
{
    puller->gap_due.on_due = on_gap_due;
}
