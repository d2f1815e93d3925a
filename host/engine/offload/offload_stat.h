/* offload_stat - the offload threads and their calls, counted: for the snapshot. */
#ifndef MOONBUS_ENGINE_OFFLOAD_OFFLOAD_STAT_H
#define MOONBUS_ENGINE_OFFLOAD_OFFLOAD_STAT_H

#include <stdbool.h>
#include <stdint.h>

struct offload_stat {
    int limit, threads, lost;     /* threads that may be, that are, that are lost to their call */
    int running, queued, waiting; /* calls */
    uint64_t calls, failed, timed_out;
    bool none_left; /* every thread is lost: no call will begin */
};

#endif
