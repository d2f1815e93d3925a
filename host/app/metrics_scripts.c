/* The metrics of scripts, of their handlers, and of the durables among these. */
#include "app/metrics_private.h"

#include "base/clock.h"
#include "base/value.h"

/* --- scripts --- */

static void served(struct metric_out *out, const struct metric_script *script)
{
    metric_count(out, script->stat && script->stat->served);
}

static void generation(struct metric_out *out, const struct metric_script *script)
{
    metric_count(out, script->stat ? script->stat->generation : 0);
}

static void generations_alive(struct metric_out *out, const struct metric_script *script)
{
    metric_number(out, script->stat ? script->stat->live_generations : 0);
}

static void instances(struct metric_out *out, const struct metric_script *script)
{
    metric_number(out, script->stat ? script->stat->instances : 0);
}

static void reloads(struct metric_out *out, const struct metric_script *script)
{
    metric_count_by(out, "result", "good", script->file->reloads);
    metric_count_by(out, "result", "refused", script->file->refusals);
}

static void reload_good(struct metric_out *out, const struct metric_script *script)
{
    metric_count(out, !script->file->last_error);
}

static void reload_time(struct metric_out *out, const struct metric_script *script)
{
    metric_seconds(out, (uint64_t)script->file->live_at_ns);
}

static void memory(struct metric_out *out, const struct metric_script *script)
{
    metric_count(out, script->stat ? script->stat->memory.used_bytes : 0);
}

static void state_memory(struct metric_out *out, const struct metric_script *script)
{
    metric_count(out, script->stat ? script->stat->memory.fullest_bytes : 0);
}

static void state_memory_limit(struct metric_out *out, const struct metric_script *script)
{
    metric_count(out, script->stat ? script->stat->memory.limit_bytes : 0);
}

/* How publishes may fail. They are there from the beginning, with 0: increase() does not see the
 * first value of a series that begins with it. */
static const enum err_code publish_ends[] = {
    ERR_TIMEOUT,        ERR_NO_RESPONDERS, ERR_NO_STREAM, ERR_DISCONNECTED,
    ERR_TOO_LARGE,      ERR_PERMISSION,    ERR_API,       ERR_CANCELLED,
    ERR_WRONG_SEQUENCE, ERR_CLOSED,        ERR_NO_ACK,    ERR_UNAVAILABLE,
};

/* A duplicate was stored, too: by another publish. */
static void publishes(struct metric_out *out, const struct metric_script *script)
{
    const struct outbox_account *account = script->stat ? script->stat->publishes : NULL;
    uint64_t counts[TALLY_CODES] = {0}, duplicates = 0;
    for (int i = 0; account && i < TALLY_CODES; i++)
        counts[i] = stat_get(&account->results[i]);
    if (account)
        duplicates = stat_get(&account->duplicates);
    counts[0] -= duplicates < counts[0] ? duplicates : counts[0];
    metric_count_by_code(out, "result", "stored", counts);
    metric_count_by(out, "result", "duplicate", duplicates);
    for (size_t i = 0; i < sizeof publish_ends / sizeof *publish_ends; i++) {
        if (counts[-publish_ends[i]] == 0)
            metric_count_by(out, "result", err_name(publish_ends[i]), 0);
    }
}

static void publish_duration(struct metric_out *out, const struct metric_script *script)
{
    struct stat_sum sum = {0};
    if (script->stat && script->stat->publishes)
        stat_sum_histogram(&sum, &script->stat->publishes->duration);
    metric_histogram(out, &sum);
}

static void publish_retries(struct metric_out *out, const struct metric_script *script)
{
    const struct outbox_account *account = script->stat ? script->stat->publishes : NULL;
    metric_count(out, account ? stat_get(&account->retries) : 0);
}

static void core_publishes(struct metric_out *out, const struct metric_script *script)
{
    metric_count(out, script->stat ? script->stat->calls.published : 0);
}

static void requests(struct metric_out *out, const struct metric_script *script)
{
    static const struct tally_calls_sum none;
    const struct tally_calls_sum *calls = script->stat ? &script->stat->calls : &none;
    metric_count_by_code(out, "result", "ok", calls->requests);
}

static void request_duration(struct metric_out *out, const struct metric_script *script)
{
    static const struct stat_sum none;
    metric_histogram(out, script->stat ? &script->stat->calls.request_duration : &none);
}

