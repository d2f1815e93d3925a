/* client - moonbus pub, req and sub: NATS from a shell, without another tool. */
#include <errno.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/value.h"
#include "bus/wire.h"
#include "cli/connect.h"

#define COUNT_MOST 1000000000L
#define POLL_MS 50 /* how often sub looks for a signal */

/* --- what is sent --- */

struct payload {
    char *owned; /* or NULL: data is argv's */
    const char *data;
    size_t len;
};

static int read_stdin(struct payload *payload)
{
    size_t capacity = 0;
    for (;;) {
        if (payload->len == capacity) {
            capacity = capacity ? 2 * capacity : 65536;
            char *more = realloc(payload->owned, capacity);
            if (!more)
                return -1;
            payload->owned = more;
        }
        ssize_t got = read(STDIN_FILENO, payload->owned + payload->len, capacity - payload->len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        payload->len += (size_t)got;
    }
    payload->data = payload->owned;
    return 0;
}

static int take_payload(const struct cli *cli, struct payload *payload)
{
    *payload = (struct payload){.data = ""};
    if (cli->arg_count > 1) {
        payload->data = cli->args[1];
        payload->len = strlen(cli->args[1]);
    } else if (!isatty(STDIN_FILENO) && read_stdin(payload) != 0) {
        fprintf(stderr, "moonbus %s: cannot read standard input: %s\n", cli->command->name,
                strerror(errno));
        return CLI_FAILED;
    }
    return CLI_OK;
}

static int check_subject(const struct cli *cli, enum subject_use use)
{
    struct err err;
    const char *subject = cli->args[0];
    if (subject_check(subject, strlen(subject), use, &err) == 0)
        return CLI_OK;
    return cli_usage(cli, "%s", err.message);
}

/* "K: V" */
static int add_header(const struct cli *cli, struct headers *headers, const char *text)
{
    struct err err;
    const char *colon = strchr(text, ':');
    if (!colon)
        return cli_usage(cli, "-H wants 'K: V', not \"%s\"", text);
    char *name = strndup(text, (size_t)(colon - text));
    const char *value = colon + 1;
    value += strspn(value, " \t");
    int code = name ? headers_add(headers, name, value, strlen(value), &err) : ERR_MEMORY;
    free(name);
    return code ? cli_usage(cli, "-H: %s", err.message) : CLI_OK;
}

static int check_headers(const struct cli *cli, struct headers *headers)
{
    int status = CLI_OK;
    for (int i = 0; i < cli->header_count && status == CLI_OK; i++)
        status = add_header(cli, headers, cli->headers[i]);
    return status;
}

/* The message of the command line; *msg is the caller's. */
static natsStatus make_message(const struct cli *cli, const struct headers *headers,
                               const struct payload *payload, natsMsg **msg)
{
    const char *name, *value;
    size_t position = 0;
    natsStatus status = natsMsg_Create(msg, cli->args[0], NULL, payload->data, (int)payload->len);
    while (status == NATS_OK && headers_next(headers, &position, &name, &value))
        status = natsMsgHeader_Add(*msg, name, value);
    return status;
}

/* What pub and req have in common: everything is checked before anything is connected. */
struct sending {
    struct client client;
    struct headers headers;
    struct payload payload;
    natsMsg *msg;
};

static int open_sending(struct sending *sending, const struct cli *cli)
{
    *sending = (struct sending){.client.cli = cli};
    int status = check_subject(cli, SUBJECT_PUBLISH);
    if (!status)
        status = check_headers(cli, &sending->headers);
    if (!status)
        status = take_payload(cli, &sending->payload);
    if (!status)
        status = client_open(&sending->client, cli, false);
    if (status)
        return status;
    natsStatus made = make_message(cli, &sending->headers, &sending->payload, &sending->msg);
    return made == NATS_OK
               ? CLI_OK
               : client_failed_status(&sending->client, made, cli->args[0], sending->payload.len);
}

static void close_sending(struct sending *sending)
{
    natsMsg_Destroy(sending->msg);
    headers_clear(&sending->headers);
    free(sending->payload.owned);
    client_close(&sending->client);
}

static int64_t to_ms(int64_t ns)
{
    return (ns + NS_PER_MS - 1) / NS_PER_MS;
}

/* --- pub --- */

static int publish_stored(struct sending *sending)
{
    const struct client *client = &sending->client;
    const char *subject = client->cli->args[0];
    struct receipt receipt;
    struct err err;
    int api_code;
    bool transient;
    natsMsg *reply = NULL;
    natsStatus status = natsConnection_RequestMsg(&reply, client->nc, sending->msg,
                                                  to_ms(client->config->publish_timeout_ns));
    if (status == NATS_NO_RESPONDERS)
        return client_failed(client,
                             "no_stream: no stream takes \"%s\"; a handler can declare one: "
                             "js.stream { name = ..., subjects = { \"%s\" } }",
                             subject, subject);
    if (status != NATS_OK)
        return client_failed_status(client, status, subject, sending->payload.len);
    int code = wire_parse_puback(natsMsg_GetData(reply), (size_t)natsMsg_GetDataLength(reply),
                                 &receipt, &api_code, &transient, &err);
    natsMsg_Destroy(reply);
    if (code)
        return client_failed(client, "%s: %s", err_name(err.code), err.message);
    printf("stored in %s, sequence %llu%s\n", receipt.stream, (unsigned long long)receipt.sequence,
           receipt.duplicate ? " (a duplicate)" : "");
    return CLI_OK;
}

static int publish_once(struct sending *sending)
{
    const struct client *client = &sending->client;
    if (client->cli->jetstream)
        return publish_stored(sending);
    natsStatus status = natsConnection_PublishMsg(client->nc, sending->msg);
    if (status == NATS_OK)
        return CLI_OK;
    return client_failed_status(client, status, client->cli->args[0], sending->payload.len);
}

int cli_pub(struct cli *cli)
{
    long count = 1;
    struct sending sending;
    if (cli->count && (count = cli_number(cli, "--count", cli->count, 1, COUNT_MOST)) < 0)
        return CLI_USAGE;
    int status = open_sending(&sending, cli);
    for (long i = 0; i < count && status == CLI_OK; i++)
        status = publish_once(&sending);
    if (status == CLI_OK)
        status = client_flush(&sending.client, cli->args[0]);
    close_sending(&sending);
    return status;
}

/* --- req --- */

static void print_data(const char *data, size_t len)
{
    fwrite(data, 1, len, stdout);
    if (len == 0 || data[len - 1] != '\n')
        putchar('\n');
}

static int print_reply(const struct client *client, natsMsg *reply)
{
    const char *error = wire_header(reply, "Nats-Service-Error");
    const char *code = wire_header(reply, "Nats-Service-Error-Code");
    size_t len = (size_t)natsMsg_GetDataLength(reply);
    if (!error || len > 0)
        print_data(natsMsg_GetData(reply), len);
    if (!error)
        return CLI_OK;
    return client_failed(client, "service_error: %s%s%s", code ? code : "", code ? ": " : "",
                         error);
}

int cli_req(struct cli *cli)
{
    struct sending sending;
    int64_t timeout_ns = 0;
    if (cli->timeout && (timeout_ns = cli_duration(cli, "--timeout", cli->timeout)) < 0)
        return CLI_USAGE;
    int status = open_sending(&sending, cli);
    if (status == CLI_OK) {
        if (!cli->timeout)
            timeout_ns = sending.client.config->request_timeout_ns;
        natsMsg *reply = NULL;
        natsStatus got = natsConnection_RequestMsg(&reply, sending.client.nc, sending.msg,
                                                   timeout_ns > 0 ? to_ms(timeout_ns) : 1);
        status = got == NATS_OK ? print_reply(&sending.client, reply)
                                : client_failed_status(&sending.client, got, cli->args[0],
                                                       sending.payload.len);
        natsMsg_Destroy(reply);
    }
    close_sending(&sending);
    return status;
}

/* --- sub --- */

static bool is_utf8(const unsigned char *bytes, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned char c = bytes[i];
        size_t more = c < 0x80                 ? 0
                      : c >= 0xc2 && c <= 0xdf ? 1
                      : (c & 0xf0) == 0xe0     ? 2
                      : c >= 0xf0 && c <= 0xf4 ? 3
                                               : 4;
        if (more == 4 || len - i <= more)
            return false;
        unsigned char next = more ? bytes[i + 1] : 0;
        if ((c == 0xe0 && next < 0xa0) || (c == 0xed && next > 0x9f) ||
            (c == 0xf0 && next < 0x90) || (c == 0xf4 && next > 0x8f))
            return false;
        for (size_t k = 1; k <= more; k++) {
            if ((bytes[i + k] & 0xc0) != 0x80)
                return false;
        }
        i += more + 1;
    }
    return true;
}

