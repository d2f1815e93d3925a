/* exporter - one batch after the other, until each has its end. */
#include "app/exporter.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "app/config.h"
#include "app/export_target.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/link/link.h"
#include "http/http.h"
#include "trace/tracer.h"

/* As OpenTelemetry's own exporters have it. */
#define BATCH 512
#define QUEUE 4096
#define DELAY_NS (5 * NS_PER_S)
/* Between tries; doubled each time. */
#define WAIT_LEAST_NS (1 * NS_PER_S)
#define WAIT_MOST_NS (30 * NS_PER_S)
/* A batch is tried for so long. */
#define TRY_NS (60 * NS_PER_S)
/* How long a stop waits for the collector. */
#define FLUSH_NS (5 * NS_PER_S)
/* Between two lines of the log about the same. */
#define SAY_NS (10 * NS_PER_S)
#define ANSWER_MOST 65536

struct exporter {
    struct tracer *tracer; /* not owned, as http */
    struct http *http;
    _Atomic(struct link *) link; /* not owned; or NULL */
    struct export_target target;

    struct thread thread;
    bool runs; /* of who starts and stops it */

    struct mutex lock;
    struct cond changed;
    bool answered, stopping;
    uint64_t until_ns; /* stopping: then it is over */

    /* The thread's. */
    bool failing; /* the last try failed */
    uint64_t said_ns, dropped_ns, told[TRACER_DROPS];
    char why[1200];  /* the last try failed; "": it did not */
    char lost[1200]; /* why spans were dropped that the log has not told of yet */
};

/* --- waiting --- */

/* The http thread. */
static void on_answer(void *owner, enum http_event event)
{
    struct exporter *exporter = owner;
    (void)event;
    mutex_lock(&exporter->lock);
    exporter->answered = true;
    cond_broadcast(&exporter->changed);
    mutex_unlock(&exporter->lock);
}

static uint64_t end_of(const struct exporter *exporter, uint64_t until_ns)
{
    must_hold(&exporter->lock);
    bool earlier = exporter->stopping && exporter->until_ns < until_ns;
    return earlier ? exporter->until_ns : until_ns;
}

/* False: the host stops, and has no more time for it (bounded). */
static bool wait_for_answer(struct exporter *exporter, bool bounded)
{
    mutex_lock(&exporter->lock);
    while (!exporter->answered &&
           cond_wait_until(&exporter->changed, &exporter->lock,
                           bounded ? end_of(exporter, UINT64_MAX) : UINT64_MAX))
        ;
    bool answered = exporter->answered;
    mutex_unlock(&exporter->lock);
    return answered;
}

static bool is_stopping(struct exporter *exporter, uint64_t *until_ns)
{
    mutex_lock(&exporter->lock);
    bool stopping = exporter->stopping;
    *until_ns = end_of(exporter, UINT64_MAX);
    mutex_unlock(&exporter->lock);
    return stopping;
}

/* Until then, or until a stop begins. */
static void sleep_until(struct exporter *exporter, uint64_t until_ns)
{
    mutex_lock(&exporter->lock);
    bool before = exporter->stopping;
    while (exporter->stopping == before &&
           cond_wait_until(&exporter->changed, &exporter->lock, end_of(exporter, until_ns)))
        ;
    mutex_unlock(&exporter->lock);
}

/* --- one try --- */

enum attempt_end { TRY_TAKEN, TRY_REFUSED, TRY_AGAIN, TRY_UNREACHED, TRY_NO_MEMORY };

/* Spans are lost, for what `why` says. */
static void lose(struct exporter *exporter, enum tracer_drop why, unsigned count)
{
    tracer_note_dropped(exporter->tracer, why, count);
    if (count && why != TRACER_MEMORY)
        memcpy(exporter->lost, exporter->why, sizeof exporter->lost);
}

