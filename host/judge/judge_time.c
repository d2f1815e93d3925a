/* judge_time - judgements on durations and numbers: which of two ends first, and what fits into
 * what. */
#include <inttypes.h>
#include <string.h>

#include "base/value.h"
#include "judge/judge_look.h"
#include "judge/judge_table.h"

/* A limit that nobody has chosen is worth a note; what was chosen, a warning. */
static enum judge_severity severity_of(const struct judge_handler *handler,
                                       const struct judgement *self)
{
    return handler->timeout_stated ? self->severity : JUDGE_NOTE;
}

static bool has_messages(const struct judge_handler *handler)
{
    return handler->kind == JUDGE_SUBSCRIBE || handler->kind == JUDGE_CONSUME;
}

/* --- the stop --- */

/* What is left of a stop for handlers: its last tenth, or second, is kept for handing back
 * (app/ending.c). */
static int64_t handlers_share_ns(int64_t graceful_ns)
{
    int64_t tenth = graceful_ns / 10;
    return graceful_ns - (tenth < NS_PER_S ? tenth : NS_PER_S);
}

/* One that is stated counts before any default. */
static bool is_longer(const struct judge_handler *one, const struct judge_handler *than)
{
    if (!than || one->timeout_stated != than->timeout_stated)
        return !than || one->timeout_stated;
    return one->timeout_ns > than->timeout_ns;
}

JUDGEMENT(short_graceful_timeout)
{
    struct look_words words = {0};
    const struct judge_handler *longest = NULL;
    int64_t graceful_ns = facts->settings.graceful_timeout_ns;
    int64_t share_ns = handlers_share_ns(graceful_ns);
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (has_messages(handler) && handler->timeout_ns > share_ns && is_longer(handler, longest))
            longest = handler;
    }
    if (!longest)
        return;
    judge_find(out, self, severity_of(longest, self), &longest->place, NULL,
               "graceful_timeout (%s) is shorter than the longest timeout, this handler's (%s%s): "
               "a stop cancels what has run for longer than %s, and %s. Right: graceful_timeout = "
               "\"%s\", or, if it never takes that long, timeout = \"%s\"",
               look_duration(&words, graceful_ns), longest->timeout_stated ? "" : "the default, ",
               look_duration(&words, longest->timeout_ns), look_duration(&words, share_ns),
               longest->kind == JUDGE_CONSUME ? "its message is handled again from the start"
                                              : "its requester gets an error",
               look_round_up(&words, longest->timeout_ns + NS_PER_S),
               look_duration(&words, share_ns / NS_PER_S * NS_PER_S));
}

/* --- what a handler waits for --- */

static void find_outlived(const struct judge_handler *handler, const struct judgement *self,
                          const char *setting, int64_t setting_ns, const char *what,
                          struct judge_findings *out)
{
    struct look_words words = {0};
    judge_find(out, self, severity_of(handler, self), &handler->place, NULL,
               "timeout (%s) is not longer than %s (%s): %s. Right: timeout = \"%s\", or a shorter "
               "timeout for each call: { timeout = \"%s\" }",
               look_duration(&words, handler->timeout_ns), setting,
               look_duration(&words, setting_ns), what, look_round_up(&words, 2 * setting_ns),
               look_duration(&words, handler->timeout_ns / 2));
}

JUDGEMENT(request_outlives_handler)
{
    int64_t limit_ns = facts->settings.request_timeout_ns;
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        const struct judge_script *script = look_script(facts, handler->place.script);
        if (has_messages(handler) && handler->timeout_ns <= limit_ns && script && script->requests)
            find_outlived(handler, self, "request_timeout", limit_ns,
                          "a bus.request that nobody answers never returns its error, because the "
                          "handler is cancelled before",
                          out);
    }
}

JUDGEMENT(publish_outlives_handler)
{
    int64_t limit_ns = facts->settings.publish_timeout_ns;
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        const struct judge_script *script = look_script(facts, handler->place.script);
        if (has_messages(handler) && handler->timeout_ns <= limit_ns && script && script->publishes)
            find_outlived(handler, self, "publish.timeout", limit_ns,
                          "a js.publish whose confirmation is lost is not tried a second time, "
                          "because the handler is cancelled before",
                          out);
    }
}

