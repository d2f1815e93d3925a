/* replies - the queue between the inbox and a reader, and what ends it. */
#include "bus/request/replies.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/container.h"
#include "base/sync.h"

/* Of each that waits, beside its bytes: what it lies in here and in the library. */
#define REPLY_COST 512

struct queued {
    struct queued *next;
    size_t cost;
    struct packet packet;
};

/* References: whoever has it, the request in the inbox, and the deadline while it is armed. */
struct replies {
    atomic_int references;
    struct inbox *inbox;   /* not owned */
    struct clock *clock;   /* not owned */
    struct deadline stall; /* moved late: it looks at came_ns when it is due */
    struct replies_options options;

    struct mutex lock;            /* all below; before the inbox's and the clock's */
    uint64_t id;                  /* the inbox's; 0: not known yet */
    uint64_t came_ns;             /* when the last one came */
    struct queued *first, **last; /* owned */
    size_t bytes;
    struct replies_state state;
    void (*on_more)(void *owner); /* NULL: nobody waits */
    void *owner;
};

struct replies *replies_retain(struct replies *replies)
{
    atomic_fetch_add(&replies->references, 1);
    return replies;
}

static void free_queued(struct replies *replies, struct queued *queued)
{
    inbox_give_back(replies->inbox, queued->cost);
    packet_clear(&queued->packet);
    free(queued);
}

static void free_list(struct replies *replies, struct queued *list)
{
    while (list) {
        struct queued *next = list->next;
        free_queued(replies, list);
        list = next;
    }
}

void replies_release(struct replies *replies)
{
    if (atomic_fetch_sub(&replies->references, 1) > 1)
        return;
    free_list(replies, replies->first);
    mutex_destroy(&replies->lock);
    free(replies);
}

/* --- the end --- */

/* What is left to be done when the lock is given back. */
struct aftermath {
    uint64_t cancel; /* this request of the inbox; 0: none */
    bool ended;
    void (*on_more)(void *owner);
    void *owner;
};

static void wake_reader(struct replies *replies, struct aftermath *after)
{
    must_hold(&replies->lock);
    after->on_more = replies->on_more;
    after->owner = replies->owner;
    replies->on_more = NULL;
}

static void end_now(struct replies *replies, enum replies_end end, enum err_code code,
                    struct aftermath *after)
{
    must_hold(&replies->lock);
    if (replies->state.end != REPLIES_GO_ON)
        return;
    replies->state.end = end;
    replies->state.code = code;
    after->ended = true;
    after->cancel = replies->id;
    wake_reader(replies, after);
}

/* Without the lock. The caller has a reference. */
static void settle(struct replies *replies, const struct aftermath *after)
{
    if (after->cancel)
        inbox_cancel(replies->inbox, after->cancel);
    if (after->ended && clock_cancel(replies->clock, &replies->stall))
        replies_release(replies);
    if (after->on_more)
        after->on_more(after->owner);
}

static void on_stall(struct deadline *deadline)
{
    struct replies *replies = container_of(deadline, struct replies, stall);
    struct aftermath after = {0};
    bool again = false;
    mutex_lock(&replies->lock);
    uint64_t due_ns = replies->came_ns + (uint64_t)replies->options.stall_ns;
    if (replies->state.end == REPLIES_GO_ON && clock_now_ns() < due_ns)
        again = clock_arm(replies->clock, &replies->stall, due_ns);
    else
        end_now(replies, REPLIES_STALL, ERR_NONE, &after);
    mutex_unlock(&replies->lock);
    settle(replies, &after);
    if (!again)
        replies_release(replies);
}

/* --- what comes --- */

static bool is_sentinel(const struct packet *reply)
{
    return reply->len == 0 && !header_block_find(&reply->headers, "Nats-Service-Error").at &&
           !header_block_find(&reply->headers, "Nats-Service-Error-Code").at;
}

/* False: there is no room. */
static bool enqueue(struct replies *replies, struct packet *reply)
{
    must_hold(&replies->lock);
    size_t cost = strlen(reply->subject) + reply->len + reply->headers.len + REPLY_COST;
    if (replies->bytes + cost > REPLIES_BYTES || !inbox_take_room(replies->inbox, cost))
        return false;
    struct queued *queued = malloc(sizeof *queued);
    if (!queued) {
        inbox_give_back(replies->inbox, cost);
        return false;
    }
    *queued = (struct queued){.cost = cost, .packet = packet_take(reply)};
    packet_own(&queued->packet); /* it waits for as long as its script takes */
    *replies->last = queued;
    replies->last = &queued->next;
    replies->bytes += cost;
    return true;
}

