/* tally_sum - what was counted of a handler, or of the calls that a script made, copied for the
 * snapshot (tally.h). Plain values. */
#ifndef MOONBUS_ENGINE_VERSION_TALLY_SUM_H
#define MOONBUS_ENGINE_VERSION_TALLY_SUM_H

#include <stdint.h>

#include "base/err.h"
#include "base/stat.h"

/* How a message of JetStream ended, by its verdict; and how runs of a handler ended, of whatever
 * kind. */
enum run_outcome {
    OUTCOME_OK,
    OUTCOME_FAILED,
    OUTCOME_ACK, /* from here on: of JetStream's messages */
    OUTCOME_NAK,
    OUTCOME_TERM,
    OUTCOME_DEAD,
    OUTCOMES
};

/* By error code: [-ERR_TIMEOUT]; [0] is ERR_NONE. */
enum { TALLY_CODES = 1 - ERR_LAST };

struct tally_sum {
    uint64_t received, redelivered; /* messages that came; those of them that had come before */
    uint64_t dropped;               /* of core NATS, for want of room */
    uint64_t attempts;              /* messages that a run began with */
    uint64_t outcomes[OUTCOMES];
    uint64_t errors[TALLY_CODES]; /* runs that failed */
    uint64_t timeouts;            /* runs that were ended by their timeout */
    struct stat_sum queue_wait;   /* of messages, from their arrival to their first run */
    struct stat_sum duration;     /* of runs */
    struct stat_sum cpu;          /* how long runs had a thread */
};

#define TALLY_ERROR_MAX 300

/* The last run that failed. */
struct tally_error {
    int64_t at_ns; /* wall clock; 0: none has */
    enum err_code code;
    char text[TALLY_ERROR_MAX];
};

struct tally_calls_sum {
    uint64_t published;             /* to core NATS */
    uint64_t requests[TALLY_CODES]; /* by how they ended */
    struct stat_sum request_duration;
};

#endif
