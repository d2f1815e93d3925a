/* Subscriptions, over the connections that come and go beneath them. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/link/link_private.h"

/* For memory is asked again after that. */
#define MEMORY_AGAIN_NS (100 * NS_PER_MS)

/* --- lives --- */

static const struct transport_kind *kind_of(const struct link_life *life)
{
    return life->handle->kind;
}

static void life_release(struct link_life *life)
{
    if (atomic_fetch_sub(&life->references, 1) > 1)
        return;
    kind_of(life)->sub_free(life->handle);
    free(life);
}

/* Lock held. Takes a sub off that has no callbacks left and is not wanted; the caller then calls
 * sub_end without the lock. */
static bool sub_may_end(struct link_sub *sub)
{
    must_hold(&sub->link->lock);
    if (sub->wanted || !sub->leaving || sub->lives > 0)
        return false;
    struct link *link = sub->link;
    if (sub->in_todo)
        DL_DELETE2(link->todo, sub, todo_prev, todo_next);
    DL_DELETE(link->subs, sub);
    return true;
}

static void sub_end(struct link_sub *sub)
{
    if (sub->on_drained)
        sub->on_drained(sub->owner);
    free(sub->subject);
    free(sub->queue);
    free(sub);
}

/* The transport's calls up, on its delivery thread. */
static void on_message(void *owner, struct packet *packet)
{
    struct link_life *life = owner;
    struct link *link = life->sub->link;
    stat_add(&link->received, 1);
    stat_add(&link->received_bytes, packet->len + packet->headers.len);
    life->sub->on_message(life->sub->owner, packet);
}

static void on_end(void *owner)
{
    struct link_life *life = owner;
    struct link_sub *sub = life->sub;
    struct link *link = sub->link;
    /* The transport's part of the life goes first: once `lives` is counted down the link may be
     * freed, and once the sub may end, the sub. */
    life_release(life);
    mutex_lock(&link->lock);
    sub->lives--;
    link->lives--;
    bool end = sub_may_end(sub);
    link->calls_up += end;
    cond_broadcast(&link->changed);
    mutex_unlock(&link->lock);
    if (!end)
        return;
    sub_end(sub);
    mutex_lock(&link->lock);
    link->calls_up--;
    cond_broadcast(&link->changed);
    mutex_unlock(&link->lock);
}

/* --- what the writer does --- */

static bool is_stopping(struct link *link)
{
    mutex_lock(&link->lock);
    bool stopping = link->stopping;
    mutex_unlock(&link->lock);
    return stopping;
}

/* Waits for memory: a subscription that is missing would be missing until the next connection, with
 * nobody to make it. NULL: the link stops meanwhile. */
static struct link_life *allocate_life(const struct link_sub *sub)
{
    struct link_life *life;
    for (bool logged = false; !(life = calloc(1, sizeof *life)); logged = true) {
        if (!logged)
            log_error("%s connection: no memory to subscribe to \"%s\": trying again",
                      sub->link->label, sub->subject);
        thread_sleep_until(clock_now_ns() + (uint64_t)MEMORY_AGAIN_NS);
        if (is_stopping(sub->link))
            return NULL;
    }
    return life;
}

static struct link_life *life_new(struct link_sub *sub)
{
    struct link *link = sub->link;
    struct link_life *life = allocate_life(sub);
    if (!life)
        return NULL;
    life->sub = sub;
    atomic_init(&life->references, 2);
    mutex_lock(&link->lock);
    sub->lives++;
    link->lives++;
    mutex_unlock(&link->lock);
    return life;
}

/* There will be no on_end for it. */
static void life_unborn(struct link_life *life)
{
    struct link_sub *sub = life->sub;
    mutex_lock(&sub->link->lock);
    sub->lives--;
    sub->link->lives--;
    cond_broadcast(&sub->link->changed);
    mutex_unlock(&sub->link->lock);
}

static void subscribe(struct link_sub *sub)
{
    struct link *link = sub->link;
    struct transport *transport = link->transport;
    struct link_life *life = life_new(sub);
    if (!life)
        return;
    const struct transport_handler handler = {life, on_message, on_end};
    const char *why = NULL;
    switch (transport->kind->subscribe(transport, sub->subject, sub->queue, &handler, &life->handle,
                                       &why)) {
    case TRANSPORT_SUBSCRIBED:
        sub->life = life;
        return;
    case TRANSPORT_UNSUBSCRIBED:
        life_unborn(life);
        free(life);
        if (why) /* else there will be a new connection, and this with it */
            log_error("%s connection: cannot subscribe to \"%s\": %s", link->label, sub->subject,
                      why);
        return;
    case TRANSPORT_ASTRAY:
        life_unborn(life); /* the few bytes that a last call may read are left */
        return;
    }
}

