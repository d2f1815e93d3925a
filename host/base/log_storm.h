/* log_storm - events that say the same again and again, counted instead of written: a machine that
 * is told of each event, and of the time.
 *
 *   first lines of a kind ─▶ written, up to 10 in 10 s
 *   more of them          ─▶ held: counted, and the last one kept
 *   each 10 s             ─▶ a count, with the last one: "41234 more in 10s, the last: ..."
 *   10 s without one      ─▶ forgotten; the next one is a first line again
 *
 * Events are of one kind when they are of the same level, script, handler, code, place in a file
 * and sentence, whatever numbers and names are put into the sentence; the user's own words
 * (verbatim in struct log_context) when every byte of them is the same. Another error at the same
 * place still shows: the first eight texts of a kind, without what has digits in it, are written
 * even while it is held.
 *
 * It holds at most 128 kinds, 64 of them verbatim. When there is no room, events are written. Its
 * owner has the lock; pure but for memory. */
#ifndef MOONBUS_BASE_LOG_STORM_H
#define MOONBUS_BASE_LOG_STORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

#define STORM_WINDOW_NS UINT64_C(10000000000)

enum storm_bounds {
    STORM_KINDS_MOST = 128,
    STORM_VERBATIM_MOST = 64, /* of them */
    STORM_TEXTS_MOST = 8,
    STORM_LINES_MOST = 10,
};

/* The last of those that were held, with room for what it borrowed. */
struct storm_copy {
    struct log_context context; /* its strings are in `room`; without traceback */
    const char *message;        /* in `room`; NULL: it found none */
    char room[1500];
    size_t used;
};

/* Its fields are log_storm's own. */
struct storm_kind {
    uint64_t key, window_ns; /* the kind; when its window began */
    int written;             /* in this window */
    bool raging;             /* so many came in the last window that none is a first line */
    uint64_t held;           /* in this window, or since, while nobody asked for the count */
    uint64_t texts[STORM_TEXTS_MOST];
    int text_count;
    enum log_level level;
    struct storm_copy last;
};

struct storms {
    struct storm_kind *kinds[STORM_KINDS_MOST]; /* owned; the first `count` */
    int count, verbatim;
};

/* A line that says how many there were. */
struct storm_count {
    enum log_level level;
    uint64_t held, span_ns;
    const struct storm_copy *last; /* of storms, until the next call */
};

/* All zero is empty. */
void storms_clear(struct storms *storms);

/* format: as the caller of log_event wrote it, by its address. True: it is held, and not to be
 * written. */
bool storms_hold(struct storms *storms, enum log_level level, const struct log_context *context,
                 const char *format, const char *message, size_t message_len, uint64_t now_ns);

/* The count of a kind whose window is over, to be written. False: of none. Call it again. */
bool storms_due(struct storms *storms, uint64_t now_ns, struct storm_count *count);

/* The same of a kind whose window is not over yet; at the end. */
bool storms_rest(struct storms *storms, uint64_t now_ns, struct storm_count *count);

/* When the next count is due; UINT64_MAX: nothing is held. */
uint64_t storms_next_ns(const struct storms *storms);

#endif
