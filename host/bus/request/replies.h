/* replies - one request and all of its replies, which wait here for whoever reads them.
 *
 *   inbox ── reply (delivery thread) ─▶ queue ── replies_take ─▶ reader
 *   stall, whole timeout (clock) ─▶ the end
 *
 * It ends by what comes first: so many replies, a pause after the last one (stall), an empty reply
 * (sentinel), the whole time, nobody that serves the subject, or its reader, who leaves. When it
 * ends its place in the inbox is free at once; what had come before is read still. Times are those
 * at which replies came, however slow their reader is.
 *
 * What waits is bounded: REPLIES_BYTES for each, and what the inbox has for all. A reply that finds
 * no room is dropped, and counted.
 *
 * Any thread; one reader at a time. on_more runs on the delivery thread or the clock, without a
 * lock, and must not block. */
#ifndef MOONBUS_BUS_REQUEST_REPLIES_H
#define MOONBUS_BUS_REQUEST_REPLIES_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/request/inbox.h"

struct replies;

/* With what each of them costs beside its bytes. */
#define REPLIES_BYTES ((size_t)16 << 20)

struct replies_options {
    int64_t timeout_ns; /* of the whole */
    int64_t stall_ns;   /* from one reply to the next; 0: as long as the whole */
    uint64_t most;      /* so many replies are all; 0: nobody knows how many there are */
    bool sentinel;      /* an empty reply, which is not handed over, ends them; a service's error is
                           none, whatever it holds */
};

enum replies_end {
    REPLIES_GO_ON,
    REPLIES_MAX,
    REPLIES_STALL,
    REPLIES_SENTINEL,
    REPLIES_TIMEOUT,
    REPLIES_FAILED, /* see its code */
    REPLIES_LEFT,   /* replies_leave */
};

/* How it stands. */
struct replies_state {
    enum replies_end end;
    enum err_code code; /* ERR_TIMEOUT, when nothing has come at all; of REPLIES_FAILED: why */
    uint64_t came;      /* that were handed over, or wait */
    uint64_t dropped;   /* for want of room */
};

/* Sends the frame, whose reply is set here. One reference, the caller's. NULL, with err as of
 * inbox_request. Inbox and clock outlive it. */
struct replies *replies_ask(struct inbox *inbox, struct clock *clock,
                            const struct link_frame *frame, const struct replies_options *options,
                            struct err *err);
struct replies *replies_retain(struct replies *replies);
void replies_release(struct replies *replies);

enum replies_taken { REPLIES_TAKEN, REPLIES_OVER, REPLIES_WAITS, REPLIES_BUSY };

/* The next reply goes to *reply, which is the caller's. REPLIES_OVER: there is none, nor will there
 * be. REPLIES_WAITS: on_more(owner) runs once, when there is one, or when there will be none;
 * REPLIES_BUSY: somebody waits already. on_more: NULL: REPLIES_WAITS means that there is none yet.
 */
enum replies_taken replies_take(struct replies *replies, struct packet *reply,
                                void (*on_more)(void *owner), void *owner);

/* That one waits no more. True: its on_more will not be called; false: it was, or is being, called,
 * or somebody else waits now. */
bool replies_stop_waiting(struct replies *replies, const void *owner);

/* Its reader wants no more: it ends, and what waits is freed. Again: no effect. */
void replies_leave(struct replies *replies);

struct replies_state replies_state(struct replies *replies);

#endif
