/* stat - numbers that only count up, and histograms of durations: how much of something there was,
 * for whoever looks at the host.
 *
 * Counting costs a load and a store: no lock, no locked instruction. So each number has one writer
 * at a time: the one thread that owns it, or whoever holds the lock, or the instance, that it goes
 * with. What has several writers at a time is counted by stat_add_shared. Any thread reads, at any
 * time: each number is right as of a moment ago; two of them need not be of the same moment. */
#ifndef MOONBUS_BASE_STAT_H
#define MOONBUS_BASE_STAT_H

#include <stdatomic.h>
#include <stdint.h>

struct stat_counter {
    atomic_uint_least64_t value;
};

/* The one writer. */
static inline void stat_add(struct stat_counter *counter, uint64_t n)
{
    uint64_t value = atomic_load_explicit(&counter->value, memory_order_relaxed);
    atomic_store_explicit(&counter->value, value + n, memory_order_relaxed);
}

/* Any of several writers. */
static inline void stat_add_shared(struct stat_counter *counter, uint64_t n)
{
    atomic_fetch_add_explicit(&counter->value, n, memory_order_relaxed);
}

static inline uint64_t stat_get(const struct stat_counter *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

/* All histograms have the same buckets: handlers take microseconds or minutes, and who adds two of
 * them up, or draws them beside each other, must be able to. */
enum { STAT_BOUNDS = 19, STAT_BUCKETS = STAT_BOUNDS + 1 };

/* The upper bound of each bucket, which belongs to it; the last bucket has none. */
extern const uint64_t stat_bounds_ns[STAT_BOUNDS];

struct stat_histogram {
    struct stat_counter buckets[STAT_BUCKETS]; /* by bucket: not added up */
    struct stat_counter sum_ns;
};

/* The one writer. */
void stat_observe(struct stat_histogram *histogram, uint64_t ns);

/* A copy of a histogram, or of several added up. All zero: of none. */
struct stat_sum {
    uint64_t buckets[STAT_BUCKETS];
    uint64_t sum_ns;
};

/* Any thread. */
void stat_sum_histogram(struct stat_sum *sum, const struct stat_histogram *histogram);
void stat_sum_sum(struct stat_sum *sum, const struct stat_sum *other);
/* How many durations it has. */
uint64_t stat_count(const struct stat_sum *sum);
/* The duration that this share (0 to 1) of them do not exceed, by a straight line through their
 * bucket; those beyond the last bound count as that. 0: there are none. */
uint64_t stat_quantile_ns(const struct stat_sum *sum, double share);

#endif
