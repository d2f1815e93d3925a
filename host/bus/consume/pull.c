/* Transitions of the pull machine, one function for each event. */
#include "bus/consume/pull.h"

#include <limits.h>
#include <string.h>

#include "base/value.h"

#define EXPIRES_NS (30 * NS_PER_S)
/* Twice this is how long it takes to notice that the server who had our requests is dead while ours
 * is not: a cluster elects another leader within 4 to 9 s. */
#define HEARTBEAT_NS (2 * NS_PER_S)
/* How long after its expiry a request may still be on its way back to us. */
#define GRACE_NS (5 * NS_PER_S)
/* Prefetch covers the server's round trip (0.1-0.3 ms on loopback, some 10 ms between regions). */
#define SOON_NS (20 * NS_PER_MS)
#define WINDOW_NS (50 * NS_PER_MS)
/* An answer without a message that comes sooner than this was not waited for: such answers in a
 * row would make us spin. */
#define HASTY_NS (100 * NS_PER_MS)
/* A new leader speaks of each request that it cannot answer: what it says of them all has come by
 * then, and one request is made instead of one for each. */
#define NEW_LEADER_NS (50 * NS_PER_MS)
#define RETRY_MIN_NS (100 * NS_PER_MS)
#define RETRY_MAX_NS (5 * NS_PER_S)
#define SILENCES_BEFORE_LOOK 3
/* A consumer whose requests may live for some ms only is not missed sooner. */
#define SILENCE_MIN_NS NS_PER_S
/* The shortest max_expires that a server lets a consumer have. */
#define EXPIRES_MIN_NS NS_PER_MS
#define FAILURES_BEFORE_LOOK 3

void pull_init(struct pull *pull, int base, int most, int64_t max_bytes)
{
    memset(pull, 0, sizeof *pull);
    pull->state = PULL_PAUSED;
    pull->max_bytes = max_bytes;
    pull->expires_ns = EXPIRES_NS;
    pull->heartbeat_ns = HEARTBEAT_NS;
    pull_resize(pull, base, most);
}

void pull_calm(struct pull *pull, int times)
{
    pull->expires_ns *= times;
    pull->heartbeat_ns *= times;
}

static void begin_window(struct pull *pull, uint64_t now_ns)
{
    pull->window_ns = now_ns;
    pull->released = 0;
}

void pull_resize(struct pull *pull, int base, int most)
{
    pull->base = base > 1 ? base : 1;
    pull->most = most > 0 ? most : 0;
    pull->limit = pull->base;
    begin_window(pull, 0);
}

/* What requests under way still owe us is no longer counted on. */
static void reset_credit(struct pull *pull)
{
    pull->asked = 0;
    pull->counted_from = pull->requests + 1;
    pull->epoch++;
}

bool pull_wants_last(const struct pull *pull)
{
    return pull->requests >= pull->counted_from;
}

static uint64_t backoff_ns(unsigned failures)
{
    unsigned doublings = failures > 1 ? failures - 1 : 0;
    int64_t delay = doublings < 6 ? RETRY_MIN_NS << doublings : RETRY_MAX_NS;
    return (uint64_t)(delay < RETRY_MAX_NS ? delay : RETRY_MAX_NS);
}

static void back_off(struct pull *pull, uint64_t now_ns)
{
    pull->failures++;
    pull->state = PULL_BACKING_OFF;
    pull->retry_ns = now_ns + backoff_ns(pull->failures);
}

static void begin_look(struct pull *pull, struct pull_action *action)
{
    reset_credit(pull);
    pull->state = PULL_LOOKING;
    pull->retry_ns = UINT64_MAX;
    action->look = true;
}