/* --- handlers --- */

static void info(struct metric_out *out, const struct tally_stat *handler)
{
    metric_info(out, "kind", handler->kind, "stream", handler->stream, "consumer", handler->durable,
                NULL);
}

static void received(struct metric_out *out, const struct tally_stat *taker)
{
    metric_count(out, taker->sum.received);
}

static void redelivered(struct metric_out *out, const struct tally_stat *taker)
{
    if (taker->durable)
        metric_count(out, taker->sum.redelivered);
}

static void dropped(struct metric_out *out, const struct tally_stat *taker)
{
    if (!taker->durable)
        metric_count(out, taker->sum.dropped);
}

static void attempts(struct metric_out *out, const struct tally_stat *taker)
{
    metric_count(out, taker->sum.attempts);
}

static void settled(struct metric_out *out, const struct tally_stat *taker)
{
    const uint64_t *outcomes = taker->sum.outcomes;
    if (!taker->durable)
        return;
    metric_count_by(out, "verdict", "acked", outcomes[OUTCOME_ACK]);
    metric_count_by(out, "verdict", "nacked", outcomes[OUTCOME_NAK]);
    metric_count_by(out, "verdict", "terminated", outcomes[OUTCOME_TERM]);
    metric_count_by(out, "verdict", "dead_lettered", outcomes[OUTCOME_DEAD]);
}

static void runs(struct metric_out *out, const struct tally_stat *handler)
{
    metric_count_by(out, "result", "ok", handler->sum.outcomes[OUTCOME_OK]);
    metric_count_by(out, "result", "failed", handler->sum.outcomes[OUTCOME_FAILED]);
}

static void errors(struct metric_out *out, const struct tally_stat *handler)
{
    metric_count_by_code(out, "code", NULL, handler->sum.errors);
}

static void timeouts(struct metric_out *out, const struct tally_stat *handler)
{
    metric_count(out, handler->sum.timeouts);
}

static void last_error(struct metric_out *out, const struct tally_stat *handler)
{
    metric_seconds(out, (uint64_t)handler->error.at_ns);
}

static void in_process(struct metric_out *out, const struct tally_stat *handler)
{
    metric_number(out, handler->running);
}

static void queued(struct metric_out *out, const struct tally_stat *taker)
{
    metric_number(out, taker->queued);
}

static void stuck(struct metric_out *out, const struct tally_stat *handler)
{
    metric_number(out, handler->stuck);
}

static void oldest(struct metric_out *out, const struct tally_stat *handler)
{
    metric_seconds(out, (uint64_t)handler->oldest_running_ns);
}

static void queue_wait(struct metric_out *out, const struct tally_stat *taker)
{
    metric_histogram(out, &taker->sum.queue_wait);
}

static void duration(struct metric_out *out, const struct tally_stat *handler)
{
    metric_histogram(out, &handler->sum.duration);
}

static void cpu(struct metric_out *out, const struct tally_stat *handler)
{
    metric_histogram(out, &handler->sum.cpu);
}

/* --- durables --- */

/* What the server said longer ago is left out: it is not asked by one that is away. */
#define LAG_BELIEVED_NS (120 * NS_PER_S)

/* How old it is; negative: it is not to be shown. */
static int64_t lag_age_ns(const struct tally_stat *durable)
{
    uint64_t at_ns = durable->now ? durable->now->lag.at_ns : 0;
    int64_t age_ns = (int64_t)(clock_now_ns() - at_ns);
    return at_ns && age_ns < LAG_BELIEVED_NS ? age_ns : -1;
}

static void lag_count(struct metric_out *out, const struct tally_stat *durable, uint64_t count)
{
    if (lag_age_ns(durable) >= 0)
        metric_count(out, count);
}

static void num_pending(struct metric_out *out, const struct tally_stat *durable)
{
    if (durable->now)
        lag_count(out, durable, durable->now->lag.pending);
}

static void num_ack_pending(struct metric_out *out, const struct tally_stat *durable)
{
    if (durable->now)
        lag_count(out, durable, durable->now->lag.ack_pending);
}

static void num_redelivered(struct metric_out *out, const struct tally_stat *durable)
{
    if (durable->now)
        lag_count(out, durable, durable->now->lag.redelivered);
}

