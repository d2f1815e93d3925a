/* bench - what the load generator and the bare C program share: arguments, time, connections, the
 * payloads. Both are small programs: what goes wrong ends them, with a sentence and status 1.
 *
 * Times are of CLOCK_MONOTONIC, which is one clock for all processes of a machine. */
#ifndef MOONBUS_BENCH_H
#define MOONBUS_BENCH_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The command line is MODE and then pairs: --name value. */
void bench_arguments(int argc, char **argv);
const char *bench_text(const char *name, const char *otherwise);
long bench_number(const char *name, long otherwise);

/* Prints the sentence to standard error and ends the process. */
_Noreturn void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void bench_must(natsStatus status, const char *what);

int64_t bench_now_ns(void);
double bench_wall_s(void); /* seconds of CLOCK_REALTIME, as bus.now() gives them */
void bench_sleep_until_ns(int64_t when_ns);
/* Processor time of this process, user and system. */
int64_t bench_cpu_ns(void);

/* To --url. send_asap: each publish goes to the socket by itself, instead of with the next flush.
 * --delivery-threads N: so many for all subscriptions; else each has one of its own. */
natsConnection *bench_connect(bool send_asap);

/* Sorts the values; then the one below which the given share of them lies. */
void bench_sort(int64_t *values, size_t count);
int64_t bench_percentile(const int64_t *sorted, size_t count, double share);

/* A payload of exactly so many bytes: letters, or with --json yes an order with a list of items.
 * Owned by the caller. */
char *bench_payload(size_t size);

#endif