/* For how many messages is a request due? 0: for none. */
static int wanted_batch(const struct pull *pull)
{
    int spare = pull->limit - pull->held - pull->asked;
    bool is_full = pull->bytes_limit > 0 && pull->bytes_held >= pull->bytes_limit;
    bool awaits_pin = pull->pin.on && !pull->pin.id[0] && pull->asked > 0;
    if (pull->making || spare < 1 || is_full || awaits_pin)
        return 0;
    if (pull->one_without_bound)
        return 1;
    if (spare < pull->asked || spare < (pull->limit - pull->base) / 2)
        return 0;
    return pull->ceiling > 0 && spare > pull->ceiling ? pull->ceiling : spare;
}

/* Makes a request if there is credit for one. */
static void make_request(struct pull *pull, struct pull_action *action, uint64_t now_ns)
{
    int batch = wanted_batch(pull);
    if (batch == 0)
        return;
    action->batch = batch;
    action->max_bytes = pull->one_without_bound ? 0 : pull->max_bytes;
    action->expires_ns = pull->expires_ns;
    action->heartbeat_ns = pull->heartbeat_ns;
    action->request = ++pull->requests;
    if (pull->asked == 0)
        pull->heard_ns = now_ns; /* silence counts from when something is due at all */
    pull->one_without_bound = false;
    pull->asked += batch;
    pull->making = true;
    pull->made_batch = batch;
    pull->made_ns = now_ns;
    pull->pin.kept_ns = now_ns;
    pull->delivered = 0;
    pull->lapses_at_ns = now_ns + (uint64_t)pull->expires_ns + GRACE_NS;
}

static uint64_t silent_at(const struct pull *pull)
{
    uint64_t silence = 2 * (uint64_t)pull->heartbeat_ns;
    return pull->heard_ns + (silence > SILENCE_MIN_NS ? silence : SILENCE_MIN_NS);
}

/* A pin is kept by a request now and then, after a stop while something is held. When is it due? */
static uint64_t keep_pin(struct pull *pull, struct pull_action *action, uint64_t now_ns)
{
    if (now_ns >= pin_due_ns(&pull->pin)) {
        action->keep = true;
        pin_kept(&pull->pin, now_ns);
    }
    return pin_due_ns(&pull->pin);
}

/* Every event ends here: asks for more where there is room, and says when to tick. */
static struct pull_action after_event(struct pull *pull, struct pull_action action, uint64_t now_ns)
{
    action.wake_ns = UINT64_MAX;
    if (pull->state == PULL_PULLING) {
        make_request(pull, &action, now_ns);
        if (pull->asked > 0)
            action.wake_ns =
                silent_at(pull) < pull->lapses_at_ns ? silent_at(pull) : pull->lapses_at_ns;
        if (pull->pin.id[0]) {
            uint64_t due_ns = keep_pin(pull, &action, now_ns);
            action.wake_ns = due_ns < action.wake_ns ? due_ns : action.wake_ns;
        }
    } else if (pull->state == PULL_BACKING_OFF || pull->state == PULL_LOOKING) {
        action.wake_ns = pull->retry_ns;
    } else if (pull->state == PULL_STOPPED && pull->held > 0 && pin_is_ours(&pull->pin, now_ns)) {
        action.wake_ns = keep_pin(pull, &action, now_ns);
    }
    return action;
}

/* Is there nothing to do but to tick by tick_ns? */
static bool rests(const struct pull *pull, uint64_t tick_ns)
{
    return pull->state == PULL_PULLING && !pull->pin.on && wanted_batch(pull) == 0 &&
           (pull->asked == 0 || (tick_ns <= silent_at(pull) && tick_ns <= pull->lapses_at_ns));
}

struct pull_action pull_connected(struct pull *pull, uint64_t now_ns)
{
    struct pull_action action = {0};
    if (pull->state != PULL_PAUSED)
        return after_event(pull, action, now_ns);
    reset_credit(pull);
    pull->silences = 0;
    if (pull->missing) {
        begin_look(pull, &action);
    } else {
        pull->state = PULL_PULLING;
        pull->failures = 0;
        /* A server that was started anew may have lost what it kept in memory; before 2.10 it
         * answers a pull on a missing consumer with silence. */
        action.look = pull->connected_before;
    }
    pull->connected_before = true;
    return after_event(pull, action, now_ns);
}