static const char *answer_header(const struct http_result *result, const char *wanted)
{
    const char *at = result->headers;
    for (size_t i = 0; i < result->header_count; i++) {
        const char *value = at + strlen(at) + 1;
        if (strcasecmp(at, wanted) == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

/* Seconds, or a date. 0: it does not say. */
static uint64_t read_retry_after(const struct http_result *result)
{
    const char *text = answer_header(result, "retry-after");
    struct tm tm = {0};
    char *end;
    if (!text)
        return 0;
    double seconds = strtod(text, &end);
    if (end == text && strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm))
        seconds = difftime(timegm(&tm), time(NULL));
    return seconds > 0 && seconds < 1e6 ? (uint64_t)(seconds * (double)NS_PER_S) : 0;
}

static bool is_busy(int status)
{
    return status == 429 || status == 502 || status == 503 || status == 504;
}

/* What the collector took. */
static enum attempt_end judge_answer(struct exporter *exporter, const struct http_result *result,
                                     unsigned count, uint64_t *retry_ns)
{
    char why[200];
    *retry_ns = 0;
    if (result->err.code != ERR_NONE) {
        snprintf(exporter->why, sizeof exporter->why, "%s", result->err.message);
        return TRY_UNREACHED;
    }
    if (result->status < 200 || result->status > 299) {
        snprintf(exporter->why, sizeof exporter->why, "%s answered %d", exporter->target.shown,
                 result->status);
        *retry_ns = read_retry_after(result);
        return is_busy(result->status) ? TRY_AGAIN : TRY_REFUSED;
    }
    exporter->why[0] = '\0';
    unsigned refused = otlp_refused(result->body, result->body_len, why, sizeof why);
    if (refused > count)
        refused = count;
    if (refused)
        snprintf(exporter->why, sizeof exporter->why, "%s refused them: %s", exporter->target.shown,
                 why);
    tracer_note_exported(exporter->tracer, count - refused);
    lose(exporter, TRACER_REFUSED, refused);
    return TRY_TAKEN;
}

static enum attempt_end try_once(struct exporter *exporter, const struct text *body, unsigned count,
                                 uint64_t *retry_ns)
{
    struct err err;
    struct http_request request = export_target_request(&exporter->target);
    request.body = body->bytes;
    request.body_len = body->len;
    request.max_bytes = ANSWER_MOST;
    request.flow = exporter;
    struct http_call *call = http_call_new(exporter->http, &request, &err);
    *retry_ns = 0;
    if (!call) {
        snprintf(exporter->why, sizeof exporter->why, "%s", err.message);
        return TRY_NO_MEMORY;
    }
    exporter->answered = false;
    http_ask(call, on_answer, exporter);
    enum attempt_end end = TRY_UNREACHED;
    if (!wait_for_answer(exporter, true) && http_cancel(call)) {
        snprintf(exporter->why, sizeof exporter->why, "%s did not answer before the end",
                 exporter->target.shown);
    } else {
        wait_for_answer(exporter, false); /* at the end it is on its way */
        end = judge_answer(exporter, http_call_result(call), count, retry_ns);
    }
    http_call_release(call);
    return end;
}

/* --- a batch --- */

static void say_trouble(struct exporter *exporter)
{
    uint64_t now_ns = clock_now_ns();
    if (exporter->failing && exporter->said_ns && now_ns < exporter->said_ns + SAY_NS)
        return;
    exporter->failing = true;
    exporter->said_ns = now_ns;
    log_warn("traces cannot be sent: %s; tried again", exporter->why);
}

/* "12 had no room in the queue, 3 were refused": those that were not told of. How many in all. */
static uint64_t sum_up(struct exporter *exporter, const struct tracer_counts *counts,
                       struct text *reasons)
{
    static const char *const verbs[TRACER_DROPS] = {
        [TRACER_FULL] = "found no room in the queue",
        [TRACER_MEMORY] = "found no memory",
        [TRACER_REFUSED] = "were refused",
        [TRACER_GIVEN_UP] = "were tried for a minute",
        [TRACER_ENDED] = "were not sent before the end",
    };
    uint64_t all = 0;
    for (int i = 0; i < TRACER_DROPS; i++) {
        uint64_t dropped = counts->dropped[i] - exporter->told[i];
        if (dropped)
            text_printf(reasons, "%s%" PRIu64 " %s", all ? ", " : "", dropped, verbs[i]);
        all += dropped;
    }
    return all;
}

/* Spans are dropped here, and where the queue is full. */
static void say_dropped(struct exporter *exporter, bool now)
{
    struct tracer_counts counts;
    struct text reasons;
    uint64_t now_ns = clock_now_ns();
    tracer_count(exporter->tracer, &counts);
    text_init(&reasons);
    uint64_t dropped = sum_up(exporter, &counts, &reasons);
    const char *why = *exporter->why ? exporter->why : exporter->lost;
    bool soon = !now && exporter->dropped_ns && now_ns < exporter->dropped_ns + SAY_NS;
    if (dropped && !soon) {
        exporter->dropped_ns = now_ns;
        memcpy(exporter->told, counts.dropped, sizeof exporter->told);
        log_warn("traces: %" PRIu64 " spans dropped: %s%s%s", dropped,
                 reasons.failed ? "no memory to say why" : reasons.bytes, *why ? ": " : "", why);
        exporter->lost[0] = '\0';
    }
    text_clear(&reasons);
}

/* How long to wait before the next try; UINT64_MAX: there is none. */
static uint64_t next_try_ns(struct exporter *exporter, enum attempt_end end, unsigned tries,
                            uint64_t retry_ns, uint64_t give_up_ns)
{
    uint64_t until_ns, now_ns = clock_now_ns();
    uint64_t wait_ns = (uint64_t)WAIT_LEAST_NS << (tries < 5 ? tries : 5);
    bool stopping = is_stopping(exporter, &until_ns);
    if (end == TRY_REFUSED || end == TRY_NO_MEMORY || (stopping && end == TRY_UNREACHED))
        return UINT64_MAX;
    if (wait_ns > WAIT_MOST_NS)
        wait_ns = WAIT_MOST_NS;
    /* So that hosts which began together do not go on so. */
    wait_ns -= random_number() % (wait_ns / 4);
    if (retry_ns)
        wait_ns = retry_ns;
    if (until_ns > give_up_ns)
        until_ns = give_up_ns;
    return now_ns + wait_ns < until_ns ? now_ns + wait_ns : UINT64_MAX;
}

/* Why a batch is not sent whose last try ended so. */
static enum tracer_drop reason_of(struct exporter *exporter, enum attempt_end end)
{
    uint64_t until_ns;
    if (end == TRY_REFUSED)
        return TRACER_REFUSED;
    if (end == TRY_NO_MEMORY)
        return TRACER_MEMORY;
    return is_stopping(exporter, &until_ns) ? TRACER_ENDED : TRACER_GIVEN_UP;
}

static void send_batch(struct exporter *exporter, const struct text *body, unsigned count)
{
    uint64_t give_up_ns = clock_now_ns() + TRY_NS, retry_ns, next_ns;
    enum attempt_end end;
    for (unsigned tries = 0;; tries++) {
        end = try_once(exporter, body, count, &retry_ns);
        if (end == TRY_TAKEN) {
            if (exporter->failing)
                log_info("traces are sent to %s again", exporter->target.shown);
            exporter->failing = false;
            return;
        }
        next_ns = next_try_ns(exporter, end, tries, retry_ns, give_up_ns);
        if (next_ns == UINT64_MAX)
            break;
        say_trouble(exporter);
        say_dropped(exporter, false);
        sleep_until(exporter, next_ns);
    }
    exporter->failing = true;
    lose(exporter, reason_of(exporter, end), count);
}

/* "host:port", "[::1]:4222" of the server that is connected to. */
static void name_server(struct exporter *exporter, char *server, size_t size)
{
    struct link *link = atomic_load(&exporter->link);
    char *colon = link && link_server(link, server, size) ? strrchr(server, ':') : NULL;
    exporter->target.resource.server = NULL;
    if (!colon)
        return;
    *colon = '\0';
    exporter->target.resource.server = server;
    exporter->target.resource.port = atoi(colon + 1);
}

static void export_batch(struct exporter *exporter, struct trace_span *spans, unsigned count)
{
    char server[256];
    struct text body;
    text_init(&body);
    name_server(exporter, server, sizeof server);
    otlp_write(&body, &exporter->target.resource, spans);
    tracer_free_spans(spans);
    if (body.failed)
        lose(exporter, TRACER_MEMORY, count);
    else
        send_batch(exporter, &body, count);
    text_clear(&body);
}

static void *run_exporter(void *arg)
{
    struct exporter *exporter = arg;
    uint64_t until_ns;
    for (;;) {
        unsigned count;
        bool last = is_stopping(exporter, &until_ns);
        struct trace_span *spans = tracer_take(exporter->tracer, clock_now_ns() + DELAY_NS, &count);
        if (spans && last && clock_now_ns() >= until_ns) {
            tracer_free_spans(spans);
            lose(exporter, TRACER_ENDED, count);
        } else if (spans) {
            export_batch(exporter, spans, count);
        }
        say_dropped(exporter, last && !spans);
        if (last && !spans)
            return NULL;
    }
}

/* --- life --- */

struct tracer *exporter_tracer(const struct config *config, struct err *err)
{
    struct trace_sampler sampler;
    err->code = ERR_NONE;
    if (!config->telemetry.url)
        return NULL;
    if (!trace_sampler_named(config->telemetry.sampler, config->telemetry.sample, &sampler)) {
        err_set(err, ERR_INVALID, "telemetry.sampler: \"%s\" is none", config->telemetry.sampler);
        return NULL;
    }
    return tracer_new(&sampler, QUEUE, BATCH, err);
}

static void free_parts(struct exporter *exporter)
{
    export_target_clear(&exporter->target);
    cond_destroy(&exporter->changed);
    mutex_destroy(&exporter->lock);
    free(exporter);
}

struct exporter *exporter_new(const struct config *config, struct tracer *tracer, struct http *http,
                              struct err *err)
{
    struct exporter *exporter = calloc(1, sizeof *exporter);
    if (!exporter) {
        err_set(err, ERR_MEMORY, "no memory for traces");
        return NULL;
    }
    exporter->tracer = tracer;
    exporter->http = http;
    atomic_init(&exporter->link, NULL);
    mutex_init(&exporter->lock);
    cond_init(&exporter->changed);
    if (export_target_set(&exporter->target, config, http, err) != 0 ||
        thread_start(&exporter->thread, "mb-trace", run_exporter, exporter, err) != 0) {
        free_parts(exporter);
        return NULL;
    }
    exporter->runs = true;
    return exporter;
}

void exporter_set_link(struct exporter *exporter, struct link *link)
{
    if (exporter)
        atomic_store(&exporter->link, link);
}

void exporter_stop(struct exporter *exporter, uint64_t deadline_ns)
{
    if (!exporter || !exporter->runs)
        return;
    uint64_t most_ns = clock_now_ns() + FLUSH_NS;
    mutex_lock(&exporter->lock);
    exporter->stopping = true;
    exporter->until_ns = deadline_ns < most_ns ? deadline_ns : most_ns;
    cond_broadcast(&exporter->changed);
    mutex_unlock(&exporter->lock);
    tracer_hurry(exporter->tracer);
    thread_join(exporter->thread);
    exporter->runs = false;
}

void exporter_free(struct exporter *exporter)
{
    if (!exporter)
        return;
    exporter_stop(exporter, 0);
    free_parts(exporter);
}
