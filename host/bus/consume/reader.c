/* Readers: a queue between an ordered consumer and who reads. */
#include "bus/consume/reader.h"

#include <stdlib.h>
#include <utlist.h>

#include "base/container.h"
#include "base/sync.h"
#include "base/value.h"
#include "bus/ack_subject.h"

/* What may wait here: enough for the server's round trip, whatever the messages' size. */
#define CREDIT 256
#define HELD_BYTES (4 << 20)
/* One try to open it: two requests, each of which may take so long as one usually may. Then others
 * have their turn on the pool. */
#define TRY_NS (10 * NS_PER_S)
/* So long after the time to open it is over: who has its turn says by then what was missing. */
#define LATE_NS (100 * NS_PER_MS)

enum phase { PHASE_OPENING, PHASE_OPEN, PHASE_CLOSED };

struct node {
    struct node *next;
    struct reader_message message;
};

struct reader {
    struct ordered *ordered; /* owned */
    const struct intake *intake;
    uint64_t to_sequence, most;
    int64_t to_ns;
    uint64_t deadline_ns;     /* of opening */
    struct deadline too_late; /* armed until it is open; a reference */
    bool last_ones; /* of each subject: its end is what was there, whatever its sequence */
    struct pool_job job;

    struct mutex lock; /* guards all below; a puller's may be held */
    int references;
    enum phase phase;
    struct node *queue; /* owned */
    uint64_t came;      /* that were queued */
    uint64_t last;      /* the sequence of the last one that is wanted */
    bool complete;      /* nothing more will be queued */
    bool failed;
    struct err err; /* of a failure */
    void (*on_more)(void *owner);
    void *owner;
};

/* --- life --- */

static void free_queue(struct node *queue)
{
    struct node *node, *next;
    LL_FOREACH_SAFE(queue, node, next) {
        packet_clear(&node->message.packet);
        free(node);
    }
}

struct reader *reader_retain(struct reader *reader)
{
    mutex_lock(&reader->lock);
    reader->references++;
    mutex_unlock(&reader->lock);
    return reader;
}

void reader_release(struct reader *reader)
{
    mutex_lock(&reader->lock);
    bool last = --reader->references == 0;
    mutex_unlock(&reader->lock);
    if (!last)
        return;
    free_queue(reader->queue);
    ordered_free(reader->ordered);
    mutex_destroy(&reader->lock);
    free(reader);
}

/* Gives the lock back, and wakes who waits. */
static void unlock_and_wake(struct reader *reader) UNLOCKS(reader->lock);

static void unlock_and_wake(struct reader *reader)
{
    must_hold(&reader->lock);
    void (*on_more)(void *) = reader->on_more;
    void *owner = reader->owner;
    reader->on_more = NULL;
    mutex_unlock(&reader->lock);
    if (on_more)
        on_more(owner);
}

static void fail(struct reader *reader, const struct err *err)
{
    must_hold(&reader->lock);
    if (reader->failed || reader->complete)
        return;
    reader->failed = true;
    reader->err = *err;
    if (err->code == ERR_NOT_FOUND)
        err_set(&reader->err, ERR_NO_STREAM, "there is no stream \"%s\"",
                ordered_stream(reader->ordered));
}

/* --- what comes --- */

static bool is_wanted(const struct reader *reader, const struct ack_subject *ack)
{
    must_hold(&reader->lock);
    return !reader->complete && !reader->failed && ack->stream_sequence <= reader->last &&
           (!reader->to_ns || ack->timestamp_ns <= reader->to_ns);
}

/* Called up without a message: who waits is woken. Never read. */
static char nothing;

static enum puller_taken take_message(void *owner, struct packet *packet,
                                      const struct ack_subject *ack, void **taken)
{
    struct reader *reader = owner;
    enum puller_taken how = PULLER_DONE;
    *taken = &nothing;
    mutex_lock(&reader->lock);
    if (!is_wanted(reader, ack)) {
        reader->complete = true;
    } else {
        struct node *node = calloc(1, sizeof *node);
        how = node ? PULLER_HELD : PULLER_UNSEEN;
        *taken = NULL;
        if (node) {
            node->message.packet = packet_take(packet);
            node->message.sequence = ack->stream_sequence;
            node->message.timestamp_ns = ack->timestamp_ns;
            ordered_retain(reader->ordered);
            *taken = node;
            reader->came++;
        }
    }
    mutex_unlock(&reader->lock);
    return how;
}