static void num_waiting(struct metric_out *out, const struct tally_stat *durable)
{
    if (durable->now)
        lag_count(out, durable, durable->now->lag.waiting);
}

static void paused(struct metric_out *out, const struct tally_stat *durable)
{
    if (durable->now)
        metric_count(out, durable->now->paused);
}

static void pinned(struct metric_out *out, const struct tally_stat *durable)
{
    if (durable->now)
        metric_count(out, durable->now->pinned);
}

static void info_age(struct metric_out *out, const struct tally_stat *durable)
{
    int64_t age_ns = lag_age_ns(durable);
    if (age_ns >= 0)
        metric_seconds(out, (uint64_t)age_ns);
}

static void ok(struct metric_out *out, const struct tally_stat *durable)
{
    const struct durable_stat *now = durable->now;
    if (now)
        metric_count(out, !now->gone && !now->silent && !now->edited);
}

static void held(struct metric_out *out, const struct tally_stat *durable)
{
    if (durable->now)
        metric_number(out, durable->now->held);
}

static void pull_credit(struct metric_out *out, const struct tally_stat *durable)
{
    if (durable->now)
        metric_number(out, durable->now->asked);
}

static void joined(struct metric_out *out, const struct tally_stat *durable)
{
    metric_count(out, durable->consumer.joined);
}

static void leases_lost(struct metric_out *out, const struct tally_stat *durable)
{
    metric_count(out, durable->consumer.leases_lost);
}

static void heartbeats(struct metric_out *out, const struct tally_stat *durable)
{
    metric_count(out, durable->consumer.heartbeats);
}

static void pulls(struct metric_out *out, const struct tally_stat *durable)
{
    metric_count(out, durable->consumer.pulls);
}

static void pull_statuses(struct metric_out *out, const struct tally_stat *durable)
{
    for (int i = 0; i < PULL_ANSWERS; i++)
        metric_count_by(out, "status", pull_answer_name((enum pull_answer)i),
                        durable->consumer.answers[i]);
}

/* --- the table --- */

#define SCRIPT(name, type, help, function)                                                         \
    {                                                                                              \
        name, type, help, .of_script = function                                                    \
    }
#define HANDLER(name, type, help, function)                                                        \
    {                                                                                              \
        name, type, help, .of_handler = function                                                   \
    }
#define TAKER(name, type, help, function)                                                          \
    {                                                                                              \
        name, type, help, .of_taker = function                                                     \
    }
#define DURABLE(name, type, help, function)                                                        \
    {                                                                                              \
        name, type, help, .of_durable = function                                                   \
    }

