/* inbox - requests and their replies: one wildcard subscription, a token for each request.
 *
 * The callback of a request runs exactly once, unless inbox_cancel returned true: with the reply,
 * or with the reason why there is none; that of inbox_request_many with each reply. The deadline is
 * the clock's, so a reply that arrived in time is never a timeout, however busy its reader is.
 *
 * Any thread. on_reply runs on the link's delivery thread or the clock, without locks held, and
 * must not block. */
#ifndef MOONBUS_BUS_REQUEST_INBOX_H
#define MOONBUS_BUS_REQUEST_INBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/dues.h"
#include "base/err.h"
#include "bus/link/link.h"

struct inbox;

/* A request under way, in memory of whoever makes it; all of it is the inbox's. It is in the table,
 * and among what is due, until somebody takes it out, under the inbox's lock; whoever does, ends
 * it. */
struct inbox_request {
    struct due due;
    uint64_t id;
    atomic_int references; /* the table's, then that of who took it; of who sends to it, or again */
    void (*on_reply)(void *owner, struct packet *reply, enum err_code code);
    void (*on_drop)(void *owner); /* or NULL */
    void (*on_gone)(void *owner); /* the last call; or NULL */
    void *owner;
    const char *subject; /* borrowed until it is gone, or behind it */
    const char *data;    /* if it is safe: the same */
    size_t len;
    bool owned; /* the inbox has allocated it */
    bool many;  /* it stays for more replies */
    bool safe;  /* may be sent again */
    bool lost;  /* its connection went: to be sent again. Guarded by the inbox's lock */
};

/* reply: when code is ERR_NONE, else NULL; packet_take keeps it. code: ERR_TIMEOUT,
 * ERR_NO_RESPONDERS, ERR_PERMISSION, ERR_CLOSED. */
typedef void (*inbox_fn)(void *owner, struct packet *reply, enum err_code code);

/* Subscribes to <prefix>.<unique>.* on the link. Link and clock outlive the inbox. */
struct inbox *inbox_new(struct link *link, struct clock *clock, const char *prefix,
                        struct err *err);

/* Ends every pending request with ERR_CLOSED; from now on inbox_request says so. */
void inbox_close(struct inbox *inbox);

/* Ends every pending request with ERR_CLOSED, then frees. After the link has stopped. */
void inbox_free(struct inbox *inbox);

/* Sends frame (its reply is set here) and waits for one reply until deadline_ns (monotonic).
 * Returns the request's id, never 0; or 0 with err as of link_send: then on_reply is not called. */
uint64_t inbox_request(struct inbox *inbox, const struct link_frame *frame, uint64_t deadline_ns,
                       inbox_fn on_reply, void *owner, struct err *err);

/* The same in the owner's memory: `request`, and frame->subject, stay until on_gone(owner). That is
 * the last call of all, on any thread, and comes however the request ends: after on_reply, after
 * inbox_cancel, and when 0 is returned, also within this call. request: NULL: the inbox allocates
 * it. frame->gate: its done() is called when an id is returned, perhaps within this call. */
uint64_t inbox_request_in(struct inbox *inbox, struct inbox_request *request,
                          const struct link_frame *frame, uint64_t deadline_ns, inbox_fn on_reply,
                          void (*on_gone)(void *owner), void *owner, struct err *err);

/* The same as inbox_request, for what may be asked twice (JetStream's API, acks): when the
 * connection goes before the answer is there, it is sent again on the next one, under the same id
 * and deadline. For units that wrap their owner's callback in a struct of their own: when
 * inbox_cancel returns true, it has called on_drop(owner), if there is one, in place of on_reply.
 */
uint64_t inbox_request_safe(struct inbox *inbox, const struct link_frame *frame,
                            uint64_t deadline_ns, inbox_fn on_reply, void (*on_drop)(void *owner),
                            void *owner, struct err *err);

/* The same for many replies: on_reply runs with each of them until the deadline or inbox_cancel,
 * and then once with the reason of the end, unless it is inbox_cancel. The end may come, on another
 * thread, while it runs with a reply, and so may inbox_cancel: on_gone(owner) is the last call of
 * all. */
uint64_t inbox_request_many(struct inbox *inbox, const struct link_frame *frame,
                            uint64_t deadline_ns, inbox_fn on_reply, void (*on_gone)(void *owner),
                            void *owner, struct err *err);

/* Replies of many requests wait for whoever reads them: is there room for so many bytes more, of
 * those that all requests of the inbox may have? True: inbox_give_back gives them back. */
bool inbox_take_room(struct inbox *inbox, size_t bytes);
void inbox_give_back(struct inbox *inbox, size_t bytes);

/* The state of its link has changed. */
void inbox_on_link(struct inbox *inbox, enum link_state state);

/* The link that its requests go over. */
struct link *inbox_link(const struct inbox *inbox);

/* Writes so many random base62 digits and a NUL: for names and ids that nobody else has (22 digits
 * are 131 bits). */
void inbox_random(char *buf, size_t digits);

/* True: on_reply will not be called. False: it was, or is being, called. */
bool inbox_cancel(struct inbox *inbox, uint64_t id);

/* Ends the pending requests to a subject with ERR_PERMISSION: NATS reports a refused publish later,
 * by its subject. */
void inbox_refuse(struct inbox *inbox, const char *subject);

#endif
