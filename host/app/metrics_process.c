/* The metrics of the process, of its connections, and of what it has one of. */
#include <luajit.h>
#include <string.h>

#include "app/metrics_private.h"
#include "app/version.h"
#include "base/clock.h"
#include "base/value.h"
#include "bus/link/library.h"

/* --- the process --- */

static void build_info(struct metric_out *out, const struct metrics_view *view)
{
    (void)view;
    metric_info(out, "version", MOONBUS_VERSION, "luajit", LUAJIT_VERSION, "nats_c",
                library_version(), NULL);
}

static void ready(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->ready);
}

static void healthy(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->healthy);
}

static void draining(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, atomic_load(&((struct app *)view->app)->stopping));
}

static void workers(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->engine->workers);
}

static void workers_busy(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->engine->workers_busy);
}

static void threads_lost(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->engine->lost_threads);
}

static void threads_lost_limit(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->engine->lost_most);
}

static void watchdog_actions(struct metric_out *out, const struct metrics_view *view)
{
    metric_count_by(out, "action", "raise", view->engine->raised);
    metric_count_by(out, "action", "escape", view->engine->escaped);
    metric_count_by(out, "action", "lose", view->engine->lost);
}

static void config_reloads(struct metric_out *out, const struct metrics_view *view)
{
    metric_count_by(out, "result", "good", view->app->reconfig.reloads);
    metric_count_by(out, "result", "refused", view->app->reconfig.refusals);
}

static void config_good(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, !view->app->reconfig.last_error);
}

static void config_time(struct metric_out *out, const struct metrics_view *view)
{
    int64_t read_ns = view->app->reconfig.read_at_ns;
    metric_seconds(out, (uint64_t)(read_ns ? read_ns : view->app->began_wall_ns));
}

static void cpu_seconds(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->process.cpu_s);
}

static void resident(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->process.resident_bytes);
}

static void virtual_size(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->process.virtual_bytes);
}

static void virtual_most(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->process.virtual_most_bytes);
}

static void open_fds(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->process.open_fds);
}

static void most_fds(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->process.fds_most);
}

static void start_time(struct metric_out *out, const struct metrics_view *view)
{
    metric_seconds(out, (uint64_t)view->app->began_wall_ns);
}

/* --- connections --- */

static void up(struct metric_out *out, const struct metric_link *link)
{
    metric_count(out, link->stat.up);
}

static void reconnects(struct metric_out *out, const struct metric_link *link)
{
    metric_count(out, link->stat.connects > 0 ? link->stat.connects - 1 : 0);
}

static void disconnected(struct metric_out *out, const struct metric_link *link)
{
    metric_seconds(out, link->stat.disconnected_ns);
}

static void rtt(struct metric_out *out, const struct metric_link *link)
{
    if (link->stat.rtt_ns)
        metric_seconds(out, link->stat.rtt_ns);
}

static void sent(struct metric_out *out, const struct metric_link *link)
{
    metric_count(out, link->stat.sent);
}

static void sent_bytes(struct metric_out *out, const struct metric_link *link)
{
    metric_count(out, link->stat.sent_bytes);
}

static void received(struct metric_out *out, const struct metric_link *link)
{
    metric_count(out, link->stat.received);
}

static void received_bytes(struct metric_out *out, const struct metric_link *link)
{
    metric_count(out, link->stat.received_bytes);
}

static void waiting(struct metric_out *out, const struct metric_link *link)
{
    metric_count(out, link->stat.waiting);
}

static void outbox(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->publishes_pending);
}

/* --- HTTP calls --- */

static void http_calls(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->http.calls);
}

static void http_answers(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->http.answers);
}

static void http_cancelled(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->http.cancelled);
}

static void http_failures(struct metric_out *out, const struct metrics_view *view)
{
    metric_count_by_code(out, "code", NULL, view->http.failures);
}

static void http_redirects(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->http.redirects);
}

static void http_connections(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->http.connections);
}

static void http_sent(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->http.sent_bytes);
}

static void http_received(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->http.received_bytes);
}

static void http_running(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->http.running);
}

static void trace_spans(struct metric_out *out, const struct metrics_view *view)
{
    metric_count_by(out, "result", "exported", view->traces.exported);
    uint64_t dropped = 0;
    for (int i = 0; i < TRACER_DROPS; i++)
        dropped += view->traces.dropped[i];
    metric_count_by(out, "result", "dropped", dropped);
}

