/* consumer_counts - what is counted of a durable's pull loop and leases, and how far behind the
 * server says that it is.
 *
 * The counts are shared by the consumers that one handler has had, one after the other, and by
 * whoever shows them. References; any thread adds and reads. */
#ifndef MOONBUS_BUS_CONSUME_CONSUMER_COUNTS_H
#define MOONBUS_BUS_CONSUME_CONSUMER_COUNTS_H

#include "base/stat.h"

/* The statuses that a server answers a pull with, by their code. */
enum pull_answer {
    ANSWER_100, /* a heartbeat */
    ANSWER_400,
    ANSWER_404,
    ANSWER_408,
    ANSWER_409,
    ANSWER_423,
    ANSWER_503,
    ANSWER_OTHER,
    PULL_ANSWERS
};

/* For code 404 ANSWER_404. */
enum pull_answer pull_answer_of(int code);
/* "404"; static. */
const char *pull_answer_name(enum pull_answer answer);

struct consumer_counts {
    _Atomic int references;
    struct stat_counter joined;      /* redeliveries of what is still held here */
    struct stat_counter leases_lost; /* that could not be renewed in time */
    struct stat_counter heartbeats;  /* that were written */
    struct stat_counter pulls;       /* requests that were handed over */
    struct stat_counter answers[PULL_ANSWERS];
};

/* What CONSUMER.INFO said last. */
struct consumer_lag {
    uint64_t at_ns; /* when that was; 0: it has not yet */
    uint64_t pending, ack_pending, redelivered, waiting;
};

/* All zero, one reference. NULL: no memory. */
struct consumer_counts *consumer_counts_new(void);
struct consumer_counts *consumer_counts_retain(struct consumer_counts *counts);
/* NULL is allowed. */
void consumer_counts_release(struct consumer_counts *counts);

#endif
