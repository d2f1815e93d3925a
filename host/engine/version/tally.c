/* tally - the book of a script: tallies by name, and what is left of instances that have gone. */
#include "engine/version/tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "bus/consume/consumer_counts.h"

void tally_book_init(struct tally_book *book)
{
    mutex_init(&book->lock);
}

static void free_tally(struct tally *tally)
{
    consumer_counts_release(tally->consumer);
    free(tally->handler);
    free(tally->stream);
    free(tally->durable);
    free(tally);
}

void tally_book_clear(struct tally_book *book)
{
    struct tally *tally, *next;
    DL_FOREACH_SAFE(book->tallies, tally, next)
        free_tally(tally);
    book->tallies = NULL;
    mutex_destroy(&book->lock);
}

/* --- by name --- */

static struct tally *find(const struct tally_book *book, const struct tally_name *name)
{
    struct tally *tally;
    must_hold(&book->lock);
    DL_FOREACH(book->tallies, tally) {
        if (tally->twin == name->twin && tally->kind == name->kind &&
            strcmp(tally->handler, name->handler) == 0)
            return tally;
    }
    return NULL;
}

/* False: no memory. */
static bool copy_text(char **to, const char *from)
{
    *to = from ? strdup(from) : NULL;
    return !from || *to;
}

static struct tally *tally_new(const struct tally_name *name)
{
    struct tally *tally = calloc(1, sizeof *tally);
    if (!tally)
        return NULL;
    tally->twin = name->twin;
    tally->kind = name->kind;
    bool whole = copy_text(&tally->handler, name->handler) &&
                 copy_text(&tally->stream, name->stream) &&
                 copy_text(&tally->durable, name->durable);
    if (name->durable)
        tally->consumer = consumer_counts_new();
    if (whole && (!name->durable || tally->consumer))
        return tally;
    free_tally(tally);
    return NULL;
}

struct tally *tally_open(struct tally_book *book, const struct tally_name *name)
{
    mutex_lock(&book->lock);
    struct tally *tally = find(book, name);
    if (!tally && (tally = tally_new(name)))
        DL_APPEND(book->tallies, tally);
    if (tally)
        tally->references++;
    mutex_unlock(&book->lock);
    return tally;
}

static bool is_blank(const struct tally *tally)
{
    return tally->gone.attempts == 0 && stat_get(&tally->received) == 0 && !tally->cells;
}

/* The oldest of those that nobody registers, if they are too many. */
static struct tally *one_too_many(const struct tally_book *book)
{
    struct tally *tally, *oldest = NULL;
    int kept = 0;
    must_hold(&book->lock);
    DL_FOREACH(book->tallies, tally) {
        if (tally->references > 0)
            continue;
        if (!oldest)
            oldest = tally;
        kept++;
    }
    return kept > TALLIES_KEPT ? oldest : NULL;
}

void tally_release(struct tally_book *book, struct tally *tally)
{
    struct tally *unwanted = NULL;
    if (!tally)
        return;
    mutex_lock(&book->lock);
    if (--tally->references == 0)
        unwanted = is_blank(tally) ? tally : one_too_many(book);
    if (unwanted)
        DL_DELETE(book->tallies, unwanted);
    mutex_unlock(&book->lock);
    if (unwanted)
        free_tally(unwanted);
}

void tally_note_error(struct tally_book *book, struct tally *tally, const struct err *err)
{
    int64_t now_ns = clock_wall_ns();
    mutex_lock(&book->lock);
    tally->error.at_ns = now_ns;
    tally->error.code = err->code;
    snprintf(tally->error.text, sizeof tally->error.text, "%.*s", TALLY_ERROR_MAX - 1,
             err->message);
    mutex_unlock(&book->lock);
}

/* --- cells --- */

struct tally_cell *tally_cell_new(struct tally_book *book, struct tally *tally)
{
    struct tally_cell *cell = calloc(1, sizeof *cell);
    if (!cell)
        return NULL;
    cell->tally = tally;
    mutex_lock(&book->lock);
    DL_APPEND(tally->cells, cell);
    mutex_unlock(&book->lock);
    return cell;
}

static void add_counters(uint64_t *sums, const struct stat_counter *counters, int count)
{
    for (int i = 0; i < count; i++)
        sums[i] += stat_get(&counters[i]);
}

static void add_cell(struct tally_sum *sum, const struct tally_cell *cell)
{
    sum->attempts += stat_get(&cell->attempts);
    sum->timeouts += stat_get(&cell->timeouts);
    add_counters(sum->outcomes, cell->outcomes, OUTCOMES);
    add_counters(sum->errors, cell->errors, TALLY_CODES);
    stat_sum_histogram(&sum->queue_wait, &cell->queue_wait);
    stat_sum_histogram(&sum->duration, &cell->duration);
    stat_sum_histogram(&sum->cpu, &cell->cpu);
}

void tally_cell_end(struct tally_book *book, struct tally_cell *cell)
{
    if (!cell)
        return;
    mutex_lock(&book->lock);
    add_cell(&cell->tally->gone, cell);
    DL_DELETE(cell->tally->cells, cell);
    mutex_unlock(&book->lock);
    free(cell);
}

void tally_read(const struct tally *tally, struct tally_sum *sum)
{
    const struct tally_cell *cell;
    *sum = tally->gone;
    sum->received = stat_get(&tally->received);
    sum->redelivered = stat_get(&tally->redelivered);
    sum->dropped = stat_get(&tally->dropped);
    DL_FOREACH(tally->cells, cell)
        add_cell(sum, cell);
}

/* --- calls --- */

static void add_calls(struct tally_calls_sum *sum, const struct tally_calls *calls)
{
    sum->published += stat_get(&calls->published);
    add_counters(sum->requests, calls->requests, TALLY_CODES);
    stat_sum_histogram(&sum->request_duration, &calls->request_duration);
}

void tally_calls_begin(struct tally_book *book, struct tally_calls *calls)
{
    mutex_lock(&book->lock);
    DL_APPEND(book->calls, calls);
    mutex_unlock(&book->lock);
}

void tally_calls_end(struct tally_book *book, struct tally_calls *calls)
{
    mutex_lock(&book->lock);
    add_calls(&book->calls_gone, calls);
    DL_DELETE(book->calls, calls);
    mutex_unlock(&book->lock);
}

void tally_read_calls(const struct tally_book *book, struct tally_calls_sum *sum)
{
    const struct tally_calls *calls;
    must_hold(&book->lock);
    *sum = book->calls_gone;
    DL_FOREACH(book->calls, calls)
        add_calls(sum, calls);
}