static void hand_on_message(void *owner, void *taken)
{
    struct reader *reader = owner;
    struct node *node = taken == &nothing ? NULL : taken;
    mutex_lock(&reader->lock);
    bool closed = reader->phase == PHASE_CLOSED;
    if (node && !closed) {
        LL_APPEND(reader->queue, node);
        if (node->message.sequence >= reader->last ||
            (reader->most && reader->came >= reader->most))
            reader->complete = true;
    }
    unlock_and_wake(reader);
    if (!node || !closed)
        return;
    ordered_released(reader->ordered, packet_bytes(&node->message.packet));
    free_queue(node);
}

/* Nothing more is there, of what was there when it began. */
static void on_caught_up(void *owner)
{
    struct reader *reader = owner;
    mutex_lock(&reader->lock);
    reader->complete = !reader->failed;
    unlock_and_wake(reader);
}

static void on_anew(void *owner)
{
    struct reader *reader = owner;
    struct err err;
    err_set(&err, ERR_NO_STREAM, "stream %s was deleted, and made anew, while it was read",
            ordered_stream(reader->ordered));
    mutex_lock(&reader->lock);
    fail(reader, &err);
    mutex_unlock(&reader->lock); /* what comes of the new one wakes */
}

static void on_lost(void *owner, const struct err *err)
{
    struct reader *reader = owner;
    mutex_lock(&reader->lock);
    fail(reader, err);
    unlock_and_wake(reader);
}

static const struct ordered_calls calls = {
    .take = take_message,
    .hand_on = hand_on_message,
    .on_caught_up = on_caught_up,
    .on_anew = on_anew,
    .on_lost = on_lost,
};

/* --- opening, closing --- */

/* The end of the ordered consumer ends a reference. */
static void on_stopped(void *owner)
{
    reader_release(owner);
}

/* The clock. Its turn on the pool may not have come. */
static void on_too_late(struct deadline *deadline)
{
    struct reader *reader = container_of(deadline, struct reader, too_late);
    struct err err;
    err_set(&err, ERR_TIMEOUT, "the stream \"%s\" could not be opened in time",
            ordered_stream(reader->ordered));
    mutex_lock(&reader->lock);
    if (reader->phase == PHASE_OPENING)
        fail(reader, &err);
    unlock_and_wake(reader);
    reader_release(reader);
}

/* Is anybody still waiting for it to be opened? */
static bool is_opening(struct reader *reader)
{
    mutex_lock(&reader->lock);
    bool opening = reader->phase == PHASE_OPENING && !reader->failed;
    mutex_unlock(&reader->lock);
    return opening;
}

/* Makes the consumer. 0: it is to be started. *again: it was no more than a try. */
static int make_ordered(struct reader *reader, bool *again, struct err *err)
{
    uint64_t began_ns = clock_now_ns(), until_ns = began_ns + TRY_NS;
    *again = false;
    if (!is_opening(reader))
        return err_set(err, ERR_CANCELLED, "nobody waits for it");
    if (until_ns > reader->deadline_ns)
        until_ns = reader->deadline_ns;
    int code = ordered_ensure(reader->ordered, until_ns, err);
    *again = err_passes(code) && is_opening(reader) && until_ns < reader->deadline_ns &&
             clock_now_ns() - began_ns >= TRY_NS / 2;
    return code;
}

/* What is read ends with what is there now. Of a subject that is written meanwhile the last message
 * is a new one, which counts as what was there. */
static void set_end(struct reader *reader)
{
    must_hold(&reader->lock);
    uint64_t target = reader->last_ones ? UINT64_MAX : ordered_target(reader->ordered);
    if (!reader->last || reader->last > target)
        reader->last = target;
}

/* On a pool thread; has a reference. */
static void run_open(struct pool_job *job)
{
    struct reader *reader = container_of(job, struct reader, job);
    struct err err = {0};
    bool again;
    int code = make_ordered(reader, &again, &err);
    if (again) {
        pool_submit_within(reader->intake->pool, reader->intake->reads, job);
        return;
    }
    if (clock_cancel(reader->intake->clock, &reader->too_late))
        reader_release(reader);
    mutex_lock(&reader->lock);
    set_end(reader);
    bool start = code == 0 && reader->phase == PHASE_OPENING && !reader->failed;
    if (code != 0)
        fail(reader, &err);
    mutex_unlock(&reader->lock);
    if (start && ordered_start(reader->ordered, &err) != 0) {
        mutex_lock(&reader->lock);
        fail(reader, &err);
        mutex_unlock(&reader->lock);
    }
    mutex_lock(&reader->lock);
    bool closed = reader->phase == PHASE_CLOSED;
    if (!closed)
        reader->phase = PHASE_OPEN;
    unlock_and_wake(reader);
    if (closed)
        ordered_stop(reader->ordered, on_stopped); /* the job's reference */
    else
        reader_release(reader);
}

