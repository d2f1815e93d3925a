/* refuse - memory that is refused, and memory that is not given back: for specs.
 *
 * In libmoonbus_units and moonbus_sim the linker leads each malloc, calloc, realloc, strdup,
 * strndup and free of the host's code here (CMakeLists.txt, --wrap), and cJSON is asked to come
 * here, too. Others, such as nats.c and LuaJIT, keep theirs. One thread; in a world, all of its
 * fibers. */
#ifndef MOONBUS_SPEC_REFUSE_H
#define MOONBUS_SPEC_REFUSE_H

#include <stdbool.h>

/* Begins to count. The nth allocation from here on is refused, once; 0: none is. */
void refuse_begin(long nth);
/* The same, with so many in a row. */
void refuse_some(long nth, long count);
/* It goes on counting, and refuses nothing any more. */
void refuse_no_more(void);

/* In between: what this thread (in a world: this fiber) does is not counted. They nest. */
void refuse_pause(void);
void refuse_resume(void);

/* Between refuse_begin and refuse_end. */
bool refuse_counts(void);

/* True: one was refused. */
bool refuse_end(void);

/* How many there have been since refuse_begin. */
long refuse_count(void);
/* Allocations since refuse_begin that have not been freed by now. */
long refuse_kept(void);
/* Where the first was refused that was, and where those come from that have not been freed: for
 * addr2line. Its memory is refuse's, until the next call. */
const char *refuse_report(void);

#endif