struct pull_action pull_disconnected(struct pull *pull, uint64_t now_ns)
{
    if (pull->state != PULL_STOPPED)
        pull->state = PULL_PAUSED;
    reset_credit(pull);
    return after_event(pull, (struct pull_action){0}, now_ns);
}

struct pull_action pull_sent(struct pull *pull, bool sent, uint64_t now_ns)
{
    pull->making = false;
    if (!sent && pull_wants_last(pull)) {
        pull->asked -= pull->made_batch < pull->asked ? pull->made_batch : pull->asked;
        if (pull->state == PULL_PULLING)
            back_off(pull, now_ns);
    }
    return after_event(pull, (struct pull_action){0}, now_ns);
}

static void count_arrival(struct pull *pull, uint64_t now_ns)
{
    pull->heard_ns = now_ns;
    pull->silences = 0;
    pull->failures = 0;
    pull->delivered++;
    if (pull->asked > 0) /* 0: of a request that was forgotten */
        pull->asked--;
}

bool pull_message(struct pull *pull, uint64_t tick_ns, uint64_t now_ns)
{
    count_arrival(pull, now_ns);
    pull->held++;
    return rests(pull, tick_ns);
}

struct pull_action pull_joined(struct pull *pull, uint64_t now_ns)
{
    count_arrival(pull, now_ns);
    return after_event(pull, (struct pull_action){0}, now_ns);
}

/* Learns the pace: up at once, down by half a window, so that one slow message changes little. */
static void learn_pace(struct pull *pull, uint64_t now_ns)
{
    if (pull->most == 0)
        return;
    pull->released++;
    if (pull->window_ns == 0)
        begin_window(pull, now_ns);
    /* Callers may pass timestamps out of order: one from before the window ends no window. */
    if (now_ns < pull->window_ns + WINDOW_NS)
        return;
    uint64_t elapsed = now_ns - pull->window_ns;
    uint64_t soon = pull->released * (uint64_t)SOON_NS / elapsed;
    int wanted = soon < (uint64_t)pull->most ? (int)soon : pull->most;
    int present = pull->limit - pull->base;
    pull->limit = pull->base + (wanted >= present ? wanted : (present + wanted) / 2);
    begin_window(pull, now_ns);
}

bool pull_released(struct pull *pull, uint64_t tick_ns, uint64_t now_ns)
{
    pull->held -= pull->held > 0;
    learn_pace(pull, now_ns);
    return rests(pull, tick_ns);
}

/* A request has ended without the rest of its messages. */
static void return_credit(struct pull *pull, int pending)
{
    int rest = pending >= 0 ? pending : pull->made_batch;
    pull->asked = rest < pull->asked ? pull->asked - rest : 0;
}

static bool is_hasty(const struct pull *pull, uint64_t now_ns)
{
    return pull->delivered == 0 && now_ns - pull->made_ns < HASTY_NS;
}

/* Pull again, but do not spin when the server ends each request at once. */
static void pull_again(struct pull *pull, uint64_t now_ns)
{
    if (!is_hasty(pull, now_ns))
        pull->failures = 0;
    else if (pull->failures + 1 >= FAILURES_BEFORE_LOOK)
        back_off(pull, now_ns);
    else
        pull->failures++;
}

static bool begins_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* A whole number from 1 to most; 1 where there is none. */
static int64_t bound_of(const char *text, int64_t most)
{
    int64_t bound = 0;
    for (; *text >= '0' && *text <= '9' && bound < most; text++)
        bound = bound > (most - 9) / 10 ? most : bound * 10 + (*text - '0');
    return bound > 0 ? bound : 1;
}