/* The handler of the same script that has the longest time; NULL: there is none. */
static const struct judge_handler *longest_beside(const struct judge_facts *facts,
                                                  const struct judge_handler *offload)
{
    const struct judge_handler *longest = NULL;
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (has_messages(handler) && look_same(handler->place.script, offload->place.script) &&
            (!longest || handler->timeout_ns > longest->timeout_ns))
            longest = handler;
    }
    return longest;
}

JUDGEMENT(offload_outlives_handler)
{
    for (int i = 0; i < facts->handler_count; i++) {
        struct look_words words = {0};
        const struct judge_handler *offload = &facts->handlers[i];
        const struct judge_handler *longest =
            offload->kind == JUDGE_OFFLOAD ? longest_beside(facts, offload) : NULL;
        if (!longest || longest->timeout_ns >= offload->timeout_ns)
            continue;
        judge_find(out, self, self->severity, &offload->place, &longest->place,
                   "a call may take %s, but no handler here has more than %s: it is cancelled "
                   "before, and the call's own error is never seen. Right: timeout = \"%s\" here, "
                   "or timeout = \"%s\" for the handler",
                   look_duration(&words, offload->timeout_ns),
                   look_duration(&words, longest->timeout_ns),
                   look_duration(&words, longest->timeout_ns / 2),
                   look_round_up(&words, 2 * offload->timeout_ns));
    }
}

/* --- leases --- */

/* Connecting again takes at least the wait, with its jitter, and a handshake of so long. */
#define HANDSHAKE_NS (250 * NS_PER_MS)

/* A heartbeat goes every third of ack_wait. When one is lost with its connection, two thirds are
 * left to connect again, where all of them go at once. */
JUDGEMENT(short_ack_wait)
{
    const struct judge_settings *settings = &facts->settings;
    int64_t again_ns = settings->reconnect_wait_ns + settings->reconnect_jitter_ns + HANDSHAKE_NS;
    int64_t least_ns = again_ns * 3 / 2;
    for (int i = 0; i < facts->handler_count; i++) {
        struct look_words words = {0};
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind != JUDGE_CONSUME || handler->ack_wait_ns >= least_ns)
            continue;
        judge_find(out, self, self->severity, &handler->place, NULL,
                   "ack_wait (%s) bears no lost heartbeat: connecting again takes up to %s "
                   "(reconnect.wait, reconnect.jitter and a handshake), and by then the server "
                   "delivers the message again while its handler runs. Right: ack_wait = \"%s\" "
                   "or longer",
                   look_duration(&words, handler->ack_wait_ns), look_duration(&words, again_ns),
                   look_round_up(&words, least_ns));
    }
}

JUDGEMENT(slow_pings)
{
    const struct judge_settings *settings = &facts->settings;
    int64_t pings = settings->max_pings_out + 1;
    int64_t noticed_ns = settings->ping_interval_ns * pings;
    for (int i = 0; i < facts->handler_count && !settings->private_server; i++) {
        struct look_words words = {0};
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind != JUDGE_CONSUME || handler->ack_wait_ns > noticed_ns)
            continue;
        judge_find(
            out, self, self->severity, &handler->place, NULL,
            "a connection that dies without a word is noticed after %s (ping_interval, "
            "max_pings_out + 1 times), and ack_wait (%s) is over by then: what is being "
            "handled here is delivered to somebody else. Right: ack_wait = \"%s\", or "
            "ping_interval = \"%s\"",
            look_duration(&words, noticed_ns), look_duration(&words, handler->ack_wait_ns),
            look_round_up(&words, noticed_ns + NS_PER_S),
            look_duration(&words, handler->ack_wait_ns / (2 * pings) / NS_PER_MS * NS_PER_MS));
    }
}

/* --- attempts and the duplicate window --- */

static int64_t attempts_take_ns(const struct judge_handler *handler)
{
    int64_t each_ns = handler->timeout_ns + handler->ack_wait_ns;
    if (handler->attempts > INT64_MAX / 4 / each_ns)
        return INT64_MAX / 4;
    return handler->attempts * each_ns + handler->retries_ns;
}

/* Its output that forgets first; NULL: it has none. */
static const struct judge_stream *shortest_output(const struct judge_facts *facts,
                                                  const struct judge_handler *handler)
{
    const struct judge_stream *shortest = NULL;
    for (int i = 0; i < facts->stream_count; i++) {
        const struct judge_stream *stream = &facts->streams[i];
        if (look_is_output(facts, handler, stream) &&
            (!shortest || look_window_ns(stream) < look_window_ns(shortest)))
            shortest = stream;
    }
    return shortest;
}

