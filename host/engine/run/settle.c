/* settle - the verdict on a run: what its end means for its message, and what the log says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/value.h"
#include "bus/consume/deadletter.h"
#include "bus/consume/retries.h"
#include "bus/letter.h"
#include "engine/hooks.h"
#include "engine/run/run_trace.h"
#include "engine/run/run_trial.h"
#include "engine/run/task.h"
#include "engine/source/checkout.h"
#include "engine/source/handling.h"
#include "engine/source/source.h"
#include "engine/version/generation.h"
#include "engine/version/script.h"

/* What the log says of a message of the run; NULL: of a run without one. */
static struct log_context context_for(struct task *task, const struct delivery *delivery)
{
    struct log_context context = {
        .script = task->source->script->name,
        .handler = task->registration->handler,
        .generation = task->instance->generation->number,
        .attempts = delivery && delivery->consumer ? (unsigned)task->registration->attempts : 0,
    };
    if (delivery) {
        context.subject = delivery->packet.subject;
        context.stream = delivery->stream;
        context.consumer = delivery->durable;
        context.sequence = delivery->stream_sequence;
        context.attempt = delivery->consumer ? (unsigned)delivery->attempt : 0;
    }
    run_trace_log(run_trace_of(&task->trace, task->batch ? NULL : task->delivery), &context);
    return context;
}

/* Of the handler's own error the sentence says it all. */
static void put_code(struct log_context *context, enum err_code code)
{
    context->code = err_name(code);
    context->tacit = code == ERR_HANDLER;
}

static struct log_context context_of(struct task *task)
{
    const struct failure *failure = task->failure;
    struct log_context context = context_for(task, task->delivery);
    if (failure) {
        context.file = failure->file ? failure->file : task->registration->file;
        context.line = failure->file ? failure->line : task->registration->line;
        context.traceback = failure->traceback;
        put_code(&context, failure->err.code);
    }
    return context;
}

/* The handler has said what shall become of its message. */
static bool has_verdict(const struct task *task)
{
    return task->retry_asked || delivery_settled(task->delivery);
}

/* The place and the stack of the error by which the timeout ended it stay. */
static void where_it_waited(struct task *task, struct failure *failure)
{
    struct failure *before = task->failure;
    if (!before)
        return;
    failure->file = before->file ? strdup(before->file) : NULL;
    failure->line = before->line;
    failure->traceback = before->traceback ? strdup(before->traceback) : NULL;
}

/* Fills root->failure from what ended the run otherwise than by an error of its own. */
static void conclude(struct task *task)
{
    bool timeout = task->cancelled == CANCEL_TIMEOUT;
    /* The handler dealt with the failed publish: it gave its own verdict. */
    if (!timeout && !task->batch && task->delivery && has_verdict(task))
        return;
    struct failure failure;
    failure_init(&failure);
    if (timeout) {
        char limit[32];
        value_format_duration(task->registration->timeout_ns, limit, sizeof limit);
        err_set(&failure.err, ERR_TIMEOUT, "the handler ran longer than its timeout of %s", limit);
        where_it_waited(task, &failure);
    } else {
        failure.err = *task->failed_publish;
        err_prefix(&failure.err, "a publish was not stored");
    }
    task_fail_anew(task, &failure);
}

/* Delays are computed with jitter: tenths of a second are what a reader wants of them. */
static char *format_delay(int64_t ns, char *buf, size_t size)
{
    int64_t unit = ns >= NS_PER_S ? NS_PER_S / 10 : NS_PER_MS;
    return value_format_duration((ns + unit / 2) / unit * unit, buf, size);
}

static void count(struct task *task, enum run_outcome outcome)
{
    if (task->cell)
        stat_add(&task->cell->outcomes[outcome], 1);
}

/* How the run went, whatever that means for its message. */
static void count_run(struct task *task)
{
    struct tally_cell *cell = task->cell;
    const struct failure *failure = task->failure;
    count(task, failure ? OUTCOME_FAILED : OUTCOME_OK);
    if (!cell)
        return;
    stat_observe(&cell->duration, task->instance->slice_ns - task->started_ns);
    stat_observe(&cell->cpu, task->cpu_ns);
    if (task->cancelled == CANCEL_TIMEOUT)
        stat_add(&cell->timeouts, 1);
    if (!failure)
        return;
    stat_add(&cell->errors[-failure->err.code], 1);
    tally_note_error(&task->source->script->tallies, cell->tally, &failure->err);
}

