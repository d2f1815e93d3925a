/* settle - the verdict on a run: what its end means for its message, and what the log says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/value.h"
#include "bus/deadletter.h"
#include "engine/internal.h"
#include "engine/task.h"

/* What the log says of a message of the run; NULL: of a run without one. */
static struct log_context context_for(const struct task *task, const struct delivery *delivery)
{
    struct log_context context = {
        .script = task->source->script->name,
        .handler = task->registration->handler,
        .attempts = delivery && delivery->consumer ? (unsigned)task->registration->attempts : 0,
    };
    if (delivery) {
        context.subject = delivery->subject;
        context.stream = delivery->stream;
        context.consumer = delivery->durable;
        context.sequence = delivery->stream_sequence;
        context.attempt = delivery->consumer ? (unsigned)delivery->attempt : 0;
    }
    return context;
}

static struct log_context context_of(const struct task *task)
{
    const struct failure *failure = task->failure;
    struct log_context context = context_for(task, task->delivery);
    if (failure) {
        context.file = failure->file ? failure->file : task->registration->file;
        context.line = failure->file ? failure->line : task->registration->line;
        context.traceback = failure->traceback;
        if (failure->err.code != ERR_HANDLER)
            context.code = err_name(failure->err.code);
    }
    return context;
}

/* The handler has said what shall become of its message. */
static bool has_verdict(const struct task *task)
{
    return task->retry_asked || delivery_settled(task->delivery);
}

/* Fills root->failure from what ended the run otherwise than by an error of its own. */
static void conclude(struct task *task)
{
    bool timeout = task->cancelled == CANCEL_TIMEOUT;
    if (!timeout && (task->failure || !task->failed_publish))
        return;
    /* The handler dealt with the failed publish: it gave its own verdict. */
    if (!timeout && !task->batch && task->delivery && has_verdict(task))
        return;
    if (!task->failure)
        task->failure = calloc(1, sizeof *task->failure);
    if (!task->failure)
        return;
    struct err *err = &task->failure->err;
    if (timeout) {
        char limit[32];
        value_format_duration(task->registration->timeout_ns, limit, sizeof limit);
        err_set(err, ERR_TIMEOUT, "the handler ran longer than its timeout of %s", limit);
    } else {
        *err = *task->failed_publish;
        err_prefix(err, "a publish was not stored");
    }
}

/* Delays are computed with jitter: tenths of a second are what a reader wants of them. */
static char *format_delay(int64_t ns, char *buf, size_t size)
{
    int64_t unit = ns >= NS_PER_S ? NS_PER_S / 10 : NS_PER_MS;
    return value_format_duration((ns + unit / 2) / unit * unit, buf, size);
}

static void count(struct task *task, enum outcome outcome)
{
    atomic_fetch_add_explicit(&task->source->outcomes[outcome], 1, memory_order_relaxed);
}

/* One that is run again here, or whose dead letter is under way, has no verdict yet. */
static void count_verdict(struct task *task, const struct delivery *delivery)
{
    switch ((enum verdict)atomic_load(&delivery->verdict)) {
    case VERDICT_ACK:
        count(task, OUTCOME_ACK);
        break;
    case VERDICT_NAK:
        count(task, OUTCOME_NAK);
        break;
    case VERDICT_TERM:
        count(task, OUTCOME_TERM);
        break;
    case VERDICT_NONE:
        break;
    }
}

static int64_t backoff_of(const struct task *task, const struct delivery *delivery)
{
    return backoff_delay_ns(&task->registration->backoff, delivery->attempt, retry_random());
}

static void send_dead_letter(struct task *task, struct delivery *delivery, const struct err *reason)
{
    const char *dead_letter = task->registration->dead_letter;
    if (deadletter_send(task->instance->engine->bus, delivery, dead_letter, reason,
                        backoff_of(task, delivery), NULL) == 0)
        count(task, dead_letter ? OUTCOME_DEAD : OUTCOME_TERM);
}

static void give_up(struct task *task, struct delivery *delivery, const struct log_context *context,
                    const struct err *reason)
{
    const char *dead_letter = task->registration->dead_letter;
    if (dead_letter)
        log_event(LOG_ERROR, context, "%s; to the dead letter %s", reason->message, dead_letter);
    else
        log_event(LOG_ERROR, context, "%s; terminated, as there is no dead_letter",
                  reason->message);
    send_dead_letter(task, delivery, reason);
}

void task_dead_letter(struct task *root, struct delivery *delivery, const struct err *reason,
                      const char *file, int line)
{
    struct log_context context = context_for(root, delivery);
    context.file = file;
    context.line = line;
    if (reason->code != ERR_HANDLER)
        context.code = err_name(reason->code);
    give_up(root, delivery, &context, reason);
}

/* A nak; or in an ordered source a retry here, for which the message's key waits. */
static bool try_again(struct task *task, struct delivery *delivery, int64_t delay_ns)
{
    if (dispatch_hold(task->source, delivery, delay_ns)) {
        atomic_fetch_add(&delivery->attempt, 1);
        return true;
    }
    delivery_settle(delivery, VERDICT_NAK, delay_ns, NULL);
    return false;
}