/* "Exceeded MaxRequestBatch of 10", "... MaxRequestExpires of 5s", "... MaxRequestMaxBytes of
 * 1024", "Exceeded MaxWaiting": the consumer has bounds of its own; keep to them. */
static void keep_to_bound(struct pull *pull, const char *description, struct pull_action *action)
{
    const char *of = strstr(description, " of ");
    int64_t expires_ns = 0;
    if (pull->failures == 0)
        action->warn = "the consumer's own bounds refuse our pull requests; keeping to them";
    if (!of)
        return;
    of += strlen(" of ");
    if (begins_with(description, "Exceeded MaxRequestBatch")) {
        pull->ceiling = (int)bound_of(of, INT_MAX);
    } else if (begins_with(description, "Exceeded MaxRequestMaxBytes")) {
        pull->max_bytes = bound_of(of, INT64_MAX);
    } else if (begins_with(description, "Exceeded MaxRequestExpires") &&
               value_duration(of, strlen(of), &expires_ns, NULL) == 0 &&
               expires_ns >= EXPIRES_MIN_NS) {
        pull->expires_ns = expires_ns;
        if (pull->heartbeat_ns > expires_ns / 2)
            pull->heartbeat_ns = expires_ns / 2;
    }
}

/* What is true of the consumer, whichever request it was said of. */
static bool is_news(int code, const char *description)
{
    return code == 409 && (begins_with(description, "Consumer Deleted") ||
                           begins_with(description, "Leadership Change"));
}

/* Our requests were the last leader's; also those that were made since may have gone to it. */
static void on_new_leader(struct pull *pull, uint64_t now_ns)
{
    reset_credit(pull);
    pull_again(pull, now_ns);
    if (pull->state == PULL_BACKING_OFF && pull->retry_ns > now_ns + NEW_LEADER_NS)
        return;
    pull->state = PULL_BACKING_OFF;
    pull->retry_ns = now_ns + NEW_LEADER_NS;
}

static void on_conflict(struct pull *pull, const char *description, int pending, uint64_t now_ns,
                        struct pull_action *action)
{
    if (begins_with(description, "Consumer Deleted")) {
        pull->failures = is_hasty(pull, now_ns) ? pull->failures + 1 : 0;
        pull->missing = true;
        begin_look(pull, action);
    } else if (begins_with(description, "Leadership Change")) {
        on_new_leader(pull, now_ns);
    } else if (begins_with(description, "Message Size Exceeds MaxBytes")) {
        /* Asked the same way, a message larger than max_bytes is refused for ever. */
        if (pull->delivered == 0)
            pull->one_without_bound = true;
        return_credit(pull, pending);
        pull_again(pull, now_ns);
    } else if (begins_with(description, "Batch Completed")) {
        return_credit(pull, pending);
        pull_again(pull, now_ns);
    } else if (begins_with(description, "Server Shutdown")) {
        /* Mostly a disconnect follows; but it may be a server of the cluster other than ours. */
        reset_credit(pull);
        back_off(pull, now_ns);
        pull->retry_ns = now_ns + NS_PER_S;
    } else if (begins_with(description, "Exceeded ")) {
        keep_to_bound(pull, description, action);
        return_credit(pull, pending);
        back_off(pull, now_ns);
    } else {
        if (pull->failures == 0)
            action->warn =
                "the server ended a pull request with a status unknown to us; backing off";
        return_credit(pull, pending);
        back_off(pull, now_ns);
    }
}

static void on_refused(struct pull *pull, int code, uint64_t now_ns, struct pull_action *action)
{
    reset_credit(pull);
    if (code == 400) {
        if (pull->failures == 0)
            action->warn = "the server refuses our pull requests (400); looking at the consumer";
        pull->failures++;
        begin_look(pull, action);
    } else if (code == 503 && pull->failures + 1 >= FAILURES_BEFORE_LOOK) {
        pull->failures++;
        begin_look(pull, action);
    } else {
        if (code != 503 && pull->failures == 0)
            action->warn = "the server refuses our pull requests; backing off";
        back_off(pull, now_ns);
    }
}

