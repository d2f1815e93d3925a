/* live - see live.h. */
#include "cli/test/live.h"

#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include <cjson/cJSON.h>

#include "base/text.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/header_block.h"
#include "bus/link/nats_fields.h"
#include "bus/link/nats_reason.h"
#include "cli/cli.h"
#include "cli/private_server.h"
#include "cli/test/apart.h"
#include "cli/test/session.h"

#define ACCOUNTS 16
#define LOOK_NS (20 * NS_PER_MS)
#define FLUSH_MS 2000
#define CALL_MS 5000
#define CALL_LOOK_MS 10

/* Of the process that runs the tests. */
static struct {
    const char *url; /* not owned; NULL: there is no server */
    bool taken[ACCOUNTS];
} live;

bool live_is_on(void)
{
    return live.url != NULL;
}

/* --- the client beside the host --- */

struct live_client {
    struct sim_outside outside;
    natsConnection *nc;     /* owned */
    natsSubscription *came; /* owned */
    natsMsg *shown;         /* owned: what take has returned */
    struct text headers;    /* of it, as a block */
    char url[200];
    int account;
};

/* A client cannot write the first line of headers: a status in it goes as a field, which is read as
 * the same. */
static void add_headers(natsMsg *msg, const struct sim_message *message)
{
    const struct header_block block = {message->headers, message->headers_len, NULL};
    struct headers fields = {0};
    struct header_field field;
    size_t position = 0;
    char status[16];
    snprintf(status, sizeof status, "%d", header_block_status(&block, NULL));
    if (strcmp(status, "0") != 0)
        headers_add_own(&fields, span_of("Status"), span_of(status), NULL);
    while (header_block_next(&block, &position, &field))
        headers_add_received(&fields, field.name, field.value, NULL);
    nats_fields_add(msg, &fields);
    headers_clear(&fields);
}

static void publish(void *owner, const struct sim_message *message)
{
    struct live_client *client = owner;
    natsMsg *msg = NULL;
    if (natsMsg_Create(&msg, message->subject, message->reply, message->data, (int)message->len) !=
        NATS_OK)
        return;
    add_headers(msg, message);
    natsConnection_PublishMsg(client->nc, msg);
    natsMsg_Destroy(msg);
}

/* As the wire has them. */
static void show_headers(struct text *out, natsMsg *msg)
{
    const char **names = NULL;
    int count = 0;
    text_clear(out);
    text_init(out);
    if (natsMsgHeader_Keys(msg, &names, &count) != NATS_OK)
        return;
    text_puts(out, natsMsg_IsNoResponders(msg) ? "NATS/1.0 503\r\n" : "NATS/1.0\r\n");
    for (int i = 0; i < count; i++) {
        const char **values = NULL;
        int value_count = 0;
        if (natsMsgHeader_Values(msg, names[i], &values, &value_count) != NATS_OK)
            continue;
        for (int j = 0; j < value_count; j++)
            text_printf(out, "%s: %s\r\n", names[i], values[j]);
        free((void *)values);
    }
    text_puts(out, "\r\n");
    free((void *)names);
}

static bool take(void *owner, struct sim_message *out)
{
    struct live_client *client = owner;
    session_waits();
    natsMsg_Destroy(client->shown);
    client->shown = NULL;
    if (natsSubscription_NextMsg(&client->shown, client->came, 0) != NATS_OK)
        return false;
    show_headers(&client->headers, client->shown);
    *out = (struct sim_message){.subject = natsMsg_GetSubject(client->shown),
                                .reply = natsMsg_GetReply(client->shown),
                                .data = natsMsg_GetData(client->shown),
                                .len = (size_t)natsMsg_GetDataLength(client->shown),
                                .headers = client->headers.len ? client->headers.bytes : NULL,
                                .headers_len = client->headers.len};
    if (!out->data)
        out->data = "";
    return true;
}

static void flush(void *owner)
{
    natsConnection_FlushTimeout(((struct live_client *)owner)->nc, FLUSH_MS);
}

/* --- its account --- */

/* The answer, the caller's; NULL: none. What else has come is nobody's any more. A server may keep
 * an answer until it writes something else: it is asked for a PONG. */
static cJSON *call(struct live_client *client, const char *operation, const char *body)
{
    static const char inbox[] = "_OUTSIDE.live";
    char subject[400];
    cJSON *answer = NULL;
    snprintf(subject, sizeof subject, "$JS.API.%s", operation);
    natsConnection_PublishRequestString(client->nc, subject, inbox, body);
    for (int waited_ms = 0; !answer && waited_ms < CALL_MS; waited_ms += CALL_LOOK_MS) {
        natsMsg *msg = NULL;
        flush(client);
        natsSubscription_NextMsg(&msg, client->came, CALL_LOOK_MS);
        if (msg && strcmp(natsMsg_GetSubject(msg), inbox) == 0)
            answer =
                cJSON_ParseWithLength(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg));
        natsMsg_Destroy(msg);
    }
    return answer;
}