/* One that is run again here, or whose dead letter is under way, has no verdict yet. */
static void count_verdict(struct task *task, const struct delivery *delivery)
{
    switch (delivery_verdict(delivery)) {
    case VERDICT_ACK:
        count(task, delivery_is_copied(delivery) ? OUTCOME_NAK : OUTCOME_ACK);
        break;
    case VERDICT_NAK:
        count(task, OUTCOME_NAK);
        break;
    case VERDICT_TERM:
        count(task, OUTCOME_TERM);
        break;
    case VERDICT_NONE:
        if (delivery_is_copied(delivery))
            count(task, OUTCOME_NAK);
        break;
    }
}

static int64_t backoff_of(const struct task *task, const struct delivery *delivery)
{
    return registration_backoff_ns(task->registration, delivery->attempt);
}

static void send_dead_letter(struct task *task, struct delivery *delivery, const struct err *reason)
{
    const char *dead_letter = task->registration->dead_letter;
    struct log_context context = context_for(task, delivery);
    char circles[DEADLETTER_SUBJECT_BYTES];
    put_code(&context, reason->code);
    dead_letter = deadletter_target(delivery, dead_letter, &context, reason, circles);
    struct letter_escort *escort =
        dead_letter ? task_trace_letter(task, delivery, dead_letter) : NULL;
    if (deadletter_send(delivery, dead_letter, reason, backoff_of(task, delivery), escort, NULL) ==
        0)
        count(task, dead_letter ? OUTCOME_DEAD : OUTCOME_TERM);
}

/* "nak"; "parked": its copy is stored; "retry": here, in order, while its key waits for it. */
static const char *try_again(struct task *task, struct delivery *delivery, int64_t delay_ns)
{
    if (checkout_hold(task->source, delivery, delay_ns)) {
        atomic_fetch_add(&delivery->attempt, 1);
        return "retry";
    }
    retries_nak(delivery, delay_ns, NULL);
    return delivery_is_copied(delivery) ? "parked" : "nak";
}

static void put_delay(struct log_context *context, const char *verdict, int64_t delay_ns)
{
    context->verdict = verdict;
    context->delayed = true;
    context->delay_ns = delay_ns;
}

static void fail_for_now(struct task *task, struct delivery *delivery, struct log_context *context,
                         const struct err *reason, int64_t delay_ns, const char *why)
{
    char wait[32];
    format_delay(delay_ns, wait, sizeof wait);
    const char *verdict = try_again(task, delivery, delay_ns);
    put_delay(context, verdict, delay_ns);
    log_event(LOG_ERROR, context, "%s%s; %s in %s", reason->message, why,
              strcmp(verdict, "retry") == 0 ? "again" : verdict, wait);
}

/* Of what is terminated nothing but the log tells. */
static void put_dead_letter(struct log_context *context, const struct registration *registration)
{
    context->verdict = registration->dead_letter ? "dead_letter" : "term";
    context->dead_letter = registration->dead_letter;
    context->only_trace = !registration->dead_letter;
}

/* It has had its attempts, or is hopeless. */
static void dead_letter(struct task *task, struct delivery *delivery, struct log_context *context,
                        const struct err *reason)
{
    const struct registration *registration = task->registration;
    if (!registration_gives_up(registration)) {
        fail_for_now(task, delivery, context, reason,
                     registration_backoff_ns(registration, (uint64_t)registration->attempts),
                     "; not given up, as there is no dead_letter");
        return;
    }
    put_dead_letter(context, registration);
    if (registration->dead_letter && letter_hops(&delivery->packet.headers) < DEADLETTER_HOPS_MOST)
        log_event(LOG_ERROR, context, "%s; to the dead letter %s", reason->message,
                  registration->dead_letter);
    else if (!registration->dead_letter)
        log_event(LOG_ERROR, context, "%s; terminated (dead_letter = false)", reason->message);
    send_dead_letter(task, delivery, reason);
}

void task_dead_letter(struct task *root, struct delivery *delivery, const struct err *reason,
                      const char *file, int line)
{
    struct log_context context = context_for(root, delivery);
    context.file = file;
    context.line = line;
    put_code(&context, reason->code);
    dead_letter(root, delivery, &context, reason);
}

