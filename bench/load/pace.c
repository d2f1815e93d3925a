/* pace - so many messages in a second, whether they are answered or not. The program under test
 * answers each with how late it was when its handler began.
 *
 * --url --send SUBJECT --back SUBJECT --size BYTES --per-second N --warm-ms N --ms N
 * --slot-ms N: tells also how late the latest answer of each so long slot was, from `began_s` on
 *
 * A message is the time at which it was due, in seconds, and spaces: not the time at which it was
 * sent. When the program or the machine stands still, and sending with it, those count as late that
 * would have come meanwhile. `behind_us` tells how late the messages were when they were sent. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bench.h"
#include "common/histogram.h"
#include "load/load.h"

#define GIVE_UP_NS 5000000000LL
#define MOST_SLOTS 4096

/* Guarded by the lock: arrivals come on nats.c's delivery thread. */
static struct {
    pthread_mutex_t lock;
    int64_t warm; /* so many do not count */
    int64_t arrived;
    struct histogram late;
    int64_t began_ns, slot_ns;
    int64_t slots_ns[MOST_SLOTS]; /* the latest of those that came in it */
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_back(natsConnection *connection, natsSubscription *sub, natsMsg *msg, void *closure)
{
    (void)connection, (void)sub, (void)closure;
    int64_t now_ns = bench_now_ns();
    int64_t late_ns = (int64_t)(strtod(natsMsg_GetData(msg), NULL) * 1e9);
    natsMsg_Destroy(msg);
    pthread_mutex_lock(&seen.lock);
    if (seen.arrived++ >= seen.warm)
        histogram_add(&seen.late, late_ns);
    int64_t slot = seen.slot_ns ? (now_ns - seen.began_ns) / seen.slot_ns : MOST_SLOTS;
    if (slot < MOST_SLOTS && late_ns > seen.slots_ns[slot])
        seen.slots_ns[slot] = late_ns;
    pthread_mutex_unlock(&seen.lock);
}

static int64_t arrived(void)
{
    pthread_mutex_lock(&seen.lock);
    int64_t count = seen.arrived;
    pthread_mutex_unlock(&seen.lock);
    return count;
}

static double percentile_us(const struct histogram *histogram, double share)
{
    return (double)histogram_percentile(histogram, share) / 1e3;
}

/* "slots_us" of all that have begun. */
static void print_slots(void)
{
    if (!seen.slot_ns)
        return;
    int64_t count = (bench_now_ns() - seen.began_ns) / seen.slot_ns + 1;
    printf("\"began_s\":%.6f,\"slots_us\":[", (double)seen.began_ns / 1e9);
    for (int64_t i = 0; i < count && i < MOST_SLOTS; i++)
        printf("%s%.1f", i ? "," : "", (double)seen.slots_ns[i] / 1e3);
    printf("],");
}

static void print(const struct histogram *behind, long sent)
{
    pthread_mutex_lock(&seen.lock);
    printf("{");
    print_slots();
    printf("\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,\"behind_us\":%.1f,"
           "\"sent\":%ld,\"arrived\":%lld}\n",
           percentile_us(&seen.late, 0.5), percentile_us(&seen.late, 0.99),
           percentile_us(&seen.late, 0.999), (double)seen.late.max_ns / 1e3,
           percentile_us(behind, 0.99), sent, (long long)seen.arrived);
    fflush(stdout);
    _exit(0); /* see request.c */
}

int load_pace(void)
{
    static struct histogram behind;
    natsConnection *connection = bench_connect(true);
    natsSubscription *sub;
    const char *subject = bench_text("send", "bench.in");
    size_t size = (size_t)bench_number("size", 128);
    long per_second = bench_number("per-second", 1000);
    seen.warm = bench_number("warm-ms", 500) * per_second / 1000;
    long count = seen.warm + bench_number("ms", 2000) * per_second / 1000;
    bench_must(
        natsConnection_Subscribe(&sub, connection, bench_text("back", "bench.out"), on_back, NULL),
        "subscribe");
    bench_must(natsConnection_Flush(connection), "flush");
    char *payload = malloc(size + 64);
    memset(payload, ' ', size);
    int64_t began_ns = bench_now_ns();
    seen.slot_ns = bench_number("slot-ms", 0) * 1000000;
    seen.began_ns = began_ns;
    double began_s = bench_wall_s();
    for (long i = 0; i < count; i++) {
        int64_t due_ns = i * 1000000000 / per_second;
        bench_sleep_until_ns(began_ns + due_ns);
        histogram_add(&behind, bench_now_ns() - began_ns - due_ns);
        payload[snprintf(payload, size, "%.9f", began_s + (double)due_ns / 1e9)] = ' ';
        bench_must(natsConnection_Publish(connection, subject, payload, (int)size), subject);
    }
    int64_t until_ns = bench_now_ns() + GIVE_UP_NS;
    while (arrived() < count && bench_now_ns() < until_ns)
        bench_sleep_until_ns(bench_now_ns() + 1000000);
    print(&behind, count);
    return 0;
}
