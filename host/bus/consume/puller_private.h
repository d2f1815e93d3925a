/* puller_private - what puller.c (messages, life), puller_credit.c (pulls), puller_watch.c (what
 * CONSUMER.INFO says), puller_group.c (priority groups) and puller_gap.c (what was lost) share.
 * Nobody else includes it. */
#ifndef MOONBUS_BUS_CONSUME_PULLER_PRIVATE_H
#define MOONBUS_BUS_CONSUME_PULLER_PRIVATE_H

#include "bus/consume/puller.h"
#include "bus/wire.h"

/* --- puller.c --- */

/* The number of the request that a message or a status answers. */
uint64_t puller_request_of(const struct packet *packet);

/* --- puller_group.c --- */

/* With the lock held: the fields that a request has for its group, with a comma before; "" for
 * none. Returns buf. */
const char *puller_group_print(const struct puller *puller, char *buf, size_t size);
/* With the lock held: a message has come. True: with a new pin, for puller_group_log, which is
 * called without it. */
bool puller_group_arrived(struct puller *puller, const struct packet *packet, uint64_t now_ns);
void puller_group_log(struct puller *puller, bool pinned);
/* With the lock held, and a reference: a puller that has stopped, and holds nothing any more, gives
 * its pin back, so that nobody has to wait for its timeout. */
void puller_group_leave(struct puller *puller);

/* --- puller_credit.c --- */

void puller_credit_init(struct puller *puller, int concurrency, int64_t bytes);
/* The connection came or went. */
void puller_on_link(struct link_listener *listener, enum link_state state);

/* With the lock held: does what the pull machine says. Returns its warning, or NULL, for
 * puller_unlock. */
const char *puller_act(struct puller *puller, struct pull_action action);

/* With the lock held: when the tick is armed for, as pull_message wants it. */
static inline uint64_t puller_tick_ns(const struct puller *puller)
{
    return puller->tick_at_ns ? puller->tick_at_ns : UINT64_MAX;
}

/* With the lock held: how many references the caller has to release for it, 0 or 1. */
int puller_cancel_tick(struct puller *puller);

/* With the lock held: asks for one request's worth beyond the bytes that it may hold, for what is
 * missing, which a server sends before anything new. Returns a warning for puller_unlock. Then:
 * the bound is as before. */
const char *puller_make_room(struct puller *puller);
void puller_end_room(struct puller *puller);

/* --- puller_gap.c --- */

void puller_gap_init(struct puller *puller);
/* With the lock held, of one that watches them: a delivery came, which is not taken yet. The event
 * is for puller_gap_act, without the lock, when the delivery was handed on. */
enum gap_event puller_gap_arrived(struct puller *puller, const struct ack_subject *ack,
                                  uint64_t now_ns);
/* The same: something is missing, or was until this delivery, or may show to be. */
bool puller_gap_is_open(const struct puller *puller, enum gap_event event, uint64_t now_ns);
/* The same: there was no memory for what came after `before`, so it has not come: the next one
 * shows that it is missing, and what was missing is waited for anew. The event of its arrival is
 * none then. */
void puller_gap_unseen(struct puller *puller, const struct gap *before, uint64_t now_ns);
void puller_gap_act(struct puller *puller, enum gap_event event);
/* With the lock held: the answer to a question about the consumer. The same. */
enum gap_event puller_gap_info(struct puller *puller, const struct cJSON *info);

/* --- puller_watch.c --- */

void puller_watch_init(struct puller *puller);
/* With the lock held: from now on CONSUMER.INFO is asked for. */
void puller_watch_start(struct puller *puller);
/* With the lock held: a message was settled. */
void puller_poll_settled(struct puller *puller, uint64_t now_ns);
/* With the lock held: something is missing, so the ack floor is asked for soon. */
void puller_poll_soon(struct puller *puller, uint64_t now_ns);

#endif
