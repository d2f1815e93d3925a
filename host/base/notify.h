/* notify - the datagrams by which a process tells its service manager how it is: the protocol of
 * systemd's sd_notify, which other managers speak as well.
 *
 * The manager's socket is found in the environment (NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID),
 * and taken out of it: what the process starts has nothing to say there. Nothing here blocks.
 * Owner: who opened it, on one thread. */
#ifndef MOONBUS_BASE_NOTIFY_H
#define MOONBUS_BASE_NOTIFY_H

#include <stdint.h>

#include "base/err.h"

struct notify;

/* While there is no other thread. NULL with err->code 0: nobody wants to be told. NULL with an
 * error: the environment names no socket that can be used. */
struct notify *notify_open(struct err *err);

/* After so long without a WATCHDOG=1 the manager takes the process for dead; 0: it does not watch.
 */
uint64_t notify_watchdog_ns(const struct notify *notify);

/* Sends lines such as "READY=1\nSTATUS=serving". 0; ERR_FULL: the manager has not read what came
 * before, try again; ERR_SYSTEM: nobody is there. */
int notify_send(const struct notify *notify, const char *lines);

/* NULL is allowed. */
void notify_close(struct notify *notify);

#endif