JUDGEMENT(short_duplicate_window)
{
    for (int i = 0; i < facts->handler_count; i++) {
        struct look_words words = {0};
        const struct judge_handler *handler = &facts->handlers[i];
        const struct judge_stream *stream =
            handler->kind == JUDGE_CONSUME ? shortest_output(facts, handler) : NULL;
        int64_t all_ns = stream ? attempts_take_ns(handler) : 0;
        if (!stream || all_ns <= look_window_ns(stream))
            continue;
        judge_find(out, self, severity_of(handler, self), &handler->place, &stream->place,
                   "its %d attempts may take %s (each timeout%s and ack_wait, and the backoffs), "
                   "but stream %s, where this script publishes, forgets message ids after %s: what "
                   "the first attempt has published, the last one stores again. Right: "
                   "duplicate_window = \"%s\" for %s, or a shorter timeout",
                   handler->attempts, look_round_up(&words, all_ns),
                   handler->timeout_stated ? "" : " (the default)", look_name(stream),
                   look_duration(&words, look_window_ns(stream)), look_round_up(&words, all_ns),
                   look_name(stream));
    }
}

/* --- max_ack_pending --- */

/* As the host derives it where it is not stated. */
#define PENDING_FOR_EACH 8

JUDGEMENT(concurrency_above_pending)
{
    for (int i = 0; i < facts->handler_count; i++) {
        const struct judge_handler *handler = &facts->handlers[i];
        if (handler->kind != JUDGE_CONSUME || handler->max_ack_pending <= 0 ||
            handler->messages <= handler->max_ack_pending)
            continue;
        judge_find(out, self, self->severity, &handler->place, NULL,
                   "%d messages at a time (concurrency%s) are more than max_ack_pending (%d): the "
                   "server never delivers more than that, to all processes together. Right: "
                   "concurrency = %d, or max_ack_pending = %d",
                   handler->messages, handler->messages > handler->concurrency ? " x batch" : "",
                   handler->max_ack_pending, handler->max_ack_pending,
                   PENDING_FOR_EACH * handler->messages);
    }
}

/* With max_ack_pending = 1 somebody wants one message after the other; with order_by retries are
 * not nak'd, but held here. */
JUDGEMENT(naks_fill_pending)
{
    for (int i = 0; i < facts->handler_count; i++) {
        struct look_words words = {0};
        const struct judge_handler *handler = &facts->handlers[i];
        int room = handler->max_ack_pending - handler->messages;
        if (handler->kind != JUDGE_CONSUME || handler->max_ack_pending <= 1 || handler->ordered ||
            room < 0 || handler->max_ack_pending >= PENDING_FOR_EACH * handler->messages ||
            (handler->park_after_ns > 0 && !look_is_older(facts, 12)))
            continue;
        judge_find(out, self, self->severity, &handler->place, NULL,
                   "max_ack_pending (%d) leaves room for %d messages that wait for their next "
                   "attempt, beside the %d that are handled: when as many fail, nothing else is "
                   "delivered, for up to %s (backoff.max). Right: max_ack_pending = %d, or leave "
                   "it out",
                   handler->max_ack_pending, room, handler->messages,
                   look_duration(&words, handler->backoff_max_ns),
                   PENDING_FOR_EACH * handler->messages);
    }
}

/* A script that naks by itself may do so for longer than its backoff. */
JUDGEMENT(never_parked)
{
    for (int i = 0; i < facts->handler_count; i++) {
        struct look_words words = {0};
        const struct judge_handler *handler = &facts->handlers[i];
        const struct judge_script *script = look_script(facts, handler->place.script);
        if (handler->kind != JUDGE_CONSUME || handler->park_after_ns == 0 ||
            handler->longest_retry_ns > handler->park_after_ns || (script && script->naks))
            continue;
        judge_find(
            out, self, self->severity, &handler->place, NULL,
            "backoff.park_after (%s) is never reached: the longest wait between its attempts "
            "(%d) is %s, so nothing is parked. Right: backoff.max above %s, and attempts "
            "and a factor that come to it; or a shorter park_after; or leave it out",
            look_duration(&words, handler->park_after_ns), handler->attempts,
            look_duration(&words, handler->longest_retry_ns),
            look_duration(&words, handler->park_after_ns));
    }
}
