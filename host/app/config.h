/* config - the settings of the process, from defaults, config file, environment and flags: the last
 * of these wins. lua/moonbus/config.lua checks them; here they are plain C values.
 *
 * Owner: the main thread; others get copies of what they need. Settings that may change while the
 * host runs do so in config_adopt (config_change.c). The rest is read-only once loaded, except that
 * dev puts its own server in before anything reads it. Handed around, not global. */
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
    const char *file;      /* NULL: ./moonbus.lua, whose absence is no error */
    bool no_file;          /* not even that */
    const char *context;   /* of the nats command line: a name or a path; NULL: none is stated */
    bool no_selected;      /* nor the selected one, when no server is stated */
    int64_t file_limit_ns; /* how long the file may run; 0: LOAD_DEADLINE_NS */
    const struct config_flag *flags;
    int flag_count;
    const struct config_flag *defaults; /* a command's own: `dev` watches, and logs text */
    int default_count;
};

/* When a change takes effect if the config is read again while the host runs. */
enum config_takes {
    TAKES_NOW,
    TAKES_SCRIPTS, /* with a new generation of each script */
    TAKES_START,   /* at the next start */
    TAKES_SERVER,  /* the same; a private server knows none of it */
};

/* One setting as text, to say what a newly read config changes. All owned. */
struct config_leaf {
    char *key;   /* "limits.memory" */
    char *value; /* the same text: the same value */
    char *shown; /* as it was written; "": not to be shown */
    /* What runs, when value has changed since and waits for the next start; else NULL. */
    char *started_value, *started_shown;
    enum config_takes takes;
};

struct config {
    struct config_leaf *leaves; /* owned; in the order of config.lua */
    int leaf_count;
    char **servers;
    int server_count;
    bool servers_stated; /* by flag, environment or file: `dev` says that it ignores them */
    bool servers_given;  /* by flag or environment: they win over a running `dev` in this folder */
    char *name;
    char *creds, *user, *password, *token, *nkey, *jwt, *seed;
    char *tls_ca, *tls_cert, *tls_key;
    bool tls, tls_verify, tls_first;
    char *context_note; /* which context is used, to be said; NULL: none, or the caller's own */
    char *domain, *api_prefix, *inbox_prefix;
    char **handlers, **lib;
    int handler_count, lib_count;
    int workers;
    int64_t connect_timeout_ns, ping_interval_ns;
    int max_pings_out;
    bool wire_nats; /* messages go through nats.c, too */
    int64_t reconnect_wait_ns, reconnect_max_wait_ns, reconnect_jitter_ns;
    enum number_big json_big;
    int64_t request_timeout_ns;
    int64_t publish_timeout_ns, publish_backoff_min_ns, publish_backoff_max_ns;
    int publish_attempts;
    int64_t graceful_timeout_ns;
    int64_t limit_memory_bytes, limit_cpu_ns;
    int http_max_per_host;
    int limit_max_stuck, limit_offload_threads, limit_generations;
    bool watch, trust;
    char *admin, *admin_token;
    bool admin_given;  /* by flag or environment: it counts even if the file is broken */
    bool admin_stated; /* there, or in the file; else it is the default */
    enum log_level log_level;
    enum log_format log_format;
    struct {
        char *url; /* where traces are sent to; NULL: they are not recorded */
        char *service, *sampler;
        double sample;
        int64_t timeout_ns;
        char **headers, **attributes; /* "name=value" */
        int header_count, attribute_count;
    } telemetry;
    char *settings_json; /* NULL: none */
    char *file;          /* the config file that was read, or NULL */
    char **warnings;     /* for config_announce */
    int warning_count;
    char **secrets; /* what secret() gave in the config file: never to be printed */
    int secret_count;
};

/* Where the config file is, or would be. */
const char *config_path(const struct config_sources *sources);

/* Any thread; a file that runs for too long is refused. Paths in the file are relative to it. NULL,
 * and ERR_INVALID with file, key, value and what is allowed. */
struct config *config_load(const struct config_sources *sources, struct err *err);
/* The same. *format: how the log would be written, as far as that was stated, when there is none.
 */
struct config *config_load_as(const struct config_sources *sources, enum log_format *format,
                              struct err *err);
/* How the log is to be written as far as flags, environment and defaults state it; LOG_AUTO: they
 * do not. */
enum log_format config_stated_format(const struct config_sources *sources);
/* An error of the log that says why, with the place in the file. prefix: before the sentence. */
void config_log_refused(const struct config_sources *sources, const struct err *err,
                        const char *prefix);
void config_free(struct config *config);

/* What a newly read config changes. */
struct config_change {
    bool any;
    bool scripts; /* each script is to get a new generation */
    bool handlers, watch;
};

/* Takes over the settings that may change while the host runs, and calls tell with a line for each
 * one that differs ("limits.cpu: 5s -> 2s"). private_server: not for those about servers. Free
 * fresh only when nothing borrows config's old lists any more: it has them. In config_change.c. */
struct config_change config_adopt(struct config *config, struct config *fresh, bool private_server,
                                  void (*tell)(void *owner, const char *line), void *owner);

/* "workers: 2 -> 4 takes effect at the next start" of a leaf whose value waits for that; else
 * false.
 */
bool config_waits(const struct config_leaf *leaf, bool private_server, char *buf, size_t size);

/* Sets the log up as configured, and logs what was odd about the settings. */
void config_announce(const struct config *config);
/* The same for a command, which speaks to people unless JSON is stated. */
void config_announce_command(const struct config *config);
/* The second half of it. */
void config_tell_warnings(const struct config *config);

/* One more for config_announce. */
void config_warn(struct config *config, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Replaces the configured servers by one private server, without their authentication, TLS and
 * JetStream domain. */
int config_use_server(struct config *config, const char *url, struct err *err);

/* What the engine needs of it while it runs; borrows config's strings. */
struct engine_tuning config_tuning(const struct config *config);

/* The part that the bus needs; borrows config's strings. */
void config_bus_options(const struct config *config, struct bus_options *out);

#endif
