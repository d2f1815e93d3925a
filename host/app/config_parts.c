/* config_parts - what the engine and the bus get of the settings. */
#include "app/config.h"

/* How many JetStream publishes may wait behind those that are on their way. */
#define OUTBOX_CAPACITY 8192

struct engine_tuning config_tuning(const struct config *config)
{
    return (struct engine_tuning){
        .memory_bytes = (size_t)config->limit_memory_bytes,
        .cpu_ns = config->limit_cpu_ns,
        .lib = (const char *const *)config->lib,
        .lib_count = config->lib_count,
        .trust = config->trust,
        .settings_json = config->settings_json,
        .json_big = config->json_big,
        .request_timeout_ns = config->request_timeout_ns,
        .generations = config->limit_generations,
        .offload_threads = config->limit_offload_threads,
        .max_stuck = config->limit_max_stuck,
    };
}

void config_bus_options(const struct config *config, struct bus_options *out)
{
    *out = (struct bus_options){
        .link =
            {
                .servers = (const char *const *)config->servers,
                .server_count = config->server_count,
                .name = config->name,
                .creds_file = config->creds,
                .user = config->user,
                .password = config->password,
                .token = config->token,
                .nkey_seed_file = config->nkey,
                .jwt = config->jwt,
                .seed = config->seed,
                .tls_ca = config->tls_ca,
                .tls_cert = config->tls_cert,
                .tls_key = config->tls_key,
                .tls = config->tls,
                .tls_skip_verify = !config->tls_verify,
                .tls_first = config->tls_first,
                .inbox_prefix = config->inbox_prefix,
                .connect_timeout_ns = config->connect_timeout_ns,
                .ping_interval_ns = config->ping_interval_ns,
                .max_pings_out = config->max_pings_out,
                .nats_alone = config->wire_nats,
                .reconnect_wait_ns = config->reconnect_wait_ns,
                .reconnect_max_wait_ns = config->reconnect_max_wait_ns,
                .reconnect_jitter_ns = config->reconnect_jitter_ns,
            },
        .domain = config->domain,
        .api_prefix = config->api_prefix,
        .request_timeout_ns = config->request_timeout_ns,
        .outbox =
            {
                .timeout_ns = config->publish_timeout_ns,
                .attempts = config->publish_attempts,
                .backoff = {.min_ns = config->publish_backoff_min_ns,
                            .max_ns = config->publish_backoff_max_ns,
                            .factor = 2,
                            .jitter = 0.2},
                .capacity = OUTBOX_CAPACITY,
            },
    };
}
