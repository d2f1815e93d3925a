/* config - the process's settings: defaults, the config file, the environment, the flags, in that
 * order, the last one wins. Judged by lua/moonbus/config.lua, kept here as plain C values.
 *
 * Read-only once loaded (dev puts its own server in before anything reads it); handed around, not
 * global. */
#ifndef MOONBUS_APP_CONFIG_H
#define MOONBUS_APP_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "bus/bus.h"
#include "engine/engine.h"

/* A flag of the command line: the config leaf that it sets ("auth.creds", "workers"), and its text.
 * A leaf that is a list may come several times. All borrowed for the call. */
struct config_flag {
    const char *key, *value;
    const char *spelling; /* as typed, for errors: "--workers" */
};

/* Where settings come from, beside the environment. */
struct config_sources {
    const char *file; /* NULL: ./moonbus.lua, whose absence is no error */
    const struct config_flag *flags;
    int flag_count;
    const struct config_flag *defaults; /* a command's own: `dev` watches, and logs text */
    int default_count;
};

struct config {
    char **servers;
    int server_count;
    bool servers_stated; /* by flag, environment or file: `dev` says that it ignores them */
    bool servers_given;  /* by flag or environment: they win over a running `dev` in this folder */
    char *name;
    char *creds, *user, *password, *token, *nkey;
    char *tls_ca, *tls_cert, *tls_key;
    bool tls, tls_verify;
    char *domain, *api_prefix, *inbox_prefix;
    char **handlers, **lib;
    int handler_count, lib_count;
    int workers;
    int64_t connect_timeout_ns, ping_interval_ns;
    int max_pings_out;
    int64_t reconnect_wait_ns, reconnect_max_wait_ns, reconnect_jitter_ns;
    int64_t request_timeout_ns;
    int64_t publish_timeout_ns, publish_backoff_min_ns, publish_backoff_max_ns;
    int publish_attempts;
    int64_t graceful_timeout_ns;
    int64_t limit_memory_bytes, limit_cpu_ns;
    int limit_max_stuck;
    bool watch, trust;
    char *admin, *admin_token;
    enum log_level log_level;
    enum log_format log_format;
    char *settings_json; /* NULL: none */
    char *file;          /* the config file that was read, or NULL */
    char **warnings;     /* for config_announce */
    int warning_count;
};

/* Relative paths in the file are relative to it. NULL, and ERR_INVALID with file, key, value and
 * what is allowed. */
struct config *config_load(const struct config_sources *sources, struct err *err);
void config_free(struct config *config);

/* Sets the log up as configured, and logs what was odd about the settings. */
void config_announce(const struct config *config);

/* One more for config_announce. */
void config_warn(struct config *config, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Puts one server in the place of the configured ones, with nothing of their authentication, TLS
 * and JetStream domain: a private server. */
int config_use_server(struct config *config, const char *url, struct err *err);

/* What the engine needs of it while it runs; borrows config's strings. */
struct engine_tuning config_tuning(const struct config *config);

/* The part that the bus needs; borrows config's strings. */
void config_bus_options(const struct config *config, struct bus_options *out);

#endif
