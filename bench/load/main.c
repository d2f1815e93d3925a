#include <stdio.h>
#include <string.h>

#include "common/bench.h"
#include "load/load.h"

static const struct {
    const char *name;
    int (*run)(void);
} modes[] = {
    {"flow", load_flow}, {"request", load_request}, {"pace", load_pace},
    {"fill", load_fill}, {"watch", load_watch},     {"percentiles", load_percentiles},
};

int main(int argc, char **argv)
{
    bench_arguments(argc, argv);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(argv[1], modes[i].name) == 0)
            return modes[i].run();
    }
    bench_fail("unknown mode \"%s\"", argv[1]);
}
