/* jetstream - a durable consumer: pulled from with requests of our own that overlap, so that the
 * server always owes messages; everything in the callback. A publish that is to be stored has a
 * reply subject with a token, and its PubAck acknowledges the message that the token stands for.
 *
 * `fetch` is the plain loop that nats.c offers, for comparison. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "baseline/baseline.h"
#include "common/bench.h"

/* Two requests of this many overlap. Measured: docs/PERFORMANCE.md. */
#define BATCH 1000
#define TOKENS 65536 /* a power of two, more than can be under way */

static struct {
    natsConnection *connection;
    const char *stream, *durable, *out;
    char next[256], pull_reply[96], ack_inbox[80];
    int batch;
    long arrived, settled; /* settled: the delivery thread's, as all of this */
    long credit;           /* settled since the last request */
    bool headers, json;
    unsigned token;
    natsMsg *waiting[TOKENS]; /* owned; inputs whose output is not stored yet */
} state;

static const char ACK[] = "+ACK";

static void make_consumer(jsCtx *js)
{
    jsConsumerConfig config;
    jsConsumerConfig_Init(&config);
    config.Durable = state.durable;
    config.AckPolicy = js_AckExplicit;
    config.AckWait = 30LL * 1000000000;
    config.MaxAckPending = 4 * state.batch;
    config.MaxDeliver = -1;
    bench_must(js_AddConsumer(NULL, js, state.stream, &config, NULL, NULL), "consumer");
}

static void open_state(void)
{
    state.stream = bench_text("stream", "IN");
    state.durable = bench_text("durable", "bench");
    state.out = bench_text("out", "bench.js.out");
    state.batch = (int)bench_number("batch", BATCH);
    state.headers = baseline_headers();
    state.json = strcmp(bench_text("json", "no"), "yes") == 0;
    state.connection = bench_connect(false);
}

static void pull(int batch)
{
    char text[64];
    int len = snprintf(text, sizeof text, "{\"batch\":%d,\"expires\":30000000000}", batch);
    natsConnection_PublishRequest(state.connection, state.next, state.pull_reply, text, len);
}

/* One more may be asked for. */
static void release(void)
{
    state.settled++;
    if (++state.credit < state.batch)
        return;
    pull((int)state.credit);
    state.credit = 0;
}

static void acknowledge(natsMsg *msg)
{
    natsConnection_Publish(state.connection, natsMsg_GetReply(msg), ACK, sizeof ACK - 1);
    natsMsg_Destroy(msg);
    release();
}

/* A status (no such message, expired) has no data and no reply to acknowledge to. */
static bool is_status(natsMsg *msg)
{
    const char *reply = natsMsg_GetReply(msg);
    return !reply || !*reply;
}

static void on_consume(natsConnection *connection, natsSubscription *sub, natsMsg *msg,
                       void *closure)
{
    (void)connection, (void)sub, (void)closure;
    if (is_status(msg)) {
        natsMsg_Destroy(msg);
        return;
    }
    acknowledge(msg);
}

char *baseline_json(const char *data, int len, int *out_len)
{
    cJSON *order = cJSON_ParseWithLength(data, (size_t)len);
    if (!order)
        bench_fail("not JSON: %.*s", len, data);
    cJSON_SetNumberValue(cJSON_GetObjectItemCaseSensitive(order, "id"), 4712);
    char *text = cJSON_PrintUnformatted(order);
    cJSON_Delete(order);
    *out_len = (int)strlen(text);
    return text;
}

static void relay(natsMsg *msg, const char *data, int len)
{
    char reply[112], id[96];
    unsigned token = state.token++ % TOKENS;
    if (state.waiting[token])
        bench_fail("more than %d messages are under way", TOKENS);
    state.waiting[token] = msg;
    snprintf(reply, sizeof reply, "%s.%u", state.ack_inbox, token);
    if (!state.headers) {
        natsConnection_PublishRequest(state.connection, state.out, reply, data, len);
        return;
    }
    jsMsgMetaData *meta;
    bench_must(natsMsg_GetMetaData(&meta, msg), "metadata");
    snprintf(id, sizeof id, "%s:%s:%llu", meta->Stream, meta->Consumer,
             (unsigned long long)meta->Sequence.Stream);
    jsMsgMetaData_Destroy(meta);
    baseline_publish(state.connection, state.out, reply, id, data, len);
}

