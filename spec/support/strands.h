/* strands - small programs for the threads of a simulated world, as text:
 *
 *   lock a; unlock a     mutexes a to h
 *   wait a b; wait a b 20   condition a with the mutex b held; for 20 ms at most: "+" is noted when
 *                        it was woken, "-" when the time was over
 *   signal a; broadcast a
 *   post a; take a       semaphores
 *   sleep 20             milliseconds
 *   start 2; join 2      the program of this number, from 0; it is started once
 *   note x               writes the word down
 *   own                  writes down a count that each thread has of its own
 *   deep                 uses 4 MB of its stack, and notes whether that lies inside its bounds
 *   again 20             from the beginning, so many times */
#ifndef MOONBUS_SPEC_STRANDS_H
#define MOONBUS_SPEC_STRANDS_H

#include "base/world.h"

struct strands;

struct strands *strands_new(const char *const *programs, int count);
void strands_free(struct strands *strands);
/* Runs the first one in the world, until it has ended. */
enum world_end strands_run(struct strands *strands, struct world *world, uint64_t until_ns);
/* What was noted, with a blank behind each word. */
const char *strands_notes(const struct strands *strands);

#endif