static void json_text(struct text *line, const char *key, const char *value)
{
    text_printf(line, ",\"%s\":", key);
    text_json_string(line, value, strlen(value));
}

static void json_data(struct text *line, const char *data, size_t len)
{
    if (is_utf8((const unsigned char *)data, len)) {
        text_puts(line, ",\"data\":");
        text_json_string(line, data, len);
        return;
    }
    char *encoded = malloc(4 * ((len + 2) / 3) + 1);
    if (!encoded)
        return;
    EVP_EncodeBlock((unsigned char *)encoded, (const unsigned char *)data, (int)len);
    json_text(line, "data_base64", encoded);
    free(encoded);
}

/* "K":["1","2"],... */
static void json_headers(struct text *line, natsMsg *msg)
{
    const char **keys = NULL;
    int count = 0;
    if (natsMsgHeader_Keys(msg, &keys, &count) != NATS_OK)
        return;
    text_puts(line, ",\"headers\":{");
    for (int i = 0; i < count; i++) {
        const char **values = NULL;
        int value_count = 0;
        if (natsMsgHeader_Values(msg, keys[i], &values, &value_count) != NATS_OK)
            continue;
        text_puts(line, i > 0 ? "," : "");
        text_json_string(line, keys[i], strlen(keys[i]));
        for (int k = 0; k < value_count; k++) {
            text_puts(line, k > 0 ? "," : ":[");
            text_json_string(line, values[k], strlen(values[k]));
        }
        text_puts(line, value_count > 0 ? "]" : ":[]");
        free(values);
    }
    text_puts(line, "}");
    free(keys);
}