static void settle_failed_delivery(struct task *task)
{
    struct delivery *delivery = task->delivery;
    struct log_context context = context_of(task);
    const char *text = task->failure->err.message;

    if (has_verdict(task)) {
        log_event(LOG_ERROR, &context, "%s; the message had its verdict already", text);
        if (task->retry_asked)
            try_again(task, delivery, task->retry_delay_ns);
        return;
    }
    bool hopeless = task->failure->err.code == ERR_BAD_PAYLOAD;
    if (hopeless || delivery->attempt >= (uint64_t)task->registration->attempts) {
        give_up(task, delivery, &context, &task->failure->err);
        return;
    }
    char wait[32];
    int64_t delay = backoff_of(task, delivery);
    format_delay(delay, wait, sizeof wait);
    bool here = try_again(task, delivery, delay);
    log_event(LOG_ERROR, &context, here ? "%s; again in %s" : "%s; nak in %s", text, wait);
}

static bool is_handed_back(const struct task *task)
{
    return task->cancelled && task->cancelled != CANCEL_TIMEOUT &&
           !(task->failure && task->cancelled == CANCEL_PARENT);
}

/* To the generation that serves now, or to the server. */
static int hand_back(struct task *task, struct delivery *delivery)
{
    if (task->cancelled == CANCEL_RETIRED && dispatch_rebind(task->source, delivery))
        return 0;
    return delivery_settle(delivery, VERDICT_NAK, 0, NULL);
}

/* One message of a batch that the handler left open. Counts. */
static void settle_item(struct task *task, struct delivery *delivery, int *naks, int *dead)
{
    const struct err *err = task->failure ? &task->failure->err : NULL;
    if (is_handed_back(task)) {
        hand_back(task, delivery);
    } else if (!err) {
        delivery_settle(delivery, VERDICT_ACK, 0, NULL);
    } else if (delivery->attempt >= (uint64_t)task->registration->attempts ||
               (err->code == ERR_BAD_PAYLOAD && delivery->unreadable)) {
        send_dead_letter(task, delivery, err);
        ++*dead;
    } else {
        delivery_settle(delivery, VERDICT_NAK, backoff_of(task, delivery), NULL);
        ++*naks;
    }
}

static void settle_batch(struct task *task)
{
    int naks = 0, dead = 0;
    for (int i = 0; i < task->batch_count; i++) {
        if (!delivery_settled(task->batch[i]))
            settle_item(task, task->batch[i], &naks, &dead);
    }
    if (!task->failure)
        return;
    struct log_context context = context_of(task);
    context.subject = NULL; /* of the first, as the rest */
    context.sequence = 0;
    context.attempt = context.attempts = 0;
    log_event(LOG_ERROR, &context, "%s; of a batch of %d: %d nak'd, %d %s",
              task->failure->err.message, task->batch_count, naks, dead,
              task->registration->dead_letter ? "to the dead letter" : "terminated");
}

static void settle_delivery(struct task *task)
{
    struct delivery *delivery = task->delivery;
    if (is_handed_back(task)) {
        if (!delivery_settled(delivery) && hand_back(task, delivery) == 0) {
            struct log_context context = context_of(task);
            context.traceback = NULL;
            log_event(LOG_WARN, &context, "handed back: %s", task_cancel_text(task->cancelled));
        }
    } else if (task->failure) {
        settle_failed_delivery(task);
    } else if (task->retry_asked) {
        try_again(task, delivery, task->retry_delay_ns);
    } else {
        delivery_settle(delivery, VERDICT_ACK, 0, NULL);
    }
}

static void settle_core(struct task *task)
{
    struct delivery *delivery = task->delivery;
    if (delivery)
        delivery_settle(delivery, VERDICT_ACK, 0, NULL);
    if (!task->failure)
        return;
    struct log_context context = context_of(task);
    if (!task->unsent || script_tell_full(task->source->script))
        log_event(LOG_ERROR, &context, "%s", task->failure->err.message);
    if (delivery && delivery->reply_to && !task->responded) {
        int status = task->failure->err.code == ERR_BAD_PAYLOAD ? 400 : 500;
        task->instance->engine->hooks->reply_error(task, status, &task->failure->err);
    }
}

/* --- what failed when it had been told to end --- */

struct late_failures {
    unsigned count;
    char *file; /* owned; of the first; NULL: not known */
    int line;
    struct err first;
};

void late_failures_free(struct late_failures *late)
{
    free(late->file);
    free(late);
}

void task_failed_late(struct task *task, const char *text, const char *file, int line)
{
    struct task *root = task->root;
    struct late_failures *late = root->late;
    if (!late) {
        late = root->late = calloc(1, sizeof *late);
        if (!late)
            return;
        late->file = file ? strdup(file) : NULL;
        late->line = line;
        err_set(&late->first, ERR_HANDLER, "%s", text);
    }
    late->count++;
}

static void tell_late(const struct task *root)
{
    const struct late_failures *late = root->late;
    struct log_context context = context_for(root, root->batch ? NULL : root->delivery);
    char others[40] = "";
    context.file = late->file;
    context.line = late->line;
    if (late->count > 1)
        snprintf(others, sizeof others, ", the first of %u", late->count);
    log_event(LOG_WARN, &context, "a spawned function failed after it was cancelled%s: %s", others,
              late->first.message);
}

void task_settle(struct task *task)
{
    if (task->late)
        tell_late(task);
    conclude(task);
    if (task->batch)
        settle_batch(task);
    else if (task->delivery && task->delivery->consumer)
        settle_delivery(task);
    else
        settle_core(task);
    if (!task->source->consumer)
        count(task, task->failure ? OUTCOME_FAILED : OUTCOME_OK);
    else if (!task->batch && !task->delivery->dead)
        count_verdict(task, task->delivery);
    for (int i = 0; i < task->batch_count; i++) {
        if (!task->batch[i]->dead)
            count_verdict(task, task->batch[i]);
    }
}