static void trace_drops(struct metric_out *out, const struct metrics_view *view)
{
    static const char *const reasons[TRACER_DROPS] = {
        [TRACER_FULL] = "queue_full",   [TRACER_MEMORY] = "memory", [TRACER_REFUSED] = "refused",
        [TRACER_GIVEN_UP] = "given_up", [TRACER_ENDED] = "ended",
    };
    for (int i = 0; i < TRACER_DROPS; i++)
        metric_count_by(out, "reason", reasons[i], view->traces.dropped[i]);
}

static void trace_queued(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->traces.queued);
}

static void http_waiting(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->http.waiting);
}

/* --- offloaded calls --- */

static void offload_threads(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->engine->offload.threads);
}

static void offload_limit(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->engine->offload.limit);
}

static void offload_lost(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->engine->offload.lost);
}

static void offload_running(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->engine->offload.running);
}

static void offload_queued(struct metric_out *out, const struct metrics_view *view)
{
    metric_number(out, view->engine->offload.queued + view->engine->offload.waiting);
}

static void offload_calls(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->engine->offload.calls);
}

static void offload_failed(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->engine->offload.failed);
}

static void offload_timeouts(struct metric_out *out, const struct metrics_view *view)
{
    metric_count(out, view->engine->offload.timed_out);
}

/* --- stores of bus.shared --- */

/* One sample for each store, which the label store names; a script chose the name. */
static void each_store(struct metric_out *out, const struct metrics_view *view,
                       uint64_t (*of)(const struct store_stat *stat))
{
    struct text labels;
    text_init(&labels);
    for (int i = 0; i < view->engine->store_count; i++) {
        labels.len = 0;
        metric_label(&labels, "store", view->engine->stores[i].name);
        metric_set_labels(out, &labels);
        metric_count(out, of(&view->engine->stores[i]));
    }
    text_clear(&labels);
}

static uint64_t entries_of(const struct store_stat *stat)
{
    return stat->entries;
}

static uint64_t used_of(const struct store_stat *stat)
{
    return stat->used_bytes;
}

static uint64_t size_of(const struct store_stat *stat)
{
    return stat->size_bytes;
}

static void store_entries(struct metric_out *out, const struct metrics_view *view)
{
    each_store(out, view, entries_of);
}

static void store_bytes(struct metric_out *out, const struct metrics_view *view)
{
    each_store(out, view, used_of);
}

static void store_limit(struct metric_out *out, const struct metrics_view *view)
{
    each_store(out, view, size_of);
}

/* --- the table --- */

#define ONE(name, type, help, function)                                                            \
    {                                                                                              \
        name, type, help, .of_process = function                                                   \
    }
#define LINK(name, type, help, function)                                                           \
    {                                                                                              \
        name, type, help, .of_link = function                                                      \
    }

