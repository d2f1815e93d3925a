/* jetstream - a durable consumer: pulled from with requests of our own that overlap, so that the
 * server always owes messages; everything in the callback. A publish that is to be stored has a
 * reply subject with a token, and its PubAck acknowledges the message that the token stands for.
 *
 * `fetch` is the plain loop that nats.c offers, for comparison. */
#include <cjson/cJSON.h>
#include <pthread.h>
#include <stdatomic.h>
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
    long settled, credit; /* of the thread that settles; credit: since the last request */
    int64_t ack_wait_ns;
    bool headers, json;
    unsigned token;
    /* Owned; inputs whose output is not stored yet. One thread puts them here, the one of the
     * PubAcks takes them out: nats.c has a thread for each subscription, which is faster than one
     * for both. */
    natsMsg *_Atomic waiting[TOKENS];
} state;

#define SLICES 100

/* Of `hold`: messages without a verdict. */
static struct {
    pthread_mutex_t lock;
    natsMsg *list[TOKENS]; /* owned */
    size_t count;
} held = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const char ACK[] = "+ACK";

static void make_consumer(jsCtx *js)
{
    jsConsumerConfig config;
    jsConsumerConfig_Init(&config);
    config.Durable = state.durable;
    config.AckPolicy = js_AckExplicit;
    config.AckWait = state.ack_wait_ns;
    config.MaxAckPending = 4LL * state.batch;
    config.MaxDeliver = -1;
    config.FilterSubject = bench_text("filter", NULL);
    bench_must(js_AddConsumer(NULL, js, state.stream, &config, NULL, NULL), "consumer");
}

static void open_state(void)
{
    state.stream = bench_text("stream", "IN");
    state.durable = bench_text("durable", "bench");
    state.out = bench_text("out", "bench.js.out");
    state.batch = (int)bench_number("batch", BATCH);
    state.ack_wait_ns = bench_number("ack-wait-ms", 30000) * 1000000;
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

/* An order decoded, changed and encoded: owned by the caller, with its length. */
static char *next_order(const char *data, int len, int *out_len)
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
    /* $JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<...>: what is here once per
     * input. By hand, as natsMsg_GetMetaData allocates. */
    const char *sequence = natsMsg_GetReply(msg) + strlen("$JS.ACK.");
    sequence += strlen(state.stream) + 1 + strlen(state.durable) + 1;
    sequence = strchr(sequence, '.') + 1;
    snprintf(id, sizeof id, "%s:%s:%.*s", state.stream, state.durable, (int)strcspn(sequence, "."),
             sequence);
    baseline_publish(state.connection, state.out, reply, state.json ? "application/json" : NULL, id,
                     data, len);
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
    char *text = next_order(natsMsg_GetData(msg), natsMsg_GetDataLength(msg), &len);
    relay(msg, text, len);
    free(text);
}

static void on_stored(natsConnection *connection, natsSubscription *sub, natsMsg *msg,
                      void *closure)
{
    (void)connection, (void)sub, (void)closure;
    const char *dot = strrchr(natsMsg_GetSubject(msg), '.');
    unsigned token = (unsigned)strtoul(dot + 1, NULL, 10) % TOKENS;
    natsMsg *input = atomic_exchange(&state.waiting[token], NULL);
    if (strncmp(natsMsg_GetData(msg), "{\"stream\":", 10) != 0 || !input)
        bench_fail("not stored: %.*s", natsMsg_GetDataLength(msg), natsMsg_GetData(msg));
    acknowledge(input);
    natsMsg_Destroy(msg);
}

static void on_hold(natsConnection *connection, natsSubscription *sub, natsMsg *msg, void *closure)
{
    (void)connection, (void)sub, (void)closure;
    if (is_status(msg)) {
        natsMsg_Destroy(msg);
        return;
    }
    pthread_mutex_lock(&held.lock);
    if (held.count == TOKENS)
        bench_fail("more than %d messages are held", TOKENS);
    held.list[held.count++] = msg;
    pthread_mutex_unlock(&held.lock);
}

/* Says for each message that it is worked on, three times in an ack_wait, evenly spread. */
static void *keep(void *arg)
{
    (void)arg;
    int64_t round_ns = state.ack_wait_ns / 3, began_ns = bench_now_ns();
    for (size_t slice = 1;; slice++) {
        bench_sleep_until_ns(began_ns + (int64_t)slice * round_ns / SLICES);
        pthread_mutex_lock(&held.lock);
        for (size_t i = slice % SLICES; i < held.count; i += SLICES)
            natsConnection_PublishString(state.connection, natsMsg_GetReply(held.list[i]), "+WPI");
        pthread_mutex_unlock(&held.lock);
    }
    return NULL;
}

static void subscribe(natsMsgHandler handler, natsMsgHandler on_ack)
{
    natsSubscription *sub;
    natsInbox *inbox;
    char subject[96];
    jsCtx *js;
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

/* --url --stream --durable --batch N --filter SUBJECT */
void baseline_consume(void)
{
    subscribe(on_consume, NULL);
}

/* --url --stream --durable --out SUBJECT --batch N --headers --json */
void baseline_relay(void)
{
    subscribe(on_relay, on_stored);
}

/* --url --stream --durable --batch N --ack-wait-ms N: takes two batches, and holds them */
void baseline_hold(void)
{
    pthread_t thread;
    subscribe(on_hold, NULL);
    pthread_create(&thread, NULL, keep, NULL);
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
