/* looks - which workers the ready queue wakes, without threads: sleepers are on its list, and
 * nobody waits at their semaphores. */
#ifndef MOONBUS_SIM_LOOKS_H
#define MOONBUS_SIM_LOOKS_H

#include <stdbool.h>

#define LOOKS_MOST 8

struct looks {
    int sleepers;  /* at most LOOKS_MOST */
    int before;    /* so much is ready before, while nobody sleeps yet; with `meanwhile` at most
                      LOOKS_MOST */
    int meanwhile; /* so much becomes ready, */
    bool looking;  /* while a worker gives back what it had, and looks for the next, */
    bool takes;    /* which it takes */
};

/* How many were woken; -1: what was ready did not come out in its order. */
int looks_woken(const struct looks *looks);

#endif
