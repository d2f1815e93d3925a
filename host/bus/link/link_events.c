/* The transport's calls up, from its threads: the state, its call up, complaints. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/link/link_private.h"

/* --- the state, and its call up --- */

/* A state is called up by whoever finds nobody else doing so: in order, without a lock, and on no
 * thread of its own. The writer cannot do it alone: it may be held up in the transport just
 * when the connection goes. */
void link_set_state(struct link *link, enum link_state state)
{
    must_hold(&link->lock);
    atomic_store(&link->state, state);
    if (!link->stopping) {
        if (link->queued_count == LINK_STATES_QUEUED)
            link->queued_count--; /* flapping faster than anyone looks: the last one counts */
        link->queued_states[link->queued_count++] = state;
    }
    link->writer_idle = false;
    cond_signal(&link->work);
    cond_broadcast(&link->changed);
}

void link_deliver_states(struct link *link)
{
    mutex_lock(&link->lock);
    if (link->delivering) {
        mutex_unlock(&link->lock);
        return;
    }
    link->delivering = true;
    link->calls_up++;
    while (link->queued_count && !link->stopping) {
        enum link_state state = link->queued_states[0];
        link->queued_count--;
        memmove(link->queued_states, link->queued_states + 1,
                (size_t)link->queued_count * sizeof *link->queued_states);
        mutex_unlock(&link->lock);
        link_call_listeners(link, state);
        mutex_lock(&link->lock);
    }
    link->delivering = false;
    link->calls_up--;
    cond_broadcast(&link->changed);
    mutex_unlock(&link->lock);
}

/* --- what becomes of the connection, in order --- */

/* A transport may not know why: what is left is what the server complained of, and whether it had
 * been answering. */
static void why_lost(const struct link *link, char *buf, size_t size)
{
    must_hold(&link->lock);
    uint64_t silent_ns = link->unanswered_ns ? clock_now_ns() - link->unanswered_ns : 0;
    if (link->error[0])
        snprintf(buf, size, "%s", link->error);
    else if (silent_ns > NS_PER_S)
        snprintf(buf, size, "the server has not answered for %.1fs", (double)silent_ns / 1e9);
    else
        snprintf(buf, size, "closed by the server or the network");
}

static void on_lost(void *owner)
{
    struct link *link = owner;
    char server[sizeof link->server], reason[sizeof link->error];
    mutex_lock(&link->lock);
    bool tell = !link->stopping;
    why_lost(link, reason, sizeof reason);
    memcpy(server, link->server, sizeof server);
    link->lost_ns = clock_now_ns();
    link->unanswered_ns = 0;
    link->fell = true;
    if (tell)
        link_set_state(link, LINK_DISCONNECTED);
    mutex_unlock(&link->lock);
    if (tell)
        log_warn("%s connection to %s lost: %s", link->label, server, reason);
    link_deliver_states(link);
}

/* It is there again, before the writer had to make another one. */
static void on_back(void *owner)
{
    link_up(owner, false);
}

static void on_gone(void *owner)
{
    struct link *link = owner;
    mutex_lock(&link->lock);
    link->gone = true;
    link->writer_idle = false;
    cond_signal(&link->work);
    mutex_unlock(&link->lock);
}

static void on_closed(void *owner)
{
    struct link *link = owner;
    char server[sizeof link->server], reason[sizeof link->error];
    mutex_lock(&link->lock);
    why_lost(link, reason, sizeof reason);
    memcpy(server, link->server, sizeof server);
    /* One that the writer took over was lost before, and said so. */
    bool tell = !link->stopping && !link->gone;
    link->closed++;
    if (!link->lost_ns)
        link->lost_ns = clock_now_ns();
    if (tell)
        link_set_state(link, LINK_CLOSED);
    cond_broadcast(&link->changed);
    link->calls_up++; /* the link must not go while this function still uses it */
    mutex_unlock(&link->lock);
    if (tell)
        log_error("%s connection to %s closed for good: %s; connecting anew", link->label, server,
                  reason);
    link_deliver_states(link);
    mutex_lock(&link->lock);
    link->calls_up--;
    cond_broadcast(&link->changed);
    mutex_unlock(&link->lock);
}

/* --- complaints --- */

void link_tolerate(struct link *link, const char *subject)
{
    BUG_ON(link->tolerated_count == LINK_TOLERATED);
    char *tolerated = link->tolerated[link->tolerated_count++];
    snprintf(tolerated, sizeof link->tolerated[0], "%s", subject);
}

