/* The outbox: its window, its tries, its end of a publish. */
#include "bus/outbox/publish.h"
#include "base/container.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/sync.h"
#include "base/thread.h"
#include "base/value.h"
#include "bus/outbox/publish_private.h"

/* The bytes of everything that is pending; above it the outbox is full. */
#define CAPACITY_BYTES ((size_t)64 * 1024 * 1024)

#define RANDOM_ID_DIGITS 22
/* So many publishes wait for their PubAck at a time: what is sent must be stored within its timeout
 * also by a slow server, and a fast one must have enough at hand (docs/PERFORMANCE.md: 256 cost a
 * tenth). */
#define DEFAULT_WINDOW 512
#define DEFAULT_CAPACITY (64 * 1024)

/* --- lifetime --- */

static void outbox_release(struct outbox *outbox)
{
    if (atomic_fetch_sub(&outbox->references, 1) > 1)
        return;
    while (outbox->accounts) {
        struct outbox_account *account = outbox->accounts;
        outbox->accounts = account->next;
        free(account);
    }
    cond_destroy(&outbox->changed);
    mutex_destroy(&outbox->lock);
    free(outbox);
}

void publish_retain(struct publish *publish)
{
    atomic_fetch_add(&publish->references, 1);
}

void publish_release(struct publish *publish)
{
    if (atomic_fetch_sub(&publish->references, 1) > 1)
        return;
    struct outbox *outbox = publish->outbox;
    headers_clear(&publish->headers);
    free(publish->place);
    free(publish->subject);
    free(publish);
    if (outbox)
        outbox_release(outbox);
}

/* --- the list and the index --- */

static struct publish *find_publish(struct outbox *outbox, uint64_t id)
{
    must_hold(&outbox->lock);
    struct publish *publish = outbox->buckets[id % BUCKETS];
    while (publish && publish->id != id)
        publish = publish->index_next;
    return publish;
}

static void add_publish(struct outbox *outbox, struct publish *publish)
{
    must_hold(&outbox->lock);
    publish->id = ++outbox->last_id;
    LL_PREPEND2(outbox->buckets[publish->id % BUCKETS], publish, index_next);
    DL_APPEND(outbox->queue, publish);
    outbox->pending++;
    outbox->bytes += publish->size;
}

/* The list's reference is the caller's from now on. */
static void remove_publish(struct publish *publish)
{
    must_hold(&publish->outbox->lock);
    struct outbox *outbox = publish->outbox;
    LL_DELETE2(outbox->buckets[publish->id % BUCKETS], publish, index_next);
    if (publish->in_window) {
        DL_DELETE(outbox->window, publish);
        outbox->in_window--;
    } else {
        DL_DELETE(outbox->queue, publish);
    }
    if (--outbox->pending == 0)
        cond_broadcast(&outbox->changed);
    outbox->bytes -= publish->size;
    publish->stage = STAGE_OVER;
    atomic_store(&publish->over, true);
}

void publish_disarm(struct publish *publish)
{
    must_hold(&publish->outbox->lock);
    struct outbox *outbox = publish->outbox;
    if (publish->call && inbox_cancel(outbox->inbox, publish->call))
        publish_release(publish);
    publish->call = 0;
    if (publish->stage == STAGE_BACKOFF && clock_cancel(outbox->clock, &publish->deadline))
        publish_release(publish);
}

/* --- how they end --- */

static void count_end(struct publish *publish, enum err_code code)
{
    struct outbox_account *account = publish->account;
    must_hold(&publish->outbox->lock);
    if (!account)
        return;
    stat_add(&account->results[-code], 1);
    stat_observe(&account->duration, publish->began_ns ? clock_now_ns() - publish->began_ns : 0);
}

void publish_end_stored(struct publish *publish, const struct receipt *receipt,
                        struct publish_outcome *outcome)
{
    must_hold(&publish->outbox->lock);
    count_end(publish, ERR_NONE);
    if (publish->account && receipt->duplicate)
        stat_add(&publish->account->duplicates, 1);
    remove_publish(publish);
    outcome->publish = publish;
    outcome->stored = true;
    outcome->receipt = *receipt;
    outcome->receipt.retried = publish->tries > 1;
}

void publish_end_failed(struct publish *publish, const struct err *err,
                        struct publish_outcome *outcome)
{
    must_hold(&publish->outbox->lock);
    count_end(publish, err->code);
    remove_publish(publish);
    outcome->publish = publish;
    outcome->stored = false;
    outcome->err = *err;
}

void publish_tell(struct publish_outcome *outcome)
{
    struct publish *publish = outcome->publish;
    if (!publish)
        return;
    outcome->receipt.subject = publish->subject;
    outcome->receipt.id = headers_get(&publish->headers, "Nats-Msg-Id");
    publish->on_result(publish->owner, outcome->stored ? &outcome->receipt : NULL,
                       outcome->stored ? NULL : &outcome->err);
    publish_release(publish);
}