/* NULL: it has none, as while it waits for another run here. */
static const char *verdict_name(const struct task *task, const struct delivery *delivery)
{
    if (delivery_is_letters(delivery))
        return task->registration->dead_letter ? "dead_letter" : "term";
    if (delivery_is_copied(delivery))
        return "parked";
    switch (delivery_verdict(delivery)) {
    case VERDICT_ACK:
        return "ack";
    case VERDICT_NAK:
        return "nak";
    case VERDICT_TERM:
        return "term";
    case VERDICT_NONE:
        return NULL;
    }
    return NULL;
}

static bool is_spent(const struct task *task, const struct delivery *delivery, bool hopeless)
{
    return hopeless || delivery->attempt >= (uint64_t)task->registration->attempts;
}

static void settle_failed_delivery(struct task *task)
{
    struct delivery *delivery = task->delivery;
    struct log_context context = context_of(task);
    const char *text = task->failure->err.message;

    if (has_verdict(task)) {
        context.verdict = verdict_name(task, delivery);
        if (task->retry_asked)
            put_delay(&context, "retry", task->retry_delay_ns);
        log_event(LOG_ERROR, &context, "%s; the message had its verdict already", text);
        if (task->retry_asked)
            try_again(task, delivery, task->retry_delay_ns);
        return;
    }
    if (is_spent(task, delivery, task->failure->err.code == ERR_BAD_PAYLOAD)) {
        dead_letter(task, delivery, &context, &task->failure->err);
        return;
    }
    fail_for_now(task, delivery, &context, &task->failure->err, backoff_of(task, delivery), "");
}

static bool is_handed_back(const struct task *task)
{
    return task->cancelled && task->cancelled != CANCEL_TIMEOUT &&
           !(task->failure && task->cancelled == CANCEL_PARENT);
}

/* To the generation that serves now, or to the server; unless the stop was faster, which says so.
 */
static void hand_back(struct task *task, struct delivery *delivery)
{
    if (!(task->cancelled == CANCEL_RETIRED && checkout_rebind(task->source, delivery)) &&
        delivery_settle(delivery, VERDICT_NAK, 0, NULL) == ERR_SETTLED)
        return;
    struct log_context context = task->batch ? context_for(task, delivery) : context_of(task);
    context.traceback = NULL;
    context.verdict = "handed_back";
    log_event(LOG_WARN, &context, "handed back: %s", task_cancel_text(task->cancelled));
}