const struct metric metrics_scripts[] = {
    SCRIPT("moonbus_script_served", GAUGE, "1 while the script serves.", served),
    SCRIPT("moonbus_script_generation", GAUGE, "The version of the script that serves.",
           generation),
    SCRIPT("moonbus_script_generations_alive", GAUGE,
           "Versions that live: the one that serves, and older ones whose handlers still run.",
           generations_alive),
    SCRIPT("moonbus_script_instances", GAUGE, "Lua states of the script.", instances),
    SCRIPT("moonbus_script_reloads", COUNTER, "Reloads, by how they ended.", reloads),
    SCRIPT("moonbus_script_last_reload_successful", GAUGE,
           "1 unless the last change of the script was refused.", reload_good),
    SCRIPT("moonbus_script_last_reload_success_timestamp_seconds", GAUGE,
           "When the version that serves began to.", reload_time),
    SCRIPT("moonbus_script_memory_bytes", GAUGE, "Memory of all Lua states of the script.", memory),
    SCRIPT("moonbus_script_state_memory_max_bytes", GAUGE,
           "Memory of that Lua state of the script that has most.", state_memory),
    SCRIPT("moonbus_script_state_memory_limit_bytes", GAUGE,
           "How much each Lua state of the script may have; 0 means any.", state_memory_limit),
    SCRIPT("moonbus_publishes", COUNTER, "Publishes to JetStream, by how they ended.", publishes),
    SCRIPT("moonbus_publish_duration_seconds", HISTOGRAM,
           "From the moment that a publish to JetStream is handed over to its end.",
           publish_duration),
    SCRIPT("moonbus_publish_retries", COUNTER, "Tries of publishes to JetStream after the first.",
           publish_retries),
    SCRIPT("moonbus_core_publishes", COUNTER, "Messages published to core NATS.", core_publishes),
    SCRIPT("moonbus_requests", COUNTER, "Requests, by how they ended.", requests),
    SCRIPT("moonbus_request_duration_seconds", HISTOGRAM,
           "From a request to the moment its handler goes on.", request_duration),

    HANDLER("moonbus_handler_info", GAUGE, "What the handler is.", info),
    TAKER("moonbus_handler_received", COUNTER, "Messages that came.", received),
    TAKER("moonbus_handler_redelivered", COUNTER,
          "Messages of them that had been delivered before.", redelivered),
    TAKER("moonbus_handler_dropped", COUNTER,
          "Messages of core NATS that were dropped, as too many waited.", dropped),
    TAKER("moonbus_handler_attempts", COUNTER, "Messages that a run of the handler began with.",
          attempts),
    TAKER("moonbus_handler_settled", COUNTER, "Messages of JetStream, by their verdict.", settled),
    HANDLER("moonbus_handler_runs", COUNTER, "Runs that have ended, by how.", runs),
    HANDLER("moonbus_handler_errors", COUNTER, "Runs that failed, by code.", errors),
    HANDLER("moonbus_handler_timeouts", COUNTER, "Runs that were ended by their timeout.",
            timeouts),
    HANDLER("moonbus_handler_last_error_timestamp_seconds", GAUGE,
            "When a run failed last; 0 means never.", last_error),
    HANDLER("moonbus_handler_in_process", GAUGE, "Runs under way.", in_process),
    TAKER("moonbus_handler_queued", GAUGE, "Messages that wait for a run.", queued),
    HANDLER("moonbus_handler_stuck", GAUGE, "Runs under way that nothing can stop.", stuck),
    HANDLER("moonbus_handler_oldest_seconds", GAUGE, "For how long the oldest run is under way.",
            oldest),
    TAKER("moonbus_handler_queue_wait_seconds", HISTOGRAM,
          "From the arrival of a message to its first run.", queue_wait),
    HANDLER("moonbus_handler_duration_seconds", HISTOGRAM, "How long runs took.", duration),
    HANDLER("moonbus_handler_cpu_seconds", HISTOGRAM, "For how long runs had a worker's thread.",
            cpu),

    DURABLE("moonbus_consumer_num_pending", GAUGE,
            "Messages of the stream that have not been delivered yet, as the server says.",
            num_pending),
    DURABLE("moonbus_consumer_num_ack_pending", GAUGE,
            "Messages that are delivered and have no verdict, as the server says.",
            num_ack_pending),
    DURABLE("moonbus_consumer_num_redelivered", GAUGE,
            "Messages among them that were delivered again, as the server says.", num_redelivered),
    DURABLE("moonbus_consumer_num_waiting", GAUGE,
            "Pull requests that wait for messages, of all hosts, as the server says.", num_waiting),
    DURABLE("moonbus_consumer_paused", GAUGE, "1 while somebody has paused it on the server.",
            paused),
    DURABLE("moonbus_consumer_pinned", GAUGE,
            "1 while all messages of its priority group come to this process.", pinned),
    DURABLE("moonbus_consumer_info_age_seconds", GAUGE,
            "How long ago the server said these figures.", info_age),
    DURABLE("moonbus_consumer_ok", GAUGE,
            "0 while it is gone, is not answered, or was edited on the server.", ok),
    DURABLE("moonbus_consumer_held", GAUGE, "Messages here that have no verdict.", held),
    DURABLE("moonbus_consumer_pull_credit", GAUGE,
            "Messages that the server still owes to pull requests of this host.", pull_credit),
    DURABLE("moonbus_consumer_joined", COUNTER,
            "Redeliveries of messages that this host still had, or had just settled.", joined),
    DURABLE("moonbus_consumer_leases_lost", COUNTER,
            "Messages whose lease could not be renewed within ack_wait.", leases_lost),
    DURABLE("moonbus_consumer_heartbeats", COUNTER, "Heartbeats (+WPI) that were sent.",
            heartbeats),
    DURABLE("moonbus_consumer_pulls", COUNTER, "Pull requests that were sent.", pulls),
    DURABLE("moonbus_consumer_pull_statuses", COUNTER,
            "Statuses that the server answered pull requests with.", pull_statuses),
};
const int metrics_scripts_count = (int)(sizeof metrics_scripts / sizeof *metrics_scripts);