/* --- for everyone --- */

static void take_tries(struct outbox_options *to, const struct outbox_options *from)
{
    to->timeout_ns = from->timeout_ns > 0 ? from->timeout_ns : 5 * NS_PER_S;
    to->attempts = from->attempts > 0 ? from->attempts : 1;
    to->backoff = from->backoff;
}

void outbox_tune(struct outbox *outbox, const struct outbox_options *options)
{
    mutex_lock(&outbox->lock);
    take_tries(&outbox->options, options);
    mutex_unlock(&outbox->lock);
}

struct outbox *outbox_new(struct inbox *inbox, struct jsapi *jsapi, struct link *link,
                          struct clock *clock, const struct outbox_options *options,
                          struct err *err)
{
    struct outbox *outbox = calloc(1, sizeof *outbox);
    if (!outbox) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    outbox->inbox = inbox;
    outbox->jsapi = jsapi;
    outbox->link = link;
    outbox->clock = clock;
    outbox->options = *options;
    take_tries(&outbox->options, options);
    if (outbox->options.window <= 0)
        outbox->options.window = DEFAULT_WINDOW;
    if (outbox->options.capacity <= 0)
        outbox->options.capacity = DEFAULT_CAPACITY;
    atomic_init(&outbox->references, 1);
    mutex_init_spinning(&outbox->lock);
    cond_init(&outbox->changed);
    return outbox;
}

/* Copies the user's fields and adds the id. */
static int copy_headers(struct publish *publish, const struct outbox_message *message,
                        struct err *err)
{
    char random_id[RANDOM_ID_DIGITS + 1];
    const char *id = message->id, *name, *value;
    size_t position = 0;
    if (!id) {
        inbox_random(random_id, RANDOM_ID_DIGITS);
        id = random_id;
    }
    int code = headers_add(&publish->headers, "Nats-Msg-Id", id, strlen(id), err);
    while (!code && message->headers && headers_next(message->headers, &position, &name, &value)) {
        if (strcasecmp(name, "Nats-Msg-Id") != 0)
            code = headers_copy(&publish->headers, name, value, err);
    }
    return code;
}

