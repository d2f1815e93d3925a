/* pace - so many messages in a second, whether they are answered or not. The program under test
 * answers each with how late it was when its handler began.
 *
 * --url --send SUBJECT --back SUBJECT --size BYTES --per-second N --warm-ms N --ms N
 *
 * A message is the time at which it is sent, in seconds, and spaces. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bench.h"
#include "load/load.h"

#define GIVE_UP_NS 5000000000LL

/* Guarded by the lock: arrivals come on nats.c's delivery thread. */
static struct {
    pthread_mutex_t lock;
    bool counting; /* the warm-up is over */
    int64_t *late_ns;
    size_t count, room;
    int64_t last_ns, gap_ns; /* the last arrival, and the longest time without one */
    int64_t arrived;
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_back(natsConnection *connection, natsSubscription *sub, natsMsg *msg, void *closure)
{
    (void)connection, (void)sub, (void)closure;
    int64_t now_ns = bench_now_ns();
    double late_s = strtod(natsMsg_GetData(msg), NULL);
    natsMsg_Destroy(msg);
    pthread_mutex_lock(&seen.lock);
    seen.arrived++;
    if (seen.counting && seen.count < seen.room)
        seen.late_ns[seen.count++] = (int64_t)(late_s * 1e9);
    if (seen.counting && seen.last_ns && now_ns - seen.last_ns > seen.gap_ns)
        seen.gap_ns = now_ns - seen.last_ns;
    seen.last_ns = now_ns;
    pthread_mutex_unlock(&seen.lock);
}

static int64_t arrived(void)
{
    pthread_mutex_lock(&seen.lock);
    int64_t count = seen.arrived;
    pthread_mutex_unlock(&seen.lock);
    return count;
}

int load_pace(void)
{
    natsConnection *connection = bench_connect(true);
    natsSubscription *sub;
    const char *subject = bench_text("send", "bench.in");
    size_t size = (size_t)bench_number("size", 128);
    long per_second = bench_number("per-second", 1000);
    long warm = bench_number("warm-ms", 500) * per_second / 1000;
    long count = warm + bench_number("ms", 2000) * per_second / 1000;
    seen.room = (size_t)count;
    seen.late_ns = malloc(seen.room * sizeof *seen.late_ns);
    bench_must(
        natsConnection_Subscribe(&sub, connection, bench_text("back", "bench.out"), on_back, NULL),
        "subscribe");
    bench_must(natsConnection_Flush(connection), "flush");
    char *payload = malloc(size + 64);
    int64_t began_ns = bench_now_ns();
    for (long i = 0; i < count; i++) {
        bench_sleep_until_ns(began_ns + i * 1000000000 / per_second);
        if (i == warm) {
            pthread_mutex_lock(&seen.lock);
            seen.counting = true;
            pthread_mutex_unlock(&seen.lock);
        }
        memset(payload, ' ', size);
        payload[snprintf(payload, size, "%.9f", bench_wall_s())] = ' ';
        bench_must(natsConnection_Publish(connection, subject, payload, (int)size), subject);
    }
    int64_t until_ns = bench_now_ns() + GIVE_UP_NS;
    while (arrived() < count && bench_now_ns() < until_ns)
        bench_sleep_until_ns(bench_now_ns() + 1000000);
    pthread_mutex_lock(&seen.lock);
    bench_sort(seen.late_ns, seen.count);
    printf("{\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"gap_ms\":%.2f,\"sent\":%ld,"
           "\"arrived\":%lld}\n",
           (double)bench_percentile(seen.late_ns, seen.count, 0.5) / 1e3,
           (double)bench_percentile(seen.late_ns, seen.count, 0.99) / 1e3,
           (double)bench_percentile(seen.late_ns, seen.count, 0.999) / 1e3,
           (double)seen.gap_ns / 1e6, count, (long long)seen.arrived);
    fflush(stdout);
    _exit(0); /* see request.c */
}
