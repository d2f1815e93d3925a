#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "bus/link_private.h"

/* How long a drain without a connection waits for what nats.c has already received. */
#define LOCAL_DRAIN_MS 200

/* --- lives --- */

static void life_release(struct link_life *life)
{
    if (atomic_fetch_sub(&life->references, 1) > 1)
        return;
    natsSubscription_Destroy(life->handle);
    free(life);
}

/* Lock held. Takes a sub off that has no callbacks left and is not wanted; the caller then calls
 * sub_end without the lock. */
static bool sub_may_end(struct link_sub *sub)
{
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

/* Callbacks of nats.c, on its delivery thread. */
static void on_message(natsConnection *nc, natsSubscription *handle, natsMsg *msg, void *closure)
{
    struct link_life *life = closure;
    (void)nc;
    (void)handle;
    life->sub->on_message(life->sub->owner, msg);
}

static void on_complete(void *closure)
{
    struct link_life *life = closure;
    struct link_sub *sub = life->sub;
    struct link *link = sub->link;
    /* nats.c's part of the life goes first: once `lives` is counted down the link may be freed,
     * and once the sub may end, the sub. */
    life_release(life);
    pthread_mutex_lock(&link->lock);
    sub->lives--;
    link->lives--;
    bool end = sub_may_end(sub);
    link->calls_up += end;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
    if (!end)
        return;
    sub_end(sub);
    pthread_mutex_lock(&link->lock);
    link->calls_up--;
    pthread_cond_broadcast(&link->changed);
    pthread_mutex_unlock(&link->lock);
}

/* --- what the writer does --- */

static struct link_life *life_new(struct link_sub *sub)
{
    struct link *link = sub->link;
    struct link_life *life = calloc(1, sizeof *life);
    if (!life)
        return NULL;
    life->sub = sub;
    atomic_init(&life->references, 2);
    pthread_mutex_lock(&link->lock);
    sub->lives++;
    link->lives++;
    pthread_mutex_unlock(&link->lock);
    return life;
}

/* There will be no completion callback for it. */
static void life_unborn(struct link_life *life)
{
    struct link_sub *sub = life->sub;
    pthread_mutex_lock(&sub->link->lock);
    sub->lives--;
    sub->link->lives--;
    pthread_cond_broadcast(&sub->link->changed);
    pthread_mutex_unlock(&sub->link->lock);
}

static void subscribe(struct link_sub *sub)
{
    struct link *link = sub->link;
    struct link_life *life = life_new(sub);
    if (!life) {
        log_error("%s connection: cannot subscribe to \"%s\": out of memory", link->label,
                  sub->subject);
        return;
    }
    natsStatus status =
        sub->queue
            ? natsConnection_QueueSubscribe(&life->handle, link->nc, sub->subject, sub->queue,
                                            on_message, life)
            : natsConnection_Subscribe(&life->handle, link->nc, sub->subject, on_message, life);
    if (status != NATS_OK) {
        life_unborn(life);
        free(life);
        /* A closed connection is made anew, and this with it; anything else is final. */
        if (status != NATS_CONNECTION_CLOSED)
            log_error("%s connection: cannot subscribe to \"%s\": %s", link->label, sub->subject,
                      natsStatus_GetText(status));
        return;
    }
    natsSubscription_SetPendingLimits(life->handle, -1, -1);
    if (natsSubscription_SetOnCompleteCB(life->handle, on_complete, life) != NATS_OK) {
        /* It was closed in between, with its connection: nobody will tell when its last callback
         * has returned, so the few bytes that such a callback reads are left. */
        life_unborn(life);
        return;
    }
    sub->life = life;
}

/* Without a connection nothing more comes, but what nats.c has received and not yet delivered
 * would be thrown away by a plain unsubscribe; and a drain would wait for a PONG. */
static void wait_for_delivery(natsSubscription *handle)
{
    for (int i = 0; i < LOCAL_DRAIN_MS; i++) {
        int waiting = 0;
        if (natsSubscription_GetPending(handle, &waiting, NULL) != NATS_OK || waiting == 0)
            return;
        nats_Sleep(1);
    }
}

static void unsubscribe(struct link_sub *sub)
{
    struct link_life *life = sub->life;
    sub->life = NULL;
    if (atomic_load(&sub->link->state) == LINK_CONNECTED) {
        /* 0: no deadline after which what is queued here would be dropped. When the connection
         * goes, nats.c ends the drain by itself. */
        natsSubscription_DrainTimeout(life->handle, 0);
    } else {
        wait_for_delivery(life->handle);
        natsSubscription_Unsubscribe(life->handle);
    }
    life_release(life);
}

/* The writer looks at one sub that changed. Lock held, left in between, held again. */
static void settle(struct link *link, struct link_sub *sub)
{
    if (sub->wanted) {
        pthread_mutex_unlock(&link->lock);
        if (!sub->life && link->nc)
            subscribe(sub);
        pthread_mutex_lock(&link->lock);
        return;
    }
    /* The pin: a completion callback would otherwise end the sub in the middle of this. */
    sub->leaving = true;
    sub->lives++;
    pthread_mutex_unlock(&link->lock);
    if (sub->life)
        unsubscribe(sub);
    pthread_mutex_lock(&link->lock);
    sub->lives--;
    if (!sub_may_end(sub))
        return;
    pthread_mutex_unlock(&link->lock);
    sub_end(sub);
    pthread_mutex_lock(&link->lock);
}

void link_subs_settle(struct link *link)
{
    pthread_mutex_lock(&link->lock);
    while (link->todo) {
        struct link_sub *sub = link->todo;
        DL_DELETE2(link->todo, sub, todo_prev, todo_next);
        sub->in_todo = false;
        settle(link, sub);
    }
    pthread_mutex_unlock(&link->lock);
}

/* Lock held. */
static void todo(struct link *link, struct link_sub *sub)
{
    if (sub->in_todo)
        return;
    sub->in_todo = true;
    DL_APPEND2(link->todo, sub, todo_prev, todo_next);
}

void link_subs_renew(struct link *link)
{
    struct link_sub *sub;
    DL_FOREACH(link->subs, sub)
        todo(link, sub);
}

void link_subs_forget(struct link *link)
{
    struct link_life *lives = NULL;
    struct link_sub *sub;
    pthread_mutex_lock(&link->lock);
    DL_FOREACH(link->subs, sub) {
        if (sub->life)
            LL_PREPEND(lives, sub->life);
        sub->life = NULL;
    }
    pthread_mutex_unlock(&link->lock);
    while (lives) {
        struct link_life *life = lives;
        lives = life->next;
        life_release(life);
    }
}

/* --- for everyone --- */

struct link_sub *link_subscribe(struct link *link, const char *subject, const char *queue,
                                void (*on_msg)(void *owner, natsMsg *msg), void *owner)
{
    struct link_sub *sub = calloc(1, sizeof *sub);
    if (!sub)
        return NULL;
    sub->link = link;
    sub->subject = strdup(subject);
    sub->queue = queue ? strdup(queue) : NULL;
    sub->on_message = on_msg;
    sub->owner = owner;
    sub->wanted = true;
    pthread_mutex_lock(&link->lock);
    bool refused = !sub->subject || (queue && !sub->queue) || link->stopping;
    if (!refused) {
        DL_APPEND(link->subs, sub);
        todo(link, sub);
        link->writer_idle = false;
        pthread_cond_signal(&link->work);
    }
    pthread_mutex_unlock(&link->lock);
    if (!refused)
        return sub;
    free(sub->subject);
    free(sub->queue);
    free(sub);
    return NULL;
}

void link_unsubscribe(struct link_sub *sub, void (*on_drained)(void *owner))
{
    struct link *link = sub->link;
    bool end = false;
    pthread_mutex_lock(&link->lock);
    sub->wanted = false;
    sub->on_drained = on_drained;
    if (link->started && !link->writer_done) {
        todo(link, sub);
        link->writer_idle = false;
        pthread_cond_signal(&link->work);
    } else {
        sub->leaving = true;
        end = sub_may_end(sub);
    }
    pthread_mutex_unlock(&link->lock);
    if (end)
        sub_end(sub);
}
