/* core - core NATS: everything is done in the callback, on nats.c's delivery thread. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "baseline/baseline.h"
#include "common/bench.h"

static const char *out;
static long per_mark;
static _Atomic long received;

void baseline_publish(natsConnection *connection, const char *subject, const char *reply,
                      const char *type, const char *id, const char *data, int len)
{
    natsMsg *msg;
    bench_must(natsMsg_Create(&msg, subject, reply, data, len), subject);
    if (type)
        natsMsgHeader_Set(msg, "content-type", type);
    if (id)
        natsMsgHeader_Set(msg, "Nats-Msg-Id", id);
    bench_must(natsConnection_PublishMsg(connection, msg), subject);
    natsMsg_Destroy(msg);
}

static void send(natsConnection *connection, const char *subject, natsMsg *msg)
{
    natsConnection_Publish(connection, subject, natsMsg_GetData(msg), natsMsg_GetDataLength(msg));
}

static void on_echo(natsConnection *connection, natsSubscription *sub, natsMsg *msg, void *closure)
{
    (void)sub, (void)closure;
    send(connection, out, msg);
    natsMsg_Destroy(msg);
}

static void on_echo_headers(natsConnection *connection, natsSubscription *sub, natsMsg *msg,
                            void *closure)
{
    (void)sub, (void)closure;
    baseline_publish(connection, out, NULL, "text/plain", NULL, natsMsg_GetData(msg),
                     natsMsg_GetDataLength(msg));
    natsMsg_Destroy(msg);
}

static void on_request(natsConnection *connection, natsSubscription *sub, natsMsg *msg,
                       void *closure)
{
    (void)sub, (void)closure;
    send(connection, natsMsg_GetReply(msg), msg);
    natsMsg_Destroy(msg);
}

/* Counts bytes, so that the payload is looked at. */
static void on_message(natsConnection *connection, natsSubscription *sub, natsMsg *msg,
                       void *closure)
{
    (void)sub, (void)closure;
    static long bytes;
    bytes += natsMsg_GetDataLength(msg);
    long count = atomic_fetch_add_explicit(&received, 1, memory_order_relaxed) + 1;
    if (count % per_mark == 0)
        send(connection, out, msg);
    natsMsg_Destroy(msg);
}

/* Answers with how late the message is. */
static void on_paced(natsConnection *connection, natsSubscription *sub, natsMsg *msg, void *closure)
{
    (void)sub, (void)closure;
    char text[32];
    double late_s = bench_wall_s() - strtod(natsMsg_GetData(msg), NULL);
    int len = snprintf(text, sizeof text, "%.9f", late_s);
    natsConnection_Publish(connection, out, text, len);
    natsMsg_Destroy(msg);
}

/* "bench.count": how many messages were received. */
static void on_count(natsConnection *connection, natsSubscription *sub, natsMsg *msg, void *closure)
{
    (void)sub, (void)closure;
    char text[24];
    int len = snprintf(text, sizeof text, "%ld", atomic_load(&received));
    natsConnection_Publish(connection, natsMsg_GetReply(msg), text, len);
    natsMsg_Destroy(msg);
}

/* To --in; with --subjects N to as many: "bench.in.00000" and so on. */
static void subscribe(natsConnection *connection, natsMsgHandler handler)
{
    const char *in = bench_text("in", "bench.in");
    long subjects = bench_number("subjects", 1);
    for (long i = 0; i < subjects; i++) {
        natsSubscription *sub;
        char one[128];
        snprintf(one, sizeof one, subjects > 1 ? "%s.%05ld" : "%s", in, i);
        bench_must(natsConnection_Subscribe(&sub, connection, one, handler, NULL), one);
        natsSubscription_SetPendingLimits(sub, -1, -1);
    }
}

static void serve(natsMsgHandler handler, bool send_asap)
{
    natsSubscription *sub;
    out = bench_text("out", "bench.out");
    per_mark = bench_number("per-mark", 1);
    natsConnection *connection = bench_connect(send_asap);
    subscribe(connection, handler);
    bench_must(natsConnection_Subscribe(&sub, connection, "bench.count", on_count, NULL),
               "subscribe");
    bench_must(natsConnection_Flush(connection), "flush");
    baseline_ready();
}

/* --url --in --out --subjects N --delivery-threads N --headers yes|no: with a content-type */
void baseline_echo(void)
{
    serve(baseline_headers() ? on_echo_headers : on_echo, false);
}

/* --url --in --out --per-mark N: for every N messages one is sent */
void baseline_receive(void)
{
    serve(on_message, false);
}

/* --url --in --send-asap yes|no */
void baseline_respond(void)
{
    serve(on_request, strcmp(bench_text("send-asap", "yes"), "yes") == 0);
}

static _Atomic unsigned long spins;

static void *spin(void *arg)
{
    (void)arg;
    for (;;)
        atomic_fetch_add_explicit(&spins, 1, memory_order_relaxed);
    return NULL;
}

/* --url --in --out --burn yes|no: a thread beside that does nothing but compute */
void baseline_latency(void)
{
    pthread_t thread;
    serve(on_paced, true);
    if (strcmp(bench_text("burn", "no"), "yes") == 0)
        pthread_create(&thread, NULL, spin, NULL);
}
