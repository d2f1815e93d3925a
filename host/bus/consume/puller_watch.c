/* What CONSUMER.INFO says of a consumer that is pulled from: its ack floor, whether somebody has
 * paused it, and whether somebody has edited it so that what we promise does not hold any more.
 *
 *   settled, held or idle ─▶ poll due ─▶ CONSUMER.INFO ─▶ note the floor, and whether it is paused
 *                                                     └─▶ other settings ─▶ look (pool) ─▶ judged
 *
 * It is asked for when messages are settled, for the floor; and seldom when none are: a durable
 * that somebody has paused, or given a filter that fits nothing, has nothing settled. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

#include "base/container.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/consume/puller_private.h"
#include "bus/request/jsapi.h"

/* How much may run again when a consumer was deleted is what came since the floor was last asked
 * for; so few requests are nothing to the server. */
#define POLL_NS (2 * NS_PER_S)
#define POLL_BUSY_NS (250 * NS_PER_MS) /* also while something is missing */
#define BUSY_RELEASED 1000
/* While handlers run for long: a shorter ack_wait is known before a lease of the default ends. */
#define POLL_HELD_NS (10 * NS_PER_S)
#define POLL_IDLE_NS (30 * NS_PER_S)

/* --- when to ask --- */

/* It is asked for at the latest then. */
static void poll_by(struct puller *puller, uint64_t at_ns)
{
    must_hold(&puller->lock);
    bool sooner = puller->poll_at_ns == 0 || at_ns < puller->poll_at_ns;
    if (puller->stopping || puller->polling || !sooner)
        return;
    puller->poll_at_ns = at_ns;
    puller_retain(puller);
    if (!clock_arm(puller->intake->clock, &puller->poll, at_ns))
        puller_release(puller); /* the caller has another */
}

void puller_poll_settled(struct puller *puller, uint64_t now_ns)
{
    must_hold(&puller->lock);
    bool busy = ++puller->poll_released > BUSY_RELEASED;
    poll_by(puller, now_ns + (uint64_t)(busy ? POLL_BUSY_NS : POLL_NS));
}

void puller_poll_soon(struct puller *puller, uint64_t now_ns)
{
    must_hold(&puller->lock);
    poll_by(puller, now_ns + (uint64_t)POLL_BUSY_NS);
}

static int64_t idle_ns(const struct puller *puller)
{
    if (puller->eager)
        return POLL_NS;
    return POLL_IDLE_NS * (puller->intake->calm > 1 ? puller->intake->calm : 1);
}

/* An answer is there, or none will be. */
static void poll_again(struct puller *puller)
{
    must_hold(&puller->lock);
    int64_t wait_ns = puller->pull.held > 0 ? POLL_HELD_NS : idle_ns(puller);
    puller->polling = false;
    if (puller->gap.missing > 0)
        wait_ns = POLL_BUSY_NS;
    else if (puller->poll_released > 0)
        wait_ns = POLL_NS;
    poll_by(puller, clock_now_ns() + (uint64_t)wait_ns);
}

static void on_polled(void *owner, const cJSON *reply, int api_code, const struct err *err)
{
    struct puller *puller = owner;
    bool missing = err && err->code == ERR_NOT_FOUND;
    const char *warn = NULL, *say = NULL;
    (void)api_code;
    if (reply && !puller_info_tells(reply))
        reply = NULL;
    mutex_lock(&puller->lock);
    bool present = puller->poll_incarnation == puller->incarnation;
    if (present && reply && puller_note_info(puller, reply, &say))
        puller_look(puller);
    if (present && reply && puller->calls->on_info)
        puller->calls->on_info(puller, reply);
    if (present && missing && !puller->looking)
        warn = puller_act(puller, pull_gone(&puller->pull, clock_now_ns()));
    enum gap_event event = present && reply ? puller_gap_info(puller, reply) : GAP_NOTHING;
    poll_again(puller);
    puller_unlock(puller, warn);
    if (say)
        puller_log(puller, LOG_INFO, "%s", say);
    puller_gap_act(puller, event);
    puller_release(puller);
}

static void on_poll(struct deadline *deadline)
{
    struct puller *puller = container_of(deadline, struct puller, poll);
    char operation[600];
    mutex_lock(&puller->lock);
    bool ask = !puller->stopping;
    puller->poll_at_ns = 0;
    puller->polling = true;
    puller->poll_released = 0;
    puller->poll_held = puller->holds;
    puller->poll_forgotten = puller->forgotten;
    puller->poll_incarnation = puller->incarnation;
    mutex_unlock(&puller->lock);

    puller_operation(puller, "INFO", operation, sizeof operation);
    /* The deadline's reference goes on to the question. */
    if (ask && jsapi_call(puller->intake->jsapi, operation, NULL, on_polled, puller, NULL) != 0)
        return;
    mutex_lock(&puller->lock);
    poll_again(puller);
    mutex_unlock(&puller->lock);
    puller_release(puller);
}

