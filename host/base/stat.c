/* stat - the buckets of histograms, and what is read from them. */
#include "base/stat.h"

#include "base/value.h"

/* Those of OpenTelemetry for messaging, with finer ones below, where most handlers are, and up to
 * the minutes that some take. */
const uint64_t stat_bounds_ns[STAT_BOUNDS] = {
    NS_PER_MS / 10,  NS_PER_MS / 2,  1 * NS_PER_MS,      25 * NS_PER_MS / 10, 5 * NS_PER_MS,
    10 * NS_PER_MS,  25 * NS_PER_MS, 50 * NS_PER_MS,     100 * NS_PER_MS,     250 * NS_PER_MS,
    500 * NS_PER_MS, 1 * NS_PER_S,   25 * NS_PER_S / 10, 5 * NS_PER_S,        10 * NS_PER_S,
    30 * NS_PER_S,   60 * NS_PER_S,  120 * NS_PER_S,     300 * NS_PER_S,
};

void stat_observe(struct stat_histogram *histogram, uint64_t ns)
{
    int bucket = ns <= stat_bounds_ns[4] ? 0 : ns <= stat_bounds_ns[9] ? 5 : 10;
    while (bucket < STAT_BOUNDS && ns > stat_bounds_ns[bucket])
        bucket++;
    stat_add(&histogram->buckets[bucket], 1);
    stat_add(&histogram->sum_ns, ns);
}

void stat_sum_histogram(struct stat_sum *sum, const struct stat_histogram *histogram)
{
    for (int i = 0; i < STAT_BUCKETS; i++)
        sum->buckets[i] += stat_get(&histogram->buckets[i]);
    sum->sum_ns += stat_get(&histogram->sum_ns);
}

void stat_sum_sum(struct stat_sum *sum, const struct stat_sum *other)
{
    for (int i = 0; i < STAT_BUCKETS; i++)
        sum->buckets[i] += other->buckets[i];
    sum->sum_ns += other->sum_ns;
}

uint64_t stat_count(const struct stat_sum *sum)
{
    uint64_t count = 0;
    for (int i = 0; i < STAT_BUCKETS; i++)
        count += sum->buckets[i];
    return count;
}

uint64_t stat_quantile_ns(const struct stat_sum *sum, double share)
{
    double rank = share * (double)stat_count(sum), below = 0;
    uint64_t from_ns = 0;
    for (int i = 0; i < STAT_BOUNDS; i++) {
        double count = (double)sum->buckets[i];
        if (count > 0 && below + count >= rank) {
            double part = rank > below ? (rank - below) / count : 0;
            return from_ns + (uint64_t)(part * (double)(stat_bounds_ns[i] - from_ns));
        }
        below += count;
        from_ns = stat_bounds_ns[i];
    }
    return below < rank ? from_ns : 0;
}