static bool is_tolerated(const struct link *link, const char *subject)
{
    for (int i = 0; i < link->tolerated_count; i++) {
        if (strcmp(subject, link->tolerated[i]) == 0)
            return true;
    }
    return false;
}

/* How often at most the log says that there were more complaints than it names. */
#define MORE_TOLD_NS (60 * NS_PER_S)

enum telling { TELL_NOTHING, TELL_IT, TELL_MORE, TELL_WITHOUT };

/* Lock held. Each text is logged once, up to a bound: a stranger may think of ever new subjects.
 * *more: how many were not, when it is time to say so. */
static enum telling complain(struct link *link, const char *text, uint64_t *more)
{
    must_hold(&link->lock);
    uint64_t hash = hash_add(HASH_START, text, strlen(text)), now_ns = clock_now_ns();
    for (int i = 0; i < link->complaint_count; i++) {
        if (link->complaints[i] == hash)
            return TELL_NOTHING;
    }
    if (link->complaint_count < LINK_COMPLAINTS) {
        link->complaints[link->complaint_count++] = hash;
        return TELL_IT;
    }
    link->complaints_more++;
    if (link->more_told_ns && now_ns < link->more_told_ns + (uint64_t)MORE_TOLD_NS)
        return TELL_NOTHING;
    link->more_told_ns = now_ns;
    *more = link->complaints_more;
    link->complaints_more = 0;
    return TELL_MORE;
}

/* Lock held. What works without it is warned of once, however many subscriptions belong to it. */
static enum telling judge_refusal(struct link *link, const struct transport_refusal *refusal,
                                  const char *without, uint64_t *more)
{
    must_hold(&link->lock);
    const char *subject = refusal->subject;
    if (link->stopping || (subject && refusal->publish && is_tolerated(link, subject)))
        return TELL_NOTHING;
    if (!without)
        return complain(link, refusal->text, more);
    if (link->told_without == without)
        return TELL_NOTHING;
    link->told_without = without;
    return TELL_WITHOUT;
}

static void on_refused(void *owner, const struct transport_refusal *refusal)
{
    struct link *link = owner;
    char server[sizeof link->server];
    const char *subject = refusal->subject;
    const struct log_context permission = {
        .subject = subject, .code = err_name(ERR_PERMISSION), .whole = true};
    uint64_t more = 0;
    mutex_lock(&link->lock);
    const char *without = subject && !refusal->publish ? link_subs_without(link, subject) : NULL;
    enum telling tell = judge_refusal(link, refusal, without, &more);
    if (subject && !refusal->publish)
        link_subs_refused(link, subject, refusal->cut, refusal->queue);
    memcpy(server, link->server, sizeof server);
    /* A subject that is not whole would name another. */
    bool call = subject && !refusal->cut && link->events.on_permission && !link->stopping;
    link->calls_up += call;
    mutex_unlock(&link->lock);
    if (tell == TELL_IT)
        log_event(LOG_ERROR, &permission, "%s connection to %s: %s", link->label, server,
                  refusal->text);
    else if (tell == TELL_WITHOUT)
        log_event(LOG_WARN, &permission, "%s connection to %s: %s: %s", link->label, server,
                  refusal->text, without);
    else if (tell == TELL_MORE)
        log_event(LOG_ERROR, &permission,
                  "%s connection to %s: %llu more permission errors, each of another subject; the "
                  "last one: %s",
                  link->label, server, (unsigned long long)more, refusal->text);
    if (!call)
        return;
    link->events.on_permission(link->events.owner, link,
                               refusal->publish ? "publish" : "subscription", subject);
    mutex_lock(&link->lock);
    link->calls_up--;
    cond_broadcast(&link->changed);
    mutex_unlock(&link->lock);
}

static void on_max_payload(void *owner, size_t max_payload)
{
    struct link *link = owner;
    atomic_store(&link->max_payload, max_payload);
}

static void on_error(void *owner, const char *text)
{
    struct link *link = owner;
    mutex_lock(&link->lock);
    snprintf(link->error, sizeof link->error, "%s", text);
    mutex_unlock(&link->lock);
}

struct transport_events link_transport_events(struct link *link)
{
    return (struct transport_events){
        .owner = link,
        .on_lost = on_lost,
        .on_back = on_back,
        .on_gone = on_gone,
        .on_closed = on_closed,
        .on_refused = on_refused,
        .on_max_payload = on_max_payload,
        .on_error = on_error,
        .on_read_end = link_read_end,
    };
}