static void take_in(struct replies *replies, struct packet *reply, struct aftermath *after)
{
    must_hold(&replies->lock);
    struct replies_options *options = &replies->options;
    if (replies->state.end != REPLIES_GO_ON)
        return;
    if (options->sentinel && is_sentinel(reply)) {
        end_now(replies, REPLIES_SENTINEL, ERR_NONE, after);
        return;
    }
    bool first = replies->state.came + replies->state.dropped == 0;
    replies->came_ns = clock_now_ns();
    if (first && options->stall_ns > 0) {
        replies_retain(replies);
        clock_arm(replies->clock, &replies->stall, replies->came_ns + (uint64_t)options->stall_ns);
    }
    if (!enqueue(replies, reply)) {
        replies->state.dropped++;
        return;
    }
    if (++replies->state.came == options->most)
        end_now(replies, REPLIES_MAX, ERR_NONE, after);
    else
        wake_reader(replies, after);
}

/* The inbox; reply: NULL: it has ended. */
static void on_reply(void *owner, struct packet *reply, enum err_code code)
{
    struct replies *replies = owner;
    struct aftermath after = {0};
    mutex_lock(&replies->lock);
    if (reply)
        take_in(replies, reply, &after);
    else if (code == ERR_TIMEOUT)
        end_now(replies, REPLIES_TIMEOUT, replies->state.came ? ERR_NONE : code, &after);
    else
        end_now(replies, REPLIES_FAILED, code, &after);
    mutex_unlock(&replies->lock);
    settle(replies, &after);
}

static void on_gone(void *owner)
{
    replies_release(owner);
}

/* --- for everyone --- */

struct replies *replies_ask(struct inbox *inbox, struct clock *clock,
                            const struct link_frame *frame, const struct replies_options *options,
                            struct err *err)
{
    struct replies *replies = calloc(1, sizeof *replies);
    if (!replies) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    atomic_init(&replies->references, 2); /* the caller's and the inbox's */
    mutex_init(&replies->lock);
    replies->inbox = inbox;
    replies->clock = clock;
    replies->stall.on_due = on_stall;
    replies->options = *options;
    replies->last = &replies->first;
    uint64_t until_ns = clock_now_ns() + (uint64_t)options->timeout_ns;
    uint64_t id = inbox_request_many(inbox, frame, until_ns, on_reply, on_gone, replies, err);
    if (!id) {
        replies_release(replies);
        replies_release(replies);
        return NULL;
    }
    mutex_lock(&replies->lock);
    replies->id = id;
    bool ended = replies->state.end != REPLIES_GO_ON;
    mutex_unlock(&replies->lock);
    if (ended) /* before its id was known */
        inbox_cancel(inbox, id);
    return replies;
}

enum replies_taken replies_take(struct replies *replies, struct packet *reply,
                                void (*on_more)(void *owner), void *owner)
{
    enum replies_taken taken = REPLIES_TAKEN;
    mutex_lock(&replies->lock);
    struct queued *queued = replies->on_more ? NULL : replies->first;
    if (queued) {
        replies->first = queued->next;
        if (!replies->first)
            replies->last = &replies->first;
        replies->bytes -= queued->cost;
    } else if (replies->on_more) {
        taken = REPLIES_BUSY;
    } else if (replies->state.end != REPLIES_GO_ON) {
        taken = REPLIES_OVER;
    } else {
        taken = REPLIES_WAITS;
        replies->on_more = on_more;
        replies->owner = owner;
    }
    mutex_unlock(&replies->lock);
    if (queued) {
        *reply = packet_take(&queued->packet);
        free_queued(replies, queued);
    }
    return taken;
}

bool replies_stop_waiting(struct replies *replies, const void *owner)
{
    mutex_lock(&replies->lock);
    bool waited = replies->on_more && replies->owner == owner;
    if (waited)
        replies->on_more = NULL;
    mutex_unlock(&replies->lock);
    return waited;
}

void replies_leave(struct replies *replies)
{
    struct aftermath after = {0};
    mutex_lock(&replies->lock);
    end_now(replies, REPLIES_LEFT, ERR_NONE, &after);
    struct queued *list = replies->first;
    replies->first = NULL;
    replies->last = &replies->first;
    replies->bytes = 0;
    mutex_unlock(&replies->lock);
    settle(replies, &after);
    free_list(replies, list);
}

struct replies_state replies_state(struct replies *replies)
{
    mutex_lock(&replies->lock);
    struct replies_state state = replies->state;
    mutex_unlock(&replies->lock);
    return state;
}