static void unsubscribe(struct link_sub *sub)
{
    struct link_life *life = sub->life;
    sub->life = NULL;
    if (atomic_load(&sub->link->state) == LINK_CONNECTED) {
        kind_of(life)->drain(life->handle);
    } else {
        /* What has come would be thrown away by a plain unsubscribe. */
        kind_of(life)->await(life->handle);
        kind_of(life)->unsubscribe(life->handle);
    }
    life_release(life);
}

/* For the server there is none. */
static void drop_refused(struct link_sub *sub)
{
    struct link_life *life = sub->life;
    sub->life = NULL;
    kind_of(life)->unsubscribe(life->handle);
    life_release(life);
}

/* How long after a SUB the server's refusal would have arrived, and been reported: the server
 * refuses before it answers the next PING, but the report may come on another thread. */
#define REFUSED_MS 300

/* Lock held. It is subscribed to once more. */
static void try_refused(struct link_sub *sub)
{
    must_hold(&sub->link->lock);
    sub->tried = true;
    sub->link->confirm_ns = clock_now_ns() + (uint64_t)REFUSED_MS * NS_PER_MS;
}

static void settle_wanted(struct link *link, struct link_sub *sub) NEEDS(link->lock);

static void settle_wanted(struct link *link, struct link_sub *sub)
{
    must_hold(&link->lock);
    bool drop = sub->again && sub->life, make = (drop || !sub->life) && link->connected;
    sub->again = false;
    if (make && sub->refused) /* before the server can refuse it again */
        try_refused(sub);
    mutex_unlock(&link->lock);
    if (drop)
        drop_refused(sub);
    if (make)
        subscribe(sub);
    mutex_lock(&link->lock);
}

/* The writer looks at one sub that changed. */
static void settle(struct link *link, struct link_sub *sub) NEEDS(link->lock);

static void settle(struct link *link, struct link_sub *sub)
{
    must_hold(&link->lock);
    if (sub->wanted) {
        settle_wanted(link, sub);
        return;
    }
    /* The pin: a completion callback would otherwise end the sub in the middle of this. */
    sub->leaving = true;
    sub->lives++;
    mutex_unlock(&link->lock);
    if (sub->life)
        unsubscribe(sub);
    mutex_lock(&link->lock);
    sub->lives--;
    if (!sub_may_end(sub))
        return;
    mutex_unlock(&link->lock);
    sub_end(sub);
    mutex_lock(&link->lock);
}

void link_subs_settle(struct link *link)
{
    mutex_lock(&link->lock);
    while (link->todo) {
        struct link_sub *sub = link->todo;
        DL_DELETE2(link->todo, sub, todo_prev, todo_next);
        sub->in_todo = false;
        settle(link, sub);
    }
    mutex_unlock(&link->lock);
}

/* Lock held. */
static void add_todo(struct link *link, struct link_sub *sub)
{
    must_hold(&link->lock);
    if (sub->in_todo)
        return;
    sub->in_todo = true;
    DL_APPEND2(link->todo, sub, todo_prev, todo_next);
}

void link_subs_renew(struct link *link)
{
    must_hold(&link->lock);
    struct link_sub *sub;
    DL_FOREACH(link->subs, sub)
        add_todo(link, sub);
}

/* Those on the present connection, each with a reference more when `shared`; else they are the
 * caller's, and their subs have none. */
static struct link_life *take_lives(struct link *link, bool shared)
{
    struct link_life *lives = NULL;
    struct link_sub *sub;
    mutex_lock(&link->lock);
    DL_FOREACH(link->subs, sub) {
        if (!sub->life)
            continue;
        LL_PREPEND(lives, sub->life);
        if (shared)
            atomic_fetch_add(&sub->life->references, 1);
        else
            sub->life = NULL;
    }
    mutex_unlock(&link->lock);
    return lives;
}

void link_subs_await(struct link *link)
{
    struct link_life *lives = take_lives(link, true);
    while (lives) {
        struct link_life *life = lives;
        lives = life->next;
        kind_of(life)->await(life->handle);
        life_release(life);
    }
}

void link_subs_reset(struct link *link)
{
    struct link_life *lives = take_lives(link, false);
    while (lives) {
        struct link_life *life = lives;
        lives = life->next;
        life_release(life);
    }
}

/* --- what the server refuses --- */

const char *link_subs_without(const struct link *link, const char *subject)
{
    must_hold(&link->lock);
    const struct link_sub *sub;
    DL_FOREACH(link->subs, sub) {
        if (sub->without && strcmp(sub->subject, subject) == 0)
            return sub->without;
    }
    return NULL;
}

void link_subs_refused(struct link *link, const char *subject, bool cut, const char *queue)
{
    must_hold(&link->lock);
    struct link_sub *sub;
    DL_FOREACH(link->subs, sub) {
        bool same = cut ? strncmp(sub->subject, subject, strlen(subject)) == 0
                        : strcmp(sub->subject, subject) == 0;
        if (!same || (queue && (!sub->queue || strcmp(sub->queue, queue) != 0)))
            continue;
        sub->refused = true;
        sub->tried = false;
    }
}