static struct publish *publish_new(struct outbox *outbox, const struct outbox_message *message,
                                   outbox_fn on_result, void *owner, struct err *err)
{
    size_t subject_len = strlen(message->subject) + 1;
    struct publish *publish = calloc(1, sizeof *publish);
    char *block = malloc(subject_len + message->len);
    if (!publish || !block) {
        free(publish);
        free(block);
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    memcpy(block, message->subject, subject_len);
    if (message->len)
        memcpy(block + subject_len, message->data, message->len);
    publish->subject = block;
    publish->data = block + subject_len;
    publish->len = message->len;
    publish->deadline.on_due = publish_on_due;
    publish->gate = publish_gate();
    atomic_init(&publish->references, 1);
    publish->attempts = message->attempts;
    publish->again = message->again;
    publish->wary = message->wary;
    publish->timeout_ns = message->timeout_ns;
    publish->flow = message->flow;
    publish->account = message->account;
    publish->on_result = on_result;
    publish->owner = owner;
    if (copy_headers(publish, message, err) != 0) {
        publish_release(publish);
        return NULL;
    }
    publish->size = sizeof *publish + subject_len + message->len + publish->headers.capacity;
    publish->outbox = outbox;
    atomic_fetch_add(&outbox->references, 1);
    return publish;
}

static int admit_publish(struct outbox *outbox, struct publish *publish, struct err *err)
{
    must_hold(&outbox->lock);
    if (publish->attempts <= 0)
        publish->attempts = outbox->options.attempts;
    if (publish->timeout_ns <= 0)
        publish->timeout_ns = outbox->options.timeout_ns;
    if (outbox->closed)
        return err_set(err, ERR_CLOSED, "\"%s\": the host is stopping", publish->subject);
    if (outbox->pending >= outbox->options.capacity ||
        (outbox->pending && outbox->bytes + publish->size > CAPACITY_BYTES))
        return err_set(err, ERR_FULL, "\"%s\": %d publishes (%zu MB) wait for their PubAck",
                       publish->subject, outbox->pending, outbox->bytes >> 20);
    return 0;
}

/* The first try, on the caller's thread; what cannot pass is the caller's to hear. */
static int begin_publish(struct outbox *outbox, struct publish *publish, struct err *err)
{
    must_hold(&outbox->lock);
    struct publish_outcome outcome;
    outcome.publish = NULL;
    publish_enter_window(publish, &outcome);
    if (!publish->began_ns)
        publish->began_ns = clock_now_ns();
    return outcome.publish ? err_set(err, outcome.err.code, "%s", outcome.err.message) : 0;
}

uint64_t outbox_publish(struct outbox *outbox, const struct outbox_message *message,
                        outbox_fn on_result, void *owner, struct err *err)
{
    struct publish *publish = publish_new(outbox, message, on_result, owner, err);
    if (!publish)
        return 0;
    /* It may be answered, and gone, before this has looked at its id. */
    publish_retain(publish);
    mutex_lock(&outbox->lock);
    uint64_t id = 0;
    bool admitted = admit_publish(outbox, publish, err) == 0;
    /* What does not fit is no end of a publish: its sender waits for room, and comes again. */
    if (!admitted && outbox->closed && publish->account)
        stat_add(&publish->account->results[-ERR_CLOSED], 1);
    if (admitted) {
        add_publish(outbox, publish);
        id = begin_publish(outbox, publish, err) == 0 ? publish->id : 0;
    }
    mutex_unlock(&outbox->lock);
    if (!id)
        publish_release(publish); /* the list's, which it never was in or has left */
    publish_release(publish);
    return id;
}

bool outbox_cancel(struct outbox *outbox, uint64_t id)
{
    mutex_lock(&outbox->lock);
    struct publish *publish = find_publish(outbox, id);
    if (publish) {
        publish_disarm(publish);
        count_end(publish, ERR_CANCELLED);
        remove_publish(publish);
        publish_fill_window(outbox);
    }
    mutex_unlock(&outbox->lock);
    if (!publish)
        return false;
    publish_release(publish);
    return true;
}

static void send_again(struct outbox *outbox)
{
    struct publish *publish;
    mutex_lock(&outbox->lock);
    DL_FOREACH(outbox->window, publish) {
        /* A question about it (a server that shuts down has no streams before it has no
         * connections) was lost with the connection as well. */
        bool asked = publish->stage == STAGE_ASKING || publish->stage == STAGE_LOCATING ||
                     publish->stage == STAGE_READING || publish->stage == STAGE_DOUBTING;
        bool sent = publish->stage == STAGE_SENT && atomic_load(&publish->frames) == 0;
        sent = (sent || asked) && inbox_cancel(outbox->inbox, publish->call);
        bool due =
            publish->stage == STAGE_BACKOFF && clock_cancel(outbox->clock, &publish->deadline);
        if (!sent && !due)
            continue; /* still in the lane, or its end is on its way */
        publish_release(publish);
        publish->call = 0;
        publish_try_or_arm(publish);
    }
    mutex_unlock(&outbox->lock);
}

struct outbox_account *outbox_account_new(struct outbox *outbox)
{
    struct outbox_account *account = calloc(1, sizeof *account);
    if (!account)
        return NULL;
    mutex_lock(&outbox->lock);
    LL_PREPEND(outbox->accounts, account);
    mutex_unlock(&outbox->lock);
    return account;
}

int outbox_pending(struct outbox *outbox)
{
    mutex_lock(&outbox->lock);
    int pending = outbox->pending;
    mutex_unlock(&outbox->lock);
    return pending;
}

size_t outbox_max_payload(const struct outbox *outbox)
{
    return link_max_payload(outbox->link);
}

void outbox_on_link(struct outbox *outbox, enum link_state state)
{
    if (state == LINK_CONNECTED)
        send_again(outbox);
    mutex_lock(&outbox->lock);
    cond_broadcast(&outbox->changed);
    mutex_unlock(&outbox->lock);
}

void outbox_wait(struct outbox *outbox, uint64_t deadline_ns)
{
    mutex_lock(&outbox->lock);
    while (outbox->pending > 0 && link_state(outbox->link) == LINK_CONNECTED &&
           cond_wait_until(&outbox->changed, &outbox->lock, deadline_ns))
        ;
    mutex_unlock(&outbox->lock);
}

void outbox_close(struct outbox *outbox)
{
    struct err closed;
    struct publish_outcome outcome;
    mutex_lock(&outbox->lock);
    outbox->closed = true;
    while (outbox->window || outbox->queue) {
        struct publish *publish = outbox->window ? outbox->window : outbox->queue;
        err_set(&closed, ERR_CLOSED, "\"%s\": the host is stopping; it may have been stored",
                publish->subject);
        publish_disarm(publish);
        publish_end_failed(publish, &closed, &outcome);
        mutex_unlock(&outbox->lock);
        publish_tell(&outcome);
        mutex_lock(&outbox->lock);
    }
    mutex_unlock(&outbox->lock);
}

void outbox_free(struct outbox *outbox)
{
    if (!outbox)
        return;
    outbox_close(outbox);
    outbox_release(outbox);
}