static void print_json(natsMsg *msg)
{
    struct text line;
    const char *subject = natsMsg_GetSubject(msg), *reply = natsMsg_GetReply(msg);
    text_init(&line);
    text_puts(&line, "{\"subject\":");
    text_json_string(&line, subject, strlen(subject));
    json_data(&line, natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
    json_headers(&line, msg);
    if (reply)
        json_text(&line, "reply", reply);
    text_puts(&line, "}\n");
    fwrite(line.bytes, 1, line.len, stdout);
    text_clear(&line);
}

static void print_headers(natsMsg *msg)
{
    const char **keys = NULL;
    int count = 0;
    if (natsMsgHeader_Keys(msg, &keys, &count) != NATS_OK)
        return;
    for (int i = 0; i < count; i++) {
        const char **values = NULL;
        int value_count = 0;
        if (natsMsgHeader_Values(msg, keys[i], &values, &value_count) != NATS_OK)
            continue;
        for (int k = 0; k < value_count; k++)
            printf("%s: %s\n", keys[i], values[k]);
        free(values);
    }
    free(keys);
}

static void print_plain(natsMsg *msg, long number)
{
    const char *reply = natsMsg_GetReply(msg);
    printf("[%ld] %s%s%s\n", number, natsMsg_GetSubject(msg), reply ? " reply " : "",
           reply ? reply : "");
    print_headers(msg);
    print_data(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
}

struct watching {
    struct client client;
    natsSubscription *sub;
    long wanted, got;     /* wanted: 0 for no end */
    uint64_t deadline_ns; /* 0: none */
    sigset_t signals;     /* those that end it; blocked, and looked for */
};

static void print_message(struct watching *watching, natsMsg *msg)
{
    watching->got++;
    if (watching->client.cli->json)
        print_json(msg);
    else
        print_plain(msg, watching->got);
    natsMsg_Destroy(msg);
}

/* Until enough has come, time is up, or a signal. */
static int receive(struct watching *watching)
{
    const struct timespec at_once = {0};
    bool late = false, signalled = false;
    while (!late && !signalled && (!watching->wanted || watching->got < watching->wanted)) {
        natsMsg *msg = NULL;
        natsStatus status = natsSubscription_NextMsg(&msg, watching->sub, POLL_MS);
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
    const struct client *client = &watching->client;
    const char *subject = client->cli->args[0];
    char server[256] = "";
    natsStatus status = natsConnection_SubscribeSync(&watching->sub, client->nc, subject);
    if (status != NATS_OK)
        return client_failed_status(client, status, subject, 0);
    natsSubscription_SetPendingLimits(watching->sub, -1, -1);
    int result = client_flush(client, subject);
    if (result != CLI_OK)
        return result;
    natsConnection_GetConnectedUrl(client->nc, server, sizeof server);
    const char *at = strrchr(server, '@');
    fprintf(stderr, "moonbus sub: subscribed to %s on %s\n", subject, at ? at + 1 : server);
    return CLI_OK;
}

int cli_sub(struct cli *cli)
{
    struct watching watching = {0};
    int64_t timeout_ns = 0;
    if (check_subject(cli, SUBJECT_SUBSCRIBE) != CLI_OK)
        return CLI_USAGE;
    if (cli->count && (watching.wanted = cli_number(cli, "--count", cli->count, 1, COUNT_MOST)) < 0)
        return CLI_USAGE;
    if (cli->timeout && (timeout_ns = cli_duration(cli, "--timeout", cli->timeout)) < 0)
        return CLI_USAGE;
    sigemptyset(&watching.signals);
    sigaddset(&watching.signals, SIGINT);
    sigaddset(&watching.signals, SIGTERM);
    int status = client_open(&watching.client, cli, true);
    if (status == CLI_OK)
        status = begin_watching(&watching);
    if (cli->timeout)
        watching.deadline_ns = clock_now_ns() + (uint64_t)timeout_ns;
    if (status == CLI_OK)
        status = receive(&watching);
    natsSubscription_Destroy(watching.sub);
    client_close(&watching.client);
    return status;
}
