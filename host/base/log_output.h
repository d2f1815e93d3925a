/* log_output - lines of the log on their way to standard error.
 *
 *   log_output_write ─▶ write(2)                          as long as the reader keeps up
 *                   └─▶ backlog ── a thread of its own ─▶ write(2)
 *                          └─ full: lost, counted; the count is logged when there is room
 *
 * Nothing waits for the reader of the log: a full pipe or a stopped terminal would hold up handlers
 * and heartbeats. The thread starts with the first line that cannot be written at once. A line is
 * written whole before the next one, and by one write(2) where the system keeps those together.
 * Any thread. */
#ifndef MOONBUS_BASE_LOG_OUTPUT_H
#define MOONBUS_BASE_LOG_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

void log_output_write(const char *bytes, size_t len);

/* Waits until everything is written, but no longer than timeout_ms. At the process's end. */
void log_output_flush(int timeout_ms);

/* How many lines were lost since the last call. */
uint64_t log_output_take_lost(void);

#endif
