/* jslevel - what the JetStream at the other end can do: its API level (ADR-44), which grows with
 * the releases of nats-server. The leader of JetStream's API says it ($JS.API.INFO, by our prefix
 * or domain), not the server that we are connected to. It is asked for on each connect, and kept.
 *
 * Any thread, but for jslevel_wait, which blocks its caller: only pool threads may. */
#ifndef MOONBUS_BUS_REQUEST_JSLEVEL_H
#define MOONBUS_BUS_REQUEST_JSLEVEL_H

#include <stdint.h>

#include "bus/link/link.h"

struct jsapi;
struct jslevel;

/* The levels that something of ours needs, by the release that brought them. */
enum {
    JSLEVEL_2_11 = 1, /* message TTL, pause, priority groups */
    JSLEVEL_2_12 = 2, /* atomic batches, counters, schedules at a time, prioritized groups */
    JSLEVEL_2_14 = 4, /* repeated schedules, reset of a consumer */
    JSLEVEL_2_15 = 5,
};

/* jsapi outlives it. Nothing is asked yet. */
struct jslevel *jslevel_new(struct jsapi *jsapi, struct err *err);
/* When no request of jsapi is pending any more. */
void jslevel_free(struct jslevel *level);

/* The state of the link that jsapi's requests go over has changed. */
void jslevel_on_link(struct jslevel *level, enum link_state state);

/* The level; -1: not known. A server of before 2.11 has 0. While a new connection has not told it,
 * the last one's. Returns at once; what is not known is asked for, at most once a second. */
int jslevel_now(struct jslevel *level);

/* The same, asked for until deadline_ns if the connection has not told it. Negative: err. Blocks.
 */
int jslevel_wait(struct jslevel *level, uint64_t deadline_ns, struct err *err);

/* 0 if that level is there; else ERR_UNSUPPORTED with "WHAT needs nats-server 2.12 or newer
 * (JetStream API level 2); this server has level 0", ERR_UNAVAILABLE while it is not known, or
 * ERR_PERMISSION when this user may not ask. */
int jslevel_require(struct jslevel *level, int needed, const char *what, struct err *err);

/* The same for a level that was read. Pure. */
int jslevel_check(int have, int needed, const char *what, struct err *err);

/* The first release with that level, a static string: "2.12" for 2; "2.9", the oldest that a host
 * runs with, for 0. Pure. */
const char *jslevel_release(int level);

#endif
