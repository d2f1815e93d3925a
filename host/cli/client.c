/* client - moonbus pub and req: NATS from a shell, without another tool. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/value.h"
#include "bus/link/nats_received.h"
#include "bus/wire.h"
#include "cli/print.h"
#include "cli/receive.h"
#include "cli/say.h"

#define COUNT_MOST 1000000000L

/* --- what is sent --- */

struct sent_data {
    char *owned; /* or NULL: data is argv's */
    const char *data;
    size_t len;
};

static int read_stdin(struct sent_data *payload)
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

static int take_payload(const struct cli *cli, struct sent_data *payload)
{
    *payload = (struct sent_data){.data = ""};
    if (cli->arg_count > 1) {
        payload->data = cli->args[1];
        payload->len = strlen(cli->args[1]);
    } else if (!isatty(STDIN_FILENO) && read_stdin(payload) != 0) {
        say_error(cli, "cannot read standard input: %s", strerror(errno));
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

/* What pub and req have in common: everything is checked before anything is connected. */
struct sending {
    struct client client;
    struct headers headers;
    struct sent_data payload;
    struct outgoing message;
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
    sending->message = (struct outgoing){.subject = cli->args[0],
                                         .headers = &sending->headers,
                                         .data = sending->payload.data,
                                         .len = sending->payload.len};
    return status;
}

static void close_sending(struct sending *sending)
{
    headers_clear(&sending->headers);
    free(sending->payload.owned);
    client_close(&sending->client);
}

/* --- pub --- */

static int publish_stored(struct sending *sending)
{
    struct client *client = &sending->client;
    const char *subject = sending->message.subject;
    struct receipt receipt;
    struct err err;
    int api_code;
    bool transient;
    natsMsg *reply = NULL;
    natsStatus status =
        client_request(client, &sending->message, client->config->publish_timeout_ns, &reply);
    if (status == NATS_NO_RESPONDERS)
        return client_failed(client,
                             "no_stream: no stream takes \"%s\"; a handler can declare one: "
                             "js.stream { name = ..., subjects = { \"%s\" } }",
                             subject, subject);
    if (status != NATS_OK)
        return client_failed_status(client, status, subject, sending->message.len);
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
    struct client *client = &sending->client;
    if (client->cli->jetstream)
        return publish_stored(sending);
    natsStatus status = client_publish(client, &sending->message);
    if (status == NATS_OK)
        return CLI_OK;
    return client_failed_status(client, status, sending->message.subject, sending->message.len);
}

/* With --count each message has a number, which {{n}} stands for; {{Count}} as the nats command
 * line has it. */
static size_t placeholder(const char *at, size_t left)
{
    static const char *const names[] = {"{{n}}", "{{Count}}"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t len = strlen(names[i]);
        if (left >= len && memcmp(at, names[i], len) == 0)
            return len;
    }
    return 0;
}

static void number(struct text *out, const char *from, size_t len, long n)
{
    text_init(out);
    for (size_t i = 0; i < len;) {
        size_t taken = placeholder(from + i, len - i);
        if (taken)
            text_printf(out, "%ld", n);
        else
            text_add(out, from + i, 1);
        i += taken ? taken : 1;
    }
}

/* They were checked, and digits change nothing about that. */
static void number_headers(struct headers *out, const struct headers *from, long n)
{
    struct header_field field;
    size_t position = 0;
    struct text text;
    while (headers_next(from, &position, &field)) {
        number(&text, field.value.at, field.value.len, n);
        headers_copy(out, field.name, (struct span){text.bytes, text.len}, NULL);
        text_clear(&text);
    }
}

static int publish_numbered(struct sending *sending, long n)
{
    const struct outgoing plain = sending->message;
    struct text subject, data;
    struct headers headers = {0};
    number(&subject, plain.subject, strlen(plain.subject), n);
    number(&data, plain.data, plain.len, n);
    number_headers(&headers, plain.headers, n);
    sending->message = (struct outgoing){
        .subject = subject.bytes, .headers = &headers, .data = data.bytes, .len = data.len};
    int status = subject.failed || data.failed ? client_failed(&sending->client, "out of memory")
                                               : publish_once(sending);
    sending->message = plain;
    text_clear(&subject);
    text_clear(&data);
    headers_clear(&headers);
    return status;
}

int cli_pub(struct cli *cli)
{
    long count = 1;
    struct sending sending;
    if (cli->count && (count = cli_number(cli, "--count", cli->count, 1, COUNT_MOST)) < 0)
        return CLI_USAGE;
    int status = open_sending(&sending, cli);
    for (long n = 1; n <= count && status == CLI_OK; n++)
        status = cli->count ? publish_numbered(&sending, n) : publish_once(&sending);
    if (status == CLI_OK)
        status = client_flush(&sending.client, cli->args[0]);
    close_sending(&sending);
    return status;
}

/* --- req --- */

static int print_reply(const struct client *client, natsMsg *reply)
{
    char sentence[1024], number[32];
    struct header_block headers = nats_received_headers(reply);
    struct span error = header_block_find(&headers, "Nats-Service-Error");
    struct span code = header_block_find(&headers, "Nats-Service-Error-Code");
    span_text(error, sentence, sizeof sentence);
    span_text(code, number, sizeof number);
    header_block_clear(&headers);
    size_t len = (size_t)natsMsg_GetDataLength(reply);
    bool failed = error.at || code.at;
    if ((!failed || len > 0) && client->cli->raw)
        print_data(natsMsg_GetData(reply), len, !client->cli->replies);
    else if (!failed || len > 0)
        print_shown(natsMsg_GetData(reply), len);
    if (!failed)
        return CLI_OK;
    return client_failed(client, "service_error: %s%s%s", number, *number && *sentence ? ": " : "",
                         sentence);
}

static int print_and_free(const struct client *client, natsMsg *reply)
{
    int status = print_reply(client, reply);
    natsMsg_Destroy(reply);
    if (fflush(stdout) == 0 || errno == EPIPE)
        return status;
    return client_failed(client, "standard output: %s", strerror(errno));
}

/* most: so many replies are waited for; 0: all that come in time, but one at least. */
static int request(struct sending *sending, int64_t timeout_ns, long most)
{
    struct client *client = &sending->client;
    uint64_t deadline_ns = clock_now_ns() + (uint64_t)timeout_ns;
    natsMsg *reply = NULL;
    natsStatus got = client_request(client, &sending->message, timeout_ns, &reply);
    int status = CLI_OK;
    long count = 0;
    while (got == NATS_OK) {
        int printed = print_and_free(client, reply);
        int64_t left_ns = (int64_t)(deadline_ns - clock_now_ns());
        status = printed ? printed : status;
        if (++count == most)
            return status;
        got = client_next_reply(client, &sending->message, left_ns > 0 ? left_ns : 0, &reply);
    }
    if (got == NATS_TIMEOUT && count > 0)
        return most == 0 ? status
                         : client_failed(client, "timeout: %ld of %ld replies came", count, most);
    return client_failed_status(client, got, client->cli->args[0], sending->payload.len);
}

int cli_req(struct cli *cli)
{
    struct sending sending;
    int64_t timeout_ns = 0;
    long most = 1;
    if (cli->timeout && (timeout_ns = cli_duration(cli, "--timeout", cli->timeout)) < 0)
        return CLI_USAGE;
    if (cli->replies && (most = cli_number(cli, "--replies", cli->replies, 0, COUNT_MOST)) < 0)
        return CLI_USAGE;
    int status = open_sending(&sending, cli);
    if (status == CLI_OK)
        status = request(
            &sending, cli->timeout ? timeout_ns : sending.client.config->request_timeout_ns, most);
    close_sending(&sending);
    return status;
}