struct pull_action pull_status(struct pull *pull, uint64_t request, int code,
                               const char *description, int pending, uint64_t now_ns)
{
    struct pull_action action = {0};
    bool asking = pull->state == PULL_PULLING || pull->state == PULL_BACKING_OFF;
    bool news = request >= pull->born && is_news(code, description);
    if (code == 423 && pin_refused(&pull->pin, request)) {
        reset_credit(pull); /* what else names it is refused, too */
        if (pull->state == PULL_PULLING)
            pull_again(pull, now_ns);
    }
    if (request < pull->counted_from && !(asking && news))
        return after_event(pull, action, now_ns);
    pull->heard_ns = now_ns;
    pull->silences = 0;
    if (code == 100) {
        pull->failures = 0;
    } else if (!asking) {
        return_credit(pull, pending);
    } else if (code == 404 || code == 408 || code == 423) {
        return_credit(pull, pending);
        if (pull->state == PULL_PULLING)
            pull_again(pull, now_ns);
    } else if (code == 409) {
        on_conflict(pull, description, pending, now_ns, &action);
    } else {
        on_refused(pull, code, now_ns, &action);
    }
    return after_event(pull, action, now_ns);
}

static void on_silence(struct pull *pull, struct pull_action *action)
{
    pull->silences++;
    if (pull->silences == 1)
        action->warn = "no message and no heartbeat from the server; pulling again";
    if (pull->silences % SILENCES_BEFORE_LOOK == 0)
        begin_look(pull, action);
    else
        reset_credit(pull);
}

struct pull_action pull_tick(struct pull *pull, uint64_t now_ns)
{
    struct pull_action action = {0};
    if (pull->state == PULL_BACKING_OFF && now_ns >= pull->retry_ns) {
        pull->state = PULL_PULLING;
    } else if (pull->state == PULL_LOOKING && now_ns >= pull->retry_ns) {
        begin_look(pull, &action);
    } else if (pull->state == PULL_PULLING && pull->asked > 0) {
        if (now_ns >= silent_at(pull))
            on_silence(pull, &action);
        else if (now_ns >= pull->lapses_at_ns)
            reset_credit(pull);
    }
    return after_event(pull, action, now_ns);
}

struct pull_action pull_found(struct pull *pull, uint64_t now_ns)
{
    bool refused = pull->failures > (pull->missing ? FAILURES_BEFORE_LOOK : 0);
    pull->missing = false;
    pull->looks = 0;
    if (pull->state == PULL_LOOKING) {
        /* It was there all the time and refused us, or is deleted again and again: not at once. */
        if (refused)
            back_off(pull, now_ns);
        else
            pull->state = PULL_PULLING;
    }
    return after_event(pull, (struct pull_action){0}, now_ns);
}

struct pull_action pull_gone(struct pull *pull, uint64_t now_ns)
{
    if (pull->state != PULL_STOPPED)
        pull->missing = true;
    if (pull->state == PULL_PULLING || pull->state == PULL_BACKING_OFF ||
        pull->state == PULL_LOOKING) {
        reset_credit(pull);
        pull->state = PULL_LOOKING;
        pull->retry_ns = now_ns + backoff_ns(++pull->looks);
    }
    return after_event(pull, (struct pull_action){0}, now_ns);
}

struct pull_action pull_moved(struct pull *pull, uint64_t now_ns)
{
    reset_credit(pull);
    pull->born = pull->counted_from;
    pull->delivered = 0;
    return after_event(pull, (struct pull_action){0}, now_ns);
}

struct pull_action pull_stop(struct pull *pull)
{
    pull->state = PULL_STOPPED;
    reset_credit(pull);
    return (struct pull_action){.wake_ns = UINT64_MAX};
}
