/* ordered_private - what ordered.c (messages, life) and ordered_setup.c (its consumers on the
 * server) share. Nobody else includes it. */
#ifndef MOONBUS_BUS_CONSUME_ORDERED_PRIVATE_H
#define MOONBUS_BUS_CONSUME_ORDERED_PRIVATE_H

#include "base/container.h"
#include "bus/consume/ordered.h"

#define ORDERED_NAME_MAX 64

struct ordered {
    struct puller puller;              /* its lock guards what says so below */
    const struct ordered_calls *calls; /* not owned */
    void *owner;                       /* not owned */
    void (*on_stopped)(void *owner);

    /* Owned copies; never change. */
    char *stream, *what, *time;
    char **filters;
    int filter_count;
    enum deliver_from deliver;
    uint64_t sequence;
    bool headers_only;
    char base[ORDERED_NAME_MAX / 2]; /* what the names of its consumers begin with */

    /* Under the lock. */
    uint64_t last;       /* stream sequence of the last message that was taken, or passed over */
    uint64_t numbers;    /* the consumer's number of the last message that came */
    uint64_t suspect;    /* the server said that it had sent so many; 0: nothing was missing */
    unsigned in_hand;    /* messages that were taken, and not handed on yet */
    unsigned epoch;      /* of the puller, when the consumer was made: no connect since then */
    uint64_t left;       /* of what was there when the consumer was made: still to come */
    uint64_t behind;     /* messages that were still to come, as of the last one */
    uint64_t made;       /* how many consumers were made */
    bool begun;          /* `last` is known */
    bool broken;         /* a message was left out: another consumer is needed */
    bool caught_up;      /* what was there at the beginning has come; */
    bool told_caught_up; /* and that was told */

    /* Of whoever looks, one at a time. */
    char created[64];   /* of the stream, as the server writes it */
    char subjects[256]; /* of the stream, if it has one pattern alone; else ">" */
    char failure[200];  /* the last error that was logged, "" for none */
    _Atomic uint64_t target;
};

static inline struct ordered *ordered_of(struct puller *puller)
{
    return container_of(puller, struct ordered, puller);
}

/* The puller's look: pool threads. */
enum looked ordered_look(struct puller *puller);
/* Tells that what was there has been seen, if it has, and if that was not told yet. Any thread that
 * may call up. */
void ordered_tell(struct ordered *ordered);
/* Has the server remove the consumer that is named so. Any thread; does not wait. */
void ordered_delete(struct ordered *ordered, const char *on_server);

#endif
