/* stream - messages into a stream, and how a durable consumer gets on with them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bench.h"
#include "load/load.h"

#define MOST_UNDER_WAY 4096
#define POLL_NS 4000000
#define GIVE_UP_NS 15000000000LL

struct filling {
    const char *subject;
    long of;
    bool numbered;
    char text[256];
};

static const char *subject_of(struct filling *filling, long number)
{
    if (number % filling->of != 0)
        return "bench.js.other";
    if (!filling->numbered)
        return filling->subject;
    snprintf(filling->text, sizeof filling->text, "%s%ld", filling->subject, number);
    return filling->text;
}

/* --url --subject --count N --size BYTES --of N: of so many messages one goes to the subject, the
 * others to "bench.js.other"; --numbered yes: the subject ends with the number of the message */
int load_fill(void)
{
    natsConnection *connection = bench_connect(false);
    jsOptions options;
    jsCtx *js;
    jsOptions_Init(&options);
    options.PublishAsync.MaxPending = MOST_UNDER_WAY;
    options.PublishAsync.StallWait = GIVE_UP_NS / 1000000;
    bench_must(natsConnection_JetStream(&js, connection, &options), "JetStream");
    struct filling filling = {.subject = bench_text("subject", "bench.js.in"),
                              .of = bench_number("of", 1),
                              .numbered = bench_text("numbered", NULL) != NULL};
    long count = bench_number("count", 1000);
    int size = (int)bench_number("size", 128);
    char *payload = bench_payload((size_t)size);
    int64_t began_ns = bench_now_ns();
    for (long i = 0; i < count; i++)
        bench_must(js_PublishAsync(js, subject_of(&filling, i), payload, size, NULL), "publish");
    bench_must(js_PublishAsyncComplete(js, NULL), "the last PubAcks");
    printf("{\"rate\":%.0f,\"sent\":%ld}\n",
           (double)count * 1e9 / (double)(bench_now_ns() - began_ns), count);
    fflush(stdout);
    _exit(0); /* see request.c */
}

struct progress {
    int64_t at_ns;
    int64_t settled, delivered;
    bool complete;
};

/* Asks the server. False: there is no such consumer yet. */
static bool look(jsCtx *js, const char *stream, const char *durable, struct progress *progress)
{
    jsConsumerInfo *info = NULL;
    int64_t before_ns = bench_now_ns();
    if (js_GetConsumerInfo(&info, js, stream, durable, NULL, NULL) != NATS_OK)
        return false;
    progress->at_ns = before_ns + (bench_now_ns() - before_ns) / 2;
    progress->delivered = (int64_t)info->Delivered.Consumer;
    progress->settled = progress->delivered - info->NumAckPending;
    progress->complete = info->NumPending == 0 && info->NumAckPending == 0;
    jsConsumerInfo_Destroy(info);
    return true;
}

/* --url --stream --durable --count N
 *
 * The rate is the server's own count, from a tenth of the messages to the last. */
int load_watch(void)
{
    natsConnection *connection = bench_connect(true);
    jsCtx *js;
    bench_must(natsConnection_JetStream(&js, connection, NULL), "JetStream");
    const char *stream = bench_text("stream", "IN"), *durable = bench_text("durable", "bench");
    int64_t count = bench_number("count", 1000);
    int64_t began_ns = bench_now_ns();
    struct progress first = {0}, now = {0}, moved = {.at_ns = began_ns};
    puts("ready");
    fflush(stdout);
    while (!(now.complete && now.settled >= count)) {
        bench_sleep_until_ns(bench_now_ns() + POLL_NS);
        if (look(js, stream, durable, &now)) {
            if (now.settled != moved.settled)
                moved = now;
            if (!first.at_ns && now.settled >= count / 10)
                first = now;
        }
        if (bench_now_ns() - moved.at_ns > GIVE_UP_NS)
            bench_fail("%s/%s stands still: %lld of %lld settled", stream, durable,
                       (long long)now.settled, (long long)count);
    }
    if (first.at_ns == now.at_ns) /* so few that all were settled between two looks */
        first = (struct progress){.at_ns = began_ns};
    printf("{\"rate\":%.0f,\"arrived\":%lld,\"delivered\":%lld}\n",
           (double)(now.settled - first.settled) * 1e9 / (double)(now.at_ns - first.at_ns),
           (long long)now.settled, (long long)now.delivered);
    fflush(stdout);
    _exit(0); /* see request.c */
}