static void on_relay(natsConnection *connection, natsSubscription *sub, natsMsg *msg, void *closure)
{
    (void)connection, (void)sub, (void)closure;
    if (is_status(msg)) {
        natsMsg_Destroy(msg);
        return;
    }
    if (!state.json) {
        relay(msg, natsMsg_GetData(msg), natsMsg_GetDataLength(msg));
        return;
    }
    int len;
    char *text = baseline_json(natsMsg_GetData(msg), natsMsg_GetDataLength(msg), &len);
    relay(msg, text, len);
    free(text);
}

static void on_stored(natsConnection *connection, natsSubscription *sub, natsMsg *msg,
                      void *closure)
{
    (void)connection, (void)sub, (void)closure;
    const char *dot = strrchr(natsMsg_GetSubject(msg), '.');
    unsigned token = (unsigned)strtoul(dot + 1, NULL, 10) % TOKENS;
    if (strncmp(natsMsg_GetData(msg), "{\"stream\":", 10) != 0 || !state.waiting[token])
        bench_fail("not stored: %.*s", natsMsg_GetDataLength(msg), natsMsg_GetData(msg));
    acknowledge(state.waiting[token]);
    state.waiting[token] = NULL;
    natsMsg_Destroy(msg);
}

/* nats.c may run two subscriptions on two threads; with one delivery thread for all, what is above
 * needs no lock. */
static void one_delivery_thread(void)
{
    bench_must(nats_SetMessageDeliveryPoolSize(1), "delivery pool");
}

static void subscribe(natsMsgHandler handler, natsMsgHandler on_ack)
{
    natsSubscription *sub;
    natsInbox *inbox;
    char subject[96];
    jsCtx *js;
    one_delivery_thread();
    open_state();
    bench_must(natsConnection_JetStream(&js, state.connection, NULL), "JetStream");
    make_consumer(js);
    snprintf(state.next, sizeof state.next, "$JS.API.CONSUMER.MSG.NEXT.%s.%s", state.stream,
             state.durable);
    bench_must(natsInbox_Create(&inbox), "inbox");
    snprintf(state.pull_reply, sizeof state.pull_reply, "%s", inbox);
    bench_must(natsConnection_Subscribe(&sub, state.connection, inbox, handler, NULL), "inbox");
    natsSubscription_SetPendingLimits(sub, -1, -1);
    if (on_ack) {
        bench_must(natsInbox_Create(&inbox), "inbox");
        snprintf(state.ack_inbox, sizeof state.ack_inbox, "%s", inbox);
        snprintf(subject, sizeof subject, "%s.*", inbox);
        bench_must(natsConnection_Subscribe(&sub, state.connection, subject, on_ack, NULL),
                   "inbox");
        natsSubscription_SetPendingLimits(sub, -1, -1);
    }
    pull(state.batch);
    pull(state.batch);
    bench_must(natsConnection_Flush(state.connection), "flush");
    baseline_ready();
}

/* --url --stream --durable --batch N */
void baseline_consume(void)
{
    subscribe(on_consume, NULL);
}

/* --url --stream --durable --out SUBJECT --batch N --headers --json */
void baseline_relay(void)
{
    subscribe(on_relay, on_stored);
}

/* --url --stream --durable --batch N: the loop of nats.c's own */
void baseline_fetch(void)
{
    natsSubscription *sub;
    jsSubOptions options;
    jsCtx *js;
    open_state();
    bench_must(natsConnection_JetStream(&js, state.connection, NULL), "JetStream");
    make_consumer(js);
    jsSubOptions_Init(&options);
    options.Stream = state.stream;
    bench_must(js_PullSubscribe(&sub, js, bench_text("in", "bench.js.in"), state.durable, NULL,
                                &options, NULL),
               "pull");
    baseline_ready();
    for (;;) {
        natsMsgList list;
        natsStatus status = natsSubscription_Fetch(&list, sub, state.batch, 1000, NULL);
        if (status == NATS_TIMEOUT)
            continue;
        bench_must(status, "fetch");
        for (int i = 0; i < list.Count; i++)
            natsMsg_Ack(list.Msgs[i], NULL);
        natsMsgList_Destroy(&list);
    }
}
