#include "cli/connect.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "base/value.h"
#include "bus/link_options.h"

/* Far more than nats.c takes, so that a fault of it holds nobody up for ever. */
#define NATS_CLOSE_MS 2000

int client_failed(const struct client *client, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "moonbus %s: ", client->cli->command->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    return CLI_FAILED;
}

static int64_t to_ms(int64_t ns)
{
    return (ns + NS_PER_MS - 1) / NS_PER_MS;
}

/* What nats.c says went wrong last, without the line of its own source before it; "" for nothing.
 */
static const char *last_error(void)
{
    const char *last = nats_GetLastError(NULL);
    const char *end = last && *last == '(' ? strstr(last, "): ") : NULL;
    return end ? end + 3 : last ? last : "";
}

int client_failed_status(const struct client *client, natsStatus status, const char *subject,
                         size_t len)
{
    switch (status) {
    case NATS_NO_RESPONDERS:
        return client_failed(client, "no_responders: nobody serves \"%s\"", subject);
    case NATS_TIMEOUT:
        return client_failed(client, "timeout: no answer on \"%s\" in time", subject);
    case NATS_MAX_PAYLOAD:
        return client_failed(
            client,
            "too_large: %zu bytes, headers not counted: the server takes at most %lld with "
            "them",
            len, (long long)natsConnection_GetMaxPayload(client->nc));
    case NATS_NOT_PERMITTED:
        return client_failed(client, "permission: the server refuses \"%s\" to this user", subject);
    default: {
        const char *last = last_error();
        return client_failed(client, "disconnected: %s%s%s", natsStatus_GetText(status),
                             *last ? ": " : "", last);
    }
    }
}

int client_flush(const struct client *client, const char *subject)
{
    natsStatus status =
        natsConnection_FlushTimeout(client->nc, to_ms(client->config->connect_timeout_ns));
    const char *text = NULL;
    if (status == NATS_OK)
        status = natsConnection_GetLastError(client->nc, &text);
    return status == NATS_OK ? CLI_OK : client_failed_status(client, status, subject, 0);
}

/* nats.c's own prints to standard error. What matters is asked for in client_flush. */
static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *closure)
{
    (void)nc;
    (void)sub;
    (void)status;
    (void)closure;
}

/* Takes off what a supervised connection has and this one has not. */
static void make_plain(natsOptions *options, bool lasting)
{
    natsOptions_SetErrorHandler(options, on_error, NULL);
    natsOptions_SetCustomReconnectDelay(options, NULL, NULL);
    natsOptions_SetReconnectWait(options, 250);
    natsOptions_SetAllowReconnect(options, lasting);
}

/* nats.c 3.4.1 leaves out a signature whose first byte is 0, as one of 256 has, and is refused. The
 * next try has something else to sign. */
#define SIGNED_TRIES 3

static natsStatus try_connect(struct client *client, natsOptions *options, bool is_signed)
{
    int tries = is_signed ? SIGNED_TRIES : 1;
    natsStatus status = NATS_CONNECTION_AUTH_FAILED;
    while (tries-- > 0 && status == NATS_CONNECTION_AUTH_FAILED)
        status = natsConnection_Connect(&client->nc, options);
    return status;
}

static int connect_to(struct client *client, const char *found, bool lasting)
{
    struct bus_options options;
    struct err err;
    natsOptions *nats;
    char *servers;
    config_bus_options(client->config, &options);
    if (link_options_make(&options.link, &nats, &servers, &err) != 0) {
        client_failed(client, "%s", err.message);
        return CLI_USAGE;
    }
    make_plain(nats, lasting);
    int result = CLI_OK;
    bool is_signed = options.link.creds_file || options.link.nkey_seed_file;
    natsStatus status = try_connect(client, nats, is_signed);
    if (status != NATS_OK) {
        const char *last = last_error();
        result = client_failed(client, "disconnected: cannot connect to %s: %s%s%s%s", servers,
                               *last ? last : natsStatus_GetText(status),
                               found ? " (its URL is in " : "", found ? found : "",
                               found ? ": does `moonbus dev` still run?)" : "");
    }
    natsOptions_Destroy(nats);
    free(servers);
    return result;
}

int client_open(struct client *client, const struct cli *cli, bool lasting)
{
    static const struct config_flag text_log = {"log.format", "text", "default"};
    struct err err;
    struct config_sources sources = cli_sources(cli);
    sources.defaults = &text_log;
    sources.default_count = 1;
    *client = (struct client){.cli = cli};
    thread_block_signals(&client->unblocked); /* nats.c's threads inherit the mask */
    struct config *without;
    client->config = cli_config(&sources, &without, &err);
    if (!client->config) {
        client_failed(client, "%s%s", err.message,
                      without ? "; mend the file, or name another one with -c" : "");
        config_free(without);
        return CLI_USAGE;
    }
    char path[PATH_MAX], url[256];
    bool found = !client->config->servers_given && cli_find_url(path, sizeof path, url, sizeof url);
    if (found) {
        fprintf(stderr, "moonbus %s: using %s of %s\n", cli->command->name, url, path);
        if (config_use_server(client->config, url, &err) != 0) {
            client_failed(client, "%s", err.message);
            return CLI_USAGE;
        }
    }
    config_announce(client->config);
    int result = connect_to(client, found ? path : NULL, lasting);
    if (!lasting)
        pthread_sigmask(SIG_SETMASK, &client->unblocked, NULL);
    return result;
}

void client_close(struct client *client)
{
    natsConnection_Destroy(client->nc);
    config_free(client->config);
    /* Waiting: the last of its threads would otherwise meet what exit takes down. */
    nats_CloseAndWait(NATS_CLOSE_MS);
}