struct reader *reader_open(const struct intake *intake, const struct reader_options *options,
                           struct err *err)
{
    struct reader *reader = calloc(1, sizeof *reader);
    struct ordered_spec spec = options->from;
    if (!reader) {
        err_set(err, ERR_MEMORY, "out of memory");
        return NULL;
    }
    spec.credit = CREDIT;
    spec.bytes = HELD_BYTES;
    mutex_init(&reader->lock);
    reader->references = 2; /* the caller's, and the job's */
    reader->intake = intake;
    reader->last = options->to_sequence;
    reader->to_ns = options->to_ns;
    reader->most = options->most;
    reader->deadline_ns = clock_now_ns() + (uint64_t)options->timeout_ns;
    reader->last_ones = spec.deliver == DELIVER_LAST_PER_SUBJECT;
    reader->job.run = run_open;
    reader->too_late.on_due = on_too_late;
    reader->ordered = ordered_new(intake, &spec, &calls, reader, err);
    if (reader->ordered) {
        reader->references++;
        clock_arm(intake->clock, &reader->too_late, reader->deadline_ns + LATE_NS);
        pool_submit_within(intake->pool, intake->reads, &reader->job);
        return reader;
    }
    mutex_destroy(&reader->lock);
    free(reader);
    return NULL;
}

void reader_close(struct reader *reader)
{
    mutex_lock(&reader->lock);
    enum phase before = reader->phase;
    struct node *queue = reader->queue;
    reader->phase = PHASE_CLOSED;
    reader->complete = true;
    reader->queue = NULL;
    if (before == PHASE_OPEN)
        reader->references++; /* until it has stopped */
    mutex_unlock(&reader->lock);
    struct node *node;
    LL_FOREACH(queue, node)
        ordered_released(reader->ordered, packet_bytes(&node->message.packet));
    free_queue(queue);
    if (before == PHASE_OPEN)
        ordered_stop(reader->ordered, on_stopped);
}

/* --- who reads --- */

/* Of READER_WAITS: from now on. */
static void wait_for_more(struct reader *reader, void (*on_more)(void *owner), void *owner)
{
    must_hold(&reader->lock);
    reader->on_more = on_more;
    reader->owner = owner;
}

enum reader_taken reader_await(struct reader *reader, void (*on_more)(void *owner), void *owner,
                               struct err *err)
{
    mutex_lock(&reader->lock);
    enum reader_taken how = reader->failed                   ? READER_FAILED
                            : reader->phase != PHASE_OPENING ? READER_TAKEN
                            : reader->on_more                ? READER_BUSY
                                                             : READER_WAITS;
    *err = reader->err;
    if (how == READER_WAITS)
        wait_for_more(reader, on_more, owner);
    mutex_unlock(&reader->lock);
    return how;
}

static enum reader_taken look(const struct reader *reader)
{
    must_hold(&reader->lock);
    return reader->queue      ? READER_TAKEN
           : reader->failed   ? READER_FAILED
           : reader->complete ? READER_OVER
           : reader->on_more  ? READER_BUSY
                              : READER_WAITS;
}

enum reader_taken reader_take(struct reader *reader, struct reader_message *message,
                              struct err *err)
{
    mutex_lock(&reader->lock);
    enum reader_taken how = look(reader);
    struct node *node = reader->queue;
    if (node)
        LL_DELETE(reader->queue, node);
    if (how == READER_FAILED)
        *err = reader->err;
    mutex_unlock(&reader->lock);
    if (node) {
        *message = node->message;
        free(node);
        ordered_released(reader->ordered, packet_bytes(&message->packet));
    }
    return how;
}

bool reader_wait(struct reader *reader, void (*on_more)(void *owner), void *owner)
{
    mutex_lock(&reader->lock);
    bool waits = look(reader) == READER_WAITS;
    if (waits)
        wait_for_more(reader, on_more, owner);
    mutex_unlock(&reader->lock);
    return waits;
}

const char *reader_stream(const struct reader *reader)
{
    return ordered_stream(reader->ordered);
}

bool reader_stop_waiting(struct reader *reader, const void *owner)
{
    mutex_lock(&reader->lock);
    bool waited = reader->on_more && reader->owner == owner;
    if (waited)
        reader->on_more = NULL;
    mutex_unlock(&reader->lock);
    return waited;
}