/* One message of a batch that the handler left open. Counts. */
static void settle_item(struct task *task, struct delivery *delivery, int *naks, int *dead)
{
    const struct registration *registration = task->registration;
    const struct err *err = task->failure ? &task->failure->err : NULL;
    bool hopeless = err && err->code == ERR_BAD_PAYLOAD && handling_of(delivery)->unreadable;
    bool spent = is_spent(task, delivery, hopeless);
    if (is_handed_back(task)) {
        hand_back(task, delivery);
    } else if (!err) {
        delivery_settle(delivery, VERDICT_ACK, 0, NULL);
    } else if (registration_gives_up(registration) && spent) {
        send_dead_letter(task, delivery, err);
        ++*dead;
    } else {
        uint64_t attempt = spent ? (uint64_t)registration->attempts : delivery->attempt;
        retries_nak(delivery, registration_backoff_ns(registration, attempt), NULL);
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
    if (dead > 0)
        put_dead_letter(&context, task->registration);
    else if (naks > 0)
        context.verdict = "nak";
    log_event(LOG_ERROR, &context, "%s; of a batch of %d: %d nak'd, %d %s",
              task->failure->err.message, task->batch_count, naks, dead,
              task->registration->dead_letter ? "to the dead letter" : "terminated");
}

static void settle_delivery(struct task *task)
{
    struct delivery *delivery = task->delivery;
    if (is_handed_back(task)) {
        if (!delivery_settled(delivery))
            hand_back(task, delivery);
    } else if (task->failure) {
        settle_failed_delivery(task);
    } else if (task->retry_asked) {
        try_again(task, delivery, task->retry_delay_ns);
    } else {
        delivery_settle(delivery, VERDICT_ACK, 0, NULL);
    }
}

/* A "start" hook has failed: kept with its generation. */
static void note_start_failed(const struct task *task)
{
    const struct scripts *scripts = task->instance->scripts;
    struct dispatch *dispatch = scripts->dispatch;
    struct generation *generation = task->instance->generation;
    const struct failure *failure = task->failure;
    const struct registration *hook = task->registration;
    dispatch_lock(dispatch);
    if (!generation->start_failure &&
        asprintf(&generation->start_failure, "%s:%d: bus.on(\"start\") failed: %s",
                 failure->file ? failure->file : hook->file,
                 failure->file ? failure->line : hook->line, failure->err.message) < 0)
        generation->start_failure = NULL;
    dispatch_unlock(dispatch);
    if (scripts->on_start_failed)
        scripts->on_start_failed(scripts->owner);
}

static void settle_core(struct task *task)
{
    struct delivery *delivery = task->delivery;
    if (delivery)
        delivery_settle(delivery, VERDICT_ACK, 0, NULL);
    if (!task->failure)
        return;
    struct log_context context = context_of(task);
    bool ended_with_it = !delivery && is_handed_back(task); /* its version's end, or the host's */
    if (ended_with_it)
        context.traceback = NULL;
    else if (task->source->state.brings == SOURCE_BRINGS_START)
        note_start_failed(task);
    context.verdict = "failed";
    enum log_level level = failure_is_answer(task->failure) ? LOG_DEBUG : LOG_ERROR;
    if (!task->unsent || script_may_log_full(task->source->script))
        log_event(ended_with_it ? LOG_INFO : level, &context, "%s", task->failure->err.message);
    if (delivery) {
        int status = task->failure->err.code == ERR_BAD_PAYLOAD ? 400 : 500;
        if (task->failure->status)
            status = task->failure->status;
        task->instance->scripts->hooks->reply_error(task, status, &task->failure->err);
    }
}

/* --- what failed after it was cancelled --- */

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

static void log_late(struct task *root)
{
    const struct late_failures *late = root->late;
    struct log_context context = context_for(root, root->batch ? NULL : root->delivery);
    char others[40] = "";
    context.file = late->file;
    context.line = late->line;
    put_code(&context, late->first.code);
    if (late->count > 1)
        snprintf(others, sizeof others, ", the first of %u", late->count);
    log_event(LOG_WARN, &context, "a spawned function failed after it was cancelled%s: %s", others,
              late->first.message);
}

/* --- each message, at debug --- */

static void log_handled(struct task *task, const struct delivery *delivery, int64_t took_ns)
{
    struct log_context context = context_for(task, delivery);
    const char *verdict = delivery->consumer ? verdict_name(task, delivery)
                          : task->failure    ? "failed"
                                             : "ok";
    context.verdict = verdict ? verdict : "retry";
    context.duration_ns = took_ns;
    if (task->failure)
        put_code(&context, task->failure->err.code);
    log_event(LOG_DEBUG, &context, "handled in %lld.%03dms: %s", (long long)(took_ns / NS_PER_MS),
              (int)(took_ns % NS_PER_MS / 1000), context.verdict);
}

static void log_each(struct task *task)
{
    int64_t took_ns = (int64_t)(clock_now_ns() - task->started_ns);
    if (task->delivery && !task->batch)
        log_handled(task, task->delivery, took_ns);
    for (int i = 0; i < task->batch_count; i++)
        log_handled(task, task->batch[i], took_ns);
}

void task_settle(struct task *task)
{
    if (task->late)
        log_late(task);
    if (task->cancelled == CANCEL_TIMEOUT || (task->failed_publish && !task->failure))
        conclude(task);
    if (task->registration->meter)
        run_trial_note(task);
    if (task->batch)
        settle_batch(task);
    else if (task->delivery && task->delivery->consumer)
        settle_delivery(task);
    else
        settle_core(task);
    count_run(task);
    if (task->source->consumer && !task->batch && !delivery_is_letters(task->delivery))
        count_verdict(task, task->delivery);
    for (int i = 0; i < task->batch_count; i++) {
        if (!delivery_is_letters(task->batch[i]))
            count_verdict(task, task->batch[i]);
    }
    if (log_enabled(LOG_DEBUG))
        log_each(task);
    if (task->trace)
        task_end_span(task);
}
