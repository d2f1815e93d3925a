/* sub - moonbus sub: prints messages as they come; or, of a stream, what is stored (stored.c). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/value.h"
#include "bus/link/nats_received.h"
#include "bus/wire.h"
#include "cli/print.h"
#include "cli/receive.h"
#include "cli/say.h"
#include "cli/stored.h"

#define COUNT_MOST 1000000000L
#define POLL_MS 50 /* how often it is looked for a signal */

struct watching {
    struct client client;
    struct receiver *receiver; /* the client's */
    long wanted, got;          /* wanted: 0 for no end */
    uint64_t deadline_ns;      /* 0: none */
    sigset_t signals;          /* those that end it; blocked, and looked for */
};

static int64_t wall_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void print_message(struct watching *watching, natsMsg *msg)
{
    const struct cli *cli = watching->client.cli;
    struct header_block block = nats_received_headers(msg);
    struct printed message = {.subject = natsMsg_GetSubject(msg),
                              .reply = natsMsg_GetReply(msg),
                              .data = natsMsg_GetData(msg),
                              .len = (size_t)natsMsg_GetDataLength(msg),
                              .time_ns = wall_now_ns(),
                              .number = ++watching->got};
    struct header_field *fields = print_block_fields(&block, &message.field_count);
    message.fields = fields;
    if (cli->raw)
        print_data(message.data, message.len, watching->wanted == 1);
    else if (cli->json)
        print_json(&message);
    else
        print_plain(&message, cli->timestamps);
    free(fields);
    header_block_clear(&block);
    natsMsg_Destroy(msg);
}

/* Until enough has come, time is up, or a signal. */
static int receive(struct watching *watching)
{
    const struct timespec at_once = {0};
    bool late = false, signalled = false;
    while (!late && !signalled && (!watching->wanted || watching->got < watching->wanted)) {
        natsMsg *msg = NULL;
        natsStatus status = receiver_next(watching->receiver, POLL_MS, &msg);
        if (status == NATS_OK) {
            print_message(watching, msg);
            if (fflush(stdout) != 0) /* EPIPE: nobody reads any more */
                return errno == EPIPE ? CLI_FAILED
                                      : client_failed(&watching->client, "standard output: %s",
                                                      strerror(errno));
        } else if (status != NATS_TIMEOUT) {
            return client_failed_status(&watching->client, status, watching->client.cli->args[0],
                                        0);
        }
        late = watching->deadline_ns && clock_now_ns() >= watching->deadline_ns;
        signalled = sigtimedwait(&watching->signals, NULL, &at_once) > 0;
    }
    if (watching->got >= watching->wanted)
        return CLI_OK;
    return client_failed(&watching->client, "%s: %ld of %ld messages came",
                         late ? "timeout" : "stopped", watching->got, watching->wanted);
}

static int begin_watching(struct watching *watching)
{
    struct client *client = &watching->client;
    const char *subject = client->cli->args[0], *queue = client->cli->queue;
    char server[256];
    natsStatus status = receiver_open(client, subject, queue, &watching->receiver);
    if (status != NATS_OK)
        return client_failed_status(client, status, subject, 0);
    int result = client_flush(client, subject);
    if (result != CLI_OK)
        return result;
    say_note(client->cli, "subscribed to %s%s%s on %s", subject, queue ? ", queue " : "",
             queue ? queue : "", client_server(client, server, sizeof server));
    return CLI_OK;
}

static int watch(struct watching *watching, int64_t timeout_ns)
{
    sigemptyset(&watching->signals);
    sigaddset(&watching->signals, SIGINT);
    sigaddset(&watching->signals, SIGTERM);
    int status = begin_watching(watching);
    if (timeout_ns)
        watching->deadline_ns = clock_now_ns() + (uint64_t)timeout_ns;
    return status == CLI_OK ? receive(watching) : status;
}

/* --- what was asked for --- */

static int check_filter(const struct cli *cli, const char *spelling, const char *subject)
{
    struct err err;
    if (!subject || subject_check(subject, strlen(subject), SUBJECT_SUBSCRIBE, &err) == 0)
        return CLI_OK;
    return cli_usage(cli, "%s%s", spelling, err.message);
}

/* Options that go with what is stored only, or not with it. */
static int check_kind(const struct cli *cli, bool stored)
{
    struct err err;
    if (cli->starts > 1)
        return cli_usage(cli, "%s and %s: one place to begin at", cli->first_start, cli->start);
    if (cli->json && cli->raw)
        return cli_usage(cli, "--json and --raw: one of them");
    if (!stored && cli->subject)
        return cli_usage(cli, "--subject: goes with --stream");
    if (!stored && cli->follow)
        return cli_usage(cli, "--follow: goes with --stream");
    if (stored && cli->queue)
        return cli_usage(cli, "--queue: not with a stream, whose messages are read, not shared");
    if (cli->subject && cli->arg_count > 0)
        return cli_usage(cli, "\"%s\" and --subject: one filter", cli->args[0]);
    if (!cli->stream && cli->arg_count == 0)
        return cli_usage(cli, "SUBJECT or --stream NAME is missing");
    if (cli->queue && name_check("queue name", cli->queue, strlen(cli->queue), &err) != 0)
        return cli_usage(cli, "--queue: %s", err.message);
    if (cli->stream && name_check("stream name", cli->stream, strlen(cli->stream), &err) != 0)
        return cli_usage(cli, "--stream: %s", err.message);
    return CLI_OK;
}

/* argv's; NULL: all */
static const char *filter_of(const struct cli *cli)
{
    return cli->arg_count > 0 ? cli->args[0] : cli->subject;
}

int cli_sub(struct cli *cli)
{
    struct watching watching = {0};
    struct stored_start start = {0};
    int64_t timeout_ns = 0;
    bool stored = cli->stream || cli->start;
    int status = check_kind(cli, stored);
    if (!status)
        status = check_filter(cli, cli->subject ? "--subject: " : "", filter_of(cli));
    if (!status)
        status = stored_start_read(cli, &start);
    if (status)
        return status;
    if (cli->count && (watching.wanted = cli_number(cli, "--count", cli->count, 1, COUNT_MOST)) < 0)
        return CLI_USAGE;
    if (cli->timeout && (timeout_ns = cli_duration(cli, "--timeout", cli->timeout)) < 0)
        return CLI_USAGE;
    status = client_open(&watching.client, cli, true);
    if (status == CLI_OK)
        status = stored ? stored_print(&watching.client, filter_of(cli), &start, watching.wanted,
                                       timeout_ns)
                        : watch(&watching, timeout_ns);
    client_close(&watching.client);
    return status;
}
