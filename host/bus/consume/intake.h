/* intake - what the consumers and subscriptions of a process stand on: the connection that messages
 * come by, and the sink that they go up to. Filled in once, by the bus, and read by any thread from
 * then on; whoever has it outlives none of what it points to. */
#ifndef MOONBUS_BUS_CONSUME_INTAKE_H
#define MOONBUS_BUS_CONSUME_INTAKE_H

#include <stddef.h>

struct clock;
struct pool;
struct link;
struct jsapi;
struct outbox;
struct delivery;

/* Calls up. on_delivery: on the transport's delivery thread; takes the delivery's reference; must
 * not block. source: as given to consumer_new or subscription_new. */
struct sink {
    void *owner;
    size_t room; /* bytes that it wants in each delivery, for what it keeps of it */
    void (*on_delivery)(void *owner, void *source, struct delivery *delivery);
    /* There was no memory for a core message, so it is lost. On the delivery thread. */
    void (*on_unread)(void *owner, void *source);
    /* What an ordered consumer missed has come, or is waited for no longer: consumer_misses. On any
     * thread; must not block. */
    void (*on_whole)(void *owner, void *source);
};

/* None of it is owned. */
struct intake {
    struct clock *clock;
    struct pool *pool;     /* for what blocks */
    struct link *link;     /* reads messages, and carries acks, heartbeats and pulls */
    struct jsapi *jsapi;   /* over another link: no message waits behind what is asked */
    struct outbox *outbox; /* for dead letters */
    const char *inbox_prefix;
    int calm; /* idle pull requests live and are silent so many times longer; 0: as usual */
    struct sink sink;
};

#endif
