#include "baseline/baseline.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/bench.h"

static const struct {
    const char *name;
    void (*serve)(void);
} modes[] = {
    {"echo", baseline_echo},       {"receive", baseline_receive}, {"respond", baseline_respond},
    {"latency", baseline_latency}, {"consume", baseline_consume}, {"fetch", baseline_fetch},
    {"relay", baseline_relay},     {"hold", baseline_hold},
};

bool baseline_headers(void)
{
    return strcmp(bench_text("headers", "no"), "yes") == 0;
}

void baseline_ready(void)
{
    puts("ready");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    bench_arguments(argc, argv);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(argv[1], modes[i].name) != 0)
            continue;
        modes[i].serve();
        for (;;)
            pause();
    }
    bench_fail("unknown mode \"%s\"", argv[1]);
}
