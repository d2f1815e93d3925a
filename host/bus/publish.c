#include "bus/publish.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/thread.h"
#include "base/value.h"
#include "bus/publish_private.h"

/* The bytes of everything that is pending; above it the outbox is full. */
#define CAPACITY_BYTES ((size_t)64 * 1024 * 1024)

#define RANDOM_ID_DIGITS 22
/* So many publishes wait for their PubAck at a time: what is sent must be stored within its timeout
 * also by a slow server, and a fast one must have enough at hand (docs/PERFORMANCE.md: 256 cost a
 * tenth). */
#define DEFAULT_WINDOW 512
#define DEFAULT_CAPACITY (64 * 1024)

static void try_now(struct publish *publish, struct outcome *outcome);

/* --- lifetime --- */

static void outbox_release(struct outbox *outbox)
{
    if (atomic_fetch_sub(&outbox->references, 1) > 1)
        return;
    pthread_mutex_destroy(&outbox->lock);
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

/* --- the list and the index; lock held --- */

static struct publish *find(struct outbox *outbox, uint64_t id)
{
    struct publish *publish = outbox->buckets[id % BUCKETS];
    while (publish && publish->id != id)
        publish = publish->index_next;
    return publish;
}

static void add(struct outbox *outbox, struct publish *publish)
{
    publish->id = ++outbox->last_id;
    LL_PREPEND2(outbox->buckets[publish->id % BUCKETS], publish, index_next);
    DL_APPEND(outbox->queue, publish);
    outbox->pending++;
    outbox->bytes += publish->size;
}

/* The list's reference is the caller's from now on. */
static void take_off(struct publish *publish)
{
    struct outbox *outbox = publish->outbox;
    LL_DELETE2(outbox->buckets[publish->id % BUCKETS], publish, index_next);
    if (publish->in_window) {
        DL_DELETE(outbox->window, publish);
        outbox->in_window--;
    } else {
        DL_DELETE(outbox->queue, publish);
    }
    outbox->pending--;
    outbox->bytes -= publish->size;
    publish->stage = STAGE_OVER;
    atomic_store(&publish->over, true);
}

/* Lock held. Ends what it waits for, as far as that has not begun to end by itself. */
static void disarm(struct publish *publish)
{
    struct outbox *outbox = publish->outbox;
    if (publish->call && inbox_cancel(outbox->inbox, publish->call))
        publish_release(publish);
    publish->call = 0;
    if (publish->stage == STAGE_BACKOFF && clock_cancel(outbox->clock, &publish->deadline))
        publish_release(publish);
}

/* Lock held. */
void publish_end_stored(struct publish *publish, const struct receipt *receipt,
                        struct outcome *outcome)
{
    take_off(publish);
    outcome->publish = publish;
    outcome->stored = true;
    outcome->receipt = *receipt;
}

void publish_end_failed(struct publish *publish, const struct err *err, struct outcome *outcome)
{
    take_off(publish);
    outcome->publish = publish;
    outcome->stored = false;
    outcome->err = *err;
}

/* Lock not held. */
void publish_tell(struct outcome *outcome)
{
    struct publish *publish = outcome->publish;
    if (!publish)
        return;
    publish->on_result(publish->owner, outcome->stored ? &outcome->receipt : NULL,
                       outcome->stored ? NULL : &outcome->err);
    publish_release(publish);
}

/* --- the gate: of a publish that waits in the lane more than once, the last frame goes --- */

static struct publish *of_gate(struct link_gate *gate)
{
    return (struct publish *)((char *)gate - offsetof(struct publish, gate));
}

static bool gate_open(struct link_gate *gate)
{
    struct publish *publish = of_gate(gate);
    return atomic_load(&publish->frames) == 1 && !atomic_load(&publish->over);
}

static void gate_done(struct link_gate *gate, bool sent)
{
    struct publish *publish = of_gate(gate);
    (void)sent;
    atomic_fetch_sub(&publish->frames, 1);
    publish_release(publish);
}

/* --- failing a try; lock held --- */

void publish_try_later(struct publish *publish, const struct err *err, struct outcome *outcome)
{
    struct outbox *outbox = publish->outbox;
    publish->failures++;
    if (publish->failures >= (unsigned)publish->attempts) {
        struct err last = *err;
        if (publish->attempts > 1)
            err_prefix(&last, "after %d attempts", publish->attempts);
        publish_end_failed(publish, &last, outcome);
        return;
    }
    int64_t delay_ns =
        backoff_delay_ns(&outbox->options.backoff, publish->failures, retry_random());
    publish->stage = STAGE_BACKOFF;
    publish_retain(publish);
    clock_arm(outbox->clock, &publish->deadline, clock_now_ns() + (uint64_t)delay_ns);
}

static void on_due(struct deadline *deadline)
{
    struct publish *publish = (struct publish *)deadline;
    struct outbox *outbox = publish->outbox;
    struct outcome outcome;
    outcome.publish = NULL;
    pthread_mutex_lock(&outbox->lock);
    if (publish->stage == STAGE_BACKOFF)
        try_now(publish, &outcome);
    publish_fill_window(outbox);
    pthread_mutex_unlock(&outbox->lock);
    publish_tell(&outcome);
    publish_release(publish);
}

/* --- sending; lock held --- */

static int send_try(struct publish *publish, struct err *err)
{
    struct outbox *outbox = publish->outbox;
    struct link_frame frame = {
        .subject = publish->subject,
        .data = publish->data,
        .len = publish->len,
        .headers = &publish->headers,
        .gate = &publish->gate,
        .flow = publish->flow,
        .owed = true, /* the window bounds them */
    };
    publish->stage = STAGE_SENT;
    publish->tries++;
    atomic_fetch_add(&publish->references, 2); /* the call's and the frame's */
    atomic_fetch_add(&publish->frames, 1);
    publish->call =
        inbox_request(outbox->inbox, &frame, clock_now_ns() + (uint64_t)publish->timeout_ns,
                      publish_on_puback, publish, err);
    if (publish->call)
        return 0;
    publish->tries--;
    atomic_fetch_sub(&publish->frames, 1);
    publish_release(publish);
    publish_release(publish);
    return err->code;
}

static bool may_pass(int code)
{
    return code == ERR_DISCONNECTED || code == ERR_FULL;
}

static void try_now(struct publish *publish, struct outcome *outcome)
{
    struct err err;
    int code = send_try(publish, &err);
    if (code && may_pass(code))
        publish_try_later(publish, &err, outcome);
    else if (code)
        publish_end_failed(publish, &err, outcome);
}

/* Where nobody can be told of a failure: then the clock tries again at once, and tells. */
static void try_or_arm(struct publish *publish)
{
    struct err err;
    if (send_try(publish, &err) == 0)
        return;
    publish->stage = STAGE_BACKOFF;
    publish_retain(publish);
    clock_arm(publish->outbox->clock, &publish->deadline, clock_now_ns());
}

static void enter_window(struct publish *publish)
{
    struct outbox *outbox = publish->outbox;
    DL_DELETE(outbox->queue, publish);
    DL_APPEND(outbox->window, publish);
    publish->in_window = true;
    outbox->in_window++;
}

static bool has_room(const struct outbox *outbox)
{
    return outbox->in_window < outbox->options.window && !outbox->closed;
}

void publish_fill_window(struct outbox *outbox)
{
    while (outbox->queue && has_room(outbox)) {
        struct publish *publish = outbox->queue;
        enter_window(publish);
        try_or_arm(publish);
    }
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
    pthread_mutex_lock(&outbox->lock);
    take_tries(&outbox->options, options);
    pthread_mutex_unlock(&outbox->lock);
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
    thread_mutex_init(&outbox->lock);
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
    publish->deadline.on_due = on_due;
    publish->gate = (struct link_gate){.open = gate_open, .done = gate_done};
    atomic_init(&publish->references, 1);
    publish->attempts = message->attempts;
    publish->timeout_ns = message->timeout_ns;
    publish->warn_duplicate = message->warn_duplicate;
    publish->flow = message->flow;
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

/* Lock held. */
static int admit(struct outbox *outbox, struct publish *publish, struct err *err)
{
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

/* Lock held. The first try, on the caller's thread; what cannot pass is the caller's to hear. */
static int begin(struct outbox *outbox, struct publish *publish, struct err *err)
{
    struct outcome outcome;
    outcome.publish = NULL;
    if (outbox->queue != publish || !has_room(outbox))
        return 0;
    enter_window(publish);
    try_now(publish, &outcome);
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
    pthread_mutex_lock(&outbox->lock);
    uint64_t id = 0;
    bool admitted = admit(outbox, publish, err) == 0;
    if (admitted) {
        add(outbox, publish);
        id = begin(outbox, publish, err) == 0 ? publish->id : 0;
    }
    pthread_mutex_unlock(&outbox->lock);
    if (!id)
        publish_release(publish); /* the list's, which it never was in or has left */
    publish_release(publish);
    return id;
}

bool outbox_cancel(struct outbox *outbox, uint64_t id)
{
    pthread_mutex_lock(&outbox->lock);
    struct publish *publish = find(outbox, id);
    if (publish) {
        disarm(publish);
        take_off(publish);
        publish_fill_window(outbox);
    }
    pthread_mutex_unlock(&outbox->lock);
    if (!publish)
        return false;
    publish_release(publish);
    return true;
}

void outbox_reconnected(struct outbox *outbox)
{
    struct publish *publish;
    pthread_mutex_lock(&outbox->lock);
    DL_FOREACH(outbox->window, publish) {
        /* A question about it (a server that shuts down has no streams before it has no
         * connections) was lost with the connection as well. */
        bool asked = publish->stage == STAGE_ASKING || publish->stage == STAGE_LOCATING ||
                     publish->stage == STAGE_READING;
        bool sent = publish->stage == STAGE_SENT && atomic_load(&publish->frames) == 0;
        sent = (sent || asked) && inbox_cancel(outbox->inbox, publish->call);
        bool due =
            publish->stage == STAGE_BACKOFF && clock_cancel(outbox->clock, &publish->deadline);
        if (!sent && !due)
            continue; /* still in the lane, or its end is on its way */
        publish_release(publish);
        publish->call = 0;
        try_or_arm(publish);
    }
    pthread_mutex_unlock(&outbox->lock);
}

int outbox_pending(struct outbox *outbox)
{
    pthread_mutex_lock(&outbox->lock);
    int pending = outbox->pending;
    pthread_mutex_unlock(&outbox->lock);
    return pending;
}

void outbox_close(struct outbox *outbox)
{
    struct err closed;
    struct outcome outcome;
    pthread_mutex_lock(&outbox->lock);
    outbox->closed = true;
    while (outbox->window || outbox->queue) {
        struct publish *publish = outbox->window ? outbox->window : outbox->queue;
        err_set(&closed, ERR_CLOSED, "\"%s\": the host is stopping; it may have been stored",
                publish->subject);
        disarm(publish);
        publish_end_failed(publish, &closed, &outcome);
        pthread_mutex_unlock(&outbox->lock);
        publish_tell(&outcome);
        pthread_mutex_lock(&outbox->lock);
    }
    pthread_mutex_unlock(&outbox->lock);
}

void outbox_free(struct outbox *outbox)
{
    if (!outbox)
        return;
    outbox_close(outbox);
    outbox_release(outbox);
}