void link_subs_tried(struct link *link)
{
    must_hold(&link->lock);
    struct link_sub *sub;
    DL_FOREACH(link->subs, sub) {
        if (sub->refused)
            try_refused(sub);
    }
}

void link_subs_confirm(struct link *link, uint64_t asked_ns)
{
    must_hold(&link->lock);
    struct link_sub *sub;
    if (!link->confirm_ns || asked_ns < link->confirm_ns)
        return;
    link->confirm_ns = 0;
    DL_FOREACH(link->subs, sub) {
        if (!sub->tried)
            continue;
        sub->refused = sub->tried = false;
        link->complaint_count = 0; /* refused once more it would be news */
    }
}

/* A refused subscription, copied: nothing is called up with the lock held. */
struct refusal {
    struct refusal *next;
    char *subject, *queue; /* owned; queue may be NULL */
};

static struct refusal *refusal_new(const struct link_sub *sub)
{
    struct refusal *refusal = calloc(1, sizeof *refusal);
    if (!refusal)
        return NULL;
    refusal->subject = strdup(sub->subject);
    refusal->queue = sub->queue ? strdup(sub->queue) : NULL;
    if (refusal->subject)
        return refusal;
    free(refusal->queue);
    free(refusal);
    return NULL;
}

void link_each_refused(struct link *link,
                       void (*each)(void *closure, const char *subject, const char *queue),
                       void *closure)
{
    struct refusal *refusals = NULL, *refusal, *next;
    struct link_sub *sub;
    mutex_lock(&link->lock);
    DL_FOREACH(link->subs, sub) {
        if (sub->refused && sub->wanted && !sub->without && (refusal = refusal_new(sub)))
            LL_APPEND(refusals, refusal);
    }
    mutex_unlock(&link->lock);
    LL_FOREACH_SAFE(refusals, refusal, next) {
        each(closure, refusal->subject, refusal->queue);
        free(refusal->subject);
        free(refusal->queue);
        free(refusal);
    }
}

void link_retry_refused(struct link *link)
{
    struct link_sub *sub;
    mutex_lock(&link->lock);
    DL_FOREACH(link->subs, sub) {
        if (!sub->refused || !sub->wanted || sub->tried)
            continue;
        sub->again = true;
        add_todo(link, sub);
    }
    link->writer_idle = false;
    cond_signal(&link->work);
    mutex_unlock(&link->lock);
}

/* --- for everyone --- */

static struct link_sub *subscribe_to(struct link *link, const char *subject, const char *queue,
                                     const char *without,
                                     void (*on_msg)(void *owner, struct packet *packet),
                                     void *owner, struct err *err)
{
    struct link_sub *sub = calloc(1, sizeof *sub);
    if (!sub) {
        err_set(err, ERR_MEMORY, "no memory for a subscription to \"%s\"", subject);
        return NULL;
    }
    sub->link = link;
    sub->subject = strdup(subject);
    sub->queue = queue ? strdup(queue) : NULL;
    sub->on_message = on_msg;
    sub->owner = owner;
    sub->without = without;
    sub->wanted = true;
    mutex_lock(&link->lock);
    int code = 0;
    if (link->stopping)
        code = err_set(err, ERR_CLOSED, "cannot subscribe to \"%s\": the connection is closed",
                       subject);
    else if (!sub->subject || (queue && !sub->queue))
        code = err_set(err, ERR_MEMORY, "no memory for a subscription to \"%s\"", subject);
    if (!code) {
        DL_APPEND(link->subs, sub);
        add_todo(link, sub);
        link->writer_idle = false;
        cond_signal(&link->work);
    }
    mutex_unlock(&link->lock);
    if (!code)
        return sub;
    free(sub->subject);
    free(sub->queue);
    free(sub);
    return NULL;
}

struct link_sub *link_subscribe(struct link *link, const char *subject, const char *queue,
                                void (*on_msg)(void *owner, struct packet *packet), void *owner,
                                struct err *err)
{
    return subscribe_to(link, subject, queue, NULL, on_msg, owner, err);
}

struct link_sub *link_subscribe_optional(struct link *link, const char *subject,
                                         const char *without,
                                         void (*on_msg)(void *owner, struct packet *packet),
                                         void *owner, struct err *err)
{
    return subscribe_to(link, subject, NULL, without, on_msg, owner, err);
}

void link_unsubscribe(struct link_sub *sub, void (*on_drained)(void *owner))
{
    struct link *link = sub->link;
    bool end = false;
    mutex_lock(&link->lock);
    sub->wanted = false;
    sub->on_drained = on_drained;
    if (link->started && !link->writer_done) {
        add_todo(link, sub);
        link->writer_idle = false;
        cond_signal(&link->work);
    } else {
        sub->leaving = true;
        end = sub_may_end(sub);
    }
    mutex_unlock(&link->lock);
    if (end)
        sub_end(sub);
}