const struct metric metrics_process[] = {
    ONE("moonbus_build_info", GAUGE, "What this host is made of.", build_info),
    ONE("moonbus_ready", GAUGE, "1 while /readyz says that the host is ready.", ready),
    ONE("moonbus_healthy", GAUGE, "1 while /healthz says that the host is well.", healthy),
    ONE("moonbus_draining", GAUGE, "1 while the host stops.", draining),
    ONE("moonbus_workers", GAUGE, "Threads that run handlers.", workers),
    ONE("moonbus_workers_busy", GAUGE, "Threads among them that have something to do.",
        workers_busy),
    ONE("moonbus_threads_lost", GAUGE, "Threads that were given up and have not come back.",
        threads_lost),
    ONE("moonbus_threads_lost_limit", GAUGE,
        "With so many of them the host ends (limits.max_stuck).", threads_lost_limit),
    ONE("moonbus_watchdog_actions", COUNTER,
        "How often the watchdog ended a run by an error, by a jump, or gave its thread up.",
        watchdog_actions),
    ONE("moonbus_config_reloads", COUNTER, "Changes of the config file, by how they ended.",
        config_reloads),
    ONE("moonbus_config_last_reload_successful", GAUGE,
        "1 unless the last change of the config file was refused.", config_good),
    ONE("moonbus_config_last_reload_success_timestamp_seconds", GAUGE,
        "When the config file was last read and found good.", config_time),

    ONE("process_cpu_seconds", COUNTER, "User and system time of the process.", cpu_seconds),
    ONE("process_resident_memory_bytes", GAUGE, "Resident memory.", resident),
    ONE("process_virtual_memory_bytes", GAUGE, "Virtual memory.", virtual_size),
    ONE("process_virtual_memory_max_bytes", GAUGE, "Limit of virtual memory; -1 means none.",
        virtual_most),
    ONE("process_open_fds", GAUGE, "Open file descriptors.", open_fds),
    ONE("process_max_fds", GAUGE, "Limit of open file descriptors; -1 means none.", most_fds),
    ONE("process_start_time_seconds", GAUGE, "When the process began.", start_time),

    LINK("moonbus_connection_up", GAUGE, "1 while there is a connection.", up),
    LINK("moonbus_connection_reconnects", COUNTER, "Connections after the first.", reconnects),
    LINK("moonbus_connection_disconnected_seconds", COUNTER,
         "For how long there was no connection, since the first.", disconnected),
    LINK("moonbus_connection_rtt_seconds", GAUGE, "How long the server took for its last PONG.",
         rtt),
    LINK("moonbus_connection_sent_messages", COUNTER, "Messages that were written.", sent),
    LINK("moonbus_connection_sent_bytes", COUNTER, "Bytes of their headers and payloads.",
         sent_bytes),
    LINK("moonbus_connection_received_messages", COUNTER, "Messages that came.", received),
    LINK("moonbus_connection_received_bytes", COUNTER, "Bytes of their headers and payloads.",
         received_bytes),
    LINK("moonbus_connection_waiting_frames", GAUGE, "Messages that wait to be written.", waiting),
    ONE("moonbus_outbox_pending", GAUGE, "Publishes to JetStream that have not ended.", outbox),

    ONE("moonbus_http_calls", COUNTER, "HTTP calls that began.", http_calls),
    ONE("moonbus_http_answers", COUNTER, "HTTP calls that were answered, whatever the status.",
        http_answers),
    ONE("moonbus_http_cancelled", COUNTER, "HTTP calls whose handler ended before them.",
        http_cancelled),
    ONE("moonbus_http_failures", COUNTER, "HTTP calls without an answer, by code.", http_failures),
    ONE("moonbus_http_redirects", COUNTER, "Redirects that were followed.", http_redirects),
    ONE("moonbus_http_connections", COUNTER, "Connections that were opened.", http_connections),
    ONE("moonbus_http_sent_bytes", COUNTER, "Bytes of bodies that were sent.", http_sent),
    ONE("moonbus_http_received_bytes", COUNTER, "Bytes of bodies that came, unpacked.",
        http_received),
    ONE("moonbus_http_running", GAUGE, "HTTP calls under way.", http_running),
    ONE("moonbus_http_waiting", GAUGE, "HTTP calls that wait for their turn.", http_waiting),
    ONE("moonbus_trace_spans", COUNTER, "Spans of traces that a collector took, or did not get.",
        trace_spans),
    ONE("moonbus_trace_spans_dropped", COUNTER, "Spans that were dropped, by why.", trace_drops),
    ONE("moonbus_trace_spans_queued", GAUGE, "Spans that wait to be sent.", trace_queued),

    ONE("moonbus_offload_threads", GAUGE, "Threads of bus.offload.", offload_threads),
    ONE("moonbus_offload_threads_limit", GAUGE, "How many they may be.", offload_limit),
    ONE("moonbus_offload_threads_lost", GAUGE, "Threads among them whose call does not return.",
        offload_lost),
    ONE("moonbus_offload_running", GAUGE, "Offloaded calls under way.", offload_running),
    ONE("moonbus_offload_queued", GAUGE, "Offloaded calls that wait.", offload_queued),
    ONE("moonbus_offload_calls", COUNTER, "Offloaded calls.", offload_calls),
    ONE("moonbus_offload_failed", COUNTER, "Offloaded calls that failed.", offload_failed),
    ONE("moonbus_offload_timeouts", COUNTER, "Offloaded calls that were not done in time.",
        offload_timeouts),

    ONE("moonbus_shared_entries", GAUGE, "Keys of a store of bus.shared.", store_entries),
    ONE("moonbus_shared_bytes", GAUGE, "Bytes of a store of bus.shared.", store_bytes),
    ONE("moonbus_shared_limit_bytes", GAUGE, "How many bytes a store of bus.shared may have.",
        store_limit),
};
const int metrics_process_count = (int)(sizeof metrics_process / sizeof *metrics_process);
