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
    if (publish->place)
        free(publish->place);
    publish->on_gone(publish);
    outbox_release(outbox);
}

/* --- the list --- */

static void add_publish(struct outbox *outbox, struct publish *publish)
{
    must_hold(&outbox->lock);
    DL_APPEND(outbox->queue, publish);
    outbox->pending++;
    atomic_fetch_add_explicit(&outbox->bytes, publish->size, memory_order_relaxed);
}

/* The list's reference is the caller's from now on. */
static void remove_publish(struct publish *publish)
{
    must_hold(&publish->outbox->lock);
    struct outbox *outbox = publish->outbox;
    if (publish->in_window) {
        DL_DELETE(outbox->window, publish);
        outbox->in_window--;
    } else {
        DL_DELETE(outbox->queue, publish);
    }
    if (--outbox->pending == 0)
        cond_broadcast(&outbox->changed);
    atomic_fetch_sub_explicit(&outbox->bytes, publish->size, memory_order_relaxed);
    publish->stage = STAGE_OVER;
    atomic_store(&publish->over, true);
}

bool publish_cancel_call(struct publish *publish)
{
    must_hold(&publish->outbox->lock);
    if (!inbox_cancel(publish->outbox->inbox, publish->call))
        return false;
    if (publish->stage != STAGE_SENT) /* a try gives its reference back by itself */
        publish_release(publish);
    return true;
}

