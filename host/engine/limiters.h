/* limiters - token buckets of the process: so much in a second, and no more than `burst` at once.
 *
 *   draw_new ─▶ draw_take ─┬─ there are tokens, and nobody waits ─▶ taken
 *                          └─▶ waits ─┬─ its turn ─▶ on_end
 *                                     └─ draw_leave
 *
 * A bucket has a name; all that draw from a name share it, and its rate and burst are what was
 * stated last. It begins full, and is forgotten some time after it is full again. Who comes later
 * waits behind who waits already, also when there would be enough for him.
 *
 * Any thread. One lock, held for a look-up and a few pointers; no other lock is taken under it but
 * the clock's. on_end is called without it, on the clock's thread or on one that draws. */
#ifndef MOONBUS_ENGINE_LIMITERS_H
#define MOONBUS_ENGINE_LIMITERS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/clock.h"

#define LIMITERS_NAME_MAX 1024
/* How many buckets there are at a time that are not full, and how many wait. */
#define LIMITERS_MAX 100000

struct limiters;
struct draw;

struct limit {
    const char *name; /* borrowed for the call */
    size_t name_len;
    double rate;  /* tokens a second, > 0 */
    double burst; /* what a full bucket has, > 0 */
};

/* clock: not owned; must have stopped before limiters_free. NULL when out of memory. */
struct limiters *limiters_new(struct clock *clock);
/* Nobody waits any more. */
void limiters_free(struct limiters *limiters);

enum draw_taken {
    DRAW_TAKEN,
    DRAW_WAITS, /* on_end will be called, unless draw_leave says true */
    DRAW_EMPTY, /* not enough, and it was not to wait */
    DRAW_FULL,  /* LIMITERS_MAX, or no memory */
};

/* Takes so many tokens at once, or none. */
enum draw_taken limiters_try(struct limiters *limiters, const struct limit *limit, double tokens);

/* Somebody who waits. NULL when out of memory; else the caller's, for draw_free. */
struct draw *draw_new(struct limiters *limiters, void (*on_end)(void *context), void *context);
/* Takes so many tokens, at most `burst`, or waits for them. Once. */
enum draw_taken draw_take(struct draw *draw, const struct limit *limit, double tokens);
/* True: it waited until now, and on_end will not be called. */
bool draw_leave(struct draw *draw);
/* It does not wait. */
void draw_free(struct draw *draw);

#endif