/* False: something of it may be left. */
static bool empty_account(struct live_client *client)
{
    bool emptied = true;
    cJSON *answer = call(client, "STREAM.NAMES", "");
    const cJSON *names = cJSON_GetObjectItem(answer, "streams"), *name;
    cJSON_ArrayForEach(name, names) {
        char operation[300];
        snprintf(operation, sizeof operation, "STREAM.DELETE.%s", name->valuestring);
        cJSON *deleted = call(client, operation, "");
        emptied = emptied && cJSON_IsTrue(cJSON_GetObjectItem(deleted, "success"));
        cJSON_Delete(deleted);
    }
    emptied = emptied && answer;
    cJSON_Delete(answer);
    return emptied;
}

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus status, void *closure)
{
    (void)nc;
    (void)sub;
    (void)status;
    (void)closure;
}

static natsStatus connect_client(struct live_client *client)
{
    natsOptions *options = NULL;
    natsStatus status = natsOptions_Create(&options);
    if (status == NATS_OK)
        status = natsOptions_SetURL(options, client->url);
    if (status == NATS_OK) /* nats.c's own prints to standard error */
        status = natsOptions_SetErrorHandler(options, on_error, NULL);
    if (status == NATS_OK)
        status = natsConnection_Connect(&client->nc, options);
    if (status == NATS_OK)
        status = natsConnection_SubscribeSync(&client->came, client->nc, "_OUTSIDE.>");
    if (status == NATS_OK)
        status = natsConnection_Flush(client->nc);
    natsOptions_Destroy(options);
    return status;
}

static int free_account(void)
{
    for (int i = 0; i < ACCOUNTS; i++) {
        if (!live.taken[i])
            return i;
    }
    return -1;
}

static void free_client(struct live_client *client)
{
    natsSubscription_Destroy(client->came);
    natsConnection_Destroy(client->nc);
    natsMsg_Destroy(client->shown);
    text_clear(&client->headers);
    free(client);
}

struct live_client *live_open(struct err *err)
{
    sigset_t before;
    int account = free_account();
    if (account < 0) {
        err_set(err, ERR_FULL,
                "more than %d scripts are loaded at a time: with --server there "
                "are no more; close those that are not used, by script:close()",
                ACCOUNTS);
        return NULL;
    }
    struct live_client *client = calloc(1, sizeof *client);
    text_init(&client->headers);
    client->account = account;
    client->outside = (struct sim_outside){
        .url = client->url, .owner = client, .publish = publish, .take = take, .flush = flush};
    snprintf(client->url, sizeof client->url, "nats://a%d:a%d@%s", account, account,
             live.url + strlen("nats://"));
    thread_block_signals(&before); /* nats.c's threads inherit it */
    natsStatus status = connect_client(client);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status == NATS_OK) {
        live.taken[account] = true;
        return client;
    }
    err_set(err, ERR_DISCONNECTED, "cannot connect to the private server: %s", nats_reason(status));
    free_client(client);
    return NULL;
}

const struct sim_outside *live_outside(const struct live_client *client)
{
    return &client->outside;
}

void live_close(struct live_client *client, bool left)
{
    if (!client)
        return;
    live.taken[client->account] = left || !empty_account(client);
    free_client(client);
}

/* --- its server --- */

static void write_accounts(struct text *out)
{
    text_init(out);
    text_puts(out, "accounts {\n");
    for (int i = 0; i < ACCOUNTS; i++)
        text_printf(out, "  A%d { jetstream: enabled, users: [{ user: a%d, password: a%d }] }\n", i,
                    i, i);
    text_puts(out, "}\n");
    text_add(out, "", 1);
}

/* Its exit status. *number: the signal that came, for us or for it; 0: none. */
static int wait_for(pid_t child, struct private_server *server, const sigset_t *signals,
                    int *number)
{
    const struct timespec look = {0, LOOK_NS};
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
        int came = sigtimedwait(signals, NULL, &look);
        if (came > 0) {
            *number = came;
            kill(child, SIGKILL);
            waitpid(child, &status, 0);
            return CLI_FAILED;
        }
        private_server_look(server);
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "moonbus test: the tests were ended by signal %d\n", WTERMSIG(status));
        return CLI_FAILED;
    }
    return WEXITSTATUS(status);
}

int live_run(struct cli *cli, int (*once)(struct cli *cli))
{
    struct private_server server;
    struct text accounts;
    struct err err;
    sigset_t signals, before;
    int status = CLI_FAILED, number = 0;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGHUP);
    sigprocmask(SIG_BLOCK, &signals, &before);
    write_accounts(&accounts);
    int code = private_server_start(&server, "test", cli->nats_server, accounts.bytes, &err);
    text_clear(&accounts);
    if (code) {
        fprintf(stderr, "moonbus test: %s\n", err.message);
    } else {
        live.url = private_server_url(&server); /* for the process that is made now */
        pid_t child = apart_start(cli, once, &before);
        live.url = NULL;
        if (child > 0)
            status = wait_for(child, &server, &signals, &number);
        else
            fprintf(stderr, "moonbus test: no process can be made for the tests\n");
    }
    private_server_stop(&server);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (number) { /* whoever waits for us is told */
        signal(number, SIG_DFL);
        raise(number);
    }
    return status;
}
