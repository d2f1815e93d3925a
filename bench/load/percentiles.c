/* percentiles - what the recorder of latencies tells of numbers, one a line on standard input: so
 * that a spec can compare it with all of them. */
#include <stdio.h>

#include "common/histogram.h"
#include "load/load.h"

int load_percentiles(void)
{
    static struct histogram histogram;
    long long ns;
    while (scanf("%lld", &ns) == 1)
        histogram_add(&histogram, ns);
    printf("{\"p50\":%lld,\"p99\":%lld,\"p999\":%lld,\"max\":%lld,\"count\":%lld,\"bytes\":%zu}\n",
           (long long)histogram_percentile(&histogram, 0.5),
           (long long)histogram_percentile(&histogram, 0.99),
           (long long)histogram_percentile(&histogram, 0.999), (long long)histogram.max_ns,
           (long long)histogram.count, sizeof histogram);
    return 0;
}
