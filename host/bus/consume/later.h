/* later - what is published at a later time (js.publish with `after` or `at`), where the server's
 * schedules do not serve: parked in a stream of ours, and published by any host at its time.
 *
 *   MOONBUS_LATER, a work queue: a subject of its own for each message, moonbus.later.<token>
 *
 *   parked ── not due: nak, with what is left ──▶ parked
 *      │└──── js.cancel: "cancelled" ──▶ ack
 *      └───── due: "due" ──▶ published under its own id ──▶ ack
 *
 * "due" and "cancelled" are messages that follow the parked one on its subject, and expect it to be
 * the last there. So exactly one of them comes to be, and what is due survives a host that dies
 * before it has published it. Whoever gets one of them removes the parked message first. (A rollup
 * would do both at once; but nats-server 2.9 then forgets what else of the stream is pending.)
 *
 * The stream is made by who parks the first message (lua/moonbus/later.lua); the durable here. Any
 * thread. */
#ifndef MOONBUS_BUS_CONSUME_LATER_H
#define MOONBUS_BUS_CONSUME_LATER_H

#include <stdint.h>

#include "base/err.h"
#include "bus/consume/intake.h"

#define LATER_STREAM "MOONBUS_LATER"
#define LATER_DURABLE "later"

struct later;

/* intake: borrowed for its life; its sink is not used. Nothing is asked yet. */
struct later *later_new(const struct intake *intake, struct err *err);

/* From now on this process serves what is parked, as soon as there is such a stream. Returns at
 * once; again: no effect, but that the stream is looked for now. */
void later_serve(struct later *later);

/* Blocks, until deadline_ns at most: takes nothing more; what is being published goes on. */
void later_stop(struct later *later, uint64_t deadline_ns);

/* When no thread of the clock, the pool or a link calls here any more. NULL is allowed. */
void later_free(struct later *later);

#endif
