/* request - round trips with nats.c, each request written at once (SendAsap).
 *
 * --url --subject --size --in-flight N --warm-ms N --ms N
 *
 * One under way is natsConnection_Request, as a program that waits for its reply would do it.
 * Several are an inbox with one token each; a reply sends that token's next request. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/bench.h"
#include "load/load.h"

#define MOST_SAMPLES 4000000
#define MOST_IN_FLIGHT 4096

static struct {
    natsConnection *connection;
    const char *subject;
    char *payload;
    int size;
    char inbox[64];
    int64_t began_ns[MOST_IN_FLIGHT]; /* of a token's request */
    int64_t from_ns, until_ns;        /* only what begins in between is counted */
    int64_t *samples;
    size_t count;
    int64_t failed;
    int64_t answered; /* all of them, those of the warm-up, too */
    int open;         /* tokens that wait for a reply */
    pthread_mutex_t lock;
    pthread_cond_t ended;
} run = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};

static void sample(int64_t began_ns, int64_t now_ns)
{
    run.answered++;
    if (began_ns >= run.from_ns && began_ns < run.until_ns && run.count < MOST_SAMPLES)
        run.samples[run.count++] = now_ns - began_ns;
}

static void one_by_one(void)
{
    int64_t now_ns;
    while ((now_ns = bench_now_ns()) < run.until_ns) {
        natsMsg *reply;
        natsStatus status = natsConnection_Request(&reply, run.connection, run.subject, run.payload,
                                                   run.size, 2000);
        if (status != NATS_OK) {
            run.failed++;
            continue;
        }
        natsMsg_Destroy(reply);
        sample(now_ns, bench_now_ns());
    }
}

static void ask(int token)
{
    char reply[96];
    snprintf(reply, sizeof reply, "%s.%d", run.inbox, token);
    run.began_ns[token] = bench_now_ns();
    natsConnection_PublishRequest(run.connection, run.subject, reply, run.payload, run.size);
}

static void on_reply(natsConnection *connection, natsSubscription *sub, natsMsg *msg, void *closure)
{
    (void)connection, (void)sub, (void)closure;
    const char *subject = natsMsg_GetSubject(msg), *dot = subject;
    for (const char *at = subject; *at; at++) {
        if (*at == '.')
            dot = at;
    }
    int token = atoi(dot + 1);
    int64_t now_ns = bench_now_ns();
    if (natsMsg_IsNoResponders(msg))
        run.failed++;
    else
        sample(run.began_ns[token], now_ns);
    natsMsg_Destroy(msg);
    if (now_ns < run.until_ns) {
        ask(token);
        return;
    }
    pthread_mutex_lock(&run.lock);
    if (--run.open == 0)
        pthread_cond_signal(&run.ended);
    pthread_mutex_unlock(&run.lock);
}

static void several(int in_flight)
{
    natsInbox *inbox;
    natsSubscription *sub;
    char subject[96];
    bench_must(natsInbox_Create(&inbox), "inbox");
    snprintf(run.inbox, sizeof run.inbox, "%s", inbox);
    snprintf(subject, sizeof subject, "%s.*", inbox);
    bench_must(natsConnection_Subscribe(&sub, run.connection, subject, on_reply, NULL), subject);
    bench_must(natsConnection_Flush(run.connection), "flush");
    run.open = in_flight;
    for (int token = 0; token < in_flight; token++)
        ask(token);
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += (run.until_ns - bench_now_ns()) / 1000000000 + 5;
    pthread_mutex_lock(&run.lock);
    while (run.open > 0 && pthread_cond_timedwait(&run.ended, &run.lock, &limit) == 0) {
    }
    run.failed += run.open;
    pthread_mutex_unlock(&run.lock);
}

int load_request(void)
{
    int in_flight = (int)bench_number("in-flight", 1);
    if (in_flight < 1 || in_flight > MOST_IN_FLIGHT)
        bench_fail("--in-flight is %d: 1 to %d", in_flight, MOST_IN_FLIGHT);
    run.connection = bench_connect(true);
    run.subject = bench_text("subject", "bench.in");
    run.size = (int)bench_number("size", 128);
    run.payload = bench_payload((size_t)run.size);
    run.samples = malloc(MOST_SAMPLES * sizeof *run.samples);
    long ms = bench_number("ms", 2000);
    run.from_ns = bench_now_ns() + bench_number("warm-ms", 500) * 1000000;
    run.until_ns = run.from_ns + ms * 1000000;
    if (in_flight == 1)
        one_by_one();
    else
        several(in_flight);
    bench_sort(run.samples, run.count);
    printf("{\"rate\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"arrived\":%zu,\"failed\":%lld,"
           "\"sent\":%lld}\n",
           (double)run.count * 1e3 / (double)ms,
           (double)bench_percentile(run.samples, run.count, 0.5) / 1e3,
           (double)bench_percentile(run.samples, run.count, 0.99) / 1e3, run.count,
           (long long)run.failed, (long long)run.answered);
    fflush(stdout);
    _exit(0); /* nats.c's threads may still be at work with what would be freed */
}