void publish_disarm(struct publish *publish)
{
    must_hold(&publish->outbox->lock);
    struct outbox *outbox = publish->outbox;
    if (publish->call)
        publish_cancel_call(publish);
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
    if (receipt != &outcome->receipt)
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
    publish_call_line(publish->outbox);
    outcome->receipt.subject = publish->subject;
    outcome->receipt.id = publish->id;
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

#define ID_HEADER "Nats-Msg-Id"
#define ID_ROOM (sizeof ID_HEADER ": \r\n" - 1)

size_t outbox_bytes(const struct outbox_message *message)
{
    size_t id = message->id.at ? message->id.len : RANDOM_ID_DIGITS;
    size_t headers = message->headers ? message->headers->len : 0;
    return strlen(message->subject) + 1 + ID_ROOM + id + headers + message->len;
}

static bool fits_a_line(struct span id)
{
    return !memchr(id.at, '\r', id.len) && !memchr(id.at, '\n', id.len) &&
           !memchr(id.at, '\0', id.len);
}

/* The id first, then the user's fields. Returns the end. */
static char *copy_headers(struct publish *publish, const struct outbox_message *message, char *at,
                          struct err *err)
{
    static const char begin[] = ID_HEADER ": ";
    struct span id = message->id;
    struct header_field field;
    size_t position = 0;
    char *value = at + sizeof begin - 1;
    memcpy(at, begin, sizeof begin - 1);
    if (id.at) {
        memcpy(value, id.at, id.len);
    } else {
        inbox_random(value, RANDOM_ID_DIGITS); /* its NUL is where the line ends */
        id.len = RANDOM_ID_DIGITS;
    }
    memcpy(value + id.len, "\r\n", 2);
    publish->id = (struct span){value, id.len};
    size_t len = ID_ROOM + id.len, more = message->headers ? message->headers->len : 0;
    publish->headers = headers_in(at, len + more);
    publish->headers.len = len;
    publish->headers.count = 1;
    while (more && headers_next(message->headers, &position, &field)) {
        if (!span_is(field.name, ID_HEADER) &&
            headers_copy(&publish->headers, field.name, field.value, err) != 0)
            return NULL;
    }
    return at + len + more;
}

/* Field by field: most of it needs no zeroes. */
static int publish_init(struct publish *publish, char *bytes, const struct outbox_message *message,
                        struct err *err)
{
    size_t subject_len = strlen(message->subject) + 1;
    publish->deadline = (struct deadline){.on_due = publish_on_due};
    publish->gate = publish_gate();
    atomic_init(&publish->references, 1);
    atomic_init(&publish->frames, 0);
    atomic_init(&publish->over, false);
    publish->stage = STAGE_QUEUED;
    publish->in_window = publish->sent_first = publish->asks_beside = publish->doubted = false;
    publish->again = message->again;
    publish->wary = message->wary;
    publish->call = 0;
    publish->tries = publish->failures = publish->unsure = 0;
    publish->attempts = message->attempts;
    publish->at_once = message->at_once;
    publish->was_full = false;
    publish->timeout_ns = message->timeout_ns;
    publish->unsure_ns = publish->began_ns = 0;
    publish->flow = message->flow;
    publish->account = message->account;
    publish->place = NULL;
    publish->subject = memcpy(bytes, message->subject, subject_len);
    bytes = copy_headers(publish, message, bytes + subject_len, err);
    if (!bytes)
        return err->code;
    publish->len = message->len;
    publish->data = message->len ? memcpy(bytes, message->data, message->len) : bytes;
    publish->size = sizeof *publish + (size_t)(bytes - publish->subject) + message->len;
    return 0;
}

/* One that is alone fits, however large it is. */
bool publish_fits(const struct outbox *outbox, size_t bytes)
{
    size_t there = atomic_load_explicit(&outbox->bytes, memory_order_relaxed);
    return there == 0 || there + bytes <= CAPACITY_BYTES;
}

static int admit_publish(struct outbox *outbox, struct publish *publish, bool waits,
                         struct err *err)
{
    must_hold(&outbox->lock);
    if (publish->attempts <= 0)
        publish->attempts = outbox->options.attempts;
    if (publish->timeout_ns <= 0)
        publish->timeout_ns = outbox->options.timeout_ns;
    if (outbox->closed)
        return err_set(err, ERR_CLOSED, "\"%s\": the host is stopping", publish->subject);
    if (!waits &&
        (outbox->pending >= outbox->options.capacity || !publish_fits(outbox, publish->size)))
        return err_set(err, ERR_FULL, "\"%s\": %d publishes (%zu MB) wait for their PubAck",
                       publish->subject, outbox->pending, atomic_load(&outbox->bytes) >> 20);
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

int outbox_publish_in(struct outbox *outbox, struct publish *publish, char *bytes,
                      const struct outbox_message *message, outbox_fn on_result,
                      void (*on_gone)(struct publish *publish), void *owner, struct err *err)
{
    publish->outbox = outbox;
    publish->on_result = on_result;
    publish->on_gone = on_gone;
    publish->owner = owner;
    int code = publish_init(publish, bytes, message, err);
    if (code) {
        on_gone(publish);
        return code;
    }
    atomic_fetch_add(&outbox->references, 1);
    mutex_lock(&outbox->lock);
    code = admit_publish(outbox, publish, message->waits, err);
    /* What does not fit is no end of a publish: its sender may come again. */
    if (code == ERR_CLOSED && publish->account)
        stat_add(&publish->account->results[-ERR_CLOSED], 1);
    if (!code) {
        add_publish(outbox, publish);
        code = begin_publish(outbox, publish, err);
    }
    mutex_unlock(&outbox->lock);
    if (code) {
        publish_call_line(outbox);
        publish_release(publish); /* the list's, which it never was in or has left */
    }
    return code;
}

static void free_publish(struct publish *publish)
{
    free(publish);
}

int outbox_publish(struct outbox *outbox, const struct outbox_message *message, outbox_fn on_result,
                   void *owner, struct err *err)
{
    if (message->id.at && !fits_a_line(message->id))
        return err_set(err, ERR_INVALID, "\"%s\": a message id holds no line break and no NUL",
                       message->subject);
    struct publish *publish = malloc(sizeof *publish + outbox_bytes(message));
    if (!publish)
        return err_set(err, ERR_MEMORY, "out of memory");
    return outbox_publish_in(outbox, publish, (char *)(publish + 1), message, on_result,
                             free_publish, owner, err);
}

bool outbox_has_room(const struct outbox *outbox, size_t bytes, uint64_t ticket)
{
    bool behind = !ticket && atomic_load_explicit(&outbox->has_line, memory_order_relaxed);
    return !behind && publish_fits(outbox, bytes);
}

bool outbox_cancel(struct outbox *outbox, struct publish *publish)
{
    mutex_lock(&outbox->lock);
    bool pending = publish->stage != STAGE_OVER;
    if (pending) {
        publish_disarm(publish);
        count_end(publish, ERR_CANCELLED);
        remove_publish(publish);
        publish_fill_window(outbox);
    }
    mutex_unlock(&outbox->lock);
    if (pending) {
        publish_call_line(outbox);
        publish_release(publish);
    }
    return pending;
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
        bool call = (sent || asked) && publish_cancel_call(publish);
        bool due =
            publish->stage == STAGE_BACKOFF && clock_cancel(outbox->clock, &publish->deadline);
        if (!call && !due)
            continue; /* still in the lane, or its end is on its way */
        if (due)
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
