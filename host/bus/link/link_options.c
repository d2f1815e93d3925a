/* What is meant where the options of a link state nothing. */
#include "bus/link/link_options.h"

#include "base/value.h"
#include "bus/retry.h"

#define DEFAULT_CONNECT_TIMEOUT_NS (5 * NS_PER_S)
#define DEFAULT_PING_INTERVAL_NS (5 * NS_PER_S)
#define DEFAULT_MAX_PINGS_OUT 2
#define DEFAULT_WRITE_DEADLINE_NS (2 * NS_PER_S)
#define DEFAULT_RECONNECT_WAIT_NS (250 * NS_PER_MS)
#define DEFAULT_RECONNECT_MAX_WAIT_NS (5 * NS_PER_S)

static int64_t or_default(int64_t stated, int64_t fallback)
{
    return stated > 0 ? stated : fallback;
}

int64_t link_connect_timeout_ns(const struct link_options *options)
{
    return or_default(options->connect_timeout_ns, DEFAULT_CONNECT_TIMEOUT_NS);
}

int64_t link_ping_interval_ns(const struct link_options *options)
{
    return or_default(options->ping_interval_ns, DEFAULT_PING_INTERVAL_NS);
}

int link_max_pings_out(const struct link_options *options)
{
    return options->max_pings_out > 0 ? options->max_pings_out : DEFAULT_MAX_PINGS_OUT;
}

int64_t link_write_deadline_ns(const struct link_options *options)
{
    return or_default(options->write_deadline_ns, DEFAULT_WRITE_DEADLINE_NS);
}

int64_t link_reconnect_wait_ns(const struct link_options *options, unsigned attempt)
{
    struct backoff backoff = {
        .min_ns = or_default(options->reconnect_wait_ns, DEFAULT_RECONNECT_WAIT_NS),
        .max_ns = or_default(options->reconnect_max_wait_ns, DEFAULT_RECONNECT_MAX_WAIT_NS),
        /* Gentle: after an outage of up to 10 s the next try comes within 2.7 s. With 2 it was up
         * to 4 s after one of 4 s. */
        .factor = 1.3,
    };
    int64_t jitter_ns = (int64_t)(retry_random() * (double)options->reconnect_jitter_ns);
    return backoff_delay_ns(&backoff, attempt, 0.5) + jitter_ns;
}
