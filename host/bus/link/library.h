/* library - nats.c as a whole: what the rest of the process owes it, so that nobody above has to
 * name it. */
#ifndef MOONBUS_BUS_LINK_LIBRARY_H
#define MOONBUS_BUS_LINK_LIBRARY_H

#include <stdbool.h>
#include <stdint.h>

/* "3.4.1" */
const char *library_version(void);

/* The calling thread ends: what nats.c keeps for it is freed. */
void library_end_thread(void);

/* Blocks, for timeout_ms at most: the last call, when every connection is closed and destroyed.
 * False: something of it was not released. */
bool library_end(int64_t timeout_ms);

#endif
