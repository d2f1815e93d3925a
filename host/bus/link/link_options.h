/* link_options - how to reach the servers, and what is meant where nothing is stated. Pure. */
#ifndef MOONBUS_BUS_LINK_LINK_OPTIONS_H
#define MOONBUS_BUS_LINK_LINK_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* All borrowed for as long as the link lives (it is the process's config); NULL and 0 mean "not
 * set". */
struct link_options {
    const char *const *servers;
    int server_count;
    const char *name;
    const char *creds_file, *user, *password, *token, *nkey_seed_file;
    const char *jwt, *seed; /* as text; a seed alone is an nkey, a JWT alone a bearer's */
    const char *tls_ca, *tls_cert, *tls_key;
    bool tls, tls_skip_verify;
    bool nats_alone;          /* messages go through nats.c, too */
    bool tls_first;           /* TLS begins before the server has said anything */
    const char *inbox_prefix; /* default "_INBOX" */
    int64_t connect_timeout_ns, ping_interval_ns;
    int max_pings_out;
    int64_t reconnect_wait_ns, reconnect_max_wait_ns, reconnect_jitter_ns;
    int64_t write_deadline_ns;
};

/* For one connect, to one server, whatever it is waiting for. */
int64_t link_connect_timeout_ns(const struct link_options *options);
/* How often the server is asked for a sign of life, and how often it may fail to give one. */
int64_t link_ping_interval_ns(const struct link_options *options);
int link_max_pings_out(const struct link_options *options);
/* How long a write may take. */
int64_t link_write_deadline_ns(const struct link_options *options);

/* Before the attempt-th try to connect (counted from 1); at random. */
int64_t link_reconnect_wait_ns(const struct link_options *options, unsigned attempt);

#endif
