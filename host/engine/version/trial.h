/* trial - a load test of handlers: settings in place of those that they state, and exact measures
 * of their runs. Off (NULL) in a host that serves; then a run costs one comparison more.
 *
 *   a script loads ─▶ trial_take ─▶ its registration has the settings of the test, and a meter
 *   a run ends     ─▶ meter_note
 *   GET /status    ◀─ trial_first, trial_next
 *
 * A meter is made when the first instance of a script registers its handler; the others share it.
 * Meters live as long as the trial, which is the engine's. Any thread. */
#ifndef MOONBUS_ENGINE_VERSION_TRIAL_H
#define MOONBUS_ENGINE_VERSION_TRIAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cJSON;
struct registration;
struct trial;

/* Settings of a durable's handler. 0: what it states itself. */
struct trial_settings {
    const char *handler; /* "ORDERS/billing"; NULL: each that has no settings of its own */
    int concurrency, batch_size;
    int64_t timeout_ns, ack_wait_ns;
};

struct trial_options {
    const struct trial_settings *settings; /* borrowed for as long as the trial lives */
    int count;
};

/* Durations, each known to a thirtieth: 32 buckets for every doubling, from a microsecond on. */
#define METER_SHIFT 10 /* nanoseconds to what is counted */
#define METER_STEPS 32
#define METER_BUCKETS (33 * METER_STEPS)

struct meter_histogram {
    atomic_uint_least64_t buckets[METER_BUCKETS];
};

/* The longest duration that a bucket counts. */
uint64_t meter_bucket_ns(int bucket);

/* What a handler states, as the test found it. */
struct meter_stated {
    int concurrency, batch_size;
    int64_t timeout_ns, ack_wait_ns;
};

struct meter {
    struct meter *next;
    char *handler, *stream, *durable, *dead_letter; /* owned; dead_letter may be NULL */
    char **filters;                                 /* owned */
    int filter_count;
    struct meter_stated stated;
    atomic_uint_least64_t runs, messages, failed, timeouts, redelivered;
    atomic_uint_least64_t cpu_ns;      /* how long its runs had a thread, in all */
    atomic_uint_least64_t state_bytes; /* the fullest Lua state at the end of a run */
    struct meter_histogram duration;   /* of runs */
    struct meter_histogram wait;       /* of messages: from being stored to their first run */
};

/* One run of a handler that has ended. */
struct meter_run {
    uint64_t duration_ns, cpu_ns;
    size_t state_bytes;
    int messages;
    bool failed, timed_out;
};

/* NULL: no memory. */
struct trial *trial_new(const struct trial_options *options);
void trial_free(struct trial *trial); /* NULL is allowed */

/* A durable that a script has just registered: gives it the settings of the test and its meter. Its
 * durable is made even with `bind`: the server of a test is empty. */
void trial_take(struct trial *trial, struct registration *registration);
/* A stream that a script states; copied. */
void trial_take_stream(struct trial *trial, const struct cJSON *stream);

/* The meters in order of registering; NULL at the end. */
const struct meter *trial_first(struct trial *trial);
const struct meter *trial_next(struct trial *trial, const struct meter *meter);
/* A copy of the streams that are stated; the caller's. */
struct cJSON *trial_streams(struct trial *trial);

void meter_note(struct meter *meter, const struct meter_run *run);
/* A message began its run so long after it was stored. */
void meter_note_message(struct meter *meter, int64_t wait_ns, bool redelivered);

#endif
