#include "common/bench.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000LL

static int argument_count;
static char **arguments;

void bench_arguments(int argc, char **argv)
{
    argument_count = argc;
    arguments = argv;
    if (argc < 2 || argc % 2)
        bench_fail("usage: %s MODE [--name value]...", argv[0]);
}

const char *bench_text(const char *name, const char *otherwise)
{
    for (int i = 2; i + 1 < argument_count; i += 2) {
        if (strncmp(arguments[i], "--", 2) == 0 && strcmp(arguments[i] + 2, name) == 0)
            return arguments[i + 1];
    }
    return otherwise;
}

long bench_number(const char *name, long otherwise)
{
    const char *text = bench_text(name, NULL);
    if (!text)
        return otherwise;
    char *end;
    long value = strtol(text, &end, 10);
    if (end == text || *end)
        bench_fail("--%s is \"%s\": a number is wanted", name, text);
    return value;
}

void bench_fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    exit(1);
}

void bench_must(natsStatus status, const char *what)
{
    if (status != NATS_OK) {
        const char *detail = nats_GetLastError(NULL);
        bench_fail("%s: %s (%s)", what, natsStatus_GetText(status), detail ? detail : "");
    }
}

static int64_t read_clock(clockid_t which)
{
    struct timespec now;
    clock_gettime(which, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t bench_now_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

double bench_wall_s(void)
{
    return (double)read_clock(CLOCK_REALTIME) / 1e9;
}

int64_t bench_cpu_ns(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

void bench_sleep_until_ns(int64_t when_ns)
{
    struct timespec when = {.tv_sec = when_ns / NS_PER_S, .tv_nsec = when_ns % NS_PER_S};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL) == EINTR) {
    }
}

natsConnection *bench_connect(bool send_asap)
{
    natsOptions *options;
    natsConnection *connection;
    bench_must(natsOptions_Create(&options), "options");
    bench_must(natsOptions_SetURL(options, bench_text("url", "nats://127.0.0.1:4222")), "--url");
    bench_must(natsOptions_SetSendAsap(options, send_asap), "options");
    long threads = bench_number("delivery-threads", 0);
    if (threads > 0) {
        bench_must(nats_SetMessageDeliveryPoolSize((int)threads), "--delivery-threads");
        bench_must(natsOptions_UseGlobalMessageDelivery(options, true), "--delivery-threads");
    }
    bench_must(natsConnection_Connect(&connection, options), "connect");
    natsOptions_Destroy(options);
    return connection;
}

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return a < b ? -1 : a > b;
}

void bench_sort(int64_t *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
}

int64_t bench_percentile(const int64_t *sorted, size_t count, double share)
{
    if (count == 0)
        return 0;
    size_t index = (size_t)((double)count * share);
    return sorted[index < count ? index : count - 1];
}

static char *make_json(size_t size)
{
    char *text = malloc(size + 256);
    size_t len =
        (size_t)sprintf(text, "{\"id\":4711,\"customer\":\"ada\",\"total\":12.5,\"items\":[");
    const char *item = "{\"sku\":\"a-100\",\"count\":3,\"price\":2.75},";
    while (len + strlen(item) + 16 < size)
        len += (size_t)sprintf(text + len, "%s", item);
    if (text[len - 1] == ',')
        len--;
    len += (size_t)sprintf(text + len, "],\"note\":\"");
    if (len + 2 > size)
        bench_fail("--size %zu is too small for JSON: at least %zu", size, len + 2);
    memset(text + len, 'n', size - len - 2);
    memcpy(text + size - 2, "\"}", 3);
    return text;
}

char *bench_payload(size_t size)
{
    if (strcmp(bench_text("json", "no"), "yes") == 0)
        return make_json(size);
    char *text = malloc(size + 1);
    memset(text, 'x', size);
    text[size] = '\0';
    return text;
}
