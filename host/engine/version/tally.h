/* tally - what is counted of a handler. It is its script's, under the handler's name, so that it
 * goes on when another version of the script serves.
 *
 *   registration ──▶ tally ──▶ cells: one for each instance that has run the handler
 *                      └─ sums: of cells whose instance has gone
 *
 * A cell has one writer: the worker that has its instance. What comes to a source is counted under
 * the dispatch lock. So counting takes no lock, and no locked instruction (base/stat.h). The first
 * run of a handler on an instance makes the cell; without memory it goes uncounted.
 *
 * The book has all tallies of a script. Its lock is a leaf; it guards the lists, the sums and the
 * last errors, and is held while they are read.
 *
 * Bounded: what no version of the script registers any more is kept, but only TALLIES_KEPT of them;
 * one that has never counted anything goes at once. */
#ifndef MOONBUS_ENGINE_VERSION_TALLY_H
#define MOONBUS_ENGINE_VERSION_TALLY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/sync.h"
#include "engine/version/tally_sum.h"

struct consumer_counts;
struct kind;

#define TALLIES_KEPT 64

/* Whose it is; borrowed for the call. */
struct tally_name {
    const char *handler;          /* "ORDERS/billing" */
    unsigned twin;                /* of several in one version that have that name: which, from 0 */
    const struct kind *kind;      /* static */
    const char *stream, *durable; /* NULL: it is no durable */
};

/* What counts on one instance. */
struct tally_cell {
    struct tally_cell *prev, *next; /* tally's; the book's lock */
    struct tally *tally;            /* not owned: the instance's generation has a reference */
    struct stat_counter attempts, timeouts;
    struct stat_counter outcomes[OUTCOMES];
    struct stat_counter errors[TALLY_CODES];
    struct stat_histogram queue_wait, duration, cpu;
};

struct tally {
    struct tally *prev, *next; /* book's, in order of making */
    char *handler;             /* owned */
    const struct kind *kind;   /* static */
    char *stream, *durable;    /* owned; or NULL */
    unsigned twin;
    unsigned references; /* the book's lock, as all below but for the counters */
    struct tally_cell *cells;
    struct tally_sum gone; /* of cells that are no more */
    struct tally_error error;
    struct consumer_counts *consumer; /* a reference; NULL: it is no durable */

    /* The dispatch lock's. */
    struct stat_counter received, redelivered, dropped;
};

/* What a script calls, counted on one instance. It is part of that. */
struct tally_calls {
    struct tally_calls *prev, *next; /* book's; its lock */
    struct stat_counter published;
    struct stat_counter requests[TALLY_CODES];
    struct stat_histogram request_duration;
};

struct tally_book {
    struct mutex lock;
    struct tally *tallies; /* owned */
    struct tally_calls *calls;
    struct tally_calls_sum calls_gone;
};

void tally_book_init(struct tally_book *book);
/* No instance of its script is left. */
void tally_book_clear(struct tally_book *book);

/* The tally of that name, made if need be; a reference. NULL: no memory. */
struct tally *tally_open(struct tally_book *book, const struct tally_name *name);
/* NULL is allowed. */
void tally_release(struct tally_book *book, struct tally *tally);

/* A run of it failed; text is copied. */
void tally_note_error(struct tally_book *book, struct tally *tally, const struct err *err);

/* A cell for an instance. NULL: no memory. */
struct tally_cell *tally_cell_new(struct tally_book *book, struct tally *tally);
/* Its instance has gone, which nobody runs any more: what it counted is kept. Frees it; NULL is
 * allowed. */
void tally_cell_end(struct tally_book *book, struct tally_cell *cell);

void tally_calls_begin(struct tally_book *book, struct tally_calls *calls);
/* The same. */
void tally_calls_end(struct tally_book *book, struct tally_calls *calls);

/* With the book's lock held. */
void tally_read(const struct tally *tally, struct tally_sum *sum);
void tally_read_calls(const struct tally_book *book, struct tally_calls_sum *sum);

#endif