void puller_ask_lag(struct puller *puller)
{
    uint64_t now_ns = clock_now_ns();
    mutex_lock(&puller->lock);
    bool asked = puller->lag_asked_ns && now_ns < puller->lag_asked_ns + (uint64_t)LAG_NS;
    if (puller->sub && !asked && now_ns >= puller->lag.at_ns + (uint64_t)LAG_NS) {
        puller->lag_asked_ns = now_ns;
        poll_by(puller, now_ns);
    }
    mutex_unlock(&puller->lock);
}

void puller_watch_init(struct puller *puller)
{
    puller->poll.on_due = on_poll;
}

void puller_watch_start(struct puller *puller)
{
    must_hold(&puller->lock);
    poll_by(puller, clock_now_ns() + (uint64_t)idle_ns(puller));
}

/* --- what it says --- */

/* While a consumer is being deleted, server 2.9 answers with neither an error nor what it is. */
bool puller_info_tells(const cJSON *info)
{
    return json_field(info, "config") != NULL;
}

/* Servers before 2.15 show an ack floor of 0 until the first ack, wherever the consumer started. */
uint64_t puller_floor(const cJSON *info)
{
    const cJSON *floor = json_field(info, "ack_floor");
    const cJSON *delivered = json_field(info, "delivered");
    double from = json_number(floor, "stream_seq", 0), start = 0;
    if (json_number(floor, "consumer_seq", 0) == 0)
        start = json_number(delivered, "consumer_seq", 0) == 0
                    ? json_number(delivered, "stream_seq", 0)
                    : json_number(json_field(info, "config"), "opt_start_seq", 0) - 1;
    double sequence = start > from ? start : from;
    return sequence >= 0 && sequence < 0x1p64 ? (uint64_t)sequence : 0;
}

static void note_floor(struct puller *puller, const cJSON *info)
{
    must_hold(&puller->lock);
    uint64_t floor = puller_floor(info);
    const char *made = json_text_or(info, "created", "");
    /* Of the same consumer, what was known once stays true: a server that was killed may have
     * forgotten acks. One that was made anew, by whomever, counts anew. */
    if (strcmp(made, puller->made) != 0 || floor > puller->ack_floor)
        puller->ack_floor = floor;
    snprintf(puller->made, sizeof puller->made, "%s", made);
}

static uint64_t hash_settings(const cJSON *info)
{
    char *text = cJSON_PrintUnformatted(json_field(info, "config"));
    uint64_t hash = text ? hash_add(HASH_START, text, strlen(text)) : 0;
    cJSON_free(text);
    return hash;
}

static void note_lag(struct puller *puller, const cJSON *info)
{
    must_hold(&puller->lock);
    puller->lag = (struct consumer_lag){.at_ns = clock_now_ns(),
                                        .pending = json_unsigned(info, "num_pending", 0),
                                        .ack_pending = json_unsigned(info, "num_ack_pending", 0),
                                        .redelivered = json_unsigned(info, "num_redelivered", 0),
                                        .waiting = json_unsigned(info, "num_waiting", 0)};
}

bool puller_note_info(struct puller *puller, const cJSON *info, const char **say)
{
    must_hold(&puller->lock);
    bool paused = json_true(info, "paused");
    note_floor(puller, info);
    note_lag(puller, info);
    if (paused != puller->paused)
        *say = paused ? "paused on the server" : "no longer paused";
    puller->paused = paused;
    snprintf(puller->paused_until, sizeof puller->paused_until, "%s",
             json_text_or(json_field(info, "config"), "pause_until", ""));
    return hash_settings(info) != puller->settings;
}

/* Requests within the consumer's own bounds. */
static void keep_bounds(struct puller *puller, const cJSON *config)
{
    must_hold(&puller->lock);
    struct pull *pull = &puller->pull;
    int most = json_int(config, "max_batch", 0);
    int64_t max_expires_ns = json_integer(config, "max_expires", 0);
    int64_t max_bytes = json_integer(config, "max_bytes", 0);
    const char *policy = json_text_or(config, "priority_policy", "");
    pin_set(&pull->pin, strcmp(policy, "pinned_client") == 0,
            json_integer(config, "priority_timeout", 0));
    if (most > 0)
        pull->ceiling = most;
    if (max_bytes > 0)
        pull->max_bytes = max_bytes;
    if (max_expires_ns > 0 && max_expires_ns < pull->expires_ns) {
        pull->expires_ns = max_expires_ns;
        if (pull->heartbeat_ns > max_expires_ns / 2)
            pull->heartbeat_ns = max_expires_ns / 2;
    }
}

void puller_renewed(struct puller *puller)
{
    must_hold(&puller->lock);
    puller->incarnation++;
}

void puller_judged(struct puller *puller, const cJSON *info)
{
    must_hold(&puller->lock);
    puller->settings = hash_settings(info);
    keep_bounds(puller, json_field(info, "config"));
}
